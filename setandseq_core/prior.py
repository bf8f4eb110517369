"""Prior preservation: train also on clips of the base model itself, so that it forgets nothing (section 3.4.1).

The clips come from two-part prompts, an appearance and a motion, and are kept on disk by what they were made from.

Shape letters: K prior clips, S frames of a clip taken one by one, C latent channels, F latent frames, H, W latent
height and width.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from random import Random

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .backbone import Backbone
from .checkpoints import save_atomically
from .errors import PromptError, SetAndSequenceError
from .fingerprint import BaseFingerprint
from .prompts import motion_prompt
from .reference import Words
from .runs import content_key
from .sample import latent_noise, sample_latents

FRAMES_KEPT = 3
"""Frames of each prior clip that the set stage sees: the first, the middle and the last."""
SAMPLING_STEPS = 20
GUIDANCE = 4.0

SUBJECTS = (
    ("A man in a blue t-shirt", "He is walking in a park"),
    ("An old woman in a red coat", "She is waving from a doorstep"),
    ("A child in yellow boots", "The child is jumping in a puddle on a street"),
    ("A woman in a green dress", "She is turning around on a stage"),
    ("A cook in a white apron", "The cook is stirring a pot in a kitchen"),
    ("A brown dog with a black collar", "It is running along a beach"),
    ("A grey cat with white paws", "It is stretching on a sofa"),
    ("A white horse with a long mane", "It is galloping over a meadow"),
    ("A small bird with blue wings", "It is hopping on a snowy branch"),
    ("An orange fish with dark stripes", "It is swimming between plants under water"),
    ("A red car with round lights", "It is driving through a tunnel at night"),
    ("A wooden boat with a white sail", "It is rocking on a calm lake"),
    ("A robot of brushed steel", "It is lifting a box in a factory hall"),
    ("A campfire of thick logs", "Its flames are flickering in a dark forest"),
    ("A tree with yellow leaves", "It is swaying in the wind on a hill"),
    ("A glass of water with ice", "It is being filled on a table by a window"),
)
"""Two-part prompts for models of the real world: people, animals, things."""


@dataclass(kw_only=True, slots=True, frozen=True)
class PriorPrompt:
    """A two-part prompt."""

    appearance: str
    """What the set stage is told of the clip's frames."""
    motion: str
    """Appearance and motion in one: what the clip is made from and the sequence stage is told."""


@dataclass(kw_only=True, slots=True, frozen=True, eq=False)
class PriorSet:
    """Clips of the base model."""

    prompts: tuple[PriorPrompt, ...]
    latents_KCFHW: Tensor
    frames_KSCFHW: Tensor
    """Some frames of each, every one as a latent of its own (F is 1)."""


def two_part_prompt(appearance: str, motion: str) -> PriorPrompt:
    """A prompt of an appearance and a motion, each a sentence or a part of one.

    Raises:
        PromptError: a part is empty.
    """
    appearance, motion = appearance.strip(), motion.strip()
    if not appearance or not motion:
        raise PromptError(
            f"The prior prompt '{appearance} | {motion}' lacks a part. Write how it looks, a bar and how it moves, "
            "such as 'A man in a blue t-shirt | He is walking in a park'."
        )
    whole = f"{appearance}. {motion}" if motion[0].isupper() else motion_prompt(appearance, motion)
    return PriorPrompt(appearance=appearance, motion=whole)


def read_prompts(text: str) -> list[PriorPrompt]:
    """The two-part prompts of a text, one a line as "appearance | motion"; empty lines are left out.

    Raises:
        PromptError: a line has no two parts.
    """
    lines = [line.partition("|") for line in text.splitlines() if line.strip()]
    return [two_part_prompt(appearance, motion) for appearance, _, motion in lines]


def automatic_prompts(base: BaseFingerprint, words: Sequence[Words], count: int, seed: int = 0) -> list[PriorPrompt]:
    """Prompts when nobody gives any: one in four is a concept's own without tokens, the rest what the base knows.

    On the embedded model a single concept's place is among them; the places of several are left as they come.
    """
    from .toy.prior import is_embedded, world_prompts

    bare = list(dict.fromkeys(_without_tokens(each) for each in words))
    if is_embedded(base):
        known = world_prompts(count, seed, bare[0].motion if len(bare) == 1 else "")
    else:
        known = [two_part_prompt(*parts) for parts in SUBJECTS]
    Random(seed).shuffle(known)
    own, others = cycle(bare), cycle(known)
    return [next(own, None) or next(others) if index % 4 == 0 else next(others) for index in range(count)]


def _without_tokens(words: Words) -> PriorPrompt:
    def bare(prompt: str) -> str:
        for token in (words.identity_token, words.motion_token):
            prompt = prompt.replace(token, " ") if token else prompt
        return " ".join(prompt.split())

    return PriorPrompt(appearance=bare(words.static_prompt), motion=bare(words.motion_prompt))


