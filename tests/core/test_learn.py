"""From clips to a concept: prior clips are made if none are given, and the file records what was done."""

import torch

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.clip import Clip, Reference, Words
from setandseq_core.concept_file.base_label import base_label
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.learn import learn_concept
from setandseq_core.training.prior import automatic_prior

CONFIG = MethodConfig(
    rank=2,
    prior=PriorConfig(share=0.5, clips=2),
    set_stage=SetConfig(steps=2, batch=2, learning_rate=1e-2),
    sequence_stage=SequenceConfig(steps=2, batch=2, learning_rate=1e-2),
)


def reference(frames_FHWC: torch.Tensor) -> Reference:
    words = Words(static_prompt="a sks blob", motion_prompt="a sks blob, zub hopping", identity_token="sks")
    return Reference(clip=Clip(frames_FHWC=frames_FHWC, fps=16.0, choice="random"), words=words)


def test_prior_clips_are_made_where_none_are_given(tiny_backbone: WanBackbone, tiny_frames: torch.Tensor) -> None:
    """Without them, the file would claim a regularisation that did not happen."""
    references = [reference(tiny_frames)]
    told: list[tuple[int, int]] = []
    found = learn_concept(
        tiny_backbone, references, CONFIG, name="blob", prior_progress=lambda done, clips: told.append((done, clips))
    )
    given = automatic_prior(tiny_backbone, references, CONFIG)
    expected = learn_concept(tiny_backbone, references, CONFIG, name="blob", prior=given)
    assert told == [(1, 2), (2, 2)]
    for stage in ("set", "sequence"):
        assert found.info.training[stage]["losses"] == expected.info.training[stage]["losses"]
    assert found.info.training["prior_clips"] == 2


def test_without_a_share_there_are_no_prior_clips(tiny_backbone: WanBackbone, tiny_frames: torch.Tensor) -> None:
    config = MethodConfig(
        rank=2, prior=PriorConfig(share=0.0), set_stage=CONFIG.set_stage, sequence_stage=CONFIG.sequence_stage
    )
    references = [reference(tiny_frames)]
    given = automatic_prior(tiny_backbone, references, CONFIG)
    plain = learn_concept(tiny_backbone, references, config, name="blob")
    ignored = learn_concept(tiny_backbone, references, config, name="blob", prior=given)
    assert "prior_clips" not in plain.info.training | ignored.info.training
    assert plain.info.training["set"]["losses"] == ignored.info.training["set"]["losses"]


def test_the_file_has_the_backbones_label_for_managers(tiny_backbone: WanBackbone, tiny_frames: torch.Tensor) -> None:
    tiny_backbone.base_label = "Some Video 2"
    concept = learn_concept(tiny_backbone, [reference(tiny_frames)], CONFIG, name="blob")
    assert base_label(concept.info) == "Some Video 2"
