"""Both experts of a base in one request: each learns its own noise levels, and one file serves both MODELs."""

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]
BETWEEN = 0.875
CONFIG = MethodConfig(
    rank=2,
    prior=PriorConfig(clips=1, share=0.5),
    set_stage=SetConfig(steps=3, batch=2, learning_rate=1e-2),
    sequence_stage=SequenceConfig(steps=2, batch=2, learning_rate=1e-2),
)
HIGH, LOW, OTHER = range(3)
"""Seeds of three models of one shape."""


@pytest.fixture
def asked(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Tensor]]:
    """Records which MODEL was asked for its velocity, and at which times."""
    backbone = pack("nodes.backbone").ComfyBackbone
    answer = backbone.velocity
    found: list[tuple[Any, Tensor]] = []

    def noted(self: Any, x_t: Tensor, time_B: Tensor, texts: Any) -> Tensor:
        if type(time_B) is Tensor:  # the plan asks with fake tensors, which have no values
            found.append((self.model, time_B.detach().clone()))
        return answer(self, x_t, time_B, texts)

    monkeypatch.setattr(backbone, "velocity", noted)
    return found


@pytest.fixture
def train(run: Call, pack: Pack, folders: Path, load_wan: Call) -> Call:
    """Runs Train Concept on two experts, always with the same clip and settings; returns its NodeOutput."""
    folder = pack("nodes.folders").training_folder()
    for file in folder.glob("*"):
        file.unlink()
    latest, embedded = import_module("comfy_api.latest"), pack("nodes.embedded")
    frames = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    video = latest.InputImpl.VideoFromComponents(latest.Types.VideoComponents(images=frames, frame_rate=16))
    with torch.inference_mode():
        vae = import_module("comfy.sd").VAE(sd=import_module("comfy.utils").load_torch_file(str(embedded.VAE_FILE)))

    def execute(model: Any, low_noise_model: Any, **inputs: Any) -> Any:
        given = {"static_prompt": "a [v] blob", "motion_prompt": "a [v] blob [u] hopping", "name": "blob"} | inputs
        options = pack("nodes.settings").TrainingOptions(config=CONFIG, preview_every=2)
        return run(
            "TrainConcept",
            model=model,
            low_noise_model=low_noise_model,
            clip=embedded.embedded_clip(),
            vae=vae,
            video=video,
            settings=options,
            **given,
        )

    return execute


def text_of(output: Any) -> str:
    return str(output.ui.as_dict()["text"][0])


def test_one_request_trains_both_each_on_its_own_noise(
    train: Call, run: Call, pack: Pack, load_wan: Call, velocity: Call, folders: Path, asked: list[Any]
) -> None:
    high, low = load_wan(seed=HIGH), load_wan(seed=LOW)
    before = [velocity(high), velocity(low)]
    output = train(high, low)

    own = {id(model): [time for asker, time in asked if asker is model] for model in (high, low)}
    times_high, times_low = torch.cat(own[id(high)]), torch.cat(own[id(low)])
    assert len(times_high) > 10 and len(times_low) > 10
    assert times_high.min() >= BETWEEN - 1e-5 and times_low.max() <= BETWEEN + 1e-5

    concept = output.args[1].concept
    assert concept.info.config["time_range"] == [BETWEEN, 1.0]
    assert concept.low_noise.info.config["time_range"] == [0.0, BETWEEN]
    record = pack("nodes.panel").RECORDS.get("7")
    assert (record.expert, record.stage, record.step) == ("low_noise", "sequence", 2)
    assert (record.steps_before, record.steps_in_all) == (8, 10)
    assert "Learned the look (high noise)" in text_of(output) and "Learned the motion (low noise)" in text_of(output)
    assert [path.name for path in (folders / "dynamic_concepts").iterdir()] == ["blob.safetensors"]

    patched = [velocity(output.args[0]), velocity(output.args[5])]
    assert not any(torch.equal(*pair) for pair in zip(patched, before, strict=True))
    strengths = {"identity_strength": 1.0, "motion_strength": 1.0}
    for model, wanted in ((high, patched[0]), (low, patched[1])):
        loaded = run("LoadDynamicConcept", concept="blob.safetensors", model=model, **strengths)
        torch.testing.assert_close(velocity(loaded.args[0]), wanted, rtol=0, atol=0.02)
        assert "high noise and" in text_of(loaded) and "other weights" not in text_of(loaded)
    assert torch.equal(velocity(high), before[0]) and torch.equal(velocity(low), before[1])

    again = train(high, low)
    assert text_of(again).count("Nothing had to be done") == 4


