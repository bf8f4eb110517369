"""Measure in five figures how well a generated clip keeps its concept and follows its prompt.

A figure that cannot be computed has no value and says why. docs/metrics.md explains the figures to people. The tracks
behind `motion` are in `motion_fidelity`, image models in `embedders`, and the embedded world's probes in
`embedded.evaluation`.

Shape letters: F frames, H height, W width, C channels, R and G frames of the reference and the generated clip,
D size of an embedding.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..clips.clip import check_frames
from ..clips.size import crop, resize
from ..errors import MetricError, VideoError
from .motion_fidelity import motion_fidelity

BRACKETS = re.compile(r"\[[^\[\]\s]+\]")
NO_MODEL = (
    "No {what} was given. Connect one, such as the output of Load CLIP Vision, or on the command line name its "
    "folder with {option}."
)


class ImageEmbedder(Protocol):
    """A model that turns pictures into vectors by content: CLIP, DINO, a face model."""

    @property
    def name(self) -> str:
        """Name in reports."""
        ...

    def embed_images(self, frames_FHWC: Tensor) -> Tensor:
        """Unit vectors (F, D), one for each frame; frames are RGB in [0, 1], of any size."""
        ...


class TextImageEmbedder(ImageEmbedder, Protocol):
    """A model that compares pictures with words, such as CLIP."""

    def embed_text(self, prompt: str) -> Tensor:
        """Unit vector (D,) of the prompt, in the same space as those of images.

        Raises:
            MetricError: this model does not read text.
        """
        ...


class Probes(Protocol):
    """Detectors for a known world, used instead of models."""

    @property
    def name(self) -> str:
        """Name in reports."""
        ...

    def identity(self, reference_FHWC: Tensor, generated_FHWC: Tensor) -> float:
        """Similarity of the looks, from 0 to 1."""
        ...

    def motion(self, reference_FHWC: Tensor, generated_FHWC: Tensor) -> float:
        """Similarity of the motions, from -1 to 1."""
        ...

    def adherence(self, generated_FHWC: Tensor) -> float:
        """Fraction of the prompt's statements that the clip shows, from 0 to 1."""
        ...


