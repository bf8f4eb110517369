"""Set-and-Sequence: the two training loops (Eq. 5 and 9 of Abdal et al. 2025, arXiv 2502.14844).

Shape letters: B batch, C latent channels, F latent frames, H, W latent height and width, N tokens, D text width,
S frames of the set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .backbone import Backbone
from .concept import ConceptLayer
from .config import MethodConfig
from .flow import flow_loss, interpolate, random_times, target_velocity
from .lora import TrainableConcept, trainable_concept
from .prompts import check_prompt, mask_tokens
from .runs import ProgressCallback, StageRun, content_key


@dataclass(kw_only=True, slots=True, frozen=True)
class FrameSet:
    """A clip as the set stage sees it, encoded once."""

    latents_SCFHW: Tensor
    """Every frame as a latent of its own (F is 1), in an order that does not depend on time."""
    text_ND: Tensor
    """Tokens of the static prompt."""
    weights_S1FHW: Tensor | None = None
    """How much each place counts in the loss; None is all alike."""


@dataclass(kw_only=True, slots=True, frozen=True)
class FrameSequence:
    """A clip as the sequence stage sees it, encoded once."""

    latents_CFHW: Tensor
    text_ND: Tensor
    """Tokens of the motion prompt."""
    weights_1FHW: Tensor | None = None
    """How much each place counts in the loss; None is all alike."""


BACKGROUND_WEIGHT = 0.1
"""What the surroundings of a masked subject count in the loss, beside 1 for the subject; ours."""


def subject_weights(mask_FHW: Tensor, latent_shape_FHW: tuple[int, int, int]) -> Tensor:
    """Loss weights (1, F', H', W') of latents from a mask in pixels, 1 on the subject.

    The first latent frame stands for the first frame, each further one for an equal share of the others.
    """
    frames, height, width = latent_shape_FHW
    small_FHW = F.interpolate(mask_FHW.unsqueeze(1).float(), (height, width), mode="area").squeeze(1)
    rest_FHW = small_FHW[1:].unflatten(0, (frames - 1, -1)).mean(1) if frames > 1 else small_FHW[1:]
    mask_1FHW = torch.cat([small_FHW[:1], rest_FHW]).unsqueeze(0)
    return BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * mask_1FHW


@torch.no_grad()
def encode_frame_set(
    backbone: Backbone, frames_FHWC: Tensor, static_prompt: str, mask_FHW: Tensor | None = None
) -> FrameSet:
    """Encode the frames of a clip, in [0, 1], each on its own, and its static prompt.

    Args:
        mask_FHW: 1 on the subject, 0 elsewhere; the rest then counts little.
    Raises:
        PromptError: the prompt is empty or too long.
    """
    text_ND = backbone.encode_prompt(check_prompt(static_prompt, "static prompt"))
    order = sorted(range(len(frames_FHWC)), key=lambda i: frames_FHWC[i].float().cpu().numpy().tobytes())
    latents_SCFHW = torch.stack([backbone.encode_frames(frames_FHWC[i : i + 1]) for i in order])
    if mask_FHW is None:
        return FrameSet(latents_SCFHW=latents_SCFHW, text_ND=text_ND)
    height, width = latents_SCFHW.shape[-2:]
    weights = torch.stack([subject_weights(mask_FHW[i : i + 1], (1, height, width)) for i in order])
    return FrameSet(latents_SCFHW=latents_SCFHW, text_ND=text_ND, weights_S1FHW=weights.to(latents_SCFHW.device))


@torch.no_grad()
def encode_frame_sequence(
    backbone: Backbone, frames_FHWC: Tensor, motion_prompt: str, mask_FHW: Tensor | None = None
) -> FrameSequence:
    """Encode a clip, frames in [0, 1], and its motion prompt; otherwise as `encode_frame_set`."""
    text_ND = backbone.encode_prompt(check_prompt(motion_prompt, "motion prompt"))
    latents_CFHW = backbone.encode_frames(frames_FHWC)
    if mask_FHW is None:
        return FrameSequence(latents_CFHW=latents_CFHW, text_ND=text_ND)
    frames, height, width = latents_CFHW.shape[1:]
    weights = subject_weights(mask_FHW, (frames, height, width)).to(latents_CFHW.device)
    return FrameSequence(latents_CFHW=latents_CFHW, text_ND=text_ND, weights_1FHW=weights)


def _loss(
    backbone: Backbone, x_0: Tensor, text_ND: Tensor, config: MethodConfig, weights: Tensor | None = None
) -> Tensor:
    """Flow-matching loss of a batch at random times (Eq. 1), the prompt's tokens masked at random."""
    noise = torch.randn_like(x_0)
    time_B = random_times(x_0, backbone.shift, config.time_range)
    text_BND = mask_tokens(text_ND.expand(len(x_0), -1, -1), config.token_masking)
    velocity = backbone.velocity(interpolate(x_0, noise, time_B), time_B, text_BND)
    return flow_loss(velocity, target_velocity(x_0, noise), weights)


def run_set_stage(
    backbone: Backbone, concept: TrainableConcept, sets: Sequence[FrameSet], config: MethodConfig, run: StageRun
) -> None:
    """Learn the identity basis A1 and the coefficients B1 from single frames and the static prompt (Eq. 5)."""
    for step in run.steps():
        frame_set = sets[step % len(sets)]
        chosen = torch.randint(len(frame_set.latents_SCFHW), (config.set_stage.batch,))
        with concept.dropped_out():
            weights = None if frame_set.weights_S1FHW is None else frame_set.weights_S1FHW[chosen]
            run.learn(_loss(backbone, frame_set.latents_SCFHW[chosen], frame_set.text_ND, config, weights))


def run_sequence_stage(
    backbone: Backbone,
    concept: TrainableConcept,
    sequences: Sequence[FrameSequence],
    config: MethodConfig,
    run: StageRun,
) -> None:
    """Learn the motion residual B2 from the clip in order and the motion prompt; A1, B1 frozen (Eq. 9)."""
    for step in run.steps():
        sequence = sequences[step % len(sequences)]
        clips = sequence.latents_CFHW.expand(config.sequence_stage.batch, *sequence.latents_CFHW.shape)
        with concept.dropped_out():
            run.learn(_loss(backbone, clips, sequence.text_ND, config, sequence.weights_1FHW))


@dataclass(kw_only=True, slots=True, frozen=True)
class Trained:
    """What a stage gave."""

    layers: dict[str, ConceptLayer]
    finished: bool
    """Whether every step was done; False after a stop."""
    record: dict[str, Any]
    """The stage's steps, seconds, losses, and the date of its last step."""


def train_identity(
    backbone: Backbone,
    sets: Sequence[FrameSet],
    config: MethodConfig,
    *,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Trained:
    """The set stage; the motion residual is zero. The model is afterwards exactly what it was before.

    Args:
        folder: where unfinished work is kept; the same frames and settings go on from there.
        progress: called after every step; may raise StopTraining to stop and keep what was learned.
    """
    stage = config.set_stage
    key = content_key(
        _shared(backbone, config), asdict(stage), *(t for s in sets for t in (s.latents_SCFHW, s.text_ND))
    )
    shape = stage.batch, *sets[0].latents_SCFHW.shape[1:]
    with (
        backbone.training(shape),
        trainable_concept(backbone.module, backbone.layers, rank=config.rank, seed=config.seed) as concept,
    ):
        parameters = concept.begin_set_stage(stage.coefficient_dropout)
        run = StageRun(
            stage="set",
            key=key,
            parameters=parameters,
            config=stage,
            method=config,
            folder=folder,
            progress=progress,
        )
        run_set_stage(backbone, concept, sets, config, run)
        return _trained(concept, run)


def train_motion(
    backbone: Backbone,
    identity: Mapping[str, ConceptLayer],
    sequences: Sequence[FrameSequence],
    config: MethodConfig,
    *,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Trained:
    """The sequence stage on an identity that stays as it is; otherwise as `train_identity`.

    Args:
        identity: the layers of the set stage; their rank counts, not the one of `config`.
    """
    stage = config.sequence_stage
    factors = [t for layer in identity.values() for t in (layer.identity_basis_OR, layer.coefficients_RI)]
    key = content_key(_shared(backbone, config), asdict(stage), *factors, *_content(sequences))
    rank = next(iter(identity.values())).coefficients_RI.shape[0]
    layers = {name: backbone.layers[name] for name in identity}
    shape = stage.batch, *sequences[0].latents_CFHW.shape
    with (
        backbone.training(shape),
        trainable_concept(backbone.module, layers, rank=rank, seed=config.seed) as concept,
    ):
        concept.set_identity(identity)
        parameters = concept.begin_sequence_stage(stage.coefficient_dropout)
        run = StageRun(
            stage="sequence",
            key=key,
            parameters=parameters,
            config=stage,
            method=config,
            folder=folder,
            progress=progress,
        )
        run_sequence_stage(backbone, concept, sequences, config, run)
        return _trained(concept, run)


def _content(encoded: Sequence[FrameSet] | Sequence[FrameSequence]) -> list[Tensor]:
    return [value for one in encoded for field in fields(one) if (value := getattr(one, field.name)) is not None]


def _shared(backbone: Backbone, config: MethodConfig) -> dict[str, Any]:
    """What the results of both stages depend on."""
    shared = {"rank": config.rank, "masking": config.token_masking, "betas": config.betas, "seed": config.seed}
    shared |= {"decay": config.weight_decay, "clipping": config.gradient_clipping, "times": config.time_range}
    return shared | {"shift": backbone.shift, "base": asdict(backbone.fingerprint())}


def _trained(concept: TrainableConcept, run: StageRun) -> Trained:
    record = {"steps": len(run.losses), "seconds": run.seconds, "losses": run.losses, "date": run.date}
    return Trained(layers=concept.read(), finished=not run.stopped, record=record)
