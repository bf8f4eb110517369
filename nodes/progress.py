"""What a train node shows while it works: its bar, and in the panel the losses, the time left and sample videos.

Shape letters: B batch, C latent channels, F frames or latent frames, H, W height and width.
"""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as memory
import torch
from comfy.sd import VAE
from comfy.utils import ProgressBar
from latent_preview import get_previewer
from PIL import Image
from torch import Tensor

from ..setandseq_core.concept import Concept
from ..setandseq_core.console import clock
from ..setandseq_core.errors import SetAndSequenceError
from ..setandseq_core.reference import Reference
from ..setandseq_core.runs import Progress, StopTraining
from ..setandseq_core.sample import latent_noise, sample_latents
from ..setandseq_core.validation import QUANTILES, validation_loss
from . import panel
from .backbone import ComfyBackbone
from .settings import TrainingOptions

SAMPLE_STEPS = 8
SAMPLE_SIDE = 256
SAMPLE_SHARE = 0.012
"""Share of the training's time that sample videos may take; the one at the end is made in any case."""
VALIDATION_SHARE = 0.005
"""The same for validation losses; the first and the last are computed in any case."""
TELL_SECONDS = 0.5
"""Least time between two messages to the panels."""


class Budget:
    """Lets something take no more than a share of the time."""

    def __init__(self, share: float):
        self._share, self._begun = share, time.monotonic()
        self._spent = self._last = 0.0

    def allows(self) -> bool:
        """Whether there is time for once more and for the one at the end, if both take as long as the last one."""
        return self._spent + 2 * self._last <= self._share * (time.monotonic() - self._begun)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Count what is done inside."""
        begun = time.monotonic()
        yield
        self._last = time.monotonic() - begun
        self._spent += self._last


class TrainingProgress:
    """A core progress callback that shows itself on a node; to be used as a context, around the training.

    Args:
        record: with the node, the stage, its steps, and the prompt of the sample videos.
        reference: whose clip the validation loss is of.
        options: where `preview_every` is 0 there are neither sample videos nor validation losses.
    """

    def __init__(
        self,
        backbone: ComfyBackbone,
        record: panel.TrainingRecord,
        *,
        reference: Reference,
        options: TrainingOptions,
    ):
        self._backbone, self._record, self._sample_every = backbone, record, options.preview_every
        self._time_range = options.config.time_range
        self._bar = ProgressBar(1, node_id=record.node)
        self._told = self._told_validation = 0
        self._told_at, self._told_stride = 0.0, 1
        self._called = False
        if self._sample_every:
            self._x_0_BCFHW = _validation_latents(backbone, reference, record.stage)
            shape = tuple(self._x_0_BCFHW.shape[1:])
            self._noise = latent_noise(shape, 0).to(backbone.device)
            self._samples, self._validations = Budget(SAMPLE_SHARE), Budget(VALIDATION_SHARE)
        record.pictures["reference"] = looping_picture(reference.clip.frames_FHWC, reference.clip.fps)
        panel.RECORDS.put(record)
        self._tell(0.0)

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Tell the panels how it ended."""
        record = self._record
        if error is None:
            record.state = panel.KEPT if record.step < record.steps else panel.FINISHED
        else:
            record.state = panel.STOPPED if isinstance(error, memory.InterruptProcessingException) else panel.FAILED
            record.message = str(error) if isinstance(error, SetAndSequenceError) else ""
        record.seconds_left = 0.0
        self._tell(0.0)

    def __call__(self, progress: Progress) -> None:
        """Show where training stands.

        Raises:
            StopTraining: the user wants to stop and keep what was learned.
            InterruptProcessingException: the user has pressed Cancel.
        """
        memory.throw_exception_if_processing_interrupted()
        record, last = self._record, progress.step == progress.steps
        if not self._called:
            record.losses.start = progress.step - 1
        self._called, record.message = True, ""
        record.step, record.steps, record.seconds_left = progress.step, progress.steps, progress.seconds_left
        record.losses.add(progress.loss)
        ends = last or record.wish == panel.KEEP
        if self._sample_every:
            self._validate(ends)
            self._sample(ends)
        self._bar.update_absolute(progress.step, progress.steps)
        self._tell(0.0 if ends else TELL_SECONDS)
        if record.wish == panel.KEEP and not last:
            raise StopTraining

    def making_prior(self, done: int, clips: int) -> None:
        """Show how many prior clips are made; raises ComfyUI's interrupt when the user has pressed Cancel."""
        memory.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(done, clips)
        self._record.message = f"Making clips of the model itself, for prior preservation: {done} of {clips}."
        self._tell(0.0)

    def summary(self, what: str, concept: Concept) -> str:
        """What the node says of a training that has ended.

        Args:
            what: was learned, "look" or "motion".
        """
        found = concept.info.training[self._record.stage]
        text = f"Learned the {what} in {found['steps']} steps and {clock(found['seconds'])}, rank {concept.rank}."
        validation = self._record.validation  # single losses are too noisy to tell
        if len(validation) > 1:
            text += f" Validation loss {validation[0][1]:.3f} to {validation[-1][1]:.3f}."
        if not self._called:
            text += " Nothing had to be done: the same was trained before."
            panel.trained_before(self._record, found["losses"], found["steps"])
        self._record.message = text
        return text

    def _tell(self, seconds: float) -> None:
        """Send what is new, if the last message is that long ago."""
        now, record = time.monotonic(), self._record
        if now - self._told_at < seconds:
            return
        first = self._told if record.losses.stride == self._told_stride else 0
        panel.tell(record, first, self._told_validation)
        self._told_at, self._told_stride = now, record.losses.stride
        self._told, self._told_validation = len(record.losses.values), len(record.validation)

    def _validate(self, ends: bool) -> None:
        record = self._record
        if not (ends or not record.validation or self._validations.allows()):
            return
        with self._validations.taken(), _evaluating(self._backbone):
            text_ND = self._backbone.encode_prompt(record.prompt)
            loss = validation_loss(self._backbone, self._x_0_BCFHW, text_ND, self._time_range)
        record.validation.append((record.step, round(loss, 5)))

    def _sample(self, ends: bool) -> None:
        record = self._record
        if not (ends or (record.step % self._sample_every == 0 and self._samples.allows())):
            return
        with self._samples.taken(), _evaluating(self._backbone):
            latents_CFHW = sample_latents(self._backbone, self._noise, record.prompt, steps=SAMPLE_STEPS, guidance=1.0)
            content = _shown(self._backbone, latents_CFHW)
        if content is not None:
            record.pictures["sample"], record.sample_step = content, record.step


