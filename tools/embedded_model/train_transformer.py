"""Train the embedded transformer on latents of the world's clips (rectified flow, Eq. 1 of the method).

The same code runs on one CPU core and on a GPU, where its blocks are compiled and other processes render the clips.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import Dataset

from setandseq_core.atomic import save_atomically
from setandseq_core.embedded.vae import encode_moments
from setandseq_core.embedded.world.scene import Caption, random_caption, render, scene_of
from setandseq_core.flow import flow_loss, interpolate, random_times, target_velocity
from setandseq_core.training.checkpoint import load_training, save_training

from .batches import batches_from
from .muon import BatchedMuon
from .precision import mixed_precision
from .prompts import Prompts
from .scenes import unnamed_scene
from .schedule import Schedule, falling

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
    "num_layers": 10,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "rope_max_seq_len": 1024,
}
POOL_FILE = 2000
"""Number of encoded clips per file."""
SHIFT = 3.0
"""Time shift in training and sampling; it equals Wan's, so that ComfyUI's stock nodes sample both in the same way."""


@dataclass(kw_only=True, slots=True, frozen=True)
class TransformerTraining:
    """Settings of the transformer's training."""

    heads: int = TRANSFORMER_CONFIG["num_attention_heads"]
    """Attention heads, of 128 channels each, of a new transformer; a given start keeps its own."""
    layers: int = TRANSFORMER_CONFIG["num_layers"]
    """Number of blocks; a start with fewer blocks is deepened."""
    steps: int = 6000
    minutes: float = 0.0
    """Maximum minutes for a run to encode clips and train; 0 for no limit."""
    compiled: bool = False
    """Whether the blocks are compiled, which takes a minute and pays off on a GPU."""
    batch: int = 32
    learning_rate: float = 2e-3
    warmup: int = 100
    creatures: float = 0.2
    """Probability that the grammar has no words for a sprite's look, and the same for its motion."""
    unnamed: float = 0.2
    """Share of clips that show one sprite of any look and size on any path, as the concepts do."""
    empty_prompt: float = 0.1
    """Share of clips that are trained without their prompt, for classifier-free guidance."""
    single_frames: float = 0.15
    """Share of batches that contain only first frames, like those of the set stage."""
    strange_word: float = 0.15
    """Share of prompts with an inserted made-up word, so that the model learns to ignore such words."""
    lowest_time: float = 0.0
    highest_time: float = 1.0
    """Trains between these times only, such as the noise levels of one expert."""
    seed: int = 0
    save_every: int = 200


def clip_and_caption(index: int, creatures: float, unnamed: float) -> tuple[Tensor, Caption]:
    """Training clip number `index`, (3, F, H, W) in 8 bits, and its caption."""
    rng = Random(f"transformer {index}")
    if rng.random() < unnamed:
        scene, caption = unnamed_scene(rng)
    else:
        caption = random_caption(rng, sprites=rng.choice((1, 2)), creatures=creatures)
        scene = scene_of(caption, rng)
    return (render(scene) * 255).round().byte().permute(3, 0, 1, 2), caption


class PoolBatch(NamedTuple):
    """Clips to encode, and the prompts of each in three wordings."""

    pixels_BCFHW: Tensor
    """Clips with values from 0 to 255."""
    prompts: list[dict[str, str]]


@dataclass(frozen=True)
class PoolClips(Dataset[PoolBatch]):
    """The training clips, `batch` at a time."""

    batch: int
    config: TransformerTraining

    def __getitem__(self, number: int) -> PoolBatch:
        """Batch number `number` of the training clips."""
        indices = range(number * self.batch, (number + 1) * self.batch)
        found = [clip_and_caption(index, self.config.creatures, self.config.unnamed) for index in indices]
        clips, shown = zip(*found, strict=True)
        prompts = [{"full": str(caption), "static": caption.static, "motion": caption.motion} for caption in shown]
        return PoolBatch(torch.stack(clips), prompts)


