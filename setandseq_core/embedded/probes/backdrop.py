"""Read the background of a clip: its colour, texture and camera move, and its pixels behind the sprites.

The pixels vote for the colour. Texture and camera are found by synthesis: under each camera move, the clip's pixels are
folded into one period of the texture, and every texture is fitted to it at every phase by least squares.

Shape letters: F frames, H height, W width, C colour channels (RGB in [0, 1]), P pixels, N bins in a period.
"""

# PyTorch leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import VideoError
from ..world.scene import (
    BACKGROUND_COLOURS,
    CAMERAS,
    SIZE,
    TEXTURE_PERIOD,
    TEXTURES,
    background_tones,
    clip_times,
    tone_share,
)

BINS = 24
FAR = 0.17
"""Distance in RGB from the background's tones above which a pixel is not background (the nearest sprite is at 0.37)."""
LEAST_CONTRAST = 0.11
"""Distance in RGB between the fitted tones below which a background is plain (the world's is 0.31)."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Backdrop:
    """The background of a clip, and how far each pixel differs from it."""

    colour: str
    texture: str
    camera: str
    frames_FHWC: Tensor
    """The fitted background: the clip without its sprites."""
    difference_FHW: Tensor
    """Distance in RGB of each pixel from the background's two tones and the colours between them."""


@dataclass(kw_only=True, slots=True, frozen=True)
class _Fit:
    texture: str
    camera: str
    phase: tuple[float, float]
    gain: float
    explained: float


def fit_backdrop(frames_FHWC: Tensor) -> Backdrop:
    """Fit the background of a clip.

    Raises:
        VideoError: the frames are not (F, 64, 64, 3).
    """
    if frames_FHWC.ndim != 4 or frames_FHWC.shape[1:] != (SIZE, SIZE, 3):
        raise VideoError(
            f"The clip has shape {tuple(frames_FHWC.shape)}; the detectors read (frames, {SIZE}, {SIZE}, 3).",
            hint="Resize it with fit_clip.",
        )
    colour = _vote(frames_FHWC[:, ::2, ::2].reshape(-1, 3))
    dark_C, light_C = torch.tensor(background_tones(BACKGROUND_COLOURS[colour])).unbind(0)
    near_FHW = _is_near(frames_FHWC, dark_C, light_C)
    middle_C = frames_FHWC[near_FHW].median(dim=0).values if near_FHW.any() else (dark_C + light_C) / 2
    direction_C = (light_C - dark_C) / (light_C - dark_C).square().sum()
    tone_FHW = ((frames_FHWC - middle_C) @ direction_C).clamp(-1.5, 1.5)
    best = _fit_texture(tone_FHW, near_FHW.float())
    if best.gain * float((light_C - dark_C).norm()) < LEAST_CONTRAST or best.explained < 0.15:
        best = _Fit(texture="plain", camera="still", phase=(0.0, 0.0), gain=0.0, explained=0.0)
        back_FHWC, dark_C, light_C = middle_C.expand_as(frames_FHWC), middle_C, middle_C
    else:
        x_FHW, y_FHW = _coordinates(best.camera, len(frames_FHWC))
        share_FHW = tone_share(best.texture, x_FHW + best.phase[0], y_FHW + best.phase[1])
        dark_C, light_C = _fit_tones(frames_FHWC, share_FHW, near_FHW)
        back_FHWC = torch.lerp(dark_C, light_C, share_FHW.unsqueeze(-1))
    return Backdrop(
        colour=colour,
        texture=best.texture,
        camera=best.camera,
        frames_FHWC=back_FHWC,
        difference_FHW=tone_distance(frames_FHWC, dark_C, light_C),
    )


def tone_distance(colours: Tensor, dark_C: Tensor, light_C: Tensor) -> Tensor:
    """Distance in RGB of colours (..., 3) from the line between two tones, extended by 15 % at both ends."""
    along_C, offset = light_C - dark_C, colours - dark_C
    share = (offset @ along_C / along_C.square().sum().clamp_min(1e-6)).clamp(-0.15, 1.15)
    return (offset - share.unsqueeze(-1) * along_C).norm(dim=-1)


def _vote(colours_PC: Tensor) -> str:
    distances = {
        name: tone_distance(colours_PC, *torch.tensor(background_tones(colour)).unbind(0)).clamp_max(0.2).mean()
        for name, colour in BACKGROUND_COLOURS.items()
    }
    return min(distances, key=lambda name: float(distances[name]))