@torch.no_grad()
def _validation_latents(backbone: ComfyBackbone, reference: Reference, stage: str) -> Tensor:
    """(B, C, F, H, W): the clip for the sequence stage, some of its frames for the set stage."""
    frames_FHWC = reference.clip.frames_FHWC
    if stage == "sequence":
        return backbone.encode_frames(frames_FHWC).unsqueeze(0)
    chosen = [round(quantile * (len(frames_FHWC) - 1)) for quantile in QUANTILES]
    return torch.stack([backbone.encode_frames(frames_FHWC[i : i + 1]) for i in chosen])


@contextmanager
def _evaluating(backbone: ComfyBackbone) -> Iterator[None]:
    backbone.module.eval()
    try:
        yield
    finally:
        backbone.module.train()


def _shown(backbone: ComfyBackbone, latents_CFHW: Tensor) -> bytes | None:
    """A WebP file: through the VAE where it fits beside the model, else ComfyUI's rough preview."""
    if fits_beside(backbone.vae, tuple(latents_CFHW.shape), backbone.device):
        return looping_picture(backbone.decode_latents(latents_CFHW), backbone.fps)
    previewer: Any = get_previewer(backbone.device, backbone.model.model.latent_format)
    return _webp([previewer.decode_latent_to_preview(latents_CFHW.unsqueeze(0))], 1.0) if previewer else None


def fits_beside(vae: VAE, latent_shape: tuple[int, ...], device: torch.device) -> bool:
    """Whether decoding leaves the loaded model where it is: it must not be moved while it trains."""
    needed: Any = vae.patcher.model_size() + vae.memory_used_decode((1, *latent_shape), vae.vae_dtype)
    return needed < memory.get_free_memory(device)


def looping_picture(frames_FHWC: Tensor, fps: float) -> bytes:
    """Frames in [0, 1] as a small animated WebP file."""
    values = (frames_FHWC.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return _webp([Image.fromarray(frame) for frame in values], fps)


def _webp(pictures: list[Image.Image], fps: float) -> bytes:
    for picture in pictures:
        picture.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
    buffer = io.BytesIO()
    options = {"save_all": True, "append_images": pictures[1:], "duration": round(1000 / fps), "loop": 0}
    pictures[0].save(buffer, "WEBP", quality=85, method=2, **options)
    return buffer.getvalue()
