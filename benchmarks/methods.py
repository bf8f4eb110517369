"""The methods that benchmarks.method compares: each learns one concept clip from as many samples as the others.

Each gives layers (W + A1 (B1 + B2)) and learned tokens, which are sampled in the same way.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.concept import EMBEDDINGS, ConceptLayer
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.lora import TrainableConcept, trainable_concept
from setandseq_core.material import (
    FrameSequence,
    FrameSet,
    Material,
    encode_frame_sequence,
    encode_frame_set,
    encode_prior,
)
from setandseq_core.prior import PriorSet
from setandseq_core.runs import StageRun
from setandseq_core.toy.concepts import ConceptClip
from setandseq_core.train import run_sequence_stage, run_set_stage, train_identity, train_motion

PLAIN_RATE = 1e-3
"""Learning rate of the plain LoRAs."""
TOKEN_RATE = 3e-2
"""Of Textual Inversion's tokens."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Learned:
    """What a method learned from a clip."""

    layers: dict[str, ConceptLayer] = field(default_factory=dict)
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)


@dataclass(kw_only=True, slots=True, frozen=True)
class Job:
    """One clip to learn, as both stages see it."""

    frame_set: FrameSet
    still_set: FrameSet
    """The same frames as still clips, as the recipe shows them."""
    sequence: FrameSequence
    prior: PriorSet | None
    config: MethodConfig
    """The recipe: its steps and batch count for all methods."""

    @property
    def steps(self) -> int:
        """Of both stages together."""
        return self.config.set_stage.steps + self.config.sequence_stage.steps


Method = Callable[[WanBackbone, Job], Learned]


def encode_job(
    backbone: WanBackbone, clip: ConceptClip, prior: PriorSet | None, config: MethodConfig, frames: int = 17
) -> Job:
    """A concept clip, or its first frames, encoded."""
    shown = clip.frames()[:frames]
    return Job(
        frame_set=encode_frame_set(backbone, shown, clip.static_prompt),
        still_set=encode_frame_set(backbone, shown, clip.static_prompt, still_frames=config.set_stage.still_frames),
        sequence=encode_frame_sequence(backbone, shown, clip.motion_prompt),
        prior=prior,
        config=config,
    )


def base(_backbone: WanBackbone, _job: Job) -> Learned:
    """The model as it is."""
    return Learned()


class _TokensOnly:
    """What the training loop asks of a concept, for one that changes no weights."""

    def __init__(self, tokens: dict[str, nn.Parameter]):
        self.embeddings = tokens

    def dropped_out(self) -> nullcontext:
        """Nothing is dropped."""
        return nullcontext()


def textual_inversion(backbone: WanBackbone, job: Job) -> Learned:
    """Two tokens learned from the clip and its motion prompt, starting at zero; the model's weights stay."""
    tokens = {name: nn.Parameter(torch.zeros_like(job.sequence.text_ND[0])) for name in EMBEDDINGS}
    config = _plain_config(job, token_learning_rate=TOKEN_RATE)
    backbone.module.requires_grad_(False)
    run = _run(tokens, config, job.steps)
    concept: TrainableConcept = _TokensOnly(tokens)  # type: ignore[assignment]
    run_sequence_stage(backbone, concept, Material(clips=[job.sequence]), config, run)
    return Learned(embeddings={name: token.detach() for name, token in tokens.items()}, losses=run.losses)


def plain_lora(backbone: WanBackbone, job: Job, *, rank: int) -> Learned:
    """A LoRA on the clip and its motion prompt."""
    config = _plain_config(job)
    with trainable_concept(backbone.module, backbone.layers, rank=rank, seed=config.seed) as concept:
        run = _run(concept.begin_set_stage(0.0), config, job.steps)
        run_sequence_stage(backbone, concept, Material(clips=[job.sequence]), config, run)
        return Learned(layers=concept.read(), losses=run.losses)


