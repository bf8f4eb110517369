"""Local image models for metrics, from transformers folders: CLIP, SigLIP, DINO, face models. Nothing is downloaded.

Shape letters: F frames, H height, W width, C channels, D size of an embedding.
"""

# transformers leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from ..errors import BackboneError, MetricError

FRAMES_AT_ONCE = 16


class FolderEmbedder:
    """A transformers model as an `ImageEmbedder`, and as a `TextImageEmbedder` if it reads text."""

    def __init__(self, model: Any, processor: Any, tokenizer: Any, name: str):
        self.model, self.processor, self.tokenizer, self.name = model, processor, tokenizer, name

    def embed_images(self, frames_FHWC: Tensor) -> Tensor:
        """Unit vectors (F, D) of frames: the model's joint embedding, its pooled output, or its class token."""
        parts = [self._embed(part_FHWC) for part_FHWC in frames_FHWC.split(FRAMES_AT_ONCE)]
        return functional.normalize(torch.cat(parts).float().cpu(), dim=1)

    @torch.no_grad()
    def _embed(self, frames_FHWC: Tensor) -> Tensor:
        images = [(frame_CHW * 255).round().byte() for frame_CHW in frames_FHWC.cpu().clamp(0, 1).movedim(-1, 1)]
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"].to(self.model.device)
        if hasattr(self.model, "get_image_features"):
            return _pooled(self.model.get_image_features(pixel_values=pixels))
        return _pooled(self.model(pixel_values=pixels))

    @torch.no_grad()
    def embed_text(self, prompt: str) -> Tensor:
        """Unit vector (D,) of a prompt, which is truncated to the model's maximum length.

        Raises:
            MetricError: the model does not read text.
        """
        if self.tokenizer is None:
            raise MetricError(
                f"{self.name} does not read text.",
                hint="Give a CLIP with its tokenizer.",
            )
        most = self.model.config.text_config.max_position_embeddings
        words = self.tokenizer(prompt, truncation=True, max_length=most, padding="max_length", return_tensors="pt")
        found = self.model.get_text_features(**words.to(self.model.device))
        return functional.normalize(_pooled(found).float().cpu()[0], dim=0)


def _pooled(output: Any) -> Tensor:
    """One vector per row. Older transformers return joint embeddings as a tensor, newer ones in an output object."""
    if isinstance(output, Tensor):
        return output
    pooled = getattr(output, "pooler_output", None)
    return output.last_hidden_state[:, 0] if pooled is None else pooled


def load_embedder(folder: Path, *, device: str = "cpu", reads_text: bool = False) -> FolderEmbedder:
    """Load a model with safetensors weights from a transformers folder.

    Args:
        reads_text: whether the model must also read text, as CLIP does.
    Raises:
        BackboneError: the folder holds no such model.
    """
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    needed = ("config.json", "preprocessor_config.json")
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise BackboneError(
            f"{folder} holds no {' and no '.join(missing)}; a model's folder as transformers saves it is needed.",
            hint="Download openai/clip-vit-large-patch14 or facebook/dinov2-base with all its small files.",
        )
    try:
        model = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = None
        if hasattr(model, "get_text_features"):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"{folder} cannot be loaded by transformers ({reason}).",
            hint="Download its files again.",
        ) from error
    if reads_text and tokenizer is None:
        raise BackboneError(
            f"{folder} holds a {type(model).__name__}, which reads no text.",
            hint="Give a CLIP.",
        )
    return FolderEmbedder(model.to(device).eval(), processor, tokenizer, f"{type(model).__name__} {folder.name}")
