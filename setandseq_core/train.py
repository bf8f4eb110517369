"""Set-and-Sequence: the two training loops (Eq. 5 and 9 of Abdal et al. 2025, arXiv 2502.14844).

Shape letters: B batch, C latent channels, F latent frames, H, W latent height and width, S frames of
the set, K prior clips.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from .backbone import Backbone, Savings
from .clips.encode import Encoded, EncodedPrior, FrameSequence, FrameSet, Material
from .concept import EMBEDDINGS, ConceptLayer
from .config import MethodConfig, StageConfig, Values
from .fingerprint import content_key
from .flow import flow_loss, interpolate, random_times, target_velocity
from .lora import TrainableConcept, trainable_concept
from .prompts import Condition, masked, with_embeddings
from .training.processes import ALONE, Processes, of_the_first
from .training.progress import ProgressCallback
from .training.run import StageRun
from .training.savings import waiting
from .training.validation import QUANTILES, Validation, evaluating, validation_loss

METHOD_VERSION = 3
"""Version of the method. Raise it with every change that alters results for the same input, so that no training resumes
from an outdated state."""


@dataclass(kw_only=True, slots=True, frozen=True)
class _Samples:
    """Part of a step's batch."""

    x_0: Tensor
    texts: list[Condition]
    """The prompt of each sample."""
    weights: Tensor | None = None
    share: float = 1.0
    """Weight of this group's mean in the step's loss."""


def _frames(frame_set: FrameSet, count: int) -> _Samples:
    chosen = torch.randint(len(frame_set.latents_SCFHW), (count,))
    weights = None if frame_set.weights_S1FHW is None else frame_set.weights_S1FHW[chosen]
    return _Samples(x_0=frame_set.latents_SCFHW[chosen], texts=[frame_set.text] * count, weights=weights)


def _clips(sequence: FrameSequence, count: int) -> _Samples:
    x_0 = sequence.latents_CFHW.expand(count, *sequence.latents_CFHW.shape)
    return _Samples(x_0=x_0, texts=[sequence.text] * count, weights=sequence.weights_1FHW)


def _step_samples(
    material: Material[Encoded],
    draw: Callable[[Encoded, int], _Samples],
    embeddings: Sequence[Tensor],
    step: int,
    batch: int,
    config: MethodConfig,
) -> list[_Samples]:
    """Samples of a step: the concept's own, with its learned tokens, and prior samples."""
    samples: list[_Samples] = []
    num_prior = material.prior_samples(step, batch, config)
    if num_prior < batch:
        own = draw(material.of_step(step, config), batch - num_prior)
        texts = with_embeddings(own.texts, embeddings)
        samples.append(replace(own, texts=texts, share=(batch - num_prior) / batch))
    if material.prior and num_prior:
        samples.append(_prior(material.prior, num_prior, batch, config))
    return samples


def _prior(prior: EncodedPrior, count: int, batch: int, config: MethodConfig) -> _Samples:
    chosen = torch.randint(len(prior.latents_KCFHW), (count,))
    texts = [prior.texts[int(index)] for index in chosen]
    if config.prior.empty_prompts:
        emptied_B = torch.rand(count) < config.prior.empty_prompts
        empty = [prior.empty[int(index)] for index in chosen]
        texts = [bare if is_empty else text for text, bare, is_empty in zip(texts, empty, emptied_B, strict=True)]
    return _Samples(
        x_0=prior.latents_KCFHW[chosen],
        texts=texts,
        weights=prior.weights_B1FHW(chosen),
        share=config.prior.weight * count / batch,
    )


@dataclass(kw_only=True, slots=True, frozen=True)
class _Noised:
    """Samples at random times, with everything that was drawn for them."""

    x_t: Tensor
    time_B: Tensor
    texts: list[Condition]
    target: Tensor
    weights: Tensor | None
    share: float

    def part(self, chosen: slice) -> "_Noised":
        """Some of the samples, with their share of the loss; the shares of all parts add up to that of the whole."""
        weights, share = self.weights, self.share * len(self.x_t[chosen]) / len(self.x_t)
        if weights is not None and len(weights) == len(self.x_t):  # one for each sample, not one for all
            weights = weights[chosen]
            share *= float(weights.mean() / self.weights.mean()) if self.weights is not None else 1.0
        return replace(
            self,
            x_t=self.x_t[chosen],
            time_B=self.time_B[chosen],
            texts=self.texts[chosen],
            target=self.target[chosen],
            weights=weights,
            share=share,
        )


def _noised(samples: _Samples, config: MethodConfig, shift: float) -> _Noised:
    """Samples at random times (Eq. 1), with the tokens of their prompts masked at random."""
    noise = torch.randn_like(samples.x_0)
    time_B = random_times(samples.x_0, shift, config.time_range)
    return _Noised(
        x_t=interpolate(samples.x_0, noise, time_B),
        time_B=time_B,
        texts=masked(samples.texts, config.token_masking),
        target=target_velocity(samples.x_0, noise),
        weights=samples.weights,
        share=samples.share,
    )


