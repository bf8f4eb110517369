"""Previews during training: they do not change the training, and keep to their share of the time."""

import io
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]
PROMPTS = {"static_prompt": "a [v] blob", "motion_prompt": "a [v] blob [u] hopping"}
STAGES = ("set", "sequence")
CONFIG = MethodConfig(
    prior=PriorConfig(share=0.0),
    rank=2,
    set_stage=SetConfig(steps=3, batch=2, learning_rate=1e-2),
    sequence_stage=SequenceConfig(steps=3, batch=1, learning_rate=1e-2),
)


@pytest.fixture
def train(pack: Pack, load_wan: Call) -> Call:
    """Trains both stages as the nodes do; returns the concept, both records, and how often the VAE encoded."""
    fitting, reference, panel = (
        pack("setandseq_core.clips.clip"),
        pack("setandseq_core.clips.clip"),
        pack("nodes.panel"),
    )
    learn, progress, settings = pack("setandseq_core.learn"), pack("nodes.progress"), pack("nodes.settings")
    frames = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    clip = fitting.Clip(frames_FHWC=frames, fps=16.0, choice="random")
    one = reference.Reference(clip=clip, words=reference.Words(**PROMPTS))

    def run(preview_every: int, still_frames: int) -> tuple[Any, dict[str, Any], int]:
        config = replace(CONFIG, set_stage=replace(CONFIG.set_stage, still_frames=still_frames))
        options = settings.TrainingOptions(config=config, preview_every=preview_every)
        encoded: list[tuple[int, ...]] = []
        with torch.inference_mode(), pack("nodes.backbone").differentiable():
            backbone = _counting(pack, load_wan(), encoded)
            records = {stage: panel.TrainingRecord(node="1", stage=stage, prompt="a [v] blob") for stage in STAGES}
            told = {"reference": one, "options": options}
            with progress.TrainingProgress(backbone, records["set"], **told) as shown:
                concept = learn.learn_identity(backbone, [one], config, name="blob", progress=shown)
            with progress.TrainingProgress(backbone, records["sequence"], **told) as shown:
                concept = learn.learn_motion(backbone, concept, [one], config, progress=shown)
        return concept, records, len(encoded)

    return run


def _counting(pack: Pack, model: Any, encoded: list[tuple[int, ...]]) -> Any:
    """The backbone of a MODEL; every encoding by its VAE is recorded."""
    file = pack("setandseq_core.embedded.model").VAE_FILE
    with torch.inference_mode():
        vae = import_module("comfy.sd").VAE(sd=import_module("comfy.utils").load_torch_file(str(file)))
    encode = vae.encode

    def noted(frames: torch.Tensor) -> torch.Tensor:
        encoded.append(tuple(frames.shape))
        return encode(frames)

    vae.encode = noted
    return pack("nodes.backbone").ComfyBackbone(model, pack("nodes.embedded").embedded_clip(), vae)


@pytest.mark.parametrize("still_frames", [1, 5])
def test_previews_change_no_loss_and_encode_nothing_again(train: Call, still_frames: int) -> None:
    (plain, without, encoded), (seen, records, again) = train(0, still_frames), train(1, still_frames)
    assert encoded == again == 6  # five frames, and the clip
    for stage in STAGES:
        assert seen.info.training[stage]["losses"] == plain.info.training[stage]["losses"]
        steps = [step for step, _ in records[stage].validation]
        assert steps == [0, 1, 2, 3]
        pictures = sorted(records[stage].pictures)
        assert records[stage].sample_step == 3 and pictures == ["reference", "sample", "sample_1", "sample_3"]
        assert without[stage].validation == records[stage].validation and list(without[stage].pictures) == ["reference"]
    for name, layer in plain.layers.items():
        assert torch.equal(seen.layers[name].identity_basis_OR, layer.identity_basis_OR)
        assert torch.equal(seen.layers[name].motion_residual_RI, layer.motion_residual_RI)


