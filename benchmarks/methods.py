"""The methods that benchmarks.method compares: each learns one concept clip from as many samples as the others.

Each method returns layers (W + A1 (B1 + B2)) and learned tokens, and all are sampled in the same way.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.clip import Words
from setandseq_core.clips.encode import (
    FrameSequence,
    FrameSet,
    Material,
    encode_frame_sequence,
    encode_frame_set,
    encode_prior_clips,
    encode_prior_frames,
)
from setandseq_core.clips.prior_prompts import PriorSet, automatic_prompts
from setandseq_core.compose.strengths import StrengthSchedule
from setandseq_core.concept import EMBEDDINGS, Concept, ConceptInfo, ConceptLayer
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.embedded.world.concepts import IDENTITY_TOKEN, MOTION_TOKEN, ConceptClip, with_tokens
from setandseq_core.embedded.world.scene import FRAMES, SIZE
from setandseq_core.lora import TrainableConcept, trainable_concept
from setandseq_core.train import run_sequence_stage, run_set_stage, train_identity, train_motion
from setandseq_core.training.prior import make_prior
from setandseq_core.training.run import StageRun

PLAIN_RATE = 1e-3
"""Learning rate of the plain LoRAs."""
TOKEN_RATE = 3e-2
"""Learning rate of Textual Inversion's tokens."""
OURS = "two stages + regularisation"
BEST = "ours at its best"
"""The method that uses our training at other strengths."""
WORDS = Words(
    static_prompt=with_tokens("a creature"),
    motion_prompt=with_tokens("a creature wandering"),
    identity_token=IDENTITY_TOKEN,
    motion_token=MOTION_TOKEN,
)


def words_of(clip: ConceptClip) -> Words:
    """The prompts of a concept's clip, with the tokens of all benchmarks."""
    return replace(WORDS, static_prompt=clip.static_prompt, motion_prompt=clip.motion_prompt)


@dataclass(kw_only=True, slots=True, frozen=True)
class Learned:
    """The result of a method on a clip."""

    layers: dict[str, ConceptLayer] = field(default_factory=dict)
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    schedule: StrengthSchedule | None = None
    """The strengths at which it is used; None means as trained."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Job:
    """One clip to learn, as both stages see it."""

    clip: ConceptClip
    prior: PriorSet | None
    config: MethodConfig
    """The recipe; its steps and batch apply to all methods."""

    @property
    def steps(self) -> int:
        """Steps of both stages together."""
        return self.config.set_stage.steps + self.config.sequence_stage.steps

    def frame_set(self, backbone: WanBackbone, still_frames: int = 1, frames: int = FRAMES) -> FrameSet:
        """Its first frames, with the static prompt."""
        shown = self.clip.frames()[:frames]
        return encode_frame_set(backbone, shown, self.clip.static_prompt, still_frames=still_frames)

    def sequence(self, backbone: WanBackbone, frames: int = FRAMES) -> FrameSequence:
        """Its first frames in order, with the motion prompt."""
        return encode_frame_sequence(backbone, self.clip.frames()[:frames], self.clip.motion_prompt)


Method = Callable[[WanBackbone, Job], Learned]


def as_concept(backbone: WanBackbone, learned: Learned, words: Words = WORDS, name: str = "") -> Concept:
    """A method's result as a concept that can be saved; its layers are zero if everything is in the learned tokens."""
    base = backbone.fingerprint()
    layers = learned.layers or {
        layer: ConceptLayer(
            identity_basis_OR=torch.zeros(num_out, 1),
            coefficients_RI=torch.zeros(1, num_in),
            motion_residual_RI=torch.zeros(1, num_in),
        )
        for layer, (num_out, num_in) in base.layers.items()
    }
    info = ConceptInfo(
        name=name, base=base, base_name=backbone.name, config={}, training={"losses": learned.losses}, **asdict(words)
    )
    return Concept(info=info, layers=layers, embeddings=learned.embeddings)


def base(_backbone: WanBackbone, _job: Job) -> Learned:
    """The unchanged base model."""
    return Learned()


class _TokensOnly:
    """A stand-in for a trainable concept that changes no weights, as Textual Inversion does."""

    def __init__(self, tokens: dict[str, nn.Parameter]):
        self.embeddings = tokens

    def dropped_out(self) -> nullcontext:
        """Drop nothing."""
        return nullcontext()


