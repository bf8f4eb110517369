"""Train the embedded VAE on the world and beyond it."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from ..checkpoints import load_training, save_training
from .vae import VAE_CONFIG, decode_clip, encode_moments
from .world import SIZE, random_caption, render, scene_of, wide_scene

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True, frozen=True)
class VaeTraining:
    """How the VAE is trained."""

    steps: int = 5000
    learning_rate: float = 3e-3
    warmup: int = 100
    crop: int = 32
    """Pixels of the square crops that the first steps see, all frames of the clip; 8 crops a step."""
    crop_share: float = 0.7
    """Share of the steps on crops; the rest sees whole clips, 2 a step."""
    wide: float = 0.35
    """Share of clips from beyond the grammar."""
    kl_weight: float = 3e-4
    seed: int = 0
    save_every: int = 200


def training_clip(rng: Random, wide: float) -> Tensor:
    """One clip for the VAE, (3, F, H, W) in [-1, 1]."""
    if rng.random() < wide:
        scene = wide_scene(rng)
    else:
        scene = scene_of(random_caption(rng, sprites=rng.choice((1, 2)), creatures=0.4), rng)
    return render(scene).permute(3, 0, 1, 2) * 2 - 1


def psnr(vae: AutoencoderKLWan, clips_BCFHW: Tensor) -> float:
    """Mean over the clips of 10 log10(1 / MSE), pixels in [0, 1], in dB."""
    values = []
    with torch.no_grad():
        for clip in clips_BCFHW.split(1):
            decoded = decode_clip(vae, encode_moments(vae, clip)[0]).clamp(-1, 1)
            values.append(-10 * math.log10(float((decoded - clip).square().mean()) / 4))
    return sum(values) / len(values)


def _batch(rng: Random, config: VaeTraining, step: int) -> Tensor:
    if step >= config.crop_share * config.steps:
        return torch.stack([training_clip(rng, config.wide) for _ in range(2)])
    crops = []
    for _ in range(4):
        clip = training_clip(rng, config.wide)
        for _ in range(2):
            top, left = rng.randrange(SIZE - config.crop + 1), rng.randrange(SIZE - config.crop + 1)
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


def new_vae() -> AutoencoderKLWan:
    """An untrained embedded VAE whose residual blocks start as the identity."""
    vae = AutoencoderKLWan(**VAE_CONFIG)
    for name, parameter in vae.named_parameters():
        if "conv2.weight" in name or "proj.weight" in name:
            nn.init.zeros_(parameter)
    for module in vae.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
    return vae


def train_vae(folder: Path, config: VaeTraining) -> AutoencoderKLWan:
    """Train, or go on training, the VAE whose state is in `folder`."""
    torch.manual_seed(config.seed)
    vae = new_vae()
    parameters = dict(vae.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
    state, step = folder / "vae_state.safetensors", 0
    if state.exists():
        step = int(load_training(state, parameters, optimizer)["step"])
    check_rng = Random(-1)
    check = torch.stack([training_clip(check_rng, wide) for wide in (0, 0, 0, 0, 0, 0, 1, 1)])
    average = 0.0
    for step in range(step, config.steps):
        rng = Random(config.seed * 1_000_003 + step)
        torch.manual_seed(config.seed * 1_000_003 + step)
        decay = 0.5 + 0.5 * math.cos(math.pi * step / config.steps)
        rate = config.learning_rate * min((step + 1) / config.warmup, max(decay, 0.02))
        optimizer.param_groups[0]["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            loss = vae_loss(vae, _batch(rng, config, step), config.kl_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        average += (loss.item() - average) / min(step + 1, 50)
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            save_training(state, parameters, optimizer, {"step": str(step + 1)})
            log.info("VAE step %d of %d, loss %.4f, %.2f dB in the grammar, %.2f dB beyond it", step + 1, config.steps, average, psnr(vae, check[:6]), psnr(vae, check[6:]))
    return vae