# --- what comes out -----------------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True, frozen=True)
class Figure:
    """One metric of one clip."""

    value: float | None
    """The figure; None if it cannot be computed."""
    low: float
    high: float
    """Upper end of its range; `low` is the lower end."""
    by: str = ""
    """The source of the figure: pixels, tracks, or the name of a model."""
    why: str = ""
    """Reason why there is no value."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Evaluation:
    """All figures of a generated clip compared with its reference and prompt. Higher is better, except for `mse`."""

    identity: Figure
    motion: Figure
    prompt_adherence: Figure
    temporal_coherence: Figure
    mse: Figure

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """The figures as JSON values, by metric."""
        return asdict(self)

    def report(self) -> str:
        """A text with one line per metric."""
        return "\n".join(_line(name, getattr(self, name)) for name in self.__slots__)


def _line(name: str, figure: Figure) -> str:
    label = name.replace("_", " ").replace("mse", "MSE")
    if figure.value is None:
        return f"{label}: not computed. {figure.why}"
    better = "lower" if name == "mse" else "higher"
    digits = f"{figure.value:.4f}" if name == "mse" else f"{figure.value:.3f}"
    return f"{label}: {digits} ({figure.low:g} to {figure.high:g}, {better} is better; {figure.by})"


# --- evaluation ---------------------------------------------------------------------------------------------------


def evaluate(
    reference_FHWC: Tensor,
    generated_FHWC: Tensor,
    prompt: str,
    *,
    tokens: Sequence[str] = (),
    image_model: ImageEmbedder | None = None,
    text_model: TextImageEmbedder | None = None,
    probes: Probes | None = None,
) -> Evaluation:
    """Compute all figures of a generated clip; a given model takes precedence over the probes.

    If the clips differ in length, only their common first frames are compared. If they differ in size, the generated
    clip is fitted to the reference for `mse`.

    Args:
        reference_FHWC, generated_FHWC: RGB in [0, 1], at the same frame rate.
        prompt: prompt of the generated clip; words in brackets and `tokens` belong to the concept and are left out.
        image_model: measures identity and coherence; if None, `text_model` does.
    Raises:
        VideoError: frames cannot be used.
    """
    for frames_FHWC in (reference_FHWC, generated_FHWC):
        check_frames(frames_FHWC)
    length = min(len(reference_FHWC), len(generated_FHWC))
    clips = tuple(clip[:length].detach().float().cpu() for clip in (reference_FHWC, generated_FHWC))
    looker = image_model or text_model
    with torch.no_grad():
        vectors = None if looker is None else tuple(map(looker.embed_images, clips))
        return Evaluation(
            identity=_identity(clips, vectors, looker, probes),
            motion=_motion(clips, probes),
            prompt_adherence=_adherence(
                clips[1], without_tokens(prompt, tokens), text_model, probes, vectors if text_model is looker else None
            ),
            temporal_coherence=_coherence(clips[1], vectors, looker),
            mse=_figure(lambda: mse(clips[0], fitted(clips[1], clips[0])), "pixels", low=0),
        )


Clips = tuple[Tensor, ...]
"""A pair: the reference and the generated clip, or their vectors."""


def _figure(compute: Callable[[], float], by: str, low: float = -1.0) -> Figure:
    try:
        return Figure(value=compute(), low=low, high=1, by=by)
    except MetricError as error:
        return Figure(value=None, low=low, high=1, why=str(error))


def _identity(clips: Clips, vectors: Clips | None, looker: ImageEmbedder | None, probes: Probes | None) -> Figure:
    if looker is not None and vectors is not None:
        return _figure(lambda: identity_similarity(*vectors), looker.name)
    if probes is not None:
        return _figure(lambda: probes.identity(*clips), probes.name, low=0)
    why = NO_MODEL.format(what="model of images (CLIP, DINO, faces)", option="--image-model")
    return Figure(value=None, low=-1, high=1, why=why)


def _motion(clips: Clips, probes: Probes | None) -> Figure:
    if probes is not None:
        return _figure(lambda: probes.motion(*clips), probes.name)
    return _figure(lambda: motion_fidelity(*clips), "tracks of points")


def _adherence(
    frames_FHWC: Tensor, prompt: str, model: TextImageEmbedder | None, probes: Probes | None, vectors: Clips | None
) -> Figure:
    if not prompt:
        return Figure(value=None, low=-1, high=1, why="The prompt says nothing besides the concept's tokens.")
    if model is not None:
        image_FD = model.embed_images(frames_FHWC) if vectors is None else vectors[1]
        return _figure(lambda: text_similarity(image_FD, model.embed_text(prompt)), model.name)
    if probes is not None:
        return _figure(lambda: probes.adherence(frames_FHWC), probes.name, low=0)
    why = NO_MODEL.format(what="model of text and images (CLIP)", option="--clip")
    return Figure(value=None, low=-1, high=1, why=why)


def _coherence(frames_FHWC: Tensor, vectors: Clips | None, looker: ImageEmbedder | None) -> Figure:
    if looker is None or vectors is None:
        return _figure(lambda: temporal_coherence(frames_FHWC), "pixels")
    return _figure(lambda: embedding_coherence(vectors[1]), looker.name)


# --- metrics ------------------------------------------------------------------------------------------------------


def identity_similarity(reference_RD: Tensor, generated_GD: Tensor) -> float:
    """Cosine of each generated frame with the most similar reference frame, averaged: -1 to 1.

    DreamBooth (Ruiz et al. 2023) averages over all pairs, so that a moving clip would not fully match even itself.
    """
    return float((generated_GD.float() @ reference_RD.float().T).amax(dim=1).mean())


def text_similarity(image_FD: Tensor, text_D: Tensor) -> float:
    """Mean cosine of the frames with the prompt, -1 to 1: CLIP-T. Good matches are about 0.3 with CLIP.

    Raises:
        MetricError: the vectors of images and text differ in size.
    """
    if text_D.shape[0] != image_FD.shape[1]:
        raise MetricError(
            f"The text's vector has {text_D.shape[0]} numbers and the pictures' have {image_FD.shape[1]}: these are "
            "halves of different models.",
            hint="Give both halves of one CLIP.",
        )
    return float((image_FD.float() @ text_D.float()).mean())


def embedding_coherence(image_FD: Tensor) -> float:
    """Mean cosine of consecutive frames' vectors, -1 to 1; 1 for a single frame."""
    return float((image_FD[1:] * image_FD[:-1]).sum(dim=1).mean()) if len(image_FD) > 1 else 1.0


def temporal_coherence(frames_FHWC: Tensor) -> float:
    """Mean correlation of the pixels of consecutive frames, -1 to 1; 1 for a single or flat frame."""
    flat = frames_FHWC.double().flatten(1)
    flat = functional.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1)
    if len(flat) < 2 or float(flat.abs().max()) == 0:
        return 1.0
    return float((flat[1:] * flat[:-1]).sum(dim=1).mean())


def mse(reference_FHWC: Tensor, generated_FHWC: Tensor) -> float:
    """Mean squared difference of two clips of the same shape.

    Raises:
        VideoError: the shapes differ.
    """
    if reference_FHWC.shape != generated_FHWC.shape:
        raise VideoError(
            f"The reference has shape {tuple(reference_FHWC.shape)} and the generated clip "
            f"{tuple(generated_FHWC.shape)}.",
            hint="Sample as many frames as the reference has.",
        )
    return float((reference_FHWC - generated_FHWC).square().mean())


def fitted(frames_FHWC: Tensor, like_FHWC: Tensor) -> Tensor:
    """Frames resized to cover the size of other frames, then cropped to the centre."""
    size = (like_FHWC.shape[1], like_FHWC.shape[2])
    return torch.stack([resize(crop(frame_HWC, size), size) for frame_HWC in frames_FHWC]).clamp(0, 1)


def without_tokens(prompt: str, tokens: Sequence[str] = ()) -> str:
    """The prompt without the concept's tokens: words in brackets, and the given words."""
    for token in filter(None, tokens):
        prompt = re.sub(rf"(?<!\w){re.escape(token)}(?!\w)", " ", prompt)
    words = " ".join(BRACKETS.sub(" ", prompt).split())
    return re.sub(r" ?([,.;])(?: ?[,.;])*", r"\1", words).strip(" ,.;")