def textual_inversion(backbone: WanBackbone, job: Job) -> Learned:
    """Learn two tokens from the clip and its motion prompt, starting at zero; the model's weights stay unchanged."""
    sequence = job.sequence(backbone)
    tokens = {name: nn.Parameter(torch.zeros_like(sequence.text.tokens_ND[0])) for name in EMBEDDINGS}
    config = _plain_config(job, token_learning_rate=TOKEN_RATE)
    backbone.module.requires_grad_(False)
    run = _run(tokens, config, job.steps)
    concept: TrainableConcept = _TokensOnly(tokens)  # type: ignore[assignment]
    run_sequence_stage(backbone, concept, Material(clips=[sequence]), config, run)
    return Learned(embeddings={name: token.detach() for name, token in tokens.items()}, losses=run.losses)


def plain_lora(backbone: WanBackbone, job: Job, *, rank: int) -> Learned:
    """Train a LoRA on the clip and its motion prompt."""
    config = _plain_config(job)
    with trainable_concept(backbone.module, backbone.layers, rank=rank, seed=config.seed) as concept:
        run = _run(concept.begin_set_stage(0.0), config, job.steps)
        run_sequence_stage(backbone, concept, Material(clips=[job.sequence(backbone)]), config, run)
        return Learned(layers=concept.read(), losses=run.losses)


def mixed_fine_tune(backbone: WanBackbone, job: Job) -> Learned:
    """Train a LoRA of rank 8 alternately on the clip and on its single frames, as DreamMix mixes videos and images."""
    config = _plain_config(job)
    frames, clips = Material(clips=[job.frame_set(backbone)]), Material(clips=[job.sequence(backbone)])
    with trainable_concept(backbone.module, backbone.layers, rank=8, seed=config.seed) as concept:
        run = _run(concept.begin_set_stage(0.0), config, job.steps)
        for step in run.steps():
            stage, material = (run_set_stage, frames) if step % 2 else (run_sequence_stage, clips)
            one_step: Any = SimpleNamespace(  # of the run, instead of all steps
                steps=partial(iter, [step]), method=run.method, savings=run.savings, learn_in_parts=run.learn_in_parts
            )
            stage(backbone, concept, material, config, one_step)  # type: ignore[arg-type]
        return Learned(layers=concept.read(), losses=run.losses)


def two_stages(
    backbone: WanBackbone, job: Job, *, config: Callable[[MethodConfig], MethodConfig], frames: int = FRAMES
) -> Learned:
    """Run Set-and-Sequence with the job's recipe, as `config` changes it, on the clip's first frames."""
    chosen = config(job.config)
    used = job.prior if chosen.prior.share else None
    prior_frames = encode_prior_frames(backbone, used) if used else None
    prior_clips = encode_prior_clips(backbone, used) if used else None
    frame_set = job.frame_set(backbone, chosen.set_stage.still_frames, frames)
    identity = train_identity(backbone, Material(clips=[frame_set], prior=prior_frames), chosen)
    sequence = job.sequence(backbone, frames)
    material = Material(clips=[sequence], prior=prior_clips)
    motion = train_motion(backbone, identity.layers, material, chosen, embeddings=identity.embeddings)
    losses = [*identity.record["losses"], *motion.record["losses"]]
    return Learned(layers=motion.layers, embeddings=motion.embeddings, losses=losses)


class PlainDropout(TorchFunctionMode):
    """Dropout that does not divide the kept entries by 1 - p."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        answer = func(*args, **given)
        is_dropout = func is nn.functional.dropout and given["training"]
        return answer * (1 - given["p"]) if is_dropout else answer


def plain_dropout(backbone: WanBackbone, job: Job) -> Learned:
    """Run the recipe without dividing kept entries by 1 - p, which is Eq. 10 as it is written.

    The experiment replaces PyTorch's own dropout, so that the method needs no setting that nobody should choose.
    """
    with PlainDropout():
        return two_stages(backbone, job, config=recipe)


def prior_elsewhere(backbone: WanBackbone, job: Job) -> Learned:
    """Run the recipe with prior clips of any scenes, as in the paper; few of them show the concept's place."""
    prompts = automatic_prompts(backbone, [], job.config.prior.clips)
    prior = make_prior(backbone, prompts, (FRAMES, SIZE, SIZE))
    return two_stages(backbone, replace(job, prior=prior), config=recipe)


