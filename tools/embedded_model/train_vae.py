"""Train the embedded VAE on the world and beyond it: single frames, then clips, then the decoder alone.

The same code runs on one CPU core and on a GPU, for which other processes render the clips. Shape letters: B batch,
C channels, F frames, H, W height and width.
"""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn
from torch.utils.data import Dataset

from setandseq_core.embedded.vae import decode_clip, encode_moments
from setandseq_core.embedded.world.scene import FRAMES, SIZE, Scene, render
from setandseq_core.training.checkpoint import load_training, save_training

from .batches import batches_from
from .muon import BatchedMuon
from .precision import mixed_precision
from .scenes import fast_scene, grammar_scene, lively_scene, near_sprites
from .schedule import Schedule, falling

log = logging.getLogger(__name__)

VAE_CONFIG: dict[str, Any] = {
    "base_dim": 32,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
}
WARMUP = 60


@dataclass(kw_only=True, slots=True, frozen=True)
class VaeTraining:
    """Settings of the VAE's training."""

    width: int = VAE_CONFIG["base_dim"]
    """Number of channels at full resolution; a start with half the width is widened."""
    frame_steps: int = 2000
    """Steps on single frames."""
    clip_steps: int = 2000
    """Steps on clips, after those on frames; two of three steps are on square crops around a sprite."""
    decoder_steps: int = 2000
    """Final steps, on the decoder alone, while the latents stay unchanged."""
    clips: int = 2
    """Whole clips per batch, half of them within the grammar; a batch holds 4 times as many crops or 8 times as many
    single frames."""
    crop: int = 32
    """Side of a crop in pixels."""
    minutes: float = 0.0
    """Maximum minutes for a run to train; its parts keep their shares of the time. 0 for no limit."""
    learning_rate: float = 3e-3
    near_weight: float = 1.0
    """Additional weight of the error of a pixel near a sprite."""
    kl_weight: float = 3e-4
    keep_latents: float = 0.0
    """Weight of keeping, within the grammar, the latents of the VAE that training starts from.

    It applies to squared deviations of the latents. With 0.3, a transformer trained on those latents remains valid.
    """
    seed: int = 0
    save_every: int = 100

    @property
    def steps(self) -> int:
        """Number of all steps."""
        return self.frame_steps + self.clip_steps + self.decoder_steps


class Batch(NamedTuple):
    """The batch of a step; its first half is within the grammar."""

    pixels_BCFHW: Tensor
    """Clips in [-1, 1]."""
    near_BFHW: Tensor
    """Mask of the pixels near a sprite."""


@dataclass(frozen=True)
class VaeBatches(Dataset[Batch]):
    """The batch of every step, which depends only on the number of the step, in any process."""

    config: VaeTraining

    def __getitem__(self, step: int) -> Batch:
        """The batch of one step."""
        config, rng = self.config, Random(self.config.seed * 1_000_003 + step)
        if step < config.frame_steps:
            return _joined([_one_frame(*shown, rng) for shown in _clips(rng, 8 * config.clips)])
        if step % 3 == 0:
            return _joined([(pixels, near) for _, pixels, near in _clips(rng, config.clips)])
        return _joined([_crop(*shown, config.crop, rng) for shown in _clips(rng, 4 * config.clips)])


