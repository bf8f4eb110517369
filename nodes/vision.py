"""Presents ComfyUI's CLIP_VISION and CLIP to the metrics as models that embed frames and prompts.

Shape letters: F frames, H height, W width, C channels, D numbers of an embedding.
"""

from pathlib import Path
from typing import Any

import torch
from comfy.clip_vision import ClipVisionModel
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.sd import CLIP
from comfy.sd1_clip import SD1ClipModel
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from ..setandseq_core.errors import MetricError
from ..setandseq_core.evaluate.embedders import FRAMES_AT_ONCE
from .models import files_of

GIVE = "Connect Load CLIP with a CLIP-L whose file holds its text projection, and the same CLIP's vision model."


class VisionEmbedder:
    """A CLIP_VISION (CLIP, SigLIP, DINO) as an `ImageEmbedder`."""

    def __init__(self, vision: ClipVisionModel):
        self.vision = vision
        self.name = f"{vision.model_type.replace('_', ' ')}, {vision.image_size} pixels"

    def embed_images(self, frames_FHWC: Tensor) -> Tensor:
        """Vectors (F, D) of length 1: image_embeds, after the model's projection if it has one."""
        parts = []
        for part_FHWC in frames_FHWC.split(FRAMES_AT_ONCE):
            throw_exception_if_processing_interrupted()
            parts.append(self.vision.encode_image(part_FHWC)["image_embeds"].float().cpu())
        return functional.normalize(torch.cat(parts), dim=1)


class VisionTextEmbedder(VisionEmbedder):
    """Both encoders of one CLIP model as a `TextImageEmbedder`."""

    def __init__(self, vision: ClipVisionModel, clip: CLIP):
        super().__init__(vision)
        self.clip = clip

    def embed_text(self, prompt: str) -> Tensor:
        """A vector (D,) of length 1: the end token's, after the text projection. Only the first 77 tokens count.

        Raises:
            MetricError: the text encoder is not that of a CLIP, or has no text projection.
        """
        clip: Any = self.clip  # ComfyUI's own types do not know "unprojected"
        encoder = _encoder(clip)
        _check_projection(clip)
        _, pooled_1D = clip.encode_from_tokens(clip.tokenize(prompt), return_pooled="unprojected")
        with torch.no_grad():
            projected_1D = encoder.transformer.text_projection(pooled_1D.to(clip.patcher.load_device))
        return functional.normalize(projected_1D.float().cpu()[0], dim=0)


def _encoder(clip: CLIP) -> Any:
    """The text model of a CLIP that holds exactly one; text encoders of video models are refused."""
    model = clip.cond_stage_model
    encoder = getattr(model, model.clip, None) if isinstance(model, SD1ClipModel) else None
    if encoder is None or not hasattr(encoder.transformer, "text_projection"):
        raise MetricError(f"The connected text encoder ({type(model).__name__}) does not belong to a CLIP.", hint=GIVE)
    return encoder


def _check_projection(clip: CLIP) -> None:
    """Refuse a file without a text projection, because ComfyUI silently leaves that layer uninitialised."""
    files = files_of(clip.patcher)
    if not any("text_projection" in key for file in files for key in _keys(file)):
        found = ", ".join(file.name for file in files) or "a loader that does not tell its file"
        raise MetricError(f"The connected CLIP ({found}) has no text projection that could be found.", hint=GIVE)


def _keys(file: Path) -> list[str]:
    try:
        with safe_open(file, "pt") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError):
        return []