def _loss(backbone: Backbone, groups: Sequence[_Noised]) -> Tensor:
    """Sum of the groups' flow-matching losses (Eq. 1), from one forward pass if their samples have the same shape."""
    if len({group.x_t.shape[1:] for group in groups}) > 1:
        return torch.stack([_loss(backbone, [group]) for group in groups]).sum()
    velocity = backbone.velocity(
        torch.cat([group.x_t for group in groups]),
        torch.cat([group.time_B for group in groups]),
        [text for group in groups for text in group.texts],
    )
    parts = torch.split(velocity, [len(group.x_t) for group in groups])
    losses = [
        group.share * flow_loss(part, group.target, group.weights) for group, part in zip(groups, parts, strict=True)
    ]
    return torch.stack(losses).sum()


def _parts(groups: Sequence[_Noised], chosen: slice) -> Iterator[_Noised]:
    """The chosen samples; their indices run across all groups."""
    first = 0
    for group in groups:
        count = len(group.x_t)
        own = slice(max(chosen.start - first, 0), min(chosen.stop - first, count))
        if own == slice(0, count):
            yield group
        elif own.start < own.stop:
            yield group.part(own)
        first += count


def _learn(
    backbone: Backbone,
    concept: TrainableConcept,
    run: StageRun,
    draw: Callable[[int], list[_Samples]],
    shift: float,
) -> None:
    """Run all steps of a stage: draw samples, add noise, and descend the gradient of their loss.

    Args:
        draw: gives the samples of a step by its number.
    """
    for step in run.steps():

        def backward(chosen: slice, step: int = step) -> Tensor:
            samples = draw(step)
            with concept.dropped_out(), waiting(run.savings), backbone.step():
                noised = [_noised(each, run.method, shift) for each in samples]
                loss = _loss(backbone, list(_parts(noised, chosen)))
                loss.backward()  # pyright: ignore[reportUnknownMemberType]
            return loss.detach()

        run.learn_in_parts(backward)


def run_set_stage(
    backbone: Backbone, concept: TrainableConcept, material: Material[FrameSet], config: MethodConfig, run: StageRun
) -> None:
    """Learn the identity basis A1 and the coefficients B1 from single frames and the static prompt (Eq. 5)."""
    embeddings, shift = list(concept.embeddings.values()), config.set_stage.time_shift or backbone.shift

    def draw(step: int) -> list[_Samples]:
        return _step_samples(material, _frames, embeddings, step, config.set_stage.batch, config)

    _learn(backbone, concept, run, draw, shift)


def run_sequence_stage(
    backbone: Backbone,
    concept: TrainableConcept,
    material: Material[FrameSequence],
    config: MethodConfig,
    run: StageRun,
) -> None:
    """Learn the motion residual B2 from the ordered clip and the motion prompt; A1 and B1 are frozen (Eq. 9)."""
    embeddings = list(concept.embeddings.values())

    def draw(step: int) -> list[_Samples]:
        return _step_samples(material, _clips, embeddings, step, config.sequence_stage.batch, config)

    _learn(backbone, concept, run, draw, backbone.shift)


