"""Train the embedded transformer on latents of the world's clips (rectified flow, Eq. 1 of the method).

The same code runs on one CPU core and on a GPU, where it is compiled and other processes render the clips and encode
the prompts.
"""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from setandseq_core.atomic import save_atomically
from setandseq_core.embedded.text import MAX_TOKENS, encode_prompt, known_words
from setandseq_core.embedded.world.scene import Caption, random_caption, render, scene_of
from setandseq_core.flow import flow_loss, interpolate, shift_time, target_velocity
from setandseq_core.training.checkpoint import load_training, save_training

from .batches import batches_from
from .vae import encode_moments

log = logging.getLogger(__name__)

TRANSFORMER_CONFIG: dict[str, Any] = {
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
POOL_FILE = 2000
"""Clips in one file of encoded ones."""
SHIFT = 3.0
"""Time shift in training and sampling: Wan's, so that ComfyUI's stock nodes sample it as they sample Wan."""


@dataclass(kw_only=True, slots=True, frozen=True)
class TransformerTraining:
    """Settings of the transformer's training."""

    heads: int = TRANSFORMER_CONFIG["num_attention_heads"]
    """Attention heads of a new transformer, of 128 channels each; a start keeps its own."""
    layers: int = TRANSFORMER_CONFIG["num_layers"]
    """Blocks of a new transformer."""
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


class PoolBatch(NamedTuple):
    """Clips to encode, and the prompts of each in three wordings."""

    pixels_BCFHW: Tensor
    prompts: list[dict[str, str]]


@dataclass(frozen=True)
class PoolClips(Dataset[PoolBatch]):
    """The training clips, `batch` at a time."""

    batch: int
    creatures: float

    def __getitem__(self, number: int) -> PoolBatch:
        """Batch `number` of them."""
        indices = range(number * self.batch, (number + 1) * self.batch)
        clips, shown = zip(*(clip_and_caption(index, self.creatures) for index in indices), strict=True)
        prompts = [{"full": str(caption), "static": caption.static, "motion": caption.motion} for caption in shown]
        return PoolBatch(torch.stack(clips), prompts)


@torch.no_grad()
def encode_pool(
    vae: AutoencoderKLWan, folder: Path, clips: int, creatures: float, *, batch: int = 8, device: str = "cpu"
) -> None:
    """Encode the training clips into files of `folder`, normalised latents with their prompts; skips what is there.

    Args:
        clips: a multiple of `POOL_FILE`, or of `batch` and smaller.
        batch: clips that are encoded at a time; it divides `POOL_FILE`.
    """
    nn.Module.to(vae, device)  # diffusers' own has no types
    mean = torch.tensor(vae.config["latents_mean"]).view(-1, 1, 1, 1)
    std = torch.tensor(vae.config["latents_std"]).view(-1, 1, 1, 1)
    for first in range(0, clips, POOL_FILE):
        path, last = folder / f"pool_{first:06d}.safetensors", min(first + POOL_FILE, clips)
        if path.exists():
            continue
        latents, captions = [], []
        for _, found in batches_from(PoolClips(batch, creatures), first // batch, last // batch, device):
            with torch.autocast(device, torch.bfloat16):
                moments, _ = encode_moments(vae, found.pixels_BCFHW)
            latents.append(((moments.float().cpu() - mean) / std).half())
            captions += found.prompts
        save_atomically({"latents": torch.cat(latents)}, path, {"captions": json.dumps(captions)})
        log.info("encoded %d of %d clips", last, clips)
    nn.Module.to(vae, "cpu")


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


class Batch(NamedTuple):
    """The batch of a step."""

    latents_BCFHW: Tensor
    """Normalised; all frames, or the first alone."""
    text_BND: Tensor
    """Texts in bfloat16, padded to the longest prompt."""


@dataclass(frozen=True)
class TransformerBatches(Dataset[Batch]):
    """The batch of every step; each is made from its number alone, in whatever process."""

    config: TransformerTraining
    latents: Tensor
    captions: list[dict[str, str]]

    def __getitem__(self, step: int) -> Batch:
        """The batch of one step."""
        rng = Random(self.config.seed * 1_000_003 + step)
        chosen = [rng.randrange(len(self.captions)) for _ in range(self.config.batch)]
        latents = self.latents[chosen].float()
        if rng.random() < self.config.single_frames:
            latents = latents[:, :, :1]
        prompts = [_prompt(self.captions[index], rng, self.config) for index in chosen]
        longest = max(len(known_words(prompt)) for prompt in prompts)
        return Batch(latents, torch.stack([encode_prompt(prompt)[:longest].bfloat16() for prompt in prompts]))


def _optimizers(named: dict[str, nn.Parameter], rate: float) -> tuple[dict, torch.optim.Muon, dict, torch.optim.AdamW]:
    matrices = {n: p for n, p in named.items() if p.ndim == 2 and "blocks." in n}
    others = {n: p for n, p in named.items() if n not in matrices}
    muon = torch.optim.Muon(matrices.values(), lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    return matrices, muon, others, torch.optim.AdamW(others.values(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)


def new_transformer(heads: int, layers: int) -> WanTransformer3DModel:
    """An untrained transformer of the embedded model's kind; its feed-forward layers are 4 times as wide as it is."""
    width = heads * TRANSFORMER_CONFIG["attention_head_dim"]
    sizes = {"num_attention_heads": heads, "ffn_dim": 4 * width, "num_layers": layers}
    return WanTransformer3DModel(**TRANSFORMER_CONFIG | sizes)


def train_transformer(
    folder: Path, config: TransformerTraining, start: WanTransformer3DModel | None = None, device: str = "cpu"
) -> WanTransformer3DModel:
    """Train the transformer whose state and pool of latents are in `folder`, or resume training it.

    Args:
        start: where a training without state begins; random weights otherwise. It is trained in place.
    Returns:
        The moving average of the weights, on the CPU.
    """
    torch.manual_seed(config.seed)
    model = start or new_transformer(config.heads, config.layers)
    nn.Module.to(model, device)  # diffusers' own has no types
    model.train().requires_grad_(True)
    named = dict(model.named_parameters())
    averages = {f"average.{n}": p.detach().clone() for n, p in named.items()}
    matrices, muon, others, adam = _optimizers(named, config.learning_rate)
    states = folder / "transformer_muon.safetensors", folder / "transformer_adam.safetensors"
    first = 0
    if states[1].exists():
        load_training(states[0], matrices, muon)
        first = int(load_training(states[1], {**others, **averages}, adam)["step"])
    velocity_of = torch.compile(model) if device == "cuda" else model
    recent = 0.0
    for step, (x_0, text_BND) in batches_from(
        TransformerBatches(config, *load_pool(folder)), first, config.steps, device
    ):
        torch.manual_seed(config.seed * 1_000_003 + step)
        noise, time = torch.randn_like(x_0), shift_time(torch.rand(config.batch, device=device), SHIFT)
        text_BND = functional.pad(text_BND, (0, 0, 0, MAX_TOKENS - text_BND.shape[1]))
        with torch.autocast(device, torch.bfloat16):
            velocity = velocity_of(interpolate(x_0, noise, time), time * 1000, text_BND, return_dict=False)[0]
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
            log.info("transformer step %d of %d, loss %.4f", step + 1, config.steps, recent)
    for name, parameter in named.items():
        parameter.data.copy_(averages[f"average.{name}"])
    nn.Module.to(model, "cpu")
    return model.eval()
