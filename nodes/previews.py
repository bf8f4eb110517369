"""Previews for the panel, made now and then while a stage trains: validation losses and sample videos.

Shape letters: B batch, C latent channels, F frames or latent frames, H, W height and width.
"""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import comfy.model_management as memory
import torch
from comfy.sd import VAE
from latent_preview import Latent2RGBPreviewer
from PIL import Image
from torch import Tensor

from ..setandseq_core.clips.encode import first_frames, in_order
from ..setandseq_core.concept import WHOLE_RANGE
from ..setandseq_core.config import MethodConfig, SamplingConfig
from ..setandseq_core.flow import interpolate, times_within
from ..setandseq_core.prompts import Condition
from ..setandseq_core.sample import latent_noise, sample_latents
from ..setandseq_core.training.validation import QUANTILES, Validation, evaluating
from .backbone import ComfyBackbone
from .panel import TrainingRecord

SAMPLE_STEPS = 8
SAMPLE_SIDE = 256
SHARE = 0.016
"""Largest fraction of the node's run time that previews may use. The first and last validation loss and the first and
last sample count towards it but are always made."""
FIRST_SECONDS = 20.0
"""Time from the first step to the first sample, so that something is to be seen within a minute."""
VALIDATION_SHARE = 0.008
"""Largest fraction of that time for validation losses."""
DECODING = 3.0
"""Estimated time of a sample video relative to that of its sampling alone, used for the first one."""


Clock = Callable[[], float]
"""Seconds since some moment."""


def clock_of(device: torch.device) -> Clock:
    """The clock for training time: processor time on a CPU, which other programs share, else wall-clock time."""
    return time.process_time if device.type == "cpu" else time.monotonic


class Budget:
    """Measures how long previews of one kind take, and says whether the budget covers another one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.spent = self.last = 0.0

    def allows(self, seconds: float, *, besides: float = 0.0, guess: float = 0.0) -> bool:
        """Whether the budget covers one more preview plus the mandatory final one.

        Args:
            seconds: time that all previews together may take.
            besides: the part of it that other previews take.
            guess: time of one preview, used if none was made yet.
        """
        return besides + self.spent + 2 * (self.last or guess) <= seconds

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Count the time spent inside the context."""
        begun = self._clock()
        yield
        self.last = self._clock() - begun
        self.spent += self.last


class Previews:
    """Validation losses and sample videos of one stage, within their share of its node's time.

    Args:
        frames_FHWC: the clip.
        begun: when the node began, on the clock that `clock_of` gives for its device.
    """

    def __init__(
        self,
        backbone: ComfyBackbone,
        record: TrainingRecord,
        frames_FHWC: Tensor,
        config: MethodConfig,
        *,
        begun: float,
    ):
        self._backbone = backbone
        self._record = record
        self._frames_FHWC = frames_FHWC
        length, height, width = frames_FHWC.shape[:3]
        seen = min(config.set_stage.still_frames, length) if record.stage == "set" else length
        self._noise = latent_noise(backbone.latent_shape(seen, height, width), 0).to(backbone.device)
        self._sampling = _quick(config.sampling)
        self._is_expert = config.time_range != WHOLE_RANGE
        self._times = times_within(self._sampling.steps, backbone.shift, config.time_range)
        if config.time_range[1] < 1:  # a low-noise expert starts from the clip, noised to where its levels begin
            start = frames_FHWC if seen == length else frames_FHWC[:1].expand(seen, -1, -1, -1)
            self._noise = _at(self._times[0], backbone.encode_frames(start), self._noise)
        self._clock = clock_of(backbone.device)
        self._first, self._before = self._clock(), self._clock() - begun
        self._seen_from = time.monotonic()
        self._samples, self._validations = Budget(self._clock), Budget(self._clock)

    def _seconds(self) -> float:
        """The node's time so far. Time before the first step is added gradually."""
        return self._clock() - self._first + self._before * self._record.step / self._record.steps

    def validate(self, validation: Validation | None, ends: bool) -> None:
        """Add a validation loss to those that the stage computes itself, at its end and while the budget lasts."""
        record, cost = self._record, self._validations
        known = record.step in {step for step, _ in record.validation}
        allowed = ends or not cost.last or cost.spent + cost.last <= VALIDATION_SHARE * self._seconds()
        if validation is None or known or not allowed:
            return
        with self._validations.taken():
            loss = validation.measure()
        record.validation.append((record.step, round(loss, 5)))

    def sample(self, due: bool, ends: bool) -> None:
        """Put a new sample video into the record: early, at the end, and when due while the budget lasts."""
        first = not self._samples.spent and time.monotonic() - self._seen_from >= FIRST_SECONDS
        if ends or first or (due and self._affordable()):
            self._make_sample()

    def _affordable(self) -> bool:
        """Whether the budget covers a sample now besides the one at the end."""
        spent, last = self._validations.spent, self._validations.last
        guess = DECODING * self._sampling.steps / len(QUANTILES) * last
        return self._samples.allows(SHARE * self._seconds(), besides=spent + last, guess=guess)

    def _make_sample(self) -> None:
        with self._samples.taken(), evaluating(self._backbone.module):
            prompt = self._record.prompt
            latents_CFHW = sample_latents(
                self._backbone,
                self._noise,
                prompt,
                given=self._given if self._record.stage == "sequence" else None,
                steps=self._sampling.steps,
                guidance=self._sampling.guidance,
                sampler=self._sampling.sampler,
                times=self._times if self._is_expert else None,
            )
            content = _shown(self._backbone, latents_CFHW)
        if content is not None:
            self._record.add_sample(content)

    def _given(self, text: Condition) -> Condition:
        """A prompt with everything that the model is given as it trains; the VAE encoded it before the training."""
        return in_order(self._backbone, text, self._frames_FHWC, first_frame=first_frames(self._backbone)[0])


