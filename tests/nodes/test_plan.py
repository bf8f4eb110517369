"""Train nodes plan before they train: they show the plan, ask ComfyUI for its memory, and fit into small devices."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]


@pytest.fixture
def wires(pack: Pack, load_wan: Call) -> dict[str, Any]:
    """The wires that a train node needs: a random Wan with the embedded CLIP and VAE, and a reference."""
    file = pack("setandseq_core.embedded.model").VAE_FILE
    clips = pack("setandseq_core.clips.clip")
    frames = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    words = clips.Words(static_prompt="a [v] blob", motion_prompt="a [v] blob [u] hopping")
    reference = clips.Reference(clip=clips.Clip(frames_FHWC=frames, fps=16.0, choice="random"), words=words)
    with torch.inference_mode():
        vae = import_module("comfy.sd").VAE(sd=import_module("comfy.utils").load_torch_file(str(file)))
        clip = pack("nodes.embedded").embedded_clip()
    return {"model": load_wan(), "clip": clip, "vae": vae, "references": {"reference_0": reference}}


@pytest.fixture
def options(pack: Pack) -> Any:
    """Options without prior clips and sample videos."""
    settings, config = pack("nodes.settings"), pack("setandseq_core.config")
    method = config.MethodConfig(prior=config.PriorConfig(share=0.0), set_stage=config.SetConfig(batch=4))
    return settings.TrainingOptions(config=method, preview_every=0)


@pytest.fixture
def train(pack: Pack, run: Call, wires: dict[str, Any], options: Any, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs Train Identity LoRA on a device with that many bytes; returns the node's output and the panel's record."""

    def execute(limit: int, **inputs: Any) -> tuple[Any, Any]:
        backbone, panel = pack("nodes.backbone").ComfyBackbone, pack("nodes.panel")
        monkeypatch.setattr(backbone, "memory_limit", lambda _: limit)
        numbers = {"steps": 2, "learning_rate": 1e-3, "rank": 2, "seed": 0, "settings": options}
        output = run("TrainIdentityLoRA", **wires, **numbers, **inputs)
        return output, panel.RECORDS.get("7")

    return execute


def weights_of(model: Any) -> int:
    return sum(weight.nbytes for weight in model.model.diffusion_model.parameters())


def test_plan_only_says_what_it_takes_and_trains_nothing(train: Call) -> None:
    output, record = train(24 * 2**30, plan_only=True)
    assert isinstance(output.args[0], import_module("comfy_execution.graph_utils").ExecutionBlocker)
    assert "tokens a sample" in record.plan and "of 24.0 GB" in record.plan and "about" in record.plan
    assert record.losses.values == [] and record.plan in str(output.ui.as_dict())


def test_one_node_with_its_wires_alone_fits_into_every_device(
    train: Call, wires: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = import_module("comfy.model_management")
    asked: list[int] = []
    load = manager.load_models_gpu

    def noting(models: Any, memory_required: int = 0, **others: Any) -> None:
        asked.append(int(memory_required))
        load(models, memory_required=memory_required, **others)

    monkeypatch.setattr(manager, "load_models_gpu", noting)
    _, large = train(24 * 2**30)
    assert "checkpointing" not in large.plan
    most = max(asked)
    room = weights_of(wires["model"]) + most // 2
    _, small = train(room)
    assert "with checkpointing" in small.plan and large.losses.values == pytest.approx(small.losses.values, abs=1e-5)


def test_train_concept_plans_both_stages_as_one_and_trains_nothing(
    run: Call, pack: Pack, wires: dict[str, Any], options: Any, folders: Any
) -> None:
    reference = wires.pop("references")["reference_0"]
    video = import_module("comfy_api.latest").InputImpl.VideoFromComponents(
        import_module("comfy_api.latest").Types.VideoComponents(images=reference.clip.frames_FHWC, frame_rate=16)
    )
    words = {"static_prompt": reference.words.static_prompt, "motion_prompt": reference.words.motion_prompt}
    output = run("TrainConcept", **wires, **words, video=video, name="bee", settings=options, plan_only=True)
    assert [type(each).__name__ for each in output.args] == ["ExecutionBlocker"] * 6
    record = pack("nodes.panel").RECORDS.get("7")
    (told,) = output.ui.as_dict()["text"]
    assert "using the first 5 frames" in told and told.endswith(record.plan)
    assert "tokens a sample" in record.plan and record.losses.values == []
    assert not list((folders / "dynamic_concepts").iterdir())
