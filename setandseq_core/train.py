"""Set-and-Sequence: the two training loops (Eq. 5 and 9 of Abdal et al. 2025, arXiv 2502.14844).

Shape letters: B batch, C latent channels, F latent frames, H, W latent height and width, N tokens, D text width,
S frames of the set.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from .backbone import Backbone, backbone_fingerprint
from .concept import ConceptLayer
from .config import MethodConfig
from .flow import flow_loss, interpolate, shift_time, target_velocity
from .lora import trainable_concept
from .prompts import check_prompt, mask_tokens
from .runs import ProgressCallback, StageRun, StopTraining, content_key


@dataclass(kw_only=True, slots=True, frozen=True)
class Reference:
    """One clip as both stages see it, encoded once."""

    frame_set: Tensor
    """Every frame as a latent of its own, (S, C, 1, H, W), in an order that does not depend on time."""
    sequence: Tensor
    """The clip's latents, (C, F, H, W)."""
    static_text: Tensor
    """Tokens of the static prompt, (N, D)."""
    motion_text: Tensor
    """Tokens of the motion prompt, (N, D)."""


@torch.no_grad()
def encode_reference(backbone: Backbone, frames_FHWC: Tensor, static_prompt: str, motion_prompt: str) -> Reference:
    """Encode a clip, frames in [0, 1], and its prompts for training.

    Raises:
        PromptError: a prompt is empty or too long.
    """
    static_prompt = check_prompt(static_prompt, "static prompt")
    motion_prompt = check_prompt(motion_prompt, "motion prompt")
    frames = [backbone.encode_frames(frame_HWC.unsqueeze(0)) for frame_HWC in frames_FHWC]
    frames.sort(key=lambda latent: latent.float().cpu().numpy().tobytes())
    return Reference(
        frame_set=torch.stack(frames),
        sequence=backbone.encode_frames(frames_FHWC),
        static_text=backbone.encode_prompt(static_prompt),
        motion_text=backbone.encode_prompt(motion_prompt),
    )


def _loss(backbone: Backbone, x_0: Tensor, text_ND: Tensor, config: MethodConfig) -> Tensor:
    """Flow-matching loss of a batch at random times (Eq. 1), the prompt's tokens masked at random."""
    noise = torch.randn_like(x_0)
    time_B = shift_time(torch.rand(len(x_0), device=x_0.device), backbone.shift)
    text_BND = mask_tokens(text_ND.expand(len(x_0), -1, -1), config.token_masking)
    with parametrize.cached():
        velocity = backbone.velocity(interpolate(x_0, noise, time_B), time_B, text_BND)
    return flow_loss(velocity, target_velocity(x_0, noise))


def run_set_stage(backbone: Backbone, references: Sequence[Reference], config: MethodConfig, run: StageRun) -> None:
    """Learn the identity basis A1 and the coefficients B1 from single frames and the static prompt (Eq. 5)."""
    for step in run.steps():
        reference = references[step % len(references)]
        frames = torch.randint(len(reference.frame_set), (config.set_stage.batch,))
        run.learn(_loss(backbone, reference.frame_set[frames], reference.static_text, config))


def run_sequence_stage(
    backbone: Backbone, references: Sequence[Reference], config: MethodConfig, run: StageRun
) -> None:
    """Learn the motion residual B2 from the clip in order and the motion prompt; A1, B1 frozen (Eq. 9)."""
    for step in run.steps():
        reference = references[step % len(references)]
        clips = reference.sequence.expand(config.sequence_stage.batch, *reference.sequence.shape)
        run.learn(_loss(backbone, clips, reference.motion_text, config))


@dataclass(kw_only=True, slots=True, frozen=True)
class Trained:
    """What training gave."""

    layers: dict[str, ConceptLayer]
    finished: bool
    """Whether every step was done; False after a stop."""
    record: dict[str, Any]
    """Steps, losses and seconds of each stage."""


def train_concept(
    backbone: Backbone,
    references: Sequence[Reference],
    config: MethodConfig,
    *,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Trained:
    """Set stage, then sequence stage. The model is afterwards exactly what it was before.

    Args:
        folder: where unfinished work is kept; the same references and settings go on from there.
        progress: called after every step; may raise StopTraining to stop and keep what was learned.
    """
    base = asdict(backbone_fingerprint(backbone))
    shared = {"rank": config.rank, "masking": config.token_masking, "betas": config.betas, "seed": config.seed}
    shared |= {"decay": config.weight_decay, "clipping": config.gradient_clipping, "base": base}
    set_key = content_key(
        shared, asdict(config.set_stage), *(t for r in references for t in (r.frame_set, r.static_text))
    )
    clips = [t for r in references for t in (r.sequence, r.motion_text)]
    sequence_key = content_key(set_key, asdict(config.sequence_stage), *clips)
    common: dict[str, Any] = {"method": config, "folder": folder, "progress": progress}
    runs, finished = [], False
    with trainable_concept(backbone.module, backbone.layers, rank=config.rank, seed=config.seed) as concept:
        try:
            parameters = concept.begin_set_stage(config.set_stage.coefficient_dropout)
            runs.append(StageRun(stage="set", key=set_key, parameters=parameters, config=config.set_stage, **common))
            run_set_stage(backbone, references, config, runs[-1])
            parameters = concept.begin_sequence_stage(config.sequence_stage.coefficient_dropout)
            stage = config.sequence_stage
            runs.append(StageRun(stage="sequence", key=sequence_key, parameters=parameters, config=stage, **common))
            run_sequence_stage(backbone, references, config, runs[-1])
            finished = True
        except StopTraining:
            pass
        layers = concept.read()
    record = {run.stage: {"steps": len(run.losses), "seconds": run.seconds, "losses": run.losses} for run in runs}
    return Trained(layers=layers, finished=finished, record=record)