@torch.no_grad()
def encode_pool(
    vae: AutoencoderKLWan,
    folder: Path,
    clips: int,
    config: TransformerTraining,
    *,
    batch: int = 8,
    device: str = "cpu",
) -> None:
    """Encode the training clips into files in `folder`: normalised latents with their prompts. Skips existing files.

    Args:
        clips: number of clips: a multiple of `POOL_FILE`, or a smaller multiple of `batch`.
        batch: number of clips to encode at a time, a divisor of `POOL_FILE`.
    """
    nn.Module.to(vae, device)  # diffusers' own `to` has no types
    mean = torch.tensor(vae.config["latents_mean"]).view(-1, 1, 1, 1)
    std = torch.tensor(vae.config["latents_std"]).view(-1, 1, 1, 1)
    missing = [first for first in range(0, clips, POOL_FILE) if not _pool_file(folder, first).exists()]
    first, latents, captions = (missing or [clips])[0], list[Tensor](), list[dict[str, str]]()
    for number, found in batches_from(PoolClips(batch, config), first // batch, clips // batch, device):
        with mixed_precision(device):
            moments, _ = encode_moments(vae, found.pixels_BCFHW.float() / 127.5 - 1)
        latents.append(moments.float())
        captions += found.prompts
        done = (number + 1) * batch
        if done % POOL_FILE == 0 or done == clips:
            normal = ((torch.cat(latents).cpu() - mean) / std).half()
            save_atomically({"latents": normal}, _pool_file(folder, first), {"captions": json.dumps(captions)})
            log.info("encoded %d of %d clips", done, clips)
            first, latents, captions = done, [], []
    nn.Module.to(vae, "cpu")


def _pool_file(folder: Path, first: int) -> Path:
    return folder / f"pool_{first:06d}.safetensors"


def load_pool(folder: Path) -> tuple[Tensor, list[dict[str, str]]]:
    """All encoded clips in `folder`: latents (N, 16, 5, 8, 8), and the prompts of each in three wordings."""
    latents, captions = [], []
    for path in sorted(folder.glob("pool_*.safetensors")):
        with safe_open(path, "pt") as file:
            latents.append(file.get_tensor("latents"))
            captions += json.loads(file.metadata()["captions"])
    return torch.cat(latents), captions


class Batch(NamedTuple):
    """The batch of a step."""

    latents_BCFHW: Tensor
    """Normalised latents of all frames, or of the first frame only."""
    text_BND: Tensor
    """Encoded prompts in the fast type, all MAX_TOKENS long."""


class TransformerBatches:
    """The batch of every step, which depends only on the number of the step."""

    def __init__(self, config: TransformerTraining, latents: Tensor, captions: list[dict[str, str]], device: str):
        """Put all clips on the device."""
        self._config = config
        self._latents = latents.to(device)
        self._prompts = Prompts(captions, device)

    def __getitem__(self, step: int) -> Batch:
        """The batch of one step."""
        config = self._config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        chosen = torch.randint(len(self._latents), (config.batch,), generator=generator)
        latents = self._latents[chosen.to(self._latents.device, non_blocking=True)].float()
        if torch.rand((), generator=generator) < config.single_frames:
            latents = latents[:, :, :1]
        words = self._prompts.draw(chosen, config.empty_prompt, config.strange_word, generator)
        return Batch(latents, self._prompts.encode(words))


def _optimizers(named: dict[str, nn.Parameter], rate: float) -> tuple[dict, BatchedMuon, dict, torch.optim.AdamW]:
    matrices = {n: p for n, p in named.items() if p.ndim == 2 and "blocks." in n}
    others = {n: p for n, p in named.items() if n not in matrices}
    muon = BatchedMuon(matrices.values(), lr=rate, weight_decay=0.01)
    return matrices, muon, others, torch.optim.AdamW(others.values(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)


def new_transformer(heads: int, layers: int) -> WanTransformer3DModel:
    """An untrained transformer like the embedded model's; its feed-forward layers have 4 times its width."""
    width = heads * TRANSFORMER_CONFIG["attention_head_dim"]
    sizes = {"num_attention_heads": heads, "ffn_dim": 4 * width, "num_layers": layers}
    return WanTransformer3DModel(**TRANSFORMER_CONFIG | sizes)


def train_transformer(
    folder: Path, config: TransformerTraining, start: WanTransformer3DModel | None = None, device: str = "cpu"
) -> WanTransformer3DModel:
    """Train the transformer whose state and pool of latents are in `folder`, or resume training it.

    Args:
        start: transformer to start from if there is no saved state; None for random weights. It is trained in place.
    Returns:
        The moving average of the weights, on the CPU.
    """
    torch.manual_seed(config.seed)
    model = start or new_transformer(config.heads, config.layers)
    nn.Module.to(model, device)  # diffusers' own `to` has no types
    model.train().requires_grad_(True)
    named = dict(model.named_parameters())
    averages = {f"average.{n}": p.detach().clone() for n, p in named.items()}
    matrices, muon, others, adam = _optimizers(named, config.learning_rate)
    states = folder / "transformer_muon.safetensors", folder / "transformer_adam.safetensors"
    first = 0
    if states[1].exists():
        load_training(states[0], matrices, muon)
        first = int(load_training(states[1], {**others, **averages}, adam)["step"])
    if config.compiled:
        model.compile_repeated_blocks(dynamic=False)
    batches = TransformerBatches(config, *load_pool(folder), device)
    schedule, times = Schedule(config.steps, config.minutes), (config.lowest_time, config.highest_time)
    recent = torch.zeros((), device=device)
    for step in range(first, config.steps):
        share = schedule.share(step)
        x_0, text_BND = batches[step]
        torch.manual_seed(config.seed * 1_000_003 + step)
        noise, time = torch.randn_like(x_0), random_times(x_0, SHIFT, times)
        with mixed_precision(device):
            velocity = model(interpolate(x_0, noise, time), time * 1000, text_BND, return_dict=False)[0]
        loss = flow_loss(velocity.float(), target_velocity(x_0, noise))
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(named.values(), 1.0)
        for optimizer in (muon, adam):
            rate = config.learning_rate * min((step + 1) / config.warmup, falling(share, lowest=0.03))
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
        keep = min(0.998, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(averages.values()), [parameter.detach() for parameter in named.values()], 1 - keep)
        recent += (loss.detach() - recent) / min(step - first + 1, 100)
        last = step + 1 == config.steps or share >= 1
        if (step + 1) % config.save_every == 0 or last:
            save_training(states[0], matrices, muon, {"step": str(step + 1)})
            save_training(states[1], {**others, **averages}, adam, {"step": str(step + 1)})
            log.info("transformer step %d, %.0f %% done, loss %.4f", step + 1, 100 * share, recent.item())
        if last:
            break
    for name, parameter in named.items():
        parameter.data.copy_(averages[f"average.{name}"])
    nn.Module.to(model, "cpu")
    return model.eval()
