"""Wan text-to-video models of any size (2.1, and the two experts of 2.2 14B) through diffusers.

Shape letters: B batch, C latent channels, F, H, W latent frames, height and width, N tokens, D text width.
"""

# diffusers leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from ..backbone import VideoFormat
from ..clips.prior_prompts import real_world_prompts
from ..errors import BackboneError
from ..prompts import Condition, stacked_tokens
from .folders import ModelFiles
from .kept_text import TextEncoder
from .loaded import KnownPrompts, LoadedBackbone
from .t5 import TextFormat, t5_prompts
from .text_files import text_encoder
from .wan_files import load_transformer, load_vae
from .wan_names import native_layer_name

WAN_FORMAT = VideoFormat(fps=16.0, frames=81, size=(480, 832), size_multiple=16)
"""Format of Wan 2.1 and of the two experts of Wan 2.2 14B."""
WAN_TEXT = TextFormat(title="Wan", kind="UMT5EncoderModel", places=512)
"""The released Wan models read 512 tokens, including the padding."""


class WanBackbone(LoadedBackbone):
    """A Wan transformer, VAE and text encoder as a `Backbone`."""

    family = "wan"
    shift = 3.0
    guidance = 4.0
    takes_regions = True

    def __init__(
        self,
        transformer: WanTransformer3DModel,
        vae: AutoencoderKLWan,
        text_encoder: TextEncoder,
        name: str,
        *,
        format: VideoFormat = WAN_FORMAT,
        known_prompts: KnownPrompts = real_world_prompts,
    ):
        super().__init__(
            transformer,
            vae,
            text_encoder,
            name,
            format=format,
            known_prompts=known_prompts,
            blocks="blocks",
            native_name=native_layer_name,
            latents_C=(torch.tensor(vae.config["latents_mean"]), torch.tensor(vae.config["latents_std"])),
        )

    def velocity(self, x_t_BCFHW: Tensor, time_B: Tensor, texts: Sequence[Condition]) -> Tensor:
        """v at x_t, in float32; time 1 is noise (timestep 1000 inside the model)."""
        dtype, text_BND = self._dtype, stacked_tokens(texts)
        inputs = x_t_BCFHW.to(dtype), time_B * 1000, text_BND.to(self.device, dtype)
        return self.module(*inputs, return_dict=False)[0].float()


def load_wan(files: ModelFiles) -> WanBackbone:
    """Load a Wan model from a local diffusers folder, or from a single native file with its VAE and text encoder.

    Raises:
        BackboneError: a file is missing, or is not of the expected kind.
    """
    model = files.model
    if model.is_file() and (files.vae is None or files.text_folder is None):
        raise BackboneError(
            f"{model.name} holds the transformer alone.",
            hint="Give its VAE with --vae and the folder of its tokenizer and text_encoder with --text-encoder, or "
            "give a diffusers folder that holds all of them.",
        )
    transformer: Any = load_transformer(model, files.dtype)
    vae: Any = load_vae(files.vae or model, torch.float32)
    prompts = text_encoder(t5_prompts(WAN_TEXT, files), files)
    name = model.name if model.is_dir() else model.stem
    return WanBackbone(transformer.to(files.device), vae.to(files.device), prompts, name)