def make_prior(
    backbone: Backbone,
    prompts: Sequence[PriorPrompt],
    size_FHW: tuple[int, int, int],
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PriorSet:
    """Let the model make a clip of each prompt; those that are in `folder` already are taken from there.

    Args:
        size_FHW: frames, height and width in pixels.
        seed: clip number k is made from noise of seed + k.
        progress: called with the clips there are and their number; may raise to stop, and what is made is kept.
    """
    base, sampling = base_key(backbone), {"steps": SAMPLING_STEPS, "guidance": GUIDANCE, "shift": backbone.shift}
    clips: list[_PriorClip] = []
    for number, prompt in enumerate(prompts):
        key = content_key(base, sampling, asdict(prompt), {"size": size_FHW, "seed": seed + number})
        path = folder / f"prior_{key}.safetensors" if folder else None
        if path and path.exists():
            clips.append(_read_clip(path))
        else:
            clips.append(_make_clip(backbone, prompt, backbone.latent_shape(*size_FHW), seed + number))
            if path:
                _save_clip(clips[-1], path, base)
        if progress:
            progress(len(clips), len(prompts))
    return _as_set(clips, backbone)


def read_prior(folder: Path, backbone: Backbone) -> PriorSet:
    """All prior clips of a folder.

    Raises:
        SetAndSequenceError: there are none, or one is damaged, of another base model or of another size than the rest.
    """
    clips, base = [], base_key(backbone)
    for path in sorted(folder.glob("prior_*.safetensors")):
        clips.append(_read_clip(path, base))
        if clips[-1].latents_CFHW.shape != clips[0].latents_CFHW.shape:
            raise SetAndSequenceError(
                f"{path} holds a prior clip of another size than the rest of its folder. Keep one size in a folder."
            )
    if not clips:
        raise SetAndSequenceError(
            f"There are no prior clips in {folder}. Make some with the command 'prior', or leave --prior out and "
            "they are made automatically."
        )
    return _as_set(clips, backbone)


def base_key(backbone: Backbone) -> str:
    """The base model, with what is on it, in 32 hex digits."""
    return content_key(asdict(backbone.fingerprint()), backbone.variant)


@dataclass(kw_only=True, slots=True, frozen=True)
class _PriorClip:
    prompt: PriorPrompt
    latents_CFHW: Tensor
    frames_SCFHW: Tensor


def _as_set(clips: Sequence[_PriorClip], backbone: Backbone) -> PriorSet:
    return PriorSet(
        prompts=tuple(clip.prompt for clip in clips),
        latents_KCFHW=torch.stack([clip.latents_CFHW for clip in clips]).to(backbone.device),
        frames_KSCFHW=torch.stack([clip.frames_SCFHW for clip in clips]).to(backbone.device),
    )


@torch.no_grad()
def _make_clip(backbone: Backbone, prompt: PriorPrompt, shape: tuple[int, int, int, int], seed: int) -> _PriorClip:
    noise_CFHW = latent_noise(shape, seed).to(backbone.device)
    with backbone.training((2, *shape)):
        latents_CFHW = sample_latents(backbone, noise_CFHW, prompt.motion, steps=SAMPLING_STEPS, guidance=GUIDANCE)
    frames_FHWC = backbone.decode_latents(latents_CFHW)
    chosen = [round(i * (len(frames_FHWC) - 1) / (FRAMES_KEPT - 1)) for i in range(FRAMES_KEPT)]
    frames_SCFHW = torch.stack([backbone.encode_frames(frames_FHWC[i : i + 1]) for i in chosen])
    return _PriorClip(prompt=prompt, latents_CFHW=latents_CFHW.cpu(), frames_SCFHW=frames_SCFHW.cpu())


def _save_clip(clip: _PriorClip, path: Path, base: str) -> None:
    tensors = {"latents": clip.latents_CFHW, "frames": clip.frames_SCFHW}
    save_atomically(tensors, path, {"base": base, **asdict(clip.prompt)})


def _read_clip(path: Path, base: str | None = None) -> _PriorClip:
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if base not in (None, about["base"]):
                raise SetAndSequenceError(
                    f"The prior clip in {path} was made by another base model. Give a folder of clips of this one, or "
                    "leave --prior out and they are made automatically."
                )
            return _PriorClip(
                prompt=PriorPrompt(appearance=about["appearance"], motion=about["motion"]),
                latents_CFHW=file.get_tensor("latents"),
                frames_SCFHW=file.get_tensor("frames"),
            )
    except (SafetensorError, KeyError) as error:
        raise SetAndSequenceError(
            f"The prior clip in {path} cannot be read: {error}. Delete that file to have it made again."
        ) from error
