"""The embedded model's quality: its VAE, and how far it follows prompts that it never trained on."""

from collections import defaultdict
from collections.abc import Callable
from random import Random
from statistics import fmean

import torch
from torch import Tensor

from setandseq_core.backbone import Backbone
from setandseq_core.embedded.probes.detectors import detect, score
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
from setandseq_core.sample import latent_noise, sample_latents

from .scenes import fast_scene, near_sprites


def held_out_captions(count: int, seed: int = 0) -> list[Caption]:
    """Captions the base never trained on, one sprite and two in turn."""
    rng = Random(f"held out {seed}")
    return [random_caption(rng, sprites=1 + index % 2, held_out=True) for index in range(count)]


def vae_psnr(backbone: Backbone, count: int = 40) -> float:
    """Mean PSNR in dB of encoding and decoding clips of held-out captions."""
    scenes = [scene_of(caption, Random(index)) for index, caption in enumerate(held_out_captions(count))]
    return fmean(_psnr(*_round_trip(backbone, scene)) for scene in scenes)


def vae_quality(backbone: Backbone, count: int) -> dict[str, float]:
    """PSNR in dB of encoding and decoding, each a mean over `count` clips.

    "held out": prompts that were not trained on; "beyond the grammar": any looks, colours and paths; "fast sprites":
    one that moves by about its size in a frame, and "near fast sprites" within the box around it; "concepts" and
    "near concepts": the clips of the eight concepts, whatever `count`.
    """
    beyond = [wide_scene(Random(f"beyond {index}")) for index in range(count)]
    fast = [fast_scene(Random(f"fast {index}")) for index in range(count)]
    found = {"held out": vae_psnr(backbone, count)}
    found["beyond the grammar"] = fmean(_psnr(*_round_trip(backbone, scene)) for scene in beyond)
    for name, scenes in {"fast sprites": fast, "concepts": [clip.scene() for clip in CONCEPTS.values()]}.items():
        trips = [(*_round_trip(backbone, scene), near_sprites(scene)) for scene in scenes]
        found[name] = fmean(_psnr(decoded, frames) for decoded, frames, _ in trips)
        found[f"near {name}"] = fmean(_psnr(decoded[near], frames[near]) for decoded, frames, near in trips)
    return found


def _round_trip(backbone: Backbone, scene: Scene) -> tuple[Tensor, Tensor]:
    """A scene's frames after encoding and decoding, and the frames themselves."""
    frames_FHWC = render(scene)
    with torch.no_grad():
        return backbone.decode_latents(backbone.encode_frames(frames_FHWC)), frames_FHWC


def _psnr(decoded: Tensor, frames: Tensor) -> float:
    return -10 * (decoded - frames).square().mean().log10().item()


def generate(backbone: Backbone, prompt: str, seed: int) -> Tensor:
    """A clip of the embedded size, (F, H, W, 3) in [0, 1]."""
    noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), seed)
    return backbone.decode_latents(sample_latents(backbone, noise, prompt))


def prompt_following(backbone: Backbone, count: int, progress: Callable[[int], None] | None = None) -> dict[str, float]:
    """Share of generated clips of held-out captions that show what the caption says, by attribute.

    Scenes of two sprites are counted apart ("pair ..."); "pair both objects" is colour, shape and motion of both.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for seed, caption in enumerate(held_out_captions(count)):
        seen = score(detect(generate(backbone, str(caption), seed)), caption)
        pair = "pair " if len(caption.sprites) == 2 else ""
        for name, value in seen.items():
            right[pair + name.removeprefix("sprite 1 ").removeprefix("sprite 2 ")].append(value)
        if pair:
            right["pair both objects"].append(seen["sprite 1 object"] and seen["sprite 2 object"])
        if progress:
            progress(seed + 1)
    return {name: sum(values) / len(values) for name, values in sorted(right.items())}