@dataclass(kw_only=True, slots=True, frozen=True)
class Trained:
    """Result of a stage."""

    layers: dict[str, ConceptLayer]
    finished: bool
    """Whether every step was done; False after a stop."""
    record: Values
    """The stage's steps, seconds, losses, and the date of its last step."""
    embeddings: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Learned tokens by name, if any."""
    unsaved: str = ""
    """Reason why the state could not be saved at the end; "" if it was saved."""
    validation: dict[int, float] = field(default_factory=dict[int, float])
    """Validation loss by the number of steps done; 0 is before the first step."""
    taken_from: int | None = None
    """The step whose state was taken because the last one was worse than no training; None if the last was taken."""


def train_identity(
    backbone: Backbone,
    material: Material[FrameSet],
    config: MethodConfig,
    *,
    savings: Savings | None = None,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
    processes: Processes = ALONE,
) -> Trained:
    """Run the set stage; the motion residual stays zero. Afterwards the model is exactly as it was before.

    Args:
        savings: ways to use less memory; if memory still runs out, training applies more of them.
        folder: keeps unfinished work; the same frames and settings resume from there.
        progress: called after every step; may raise StopTraining to stop and keep what was learned.
        processes: the processes that train this together.
    """
    stage, first = config.set_stage, material.clips[0]
    saved = replace(savings) if savings else Savings()
    key = content_key(_shared(backbone, config), _kept(stage), *material.content())
    shape = stage.batch, *first.latents_SCFHW.shape[1:]
    with (
        backbone.running(shape, saved),
        trainable_concept(
            backbone.module, backbone.layers, rank=config.rank, seed=config.seed, device=backbone.device
        ) as concept,
    ):
        parameters = concept.begin_set_stage(stage.coefficient_dropout)
        if config.token_learning_rate:
            parameters |= concept.learn_embedding(EMBEDDINGS[0], first.text.tokens_ND[0])
        run = StageRun(
            stage="set",
            key=key,
            parameters=parameters,
            config=stage,
            method=config,
            folder=folder,
            progress=progress,
            validation=_validation(backbone, concept, some_frames(first), first.text, config, processes),
            savings=saved,
            processes=processes,
        )
        run_set_stage(backbone, concept, material, config, run)
        return _trained(concept, run)


def train_motion(
    backbone: Backbone,
    identity: Mapping[str, ConceptLayer],
    material: Material[FrameSequence],
    config: MethodConfig,
    *,
    embeddings: Mapping[str, Tensor] | None = None,
    savings: Savings | None = None,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
    processes: Processes = ALONE,
) -> Trained:
    """Run the sequence stage on a frozen identity. See `train_identity` for the other arguments.

    Args:
        identity: the layers of the set stage; their rank is used, not the rank in `config`.
        embeddings: the learned token of the set stage, if any.
    """
    stage, first = config.sequence_stage, material.clips[0]
    saved = replace(savings) if savings else Savings()
    learned = {name: value.to(backbone.device) for name, value in (embeddings or {}).items() if name == EMBEDDINGS[0]}
    factors = [t for layer in identity.values() for t in (layer.identity_basis_OR, layer.coefficients_RI)]
    key = content_key(_shared(backbone, config), _kept(stage), *factors, *learned.values(), *material.content())
    rank = next(iter(identity.values())).coefficients_RI.shape[0]
    layers = {name: backbone.layers[name] for name in identity}
    shape = stage.batch, *first.latents_CFHW.shape
    with (
        backbone.running(shape, saved),
        trainable_concept(backbone.module, layers, rank=rank, seed=config.seed, device=backbone.device) as concept,
    ):
        concept.set_identity(identity)
        concept.set_embeddings(learned)
        parameters = concept.begin_sequence_stage(stage.coefficient_dropout)
        if config.token_learning_rate:
            parameters |= concept.learn_embedding(EMBEDDINGS[1], first.text.tokens_ND[0])
        run = StageRun(
            stage="sequence",
            key=key,
            parameters=parameters,
            config=stage,
            method=config,
            folder=folder,
            progress=progress,
            validation=_validation(backbone, concept, first.latents_CFHW.unsqueeze(0), first.text, config, processes),
            savings=saved,
            processes=processes,
        )
        run_sequence_stage(backbone, concept, material, config, run)
        return _trained(concept, run)


def some_frames(frame_set: FrameSet) -> Tensor:
    """Frames (B, C, F, H, W) spread over a clip, one for each validation time."""
    last = len(frame_set.latents_SCFHW) - 1
    return frame_set.latents_SCFHW[[round(quantile * last) for quantile in QUANTILES]]


def _validation(
    backbone: Backbone,
    concept: TrainableConcept,
    x_0_BCFHW: Tensor,
    text: Condition,
    config: MethodConfig,
    processes: Processes,
) -> Validation:
    def measure() -> float:
        learned = with_embeddings([text], list(concept.embeddings.values()))[0]
        with evaluating(backbone.module), concept.dropped_out():  # evaluation mode turns dropout off
            loss = validation_loss(backbone, x_0_BCFHW, learned, config.time_range)
        return of_the_first(loss, processes, x_0_BCFHW.device)

    return Validation(measure=measure)


def _kept(stage: StageConfig) -> Values:
    """A stage's settings except its number of steps, because step k is the same in a longer training."""
    values = asdict(stage)
    del values["steps"]
    return values


def _shared(backbone: Backbone, config: MethodConfig) -> Values:
    """Everything that the results of both stages depend on."""
    return {
        "method": METHOD_VERSION,
        "rank": config.rank,
        "masking": config.token_masking,
        "betas": config.betas,
        "seed": config.seed,
        "decay": config.weight_decay,
        "clipping": config.gradient_clipping,
        "times": config.time_range,
        "prior": asdict(config.prior),
        "tokens": config.token_learning_rate,
        "stitched": config.stitched_share,
        "variant": backbone.variant,
        "shift": backbone.shift,
        "base": asdict(backbone.fingerprint()),
    }


def _trained(concept: TrainableConcept, run: StageRun) -> Trained:
    taken_from = run.take_best()
    record = {"steps": len(run.losses), "seconds": run.seconds, "losses": run.losses, "date": run.date}
    if run.lowered_at is not None:
        record["lowered_at"] = run.lowered_at
    return Trained(
        layers=concept.read(),
        finished=not run.stopped,
        record=record,
        embeddings=concept.read_embeddings(),
        unsaved=run.unsaved,
        validation=dict(run.validation.losses) if run.validation else {},
        taken_from=taken_from,
    )