def mixed_fine_tune(backbone: WanBackbone, job: Job) -> Learned:
    """A LoRA of rank 8 on the clip and on its single frames in turn, as DreamMix mixes videos and images."""
    config = _plain_config(job)
    frames, clips = Material(clips=[job.frame_set]), Material(clips=[job.sequence])
    with trainable_concept(backbone.module, backbone.layers, rank=8, seed=config.seed) as concept:
        run = _run(concept.begin_set_stage(0.0), config, job.steps)
        for step in run.steps():
            stage, material = (run_set_stage, frames) if step % 2 else (run_sequence_stage, clips)
            stage(backbone, concept, material, config, _OneStep(run, step))  # type: ignore[arg-type]
        return Learned(layers=concept.read(), losses=run.losses)


@dataclass(slots=True)
class _OneStep:
    """One step of a run, for a loop that would do all of them."""

    run: StageRun
    step: int

    def steps(self) -> Iterator[int]:
        yield self.step

    def learn(self, loss: Tensor) -> None:
        self.run.learn(loss)


def two_stages(backbone: WanBackbone, job: Job, *, config: Callable[[MethodConfig], MethodConfig]) -> Learned:
    """Set-and-Sequence by the job's recipe, changed by `config`."""
    chosen = config(job.config)
    prior = {
        s: encode_prior(backbone, job.prior, s) if job.prior and chosen.prior.share else None
        for s in ("set", "sequence")
    }
    frames = job.still_set if chosen.set_stage.still_frames > 1 else job.frame_set
    identity = train_identity(backbone, Material(clips=[frames], prior=prior["set"]), chosen)
    motion = train_motion(backbone, identity.layers, Material(clips=[job.sequence], prior=prior["sequence"]), chosen)
    return Learned(layers=motion.layers, losses=[*identity.record["losses"], *motion.record["losses"]])


def _as_paper(config: MethodConfig, set_stage: float, sequence_stage: float) -> MethodConfig:
    """Single frames in the set stage, and these dropouts."""
    return replace(
        config,
        set_stage=replace(config.set_stage, coefficient_dropout=set_stage, still_frames=1),
        sequence_stage=replace(config.sequence_stage, coefficient_dropout=sequence_stage),
    )


def unregularised(config: MethodConfig) -> MethodConfig:
    """No dropout, no token masking, no prior."""
    return replace(_as_paper(config, 0.0, 0.0), token_masking=0.0, prior=PriorConfig(share=0.0))


def regularised(config: MethodConfig) -> MethodConfig:
    """The paper's dropout, token masking and prior preservation."""
    return replace(_as_paper(config, 0.8, 0.5), token_masking=0.1, prior=PriorConfig())


METHODS: Mapping[str, Method] = {
    "base": base,
    "Textual Inversion": textual_inversion,
    "LoRA rank 1": partial(plain_lora, rank=1),
    "LoRA rank 8": partial(plain_lora, rank=8),
    "mixed fine-tune": mixed_fine_tune,
    "two stages": partial(two_stages, config=unregularised),
    "two stages + regularisation": partial(two_stages, config=regularised),
    "ours": partial(two_stages, config=lambda config: config),
}


def _plain_config(job: Job, token_learning_rate: float = 0.0) -> MethodConfig:
    return MethodConfig(
        token_masking=0.0,
        token_learning_rate=token_learning_rate,
        seed=job.config.seed,
        gradient_clipping=job.config.gradient_clipping,
        prior=PriorConfig(share=0.0),
        set_stage=SetConfig(batch=job.config.set_stage.batch),
        sequence_stage=SequenceConfig(batch=job.config.sequence_stage.batch),
    )


def _run(parameters: dict[str, nn.Parameter], config: MethodConfig, steps: int) -> StageRun:
    stage = SetConfig(steps=steps, learning_rate=PLAIN_RATE, batch=config.set_stage.batch)
    return StageRun(stage="plain", key="", parameters=parameters, config=stage, method=config)
