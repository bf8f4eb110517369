"""Train the embedded transformer on latents of the world's clips (rectified flow, Eq. 1 of the method)."""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors import safe_open
from torch import Tensor, nn

from setandseq_core.atomic import save_atomically
from setandseq_core.embedded.text import encode_prompt
from setandseq_core.embedded.world.scene import Caption, random_caption, render, scene_of
from setandseq_core.flow import flow_loss, interpolate, shift_time, target_velocity
from setandseq_core.training.checkpoint import load_training, save_training

from .vae import encode_moments

log = logging.getLogger(__name__)

TRANSFORMER_CONFIG = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 1024,
    "num_layers": 6,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "rope_max_seq_len": 1024,
}
SHIFT = 3.0
"""Time shift in training and sampling: Wan's, so that ComfyUI's stock nodes sample it as they sample Wan."""


@dataclass(kw_only=True, slots=True, frozen=True)
class TransformerTraining:
    """How the transformer is trained."""

    steps: int = 6000
    batch: int = 32
    learning_rate: float = 2e-3
    warmup: int = 100
    creatures: float = 0.2
    """Probability that a sprite's look, and as often its motion, is one the grammar has no words for."""
    empty_prompt: float = 0.1
    """Share of clips trained without their prompt, for classifier-free guidance."""
    single_frames: float = 0.15
    """Share of batches that are first frames only, as the set stage will see them."""
    strange_word: float = 0.15
    """Share of prompts with a made-up word put in, which the model so learns to pass over."""
    seed: int = 0
    save_every: int = 200


def clip_and_caption(index: int, creatures: float) -> tuple[Tensor, Caption]:
    """Training clip number `index`, (3, F, H, W) in [-1, 1], and what it shows."""
    rng = Random(f"transformer {index}")
    caption = random_caption(rng, sprites=rng.choice((1, 2)), creatures=creatures)
    return render(scene_of(caption, rng)).permute(3, 0, 1, 2) * 2 - 1, caption


@torch.no_grad()
def encode_pool(vae: AutoencoderKLWan, folder: Path, first: int, count: int, creatures: float) -> None:
    """Encode training clips `first` to `first + count` into one file of `folder`: normalised latents and captions."""
    mean = torch.tensor(vae.config["latents_mean"]).view(-1, 1, 1, 1)
    std = torch.tensor(vae.config["latents_std"]).view(-1, 1, 1, 1)
    latents, captions = [], []
    for begin in range(first, first + count, 8):
        clips, shown = zip(*(clip_and_caption(i, creatures) for i in range(begin, begin + 8)), strict=True)
        with torch.autocast("cpu", torch.bfloat16):
            moments, _ = encode_moments(vae, torch.stack(clips))
        latents.append(((moments.float() - mean) / std).half())
        captions += [{"full": str(c), "static": c.static, "motion": c.motion} for c in shown]
    path = folder / f"pool_{first:06d}.safetensors"
    save_atomically({"latents": torch.cat(latents)}, path, {"captions": json.dumps(captions)})


def load_pool(folder: Path) -> tuple[Tensor, list[dict[str, str]]]:
    """All the encoded clips of `folder`: latents (N, 16, 5, 8, 8) and each one's prompts in three wordings."""
    latents, captions = [], []
    for path in sorted(folder.glob("pool_*.safetensors")):
        with safe_open(path, "pt") as file:
            latents.append(file.get_tensor("latents"))
            captions += json.loads(file.metadata()["captions"])
    return torch.cat(latents), captions


def _prompt(caption: dict[str, str], rng: Random, config: TransformerTraining) -> str:
    if rng.random() < config.empty_prompt:
        return ""
    words = caption[rng.choices(("full", "motion", "static"), (0.65, 0.2, 0.15))[0]].split(" ")
    if rng.random() < config.strange_word:
        words.insert(rng.randrange(len(words)), "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 6))))
    return " ".join(words)


def _optimizers(named: dict[str, nn.Parameter], rate: float) -> tuple[dict, torch.optim.Muon, dict, torch.optim.AdamW]:
    matrices = {n: p for n, p in named.items() if p.ndim == 2 and "blocks." in n}
    others = {n: p for n, p in named.items() if n not in matrices}
    muon = torch.optim.Muon(matrices.values(), lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    return matrices, muon, others, torch.optim.AdamW(others.values(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)


def train_transformer(
    folder: Path, config: TransformerTraining, start: WanTransformer3DModel | None = None
) -> WanTransformer3DModel:
    """Train, or go on training, the transformer whose state and pool of latents are in `folder`.

    Args:
        start: where a training without state begins; random weights otherwise. It is trained in place.
    """
    torch.manual_seed(config.seed)
    model = (start or WanTransformer3DModel(**TRANSFORMER_CONFIG)).train().requires_grad_(True)
    named = dict(model.named_parameters())
    averages = {f"average.{n}": p.detach().clone() for n, p in named.items()}
    matrices, muon, others, adam = _optimizers(named, config.learning_rate)
    states = folder / "transformer_muon.safetensors", folder / "transformer_adam.safetensors"
    first = 0
    if states[1].exists():
        load_training(states[0], matrices, muon)
        first = int(load_training(states[1], {**others, **averages}, adam)["step"])
    latents, captions = load_pool(folder)
    recent = 0.0
    for step in range(first, config.steps):
        rng = Random(config.seed * 1_000_003 + step)
        torch.manual_seed(config.seed * 1_000_003 + step)
        if step % config.save_every == 0:
            latents, captions = load_pool(folder)
        chosen = [rng.randrange(len(captions)) for _ in range(config.batch)]
        x_0 = latents[chosen].float()
        if rng.random() < config.single_frames:
            x_0 = x_0[:, :, :1]
        text = torch.stack([encode_prompt(_prompt(captions[i], rng, config)) for i in chosen])
        noise, time = torch.randn_like(x_0), shift_time(torch.rand(config.batch), SHIFT)
        with torch.autocast("cpu", torch.bfloat16):
            velocity = model(interpolate(x_0, noise, time), time * 1000, text, return_dict=False)[0]
        loss = flow_loss(velocity.float(), target_velocity(x_0, noise))
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(named.values(), 1.0)
        decay = 0.5 + 0.5 * math.cos(math.pi * step / config.steps)
        for optimizer in (muon, adam):
            optimizer.param_groups[0]["lr"] = config.learning_rate * min((step + 1) / config.warmup, max(decay, 0.03))
            optimizer.step()
        keep = min(0.998, (step + 1) / (step + 10))
        for name, parameter in named.items():
            averages[f"average.{name}"].lerp_(parameter.detach(), 1 - keep)
        recent += (loss.item() - recent) / min(step - first + 1, 100)
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            save_training(states[0], matrices, muon, {"step": str(step + 1)})
            save_training(states[1], {**others, **averages}, adam, {"step": str(step + 1)})
            log.info("transformer step %d of %d, loss %.4f, %d clips", step + 1, config.steps, recent, len(captions))
    for name, parameter in named.items():
        parameter.data.copy_(averages[f"average.{name}"])
    return model