def test_cancelled_in_the_second_expert_it_resumes_there(
    train: Call, pack: Pack, load_wan: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    high, low = load_wan(seed=HIGH), load_wan(seed=LOW)
    memory, progress = import_module("comfy.model_management"), pack("nodes.progress").TrainingProgress
    tell = progress.__call__

    def cancelled(self: Any, news: Any) -> None:
        tell(self, news)
        if self._record.expert == "low_noise" and news.step == 1:
            raise memory.InterruptProcessingException

    with monkeypatch.context() as patch:
        patch.setattr(progress, "__call__", cancelled)
        with pytest.raises(memory.InterruptProcessingException):
            train(high, low)
    assert pack("nodes.panel").RECORDS.get("7").state == "stopped"
    resumed = train(high, low)
    assert text_of(resumed).count("Nothing had to be done") == 2
    for file in pack("nodes.folders").training_folder().glob("*"):
        file.unlink()
    whole = train(high, low).args[1].concept
    found = resumed.args[1].concept
    for layer, value in whole.low_noise.layers.items():
        assert torch.equal(found.low_noise.layers[layer].motion_residual_RI, value.motion_residual_RI)


def test_two_models_that_are_no_pair_are_refused_before_training(train: Call, pack: Pack, load_wan: Call) -> None:
    error = pack("setandseq_core.errors").ConfigError
    with pytest.raises(error, match="are the same model"):
        train(load_wan(seed=HIGH), load_wan(seed=HIGH))
    with pytest.raises(error, match=r"not experts of one model.*128 wide.*256 wide"):
        train(load_wan(seed=HIGH), load_wan(seed=LOW, heads=2))


def test_swapped_wires_are_told_by_the_names_of_the_files(
    train: Call, pack: Pack, wan_file: Call, comfyui: Any, tmp_path: Path
) -> None:
    def load(name: str, seed: int) -> Any:
        shutil.copy(wan_file(seed=seed), tmp_path / name)
        with torch.inference_mode():
            return import_module("comfy.sd").load_diffusion_model(str(tmp_path / name))

    high, low = load("Wan_HIGH_14B.safetensors", HIGH), load("wan_low_noise_14B.safetensors", LOW)
    error = pack("setandseq_core.errors").ConfigError
    with pytest.raises(error, match="swapped: model is wan_low_noise_14B") as raised:
        train(low, high)
    assert "Connect the high-noise file to model" in raised.value.hint
    assert pack("nodes.experts").experts_on(high, low, 0.0)


def test_a_model_that_is_neither_expert_is_told_what_was_needed(
    run: Call, pack: Pack, load_wan: Call, make_concept: Call, folders: Path
) -> None:
    high, low = make_concept(load_wan(seed=HIGH)), make_concept(load_wan(seed=LOW), seed=2)
    high.info.config["time_range"] = [BETWEEN, 1.0]
    low.info.config["time_range"] = [0.0, BETWEEN]
    concept = pack("setandseq_core.concept").joined(high, low)
    pack("setandseq_core.concept_file.file").save_concept(concept, folders / "dynamic_concepts" / "bee.safetensors")
    error = pack("setandseq_core.errors").ConceptMismatchError
    strengths = {"identity_strength": 1.0, "motion_strength": 1.0}
    with pytest.raises(
        error, match=r"'bee'.*for high noise \(0.875 to 1\).*neither of them.*away from the one for low"
    ):
        run("LoadDynamicConcept", concept="bee.safetensors", model=load_wan(seed=OTHER), **strengths)


def test_a_schedule_acts_on_the_low_noise_model_by_the_time_of_the_whole_sampling(
    run: Call, pack: Pack, load_wan: Call, make_concept: Call
) -> None:
    """The schedule begins off, so the concept is off at the start of the second model's part and on at its end."""
    high, low = load_wan(seed=HIGH), load_wan(seed=LOW)
    concepts = make_concept(high), make_concept(low, seed=2)
    concepts[0].info.config["time_range"] = [BETWEEN, 1.0]
    concepts[1].info.config["time_range"] = [0.0, BETWEEN]
    weighted = pack("nodes.wires").WeightedConcept(concept=pack("setandseq_core.concept").joined(*concepts))
    points = ((0.6, 0.0), (0.7, 1.0))
    schedule = pack("setandseq_core.compose.strengths").StrengthSchedule(identity=points, motion=points)
    options = {"concepts": {"concept_0": weighted}, "identity_strength": 1.0, "motion_strength": 1.0}
    scheduled = run("ComposeConcepts", model=low, schedule=schedule, **options).args[0]
    merged = run("ComposeConcepts", model=low, **options).args[0]
    early, late = 0.85, 0.3  # with Wan's shift of 8, progress 0.59 and 0.95
    assert torch.equal(answer(scheduled, early), answer(low, early))
    torch.testing.assert_close(answer(scheduled, late), answer(merged, late), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(answer(merged, early), answer(low, early))


def answer(model: Any, time: float) -> Tensor:
    """The denoised latents that a MODEL gives a sampler."""
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(1, 16, 2, 4, 4, generator=generator)
    text = torch.randn(1, 48, 4096, generator=generator)
    with torch.inference_mode():
        import_module("comfy.model_management").load_models_gpu([model])
        options = {"wrappers": model.wrappers, "cond_or_uncond": [0]}
        found: Tensor = model.model.apply_model(latents, torch.tensor([time]), None, text, {}, options)
        return found.clone()
