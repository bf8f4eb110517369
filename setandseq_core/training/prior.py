"""Prior preservation: make clips with the base model, to train on them as well (section 3.4.1).

The clips come from two-part prompts, an appearance and a motion. Each file is named by a hash of everything that its
clip depends on.

Shape letters: K prior clips, S frames of a clip taken one by one, C latent channels, F latent frames, H, W latent
height and width.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..atomic import save_atomically
from ..backbone import Backbone
from ..clips.clip import Reference
from ..clips.prior_prompts import PriorPrompt, PriorSet, automatic_prompts
from ..config import EULER, MethodConfig, SamplingConfig
from ..errors import SetAndSequenceError, StorageError
from ..fingerprint import content_key
from ..prompts import Condition
from ..sample import latent_noise, sample_latents, sampled_as
from .processes import ALONE, Processes

FRAMES_KEPT = 3
"""Frames of each prior clip that the set stage sees: the first, the middle and the last."""


AS_USUAL = SamplingConfig()


def make_prior(
    backbone: Backbone,
    prompts: Sequence[PriorPrompt],
    size_FHW: tuple[int, int, int],
    *,
    seed: int = 0,
    sampling: SamplingConfig = AS_USUAL,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    processes: Processes = ALONE,
    must_save: bool = True,
) -> PriorSet:
    """Let the model make a clip for each prompt, or read it from `folder` if it is there already.

    Args:
        size_FHW: frames, height and width in pixels.
        seed: clip number k is made from noise of seed + k.
        sampling: steps, guidance and sampler; clips made with other settings are not reused.
        processes: those that make them together; each gets all clips.
        must_save: whether a clip that cannot be written is an error; if not, it is made again next time.
        progress: called with the clips done and the number of all clips; may raise to stop. Finished clips are kept.
    """
    base, sampling = base_key(backbone), sampled_as(backbone, sampling)
    made_by = _sampling_key(sampling, backbone.shift)
    if _starts_from_a_still(backbone):
        made_by["from"] = "a still"
    paths: list[Path | None] = []
    for number, prompt in enumerate(prompts):
        key = content_key(base, made_by, asdict(prompt), {"size": size_FHW, "seed": seed + number})
        paths.append(folder / f"prior_{key}.safetensors" if folder else None)
    missing = _missing(paths, processes, backbone.device)
    own = _own(missing, processes)
    clips: dict[int, _PriorClip] = {}
    for number, (prompt, path) in enumerate(zip(prompts, paths, strict=True)):
        if number in own:
            clips[number] = _make_clip(backbone, prompt, size_FHW, seed + number, sampling)
            if path and (processes.number == 0 or not processes.sharded):
                with nullcontext() if must_save else suppress(StorageError):
                    _save_clip(clips[number], path, base)
        elif path and number not in missing:
            clips[number] = _read_clip(path)
        if progress and (number in clips or number + 1 == len(prompts)):
            progress(number + 1, len(prompts))
    if len(own) < len(missing):
        clips |= _exchanged(missing, clips, prompts, size_FHW, backbone, processes)
    return _as_set([clips[number] for number in range(len(prompts))], backbone)


def _missing(paths: Sequence[Path | None], processes: Processes, device: torch.device) -> list[int]:
    """Numbers of the clips that are not on the disk of every process."""
    here = torch.tensor([float(path is not None and path.exists()) for path in paths], device=device)
    (there,) = processes.sums([here])
    return [number for number in range(len(paths)) if int(there[number]) < processes.count]


def _own(missing: Sequence[int], processes: Processes) -> set[int]:
    """The clips that this process makes: all of them where the processes can only ask the model together."""
    return set(missing if processes.sharded else missing[processes.number :: processes.count])


def _exchanged(
    missing: Sequence[int],
    made: Mapping[int, "_PriorClip"],
    prompts: Sequence[PriorPrompt],
    size_FHW: tuple[int, int, int],
    backbone: Backbone,
    processes: Processes,
) -> dict[int, "_PriorClip"]:
    """The missing clips, each of which one process has made: a sum with zeros from all others."""
    _, height, width = size_FHW
    shapes = backbone.latent_shape(*size_FHW), (FRAMES_KEPT, *backbone.latent_shape(1, height, width))
    clips: dict[int, _PriorClip] = {}
    for number in missing:
        clip = made.get(number)
        own = (clip.latents_CFHW, clip.frames_SCFHW) if clip else (torch.zeros(shape) for shape in shapes)
        latents_CFHW, frames_SCFHW = processes.sums([each.float().to(backbone.device) for each in own])
        clips[number] = _PriorClip(
            prompt=prompts[number], latents_CFHW=latents_CFHW.cpu(), frames_SCFHW=frames_SCFHW.cpu()
        )
    return clips


def read_prior(folder: Path, backbone: Backbone) -> PriorSet:
    """Read all prior clips of a folder.

    Raises:
        SetAndSequenceError: there are no clips, or one is damaged, from another base model or of another size.
    """
    clips: list[_PriorClip] = []
    base = base_key(backbone)
    for path in sorted(folder.glob("prior_*.safetensors")):
        clips.append(_read_clip(path, base))
        if clips[-1].latents_CFHW.shape != clips[0].latents_CFHW.shape:
            raise SetAndSequenceError(
                f"{path} holds a prior clip of another size than the rest of its folder.",
                hint="Keep one size in a folder.",
            )
    if not clips:
        raise SetAndSequenceError(
            f"There are no prior clips in {folder}.",
            hint="Make some with the command 'prior', or leave --prior out and they are made automatically.",
        )
    return _as_set(clips, backbone)


def base_key(backbone: Backbone) -> str:
    """A hash of the base model and the LoRAs on it, 32 hex digits."""
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


def _sampling_key(sampling: SamplingConfig, shift: float) -> dict[str, float | str]:
    """Settings that the clips depend on. Euler's method is not named, because it used to be the only sampler."""
    key: dict[str, float | str] = {"steps": sampling.steps, "guidance": sampling.guidance, "shift": shift}
    return key if sampling.sampler == EULER else key | {"sampler": sampling.sampler}


