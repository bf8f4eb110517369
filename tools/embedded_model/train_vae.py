"""Train the embedded VAE on the world and beyond it: single frames, then clips, then the decoder alone."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from setandseq_core.embedded.world.scene import FRAMES, SIZE, Scene, random_caption, render, scene_of, wide_scene
from setandseq_core.training.checkpoint import load_training, save_training

from .vae import VAE_CONFIG, decode_clip, encode_moments

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True, frozen=True)
class VaeTraining:
    """How the VAE is trained."""

    frame_steps: int = 2000
    """Steps on batches of 16 single frames."""
    clip_steps: int = 2000
    """Steps on clips, after those; half of them on square crops of 8 clips, half on 2 whole clips."""
    decoder_steps: int = 2000
    """Steps of the decoder alone, last, while the latents stay what they are."""
    crop: int = 32
    learning_rate: float = 3e-3
    wide: float = 0.3
    """Share of clips from beyond the grammar."""
    kl_weight: float = 3e-4
    seed: int = 0
    save_every: int = 100

    @property
    def steps(self) -> int:
        """All steps."""
        return self.frame_steps + self.clip_steps + self.decoder_steps


def _scene(rng: Random, wide: float) -> Scene:
    if rng.random() < wide:
        return wide_scene(rng)
    return scene_of(random_caption(rng, sprites=rng.choice((1, 2)), creatures=0.4), rng)


def training_clip(rng: Random, wide: float, frame: int | None = None) -> Tensor:
    """One clip (or one frame of it) for the VAE, (3, F, H, W) in [-1, 1]."""
    return render(_scene(rng, wide), frame).permute(3, 0, 1, 2) * 2 - 1


def psnr(vae: AutoencoderKLWan, clips_BCFHW: Tensor) -> float:
    """Mean over the clips of 10 log10(1 / MSE), pixels in [0, 1], in dB."""
    values = []
    with torch.no_grad():
        for clip in clips_BCFHW.split(1):
            decoded = decode_clip(vae, encode_moments(vae, clip)[0]).clamp(-1, 1)
            values.append(-10 * math.log10(float((decoded - clip).square().mean()) / 4))
    return sum(values) / len(values)


def _batch(rng: Random, config: VaeTraining, step: int) -> Tensor:
    if step < config.frame_steps:
        return torch.stack([training_clip(rng, config.wide, rng.randrange(FRAMES)) for _ in range(16)])
    if step % 2:
        return torch.stack([training_clip(rng, config.wide) for _ in range(2)])
    crops = []
    for _ in range(8):
        top, left = rng.randrange(SIZE - config.crop + 1), rng.randrange(SIZE - config.crop + 1)
        clip = training_clip(rng, config.wide)
        crops.append(clip[:, :, top : top + config.crop, left : left + config.crop])
    return torch.stack(crops)


def vae_loss(vae: AutoencoderKLWan, clips_BCFHW: Tensor, kl_weight: float) -> Tensor:
    """Reconstruction error plus the weighted divergence from the normal prior, both as means."""
    mean, log_variance = encode_moments(vae, clips_BCFHW)
    mean, log_variance = mean.float(), log_variance.float().clamp(-20, 10)
    latents = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
    decoded = decode_clip(vae, latents).float()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    difference = decoded - clips_BCFHW
    return difference.square().mean() + 0.05 * difference.abs().mean() + kl_weight * divergence


@torch.no_grad()
def new_vae() -> AutoencoderKLWan:
    """An untrained embedded VAE.

    Residual blocks start as the identity, the convolutions between them as smoothing, latents almost without noise,
    and time as a repetition of single frames, so that what is learned on frames carries over to clips.
    """
    vae = AutoencoderKLWan(**VAE_CONFIG)
    for name, layer in vae.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Conv3d) or "attentions" in name:
            continue
        weight: Tensor = layer.weight
        bias: Any = layer.bias  # they all have one
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

    Muon takes matrices only: it steps on flattened views that share the weights' memory.
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
        self.muon = torch.optim.Muon(
            self.matrices.values(), lr=learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        )
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


def _rate(config: VaeTraining, step: int) -> float:
    """Warm-up, then a cosine from the full rate to a twentieth within each of the three parts."""
    peak, length = 1.0, config.frame_steps
    for next_peak, next_length in ((0.7, config.clip_steps), (0.5, config.decoder_steps)):
        if step >= length:
            step, peak, length = step - length, next_peak, next_length
    decay = 0.525 + 0.475 * math.cos(math.pi * step / length)
    return config.learning_rate * peak * decay * min((step + 1) / 50, 1.0)


def train_vae(folder: Path, config: VaeTraining) -> AutoencoderKLWan:
    """Train, or go on training, the VAE whose state is in `folder`."""
    torch.manual_seed(config.seed)
    vae = new_vae()
    optimizer = _Optimizer(vae, config.learning_rate)
    first = optimizer.load(folder)
    check_rng = Random(-1)
    check = torch.stack([training_clip(check_rng, wide) for wide in (0, 0, 0, 0, 0, 0, 1, 1)])
    average = 0.0
    for step in range(first, config.steps):
        rng = Random(config.seed * 1_000_003 + step)
        torch.manual_seed(config.seed * 1_000_003 + step)
        if step >= config.frame_steps + config.clip_steps:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16):
            loss = vae_loss(vae, _batch(rng, config, step), config.kl_weight)
        vae.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step(_rate(config, step))
        average += (loss.item() - average) / min(step - first + 1, 50)
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            optimizer.save(folder, step + 1)
            seen = check if step >= config.frame_steps else check[:, :, 8:9]
            quality = f"{psnr(vae, seen[:6]):.2f} dB in the grammar, {psnr(vae, seen[6:]):.2f} dB beyond it"
            log.info("VAE step %d of %d, loss %.4f, %s", step + 1, config.steps, average, quality)
    return vae