def test_a_first_sample_is_made_early_whatever_the_budget(
    train: Call, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack("nodes.previews"), "SHARE", 0.0)
    for seconds, samples in ((0.0, ["sample_1", "sample_3"]), (1e9, ["sample_3"])):
        monkeypatch.setattr(pack("nodes.previews"), "FIRST_SECONDS", seconds)
        _, records, _ = train(50, 1)
        for stage in STAGES:
            assert sorted(name for name in records[stage].pictures if "_" in name) == samples


def test_where_memory_is_short_the_samples_are_rough_and_the_vae_is_left_alone(
    train: Call, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    previews = pack("nodes.previews")
    monkeypatch.setattr(previews, "fits_beside", lambda *_: False)
    monkeypatch.setattr(pack("nodes.backbone").ComfyBackbone, "decode_latents", None)
    _, records, _ = train(1, 1)
    with Image.open(io.BytesIO(records["sequence"].pictures["sample"])) as picture:
        assert (picture.format, picture.size, getattr(picture, "n_frames", 1)) == ("WEBP", (4, 4), 2)


def test_a_budget_leaves_room_for_the_last_time(pack: Pack) -> None:
    clock = [0.0]
    budget = pack("nodes.previews").Budget(lambda: clock[0])
    assert budget.allows(0.0) and not budget.allows(1.9, guess=1.0)
    with budget.taken():
        clock[0] += 1.0
    assert (budget.spent, budget.last) == (1.0, 1.0)
    assert budget.allows(3.0) and not budget.allows(2.9) and not budget.allows(3.0, besides=0.2)


def test_a_looping_picture_has_all_frames_at_a_small_size(pack: Pack) -> None:
    frames = torch.rand(5, 300, 600, 3, generator=torch.Generator().manual_seed(0))
    with Image.open(io.BytesIO(pack("nodes.previews").looping_picture(frames, 16.0))) as picture:
        assert (picture.format, picture.size) == ("WEBP", (256, 128))
        assert getattr(picture, "n_frames", 1) == 5 and picture.info["loop"] == 0


@pytest.fixture
def set_stage(pack: Pack, load_wan: Call, tmp_path: Path) -> Call:
    """Trains the set stage as its node does; returns the node's text and its record."""
    learn, progress, settings = pack("setandseq_core.learn"), pack("nodes.progress"), pack("nodes.settings")
    clips = pack("setandseq_core.clips.clip")
    frames = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    clip = clips.Clip(frames_FHWC=frames, fps=16.0, choice="random")
    one = clips.Reference(clip=clip, words=clips.Words(**PROMPTS))

    def run(folder: Path | None, **stage: Any) -> tuple[str, Any]:
        config = replace(CONFIG, set_stage=replace(CONFIG.set_stage, **stage))
        record = pack("nodes.panel").TrainingRecord(node="1", stage="set", prompt="a [v] blob")
        options = settings.TrainingOptions(config=config, preview_every=0)
        with torch.inference_mode(), pack("nodes.backbone").differentiable():
            backbone = _counting(pack, load_wan(), [])
            with progress.TrainingProgress(backbone, record, reference=one, options=options) as shown:
                told = {"progress": shown, "trained": shown.ended}
                concept = learn.learn_identity(backbone, [one], config, name="blob", folder=folder, **told)
                return shown.summary("look", concept), record

    return run


def test_a_state_that_is_not_saved_at_the_end_is_told_on_the_node(set_stage: Call, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    text, record = set_stage(in_the_way / "states")
    assert "The training state is not saved" in text and record.news()["alarming"]
    text, record = set_stage(tmp_path / "states")
    assert "not saved" not in text and not record.news()["alarming"]


def test_a_training_that_makes_it_worse_is_told_in_red(set_stage: Call) -> None:
    text, record = set_stage(None, steps=3, learning_rate=0.3)
    assert "Training made it worse: the validation loss rose from" in text and record.news()["alarming"]
    assert record.message == text