@torch.no_grad()
def _make_clip(
    backbone: Backbone, prompt: PriorPrompt, size_FHW: tuple[int, int, int], seed: int, sampling: SamplingConfig
) -> _PriorClip:
    noise_CFHW = latent_noise(backbone.latent_shape(*size_FHW), seed).to(backbone.device)
    latents_CFHW = sample_latents(
        backbone,
        noise_CFHW,
        prompt.motion,
        given=_still(backbone, prompt, noise_CFHW, size_FHW[0], sampling),
        steps=sampling.steps,
        guidance=sampling.guidance,
        sampler=sampling.sampler,
    )
    frames_FHWC = backbone.decode_latents(latents_CFHW)
    chosen = [round(i * (len(frames_FHWC) - 1) / (FRAMES_KEPT - 1)) for i in range(FRAMES_KEPT)]
    frames_SCFHW = torch.stack([backbone.encode_frames(frames_FHWC[i : i + 1]) for i in chosen])
    return _PriorClip(prompt=prompt, latents_CFHW=latents_CFHW.cpu(), frames_SCFHW=frames_SCFHW.cpu())


def _starts_from_a_still(backbone: Backbone) -> bool:
    """Whether the model needs the first frame of each clip."""
    return backbone.given is not None and backbone.given.first_frames == (True,)


def _still(
    backbone: Backbone, prompt: PriorPrompt, noise_CFHW: Tensor, length: int, sampling: SamplingConfig
) -> Callable[[Condition], Condition] | None:
    """Gives the model a first frame that it has sampled itself from the prompt's appearance; None if it needs none.

    The artist's first frame would put the concept's subject into clips of other things.
    """
    pictures = backbone.given
    if pictures is None or not _starts_from_a_still(backbone):
        return None
    latents_CFHW = sample_latents(
        backbone,
        noise_CFHW[:, :1],
        prompt.appearance,
        steps=sampling.steps,
        guidance=sampling.guidance,
        sampler=sampling.sampler,
    )
    first_1HWC = backbone.decode_latents(latents_CFHW)[:1]
    return lambda text: pictures.with_first_frame(text, first_1HWC, length)


def _save_clip(clip: _PriorClip, path: Path, base: str) -> None:
    tensors = {"latents": clip.latents_CFHW, "frames": clip.frames_SCFHW}
    save_atomically(tensors, path, {"base": base, **asdict(clip.prompt)})


def _read_clip(path: Path, base: str | None = None) -> _PriorClip:
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if base not in (None, about["base"]):
                raise SetAndSequenceError(
                    f"The prior clip in {path} was made by another base model.",
                    hint="Give a folder of clips of this one, or leave --prior out and they are made automatically.",
                )
            return _PriorClip(
                prompt=PriorPrompt(appearance=about["appearance"], motion=about["motion"]),
                latents_CFHW=file.get_tensor("latents"),
                frames_SCFHW=file.get_tensor("frames"),
            )
    except (SafetensorError, KeyError) as error:
        raise SetAndSequenceError(
            f"The prior clip in {path} cannot be read: {error}.",
            hint="Delete that file to have it made again.",
        ) from error


def automatic_prior(
    backbone: Backbone,
    references: Sequence[Reference],
    config: MethodConfig,
    *,
    folder: Path | None = None,
    processes: Processes = ALONE,
    progress: Callable[[int, int], None] | None = None,
) -> PriorSet | None:
    """Prior clips for a training that was given none, in the first clip's size; None without prior preservation.

    Args:
        folder, processes, progress: see `make_prior`.
    """
    if not config.prior.share:
        return None
    words = [reference.words for reference in references]
    prompts = automatic_prompts(backbone, words, config.prior.clips, config.seed)
    frames, height, width = references[0].clip.frames_FHWC.shape[:3]
    return make_prior(
        backbone,
        prompts,
        (frames, height, width),
        seed=config.seed,
        sampling=config.sampling,
        folder=folder,
        processes=processes,
        progress=progress,
        must_save=False,
    )