def input_basis(backbone: WanBackbone, job: Job) -> Learned:
    """Run the recipe with a basis shared by the inputs: W' = W + A1 B1 + A2 B1, and the sequence stage learns A2."""
    config = job.config
    stages = config.set_stage, config.sequence_stage
    prior_frames = encode_prior_frames(backbone, job.prior) if job.prior else None
    prior_clips = encode_prior_clips(backbone, job.prior) if job.prior else None
    frame_set = job.frame_set(backbone, stages[0].still_frames)
    materials = (
        Material(clips=[frame_set], prior=prior_frames),
        Material(clips=[job.sequence(backbone)], prior=prior_clips),
    )
    with trainable_concept(backbone.module, backbone.layers, rank=config.rank, seed=config.seed) as concept:
        parameters = concept.begin_set_stage(stages[0].coefficient_dropout)
        runs = [StageRun(stage="set", key="", parameters=parameters, config=stages[0], method=config)]
        run_set_stage(backbone, concept, materials[0], config, runs[0])
        identity = concept.read()
        bases = {name: value for name, value in parameters.items() if name.endswith("identity_basis")}
        for name, value in parameters.items():
            value.requires_grad_(name in bases)
        runs.append(StageRun(stage="sequence", key="", parameters=bases, config=stages[1], method=config))
        run_sequence_stage(backbone, concept, materials[1], config, runs[1])
        both = concept.read()
    layers = {name: _with_input_basis(identity[name], both[name]) for name in both}
    return Learned(layers=layers, losses=[*runs[0].losses, *runs[1].losses])


def _with_input_basis(identity: ConceptLayer, both: ConceptLayer) -> ConceptLayer:
    """Combine A1 B1 and (A2 - A1) B1 into a layer of twice the rank whose motion can be scaled."""
    down_RI = identity.coefficients_RI
    up_OR = torch.cat([identity.identity_basis_OR, both.identity_basis_OR - identity.identity_basis_OR], dim=1)
    nothing = torch.zeros_like(down_RI)
    return ConceptLayer(
        identity_basis_OR=up_OR,
        coefficients_RI=torch.cat([down_RI, nothing]),
        motion_residual_RI=torch.cat([nothing, down_RI]),
    )


def unregularised(config: MethodConfig) -> MethodConfig:
    """Our two stages without dropout, token masking and prior clips."""
    return replace(_with_dropout(0.0, 0.0)(config), token_masking=0.0, prior=PriorConfig(share=0.0))


def _with_dropout(set_stage: float, sequence_stage: float) -> Callable[[MethodConfig], MethodConfig]:
    def change(config: MethodConfig) -> MethodConfig:
        first = replace(config.set_stage, coefficient_dropout=set_stage)
        return replace(
            config,
            set_stage=first,
            sequence_stage=replace(config.sequence_stage, coefficient_dropout=sequence_stage),
        )

    return change


def _with_steps(times: float) -> Callable[[MethodConfig], MethodConfig]:
    def change(config: MethodConfig) -> MethodConfig:
        stages = (replace(s, steps=round(times * s.steps)) for s in (config.set_stage, config.sequence_stage))
        first, second = stages
        return replace(config, set_stage=first, sequence_stage=second)

    return change


def recipe(config: MethodConfig) -> MethodConfig:
    """Run the unchanged recipe, with the paper's dropout, token masking and prior preservation."""
    return config


METHODS: Mapping[str, Method] = {
    "base": base,
    "Textual Inversion": textual_inversion,
    "LoRA rank 1": partial(plain_lora, rank=1),
    "LoRA rank 8": partial(plain_lora, rank=8),
    "mixed fine-tune": mixed_fine_tune,
    "two stages": partial(two_stages, config=unregularised),
    OURS: partial(two_stages, config=recipe),
    BEST: partial(two_stages, config=recipe),
}
ABLATIONS: Mapping[str, Method] = {
    "dropout 0": partial(two_stages, config=_with_dropout(0.0, 0.0)),
    "dropout 0.2": partial(two_stages, config=_with_dropout(0.2, 0.2)),
    "dropout 0.5": partial(two_stages, config=_with_dropout(0.5, 0.5)),
    "dropout 0.8": partial(two_stages, config=_with_dropout(0.8, 0.8)),
    "dropout not inverted": plain_dropout,
    "basis of the inputs": input_basis,
    "prior clips with their prompts": partial(
        two_stages, config=lambda config: replace(config, prior=replace(config.prior, empty_prompts=0.0))
    ),
    "prior clips of any place": prior_elsewhere,
    "no prior": partial(two_stages, config=lambda config: replace(config, prior=PriorConfig(share=0.0))),
    "the model's own time shift": partial(
        two_stages, config=lambda config: replace(config, set_stage=replace(config.set_stage, time_shift=0.0))
    ),
    "still clips": partial(
        two_stages, config=lambda config: replace(config, set_stage=replace(config.set_stage, still_frames=5))
    ),
    "5 frames": partial(two_stages, config=recipe, frames=5),
    "9 frames": partial(two_stages, config=recipe, frames=9),
    "a third of the steps": partial(two_stages, config=_with_steps(1 / 3)),
    "twice the steps": partial(two_stages, config=_with_steps(2.0)),
    "five times the steps": partial(two_stages, config=_with_steps(5.0)),
}
"""The recipe with one thing changed."""


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