def _at(time: Tensor, latents_CFHW: Tensor, noise_CFHW: Tensor) -> Tensor:
    """Add noise to a clip's latents, up to a time."""
    return interpolate(latents_CFHW.unsqueeze(0), noise_CFHW.unsqueeze(0), time.to(noise_CFHW).unsqueeze(0))[0]


def _quick(sampling: SamplingConfig) -> SamplingConfig:
    """Take few steps, and no guidance unless the settings ask for it, because guidance doubles the time."""
    return replace(sampling, steps=min(sampling.steps, SAMPLE_STEPS), guidance=sampling.guidance or 1.0)


def _shown(backbone: ComfyBackbone, latents_CFHW: Tensor) -> bytes | None:
    """A WebP file of latents. The VAE decodes them if it fits into memory next to the model; otherwise ComfyUI's rough
    formula does. None if ComfyUI has no formula for the model."""
    if fits_beside(backbone.vae, tuple(latents_CFHW.shape), backbone.device):
        return looping_picture(backbone.decode_latents(latents_CFHW), backbone.format.fps)
    known = backbone.model.model.latent_format
    if known.latent_rgb_factors is None:
        return None
    colours = known.latent_rgb_factors, known.latent_rgb_factors_bias, known.latent_rgb_factors_reshape
    previewer, frames = Latent2RGBPreviewer(*colours), latents_CFHW.cpu().unsqueeze(0).split(1, dim=2)
    return _webp([previewer.decode_latent_to_preview(frame_BCFHW) for frame_BCFHW in frames], backbone.format.fps / 4)


def fits_beside(vae: VAE, latent_shape: tuple[int, ...], device: torch.device) -> bool:
    """Whether decoding fits beside the loaded model, which must not be moved during training."""
    needed = vae.patcher.model_size() + vae.memory_used_decode((1, *latent_shape), vae.vae_dtype)
    return needed < cast(int, memory.get_free_memory(device))  # it returns a pair only on request


def looping_picture(frames_FHWC: Tensor, fps: float) -> bytes:
    """Frames in [0, 1] as a small animated WebP file."""
    values = (frames_FHWC.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return _webp([Image.fromarray(frame) for frame in values], fps)


def _webp(pictures: list[Image.Image], fps: float) -> bytes:
    for picture in pictures:
        picture.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
        quality=85,
        method=2,
    )
    return buffer.getvalue()