def _is_near(frames_FHWC: Tensor, dark_C: Tensor, light_C: Tensor) -> Tensor:
    """Background pixels (F, H, W) that are at least two pixels away from anything else."""
    far_FHW = tone_distance(frames_FHWC, dark_C, light_C) > FAR
    return functional.max_pool2d(far_FHW.float().unsqueeze(1), 5, 1, 2).squeeze(1) == 0


@cache
def _coordinates(camera: str, frames: int) -> tuple[Tensor, Tensor]:
    """Background coordinates of every pixel under a camera move, before the phase: the geometry of `world.render`."""
    times = clip_times(frames).view(-1, 1, 1)
    grid = torch.arange(SIZE) + 0.5 - SIZE / 2
    travel = {"panning left": -12.0, "panning right": 12.0}.get(camera, 0.0) * times
    zoom = 1 + (0.5 if camera == "zooming in" else 0.0) * times
    x_FHW, y_FHW = torch.broadcast_tensors((grid.view(1, 1, -1) + travel) / zoom, grid.view(1, -1, 1) / zoom)
    return x_FHW, y_FHW


@cache
def _bins(camera: str, frames: int) -> Tensor:
    x_FHW, y_FHW = (
        torch.floor(torch.remainder(c, TEXTURE_PERIOD) * BINS / TEXTURE_PERIOD) for c in _coordinates(camera, frames)
    )
    return (y_FHW * BINS + x_FHW).long().clamp(0, BINS * BINS - 1).flatten()


@cache
def _texture_spectra(texture: str) -> tuple[Tensor, Tensor]:
    """Fourier transforms of one period of the light tone's share, and of its square: (N, N) each."""
    grid = (torch.arange(BINS) + 0.5) * TEXTURE_PERIOD / BINS
    x, y = torch.broadcast_tensors(grid.view(1, -1), grid.view(-1, 1))
    share = tone_share(texture, x, y)
    return torch.fft.fft2(share), torch.fft.fft2(share.square())


def _fit_texture(tone_FHW: Tensor, weight_FHW: Tensor) -> _Fit:
    """The texture, camera and phase that explain most of the tone's variance, by weighted least squares."""
    total = weight_FHW.sum().clamp_min(1.0)
    mean = (tone_FHW * weight_FHW).sum() / total
    centred_FHW = (tone_FHW - mean) * weight_FHW
    variance = (centred_FHW.square().sum() / total).clamp_min(1e-6)
    best = _Fit(texture="plain", camera="still", phase=(0.0, 0.0), gain=0.0, explained=0.0)
    for camera in CAMERAS if len(tone_FHW) > 1 else CAMERAS[:1]:
        bins = _bins(camera, len(tone_FHW))
        weight_NN, sum_NN = (
            torch.fft.fft2(torch.bincount(bins, values.flatten(), BINS * BINS).view(BINS, BINS))
            for values in (weight_FHW, centred_FHW)
        )
        for texture in TEXTURES[1:]:
            share_NN, square_NN = _texture_spectra(texture)

            def at_phases(spectrum: Tensor, texture_spectrum: Tensor) -> Tensor:
                return torch.fft.ifft2(spectrum.conj() * texture_spectrum).real / total

            share_mean = at_phases(weight_NN, share_NN)
            share_variance = (at_phases(weight_NN, square_NN) - share_mean.square()).clamp_min(1e-3)
            covariance = at_phases(sum_NN, share_NN).clamp_min(0)
            explained = covariance.square() / share_variance / variance
            at = int(explained.argmax())
            if float(explained.flatten()[at]) > best.explained:
                best = _Fit(
                    texture=texture,
                    camera=camera,
                    phase=((at % BINS) * TEXTURE_PERIOD / BINS, (at // BINS) * TEXTURE_PERIOD / BINS),
                    gain=float((covariance / share_variance).flatten()[at]),
                    explained=float(explained.flatten()[at]),
                )
    return best


def _fit_tones(frames_FHWC: Tensor, share_FHW: Tensor, near_FHW: Tensor) -> tuple[Tensor, Tensor]:
    colours_PC, share_P = frames_FHWC[near_FHW], share_FHW[near_FHW]
    share_mean, colour_mean_C = share_P.mean(), colours_PC.mean(dim=0)
    centred_P = share_P - share_mean
    slope_C = centred_P @ (colours_PC - colour_mean_C) / centred_P.square().sum().clamp_min(1e-6)
    return colour_mean_C - share_mean * slope_C, colour_mean_C + (1 - share_mean) * slope_C