def _clips(rng: Random, count: int) -> list[tuple[Scene, Tensor, Tensor]]:
    """Scenes with their pixels (C, F, H, W) in [-1, 1], and a mask (F, H, W) of the pixels near a sprite."""
    scenes = [grammar_scene(rng) for _ in range(count // 2)]
    scenes += [rng.choices((lively_scene, fast_scene), (0.6, 0.4))[0](rng) for _ in range(count - count // 2)]
    return [(scene, render(scene).permute(3, 0, 1, 2) * 2 - 1, near_sprites(scene)) for scene in scenes]


def _one_frame(_: Scene, pixels_CFHW: Tensor, near_FHW: Tensor, rng: Random) -> tuple[Tensor, Tensor]:
    frame = rng.randrange(FRAMES)
    return pixels_CFHW[:, frame : frame + 1], near_FHW[frame : frame + 1]


def _crop(scene: Scene, pixels_CFHW: Tensor, near_FHW: Tensor, side: int, rng: Random) -> tuple[Tensor, Tensor]:
    """A square crop around a place where a sprite passes."""
    sprite, frame = rng.choice(scene.sprites), rng.randrange(FRAMES)

    def start(place: float, offset_F: Tensor) -> int:
        middle = place + float(offset_F[frame]) + rng.uniform(-12, 12)
        return int(min(max(middle - side / 2, 0), SIZE - side))

    left, top = start(sprite.place[0], sprite.path.x), start(sprite.place[1], sprite.path.y)
    part = (slice(None), slice(top, top + side), slice(left, left + side))
    return pixels_CFHW[(slice(None), *part)], near_FHW[part]


def _joined(shown: list[tuple[Tensor, Tensor]]) -> Batch:
    pixels, near = zip(*shown, strict=True)
    return Batch(torch.stack(pixels), torch.stack(near))


def vae_loss(
    vae: AutoencoderKLWan,
    batch: Batch,
    noise: Callable[[Tensor], Tensor],
    config: VaeTraining,
    old: AutoencoderKLWan | None,
) -> Tensor:
    """Error of pixels and edges, weighted more near sprites, plus the weighted divergence from the normal prior.

    Latents are normalised by the mean and deviation in Wan's config, as a transformer sees them.

    Args:
        noise: gives normal noise in a tensor's shape.
        old: the VAE whose latents are kept, if any.
    """
    mean, log_variance = encode_moments(vae, batch.pixels_BCFHW)
    mean, log_variance = mean.float(), log_variance.float().clamp(-20, 10)
    latents = mean + noise(mean) * (0.5 * log_variance).exp()
    difference = decode_clip(vae, latents).float() - batch.pixels_BCFHW
    weight = 1 + config.near_weight * batch.near_BFHW.unsqueeze(1).float()
    loss = (weight * (difference.square() + 0.1 * difference.abs())).mean()
    for axis in (-1, -2):
        loss = loss + 0.25 * difference.diff(dim=axis).square().mean()
    scale, centre = (
        torch.tensor(vae.config[f"latents_{name}"], device=mean.device).view(1, -1, 1, 1, 1) for name in ("std", "mean")
    )
    normal = (mean - centre) / scale
    log_variance = log_variance - 2 * scale.log()
    divergence = 0.5 * (normal.square() + log_variance.exp() - 1 - log_variance).mean()
    loss = loss + config.kl_weight * divergence
    if old is None:
        return loss
    known = len(mean) // 2
    with torch.no_grad():
        kept = encode_moments(old, batch.pixels_BCFHW[:known])[0].float()
    return loss + config.keep_latents * ((mean[:known] - kept) / scale).square().mean()


@torch.no_grad()
def new_vae(width: int = VAE_CONFIG["base_dim"]) -> AutoencoderKLWan:
    """An untrained embedded VAE with `width` channels at full resolution.

    At first, residual blocks are the identity, the convolutions between them smooth, latents have almost no noise, and
    clips are treated as repeated single frames, so that everything learned on frames carries over to clips.
    """
    vae = AutoencoderKLWan(**{**VAE_CONFIG, "base_dim": width})
    for name, layer in vae.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Conv3d) or "attentions" in name:
            continue
        weight: Tensor = layer.weight
        bias: Any = layer.bias  # all these layers have one
        if name.endswith("time_conv"):
            repeats = weight.shape[0] // weight.shape[1]
            weight.zero_()[:, :, -1, 0, 0] = torch.eye(weight.shape[1]).repeat(repeats, 1)
            bias.zero_()
            continue
        if isinstance(layer, nn.Conv3d) and weight.shape[-1] == 3:
            weight[:, :, :2] = 0
        if name.endswith("conv2"):
            weight.zero_()
        elif not name.endswith("conv1"):
            smooth = nn.init.orthogonal_(torch.empty(weight.shape[:2])) / weight.shape[-1] ** 2
            weight.mul_(0.5)[(slice(None), slice(None), -1) if weight.ndim == 5 else ...] += smooth[:, :, None, None]
            bias.zero_()
    quant: Any = vae.quant_conv
    quant.bias[VAE_CONFIG["z_dim"] :] = -5.0
    return vae


class _Optimizer:
    """Muon for the matrices of the convolutions, AdamW for everything else.

    Muon accepts only matrices, so it updates flattened views that share the weights' memory.
    """

    def __init__(self, vae: AutoencoderKLWan, learning_rate: float):
        ends = ("encoder.conv_in.", "decoder.conv_out.", "quant_conv.", "time_conv.")
        named = dict(vae.named_parameters())
        self.matrices = {
            n: nn.Parameter(p.detach().flatten(1))
            for n, p in named.items()
            if p.ndim >= 4 and "gamma" not in n and not any(end in n for end in ends)
        }
        self.others = {n: p for n, p in named.items() if n not in self.matrices}
        self.named = named
        self.muon = BatchedMuon(self.matrices.values(), lr=learning_rate)
        self.adam = torch.optim.AdamW(self.others.values(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, rate: float) -> None:
        for name, matrix in self.matrices.items():
            gradient = self.named[name].grad
            matrix.grad = None if gradient is None else gradient.flatten(1)
        self.muon.param_groups[0]["lr"] = rate
        self.adam.param_groups[0]["lr"] = 0.5 * rate
        self.muon.step()
        self.adam.step()

    def save(self, folder: Path, step: int) -> None:
        save_training(folder / "vae_muon.safetensors", self.matrices, self.muon, {"step": str(step)})
        save_training(folder / "vae_adam.safetensors", self.others, self.adam, {"step": str(step)})

    def load(self, folder: Path) -> int:
        if not (folder / "vae_adam.safetensors").exists():
            return 0
        load_training(folder / "vae_muon.safetensors", self.matrices, self.muon)
        return int(load_training(folder / "vae_adam.safetensors", self.others, self.adam)["step"])


def train_vae(
    folder: Path, config: VaeTraining, start: AutoencoderKLWan | None = None, device: str = "cpu"
) -> AutoencoderKLWan:
    """Train the VAE whose state is in `folder`, or resume training it.

    Args:
        start: VAE to start from if there is no saved state; None for new weights. It is not changed.
    """
    torch.manual_seed(config.seed)
    vae = copy.deepcopy(start) if start else new_vae(config.width)
    old = copy.deepcopy(vae).requires_grad_(False) if start and config.keep_latents else None
    for part in (vae, old) if old else (vae,):
        nn.Module.to(part, device)
    vae.train().requires_grad_(True)
    optimizer = _Optimizer(vae, config.learning_rate)
    first = optimizer.load(folder)
    schedule = Schedule(config.steps, config.minutes)
    average = torch.zeros((), device=device)
    for step, batch in batches_from(VaeBatches(config), first, config.steps, device):
        share = schedule.share(step)
        if share * config.steps >= config.frame_steps + config.clip_steps:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)
            old = None
        torch.manual_seed(config.seed * 1_000_003 + step)
        with mixed_precision(device):
            loss = vae_loss(vae, batch, torch.randn_like, config, old)
        vae.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step(config.learning_rate * min((step + 1) / WARMUP, falling(share)))
        average += (loss.detach() - average) / min(step - first + 1, 50)
        last = step + 1 == config.steps or share >= 1
        if (step + 1) % config.save_every == 0 or last:
            optimizer.save(folder, step + 1)
            log.info("VAE step %d of %d, %.0f %% done, loss %.4f", step + 1, config.steps, 100 * share, average.item())
        if last:
            break
    nn.Module.to(vae, "cpu")
    return vae.eval()
