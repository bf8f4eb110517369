"""Measure the embedded model's quality: its VAE, and how well it follows prompts that it never trained on."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from statistics import fmean
from typing import NamedTuple

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn
from torch.utils.data import Dataset

from setandseq_core.backbone import Backbone
from setandseq_core.embedded.probes.detectors import detect, score
from setandseq_core.embedded.settings import EMBEDDED_GUIDANCE
from setandseq_core.embedded.text import encode_prompt
from setandseq_core.embedded.vae import decode_clip, encode_moments
from setandseq_core.embedded.world.concepts import CONCEPTS
from setandseq_core.embedded.world.scene import (
    FRAMES,
    SIZE,
    Caption,
    Scene,
    random_caption,
    render,
    scene_of,
    wide_scene,
)
from setandseq_core.flow import sampling_times
from setandseq_core.sample import latent_noise, sample_latents

from .batches import batches_from
from .scenes import fast_scene, near_sprites
from .train_transformer import SHIFT

LATENT_CHANNELS = 16
STEPS = 20


def held_out_captions(count: int, seed: int = 0) -> list[Caption]:
    """Captions that the base model never trained on, alternating between one sprite and two."""
    rng = Random(f"held out {seed}")
    return [random_caption(rng, sprites=1 + index % 2, held_out=True) for index in range(count)]


def vae_psnr(vae: AutoencoderKLWan, count: int = 40, device: str = "cpu") -> float:
    """Mean PSNR in dB after encoding and decoding clips of held-out captions."""
    scenes = [scene_of(caption, Random(index)) for index, caption in enumerate(held_out_captions(count))]
    return fmean(_psnr(decoded, frames) for decoded, frames in _round_trips(vae, scenes, device))


def vae_quality(vae: AutoencoderKLWan, count: int, device: str = "cpu") -> dict[str, float]:
    """PSNR in dB after encoding and decoding, each a mean over `count` clips.

    "held out": prompts that were not trained on; "beyond the grammar": any looks, colours and paths; "fast sprites":
    a sprite that moves by about its size per frame; "near fast sprites": only the box around it; "concepts" and "near
    concepts": the clips of the eight concepts, whatever `count` is.
    """
    beyond = [wide_scene(Random(f"beyond {index}")) for index in range(count)]
    fast = [fast_scene(Random(f"fast {index}")) for index in range(count)]
    found = {"held out": vae_psnr(vae, count, device)}
    found["beyond the grammar"] = fmean(_psnr(*trip) for trip in _round_trips(vae, beyond, device))
    for name, scenes in {"fast sprites": fast, "concepts": [clip.scene() for clip in CONCEPTS.values()]}.items():
        boxes = [near_sprites(scene) for scene in scenes]
        trips = [(*trip, near) for trip, near in zip(_round_trips(vae, scenes, device), boxes, strict=True)]
        found[name] = fmean(_psnr(decoded, frames) for decoded, frames, _ in trips)
        found[f"near {name}"] = fmean(_psnr(decoded[near], frames[near]) for decoded, frames, near in trips)
    return found


@torch.no_grad()
def _round_trips(vae: AutoencoderKLWan, scenes: list[Scene], device: str) -> list[tuple[Tensor, Tensor]]:
    """Each scene's frames after encoding and decoding, and its original frames, (F, H, W, 3) each."""
    nn.Module.to(vae, device)  # diffusers' own `to` has no types
    trips = []
    for scene in scenes:
        frames_FHWC = render(scene)
        mean, _ = encode_moments(vae, frames_FHWC.permute(3, 0, 1, 2).unsqueeze(0).to(device) * 2 - 1)
        trips.append((_frames(vae, mean)[0], frames_FHWC))
    nn.Module.to(vae, "cpu")
    return trips


def _frames(vae: AutoencoderKLWan, latents_BCFHW: Tensor) -> Tensor:
    """Decoded frames (B, F, H, W, 3) in [0, 1], on the CPU."""
    return ((decode_clip(vae, latents_BCFHW).float() + 1) / 2).clamp(0, 1).permute(0, 2, 3, 4, 1).cpu()


def _psnr(decoded: Tensor, frames: Tensor) -> float:
    return -10 * (decoded - frames).square().mean().log10().item()


def generate(backbone: Backbone, prompt: str, seed: int) -> Tensor:
    """Sample a clip of the embedded size, (F, H, W, 3) in [0, 1]."""
    noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), seed)
    return backbone.decode_latents(sample_latents(backbone, noise, prompt))


@torch.no_grad()
def generate_together(
    transformer: WanTransformer3DModel, vae: AutoencoderKLWan, prompts: list[str], seed: int, device: str
) -> Tensor:
    """The same clips as from `generate` with seeds `seed`, `seed` + 1, ...: (B, F, H, W, 3) in [0, 1]."""
    for part in (transformer, vae):
        nn.Module.to(part, device)
    shape = LATENT_CHANNELS, (FRAMES - 1) // 4 + 1, SIZE // 8, SIZE // 8
    x_t = torch.stack([latent_noise(shape, seed + index) for index in range(len(prompts))]).to(device)
    text = torch.stack([encode_prompt(prompt) for prompt in (*prompts, *([""] * len(prompts)))]).to(device)
    for now, after in pairwise(sampling_times(STEPS, SHIFT)):
        time = torch.full((len(text),), 1000 * float(now), device=device)
        with_prompt, without = transformer(x_t.repeat(2, 1, 1, 1, 1), time, text, return_dict=False)[0].chunk(2)
        x_t = x_t + float(after - now) * (without + EMBEDDED_GUIDANCE * (with_prompt - without))
    mean, std = (torch.tensor(vae.config[f"latents_{name}"], device=device) for name in ("mean", "std"))
    return _frames(vae, x_t * std.view(-1, 1, 1, 1) + mean.view(-1, 1, 1, 1))


def prompt_following(
    transformer: WanTransformer3DModel,
    vae: AutoencoderKLWan,
    count: int,
    device: str = "cpu",
    together: int = 10,
) -> dict[str, float]:
    """Share of clips generated from held-out captions that show what the caption says, by attribute.

    Scenes with two sprites are counted separately ("pair ..."); "pair both objects" means that colour, shape and motion
    of both are right.

    Args:
        together: number of clips to generate at a time.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    captions = held_out_captions(count)
    for seed in range(0, count, together):
        shown = captions[seed : seed + together]
        clips = generate_together(transformer, vae, [str(caption) for caption in shown], seed, device)
        for at, (seen,) in batches_from(_Scores(shown, clips), 0, len(shown), device):
            _count(right, shown[at], seen)
    return {name: sum(values) / len(values) for name, values in sorted(right.items())}


class _Score(NamedTuple):
    seen: dict[str, bool]


@dataclass(frozen=True)
class _Scores(Dataset[_Score]):
    """The score of each generated clip, computed in any process."""

    captions: list[Caption]
    clips: Tensor

    def __getitem__(self, index: int) -> _Score:
        return _Score(score(detect(self.clips[index]), self.captions[index]))


def _count(right: dict[str, list[bool]], caption: Caption, seen: dict[str, bool]) -> None:
    pair = "pair " if len(caption.sprites) == 2 else ""
    for name, value in seen.items():
        right[pair + name.removeprefix("sprite 1 ").removeprefix("sprite 2 ")].append(value)
    if pair:
        right["pair both objects"].append(seen["sprite 1 object"] and seen["sprite 2 object"])
