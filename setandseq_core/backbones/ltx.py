"""LTX-Video text-to-video models of any size (0.9 to 0.9.8, 2B and 13B) through diffusers.

The network takes packed latents, one token per latent position, and the place of each token in seconds and pixels.
What LTX-2 has in common with it is in `LTXFamily`.

Shape letters: B batch, C latent channels, F, H, W latent frames, height and width, N text tokens, D text width,
S packed tokens (F H W of them).
"""

# diffusers leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx import AutoencoderKLLTXVideo
from diffusers.models.transformers.transformer_ltx import LTXVideoTransformer3DModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..backbone import VideoFormat
from ..errors import BackboneError
from ..prompts import Condition
from .folders import TRAINED_HERE, Config, ModelFiles, class_in, load_part
from .kept_text import TextEncoder
from .loaded import LoadedBackbone
from .t5 import TextFormat, t5_prompts
from .text_files import text_encoder

LTX_FORMAT = VideoFormat(fps=25.0, frames=121, size=(512, 768), size_multiple=32, patch=1, time_stride=8)
LTX_TEXT = TextFormat(title="LTX-Video", kind="T5EncoderModel")
"""Prompts keep their own lengths: the released models mask the padding, so it has no effect."""
CAUSAL = {
    "LTXPipeline": False,
    "LTXImageToVideoPipeline": False,
    "LTXConditionPipeline": True,
    "LTXI2VLongMultiPromptPipeline": True,
}
"""diffusers' pipelines of the releases, each with whether it counts a latent frame's time from the first of its frames,
as releases since 0.9.5 were trained. Only the pipeline's name tells."""
DECODE_TIME = 0.05
"""Time that a timestep-conditioned decoder is told."""
DECODE_NOISE = 0.025
"""Share of noise in the latents that it is given. Both are ComfyUI's numbers."""


class LTXFamily(LoadedBackbone):
    """A transformer of LTX-Video or LTX-2, with a VAE and a text encoder."""

    title: str
    """Name of the family for people."""
    skip: tuple[str, ...] = ()
    """Words in the names of layers that are not adapted."""
    shift = round(math.exp(2.37), 6)
    """ComfyUI's shift: 2.37 is the logarithm of the odds of the middle time."""
    reads_padding = False

    def __init__(self, transformer: Any, vae: Any, text_encoder: TextEncoder, name: str):
        _check_fit(self.title, transformer.config, vae)
        super().__init__(
            transformer,
            vae,
            text_encoder,
            name,
            format=LTX_FORMAT,
            blocks="transformer_blocks",
            native_name=str,  # both formats give the layers of the blocks the same names
            skip=self.skip,
            latents_C=(vae.latents_mean, vae.latents_std / vae.config["scaling_factor"]),
        )

    @torch.no_grad()
    def decode_latents(self, latents_CFHW: Tensor) -> Tensor:
        """Frames (F, H, W, 3) in [0, 1]. Noise that a decoder draws is always the same and changes no other draw."""
        cards = [self.vae.device] if self.vae.device.type == "cuda" else []
        with torch.random.fork_rng(cards):
            torch.manual_seed(0)
            if self.vae.config["timestep_conditioning"]:
                latents_CFHW = latents_CFHW.float().cpu()
                latents_CFHW = torch.lerp(latents_CFHW, torch.randn_like(latents_CFHW), DECODE_NOISE)
            return super().decode_latents(latents_CFHW)

    def _pixels(self, latents_BCFHW: Tensor) -> Tensor:
        time_B = None
        if self.vae.config["timestep_conditioning"]:
            time_B = torch.full((len(latents_BCFHW),), DECODE_TIME).to(latents_BCFHW)
        return self.vae.decode(latents_BCFHW, time_B, return_dict=False)[0]


class LTXBackbone(LTXFamily):
    """An LTX-Video transformer, VAE and text encoder as a `Backbone`.

    Args:
        causal: see `CAUSAL`.
    """

    title = "LTX-Video"
    family = "ltxv"
    base_label = "LTXV"
    guidance = 3.0

    def __init__(
        self,
        transformer: LTXVideoTransformer3DModel,
        vae: AutoencoderKLLTXVideo,
        text_encoder: TextEncoder,
        name: str,
        *,
        causal: bool,
    ):
        super().__init__(transformer, vae, text_encoder, name)
        self._causal = causal

    def velocity(self, x_t_BCFHW: Tensor, time_B: Tensor, texts: Sequence[Condition]) -> Tensor:
        """v at x_t, in float32; time 1 is noise (timestep 1000 inside the model). Prompts may differ in length."""
        dtype, size_FHW = self._dtype, x_t_BCFHW.shape[2:]
        text_BND, mask_BN = padded([text.tokens_ND for text in texts])
        places_3S = token_places(size_FHW, self.format, causal=self._causal).to(x_t_BCFHW.device)
        velocity_BSC = self.module(
            packed(x_t_BCFHW).to(dtype),
            encoder_hidden_states=text_BND.to(self.device, dtype),
            encoder_attention_mask=mask_BN,
            timestep=time_B * 1000,
            video_coords=places_3S.expand(len(x_t_BCFHW), -1, -1),
            return_dict=False,
        )[0]
        return unpacked(velocity_BSC, size_FHW).float()


def packed(latents_BCFHW: Tensor) -> Tensor:
    """Latents as tokens (B, S, C)."""
    return latents_BCFHW.flatten(2).transpose(1, 2)


def unpacked(tokens_BSC: Tensor, size_FHW: Sequence[int]) -> Tensor:
    """Tokens as latents (B, C, F, H, W) of that size."""
    return tokens_BSC.transpose(1, 2).unflatten(2, [*size_FHW])


def padded(texts: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Texts (N, D) of any lengths as one batch (B, N, D), and a mask (B, N) that is 0 on padding; None if none is."""
    longest = max(map(len, texts))
    text_BND = pad_sequence([*texts], batch_first=True)
    if all(len(text) == longest for text in texts):
        return text_BND, None
    kept = [[1] * len(text) + [0] * (longest - len(text)) for text in texts]
    return text_BND, torch.tensor(kept, device=text_BND.device)


def token_places(size_FHW: Sequence[int], format: VideoFormat, *, causal: bool) -> Tensor:
    """Places (3, S) of packed tokens: the second, row and column in pixels at which each begins."""
    frames, rows, columns = (torch.arange(side, dtype=torch.float32) for side in size_FHW)
    frames = frames * format.time_stride
    if causal:
        frames = (frames + format.time_offset - format.time_stride).clamp(min=0)
    places = frames * (1.0 / format.fps), rows * format.size_multiple, columns * format.size_multiple
    return torch.stack([grid.flatten() for grid in torch.meshgrid(*places, indexing="ij")])


def check_variant(title: str, config: Config) -> None:
    """Check the configuration of a transformer.

    Raises:
        BackboneError: it does not take and give the plain latents of text to video.
    """
    channels = config.get("in_channels", 128), config.get("out_channels") or config.get("in_channels", 128)
    patches = config.get("patch_size", 1), config.get("patch_size_t", 1)
    if channels[0] != channels[1] or patches != (1, 1):
        raise BackboneError(
            f"this is another variant of {title} ({channels[0]} channels in, {channels[1]} out, patches {patches}).",
            hint=TRAINED_HERE,
        )


def _check_fit(title: str, config: Config, vae: Any) -> None:
    check_variant(title, config)
    needed = config["in_channels"], LTX_FORMAT.time_stride, LTX_FORMAT.size_multiple
    found = vae.config["latent_channels"], vae.temporal_compression_ratio, vae.spatial_compression_ratio
    if found != needed:
        raise BackboneError(
            f"The VAE has {found[0]} channels for {found[1]} frames of {found[2]}x{found[2]} pixels; the transformer "
            f"needs {needed[0]} for {needed[1]} frames of {needed[2]}x{needed[2]}.",
            hint="Use the VAE that belongs to the model.",
        )


def _is_causal(model: Path) -> bool:
    """Whether the release in a folder counts times causally.

    Raises:
        BackboneError: the folder does not say which release it is.
    """
    try:
        pipeline = class_in(model / "model_index.json")
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"{model}: no readable model_index.json in it ({error}). The releases of LTX-Video count time differently, "
            "and that file says which one it is.",
            hint="Give the whole diffusers folder, not only the one of its transformer.",
        ) from error
    if pipeline not in CAUSAL:
        raise BackboneError(
            f"{model}: its model_index.json names {pipeline}; for LTX-Video it names {' or '.join(CAUSAL)}.",
            hint=TRAINED_HERE,
        )
    return CAUSAL[pipeline]


def load_ltx(files: ModelFiles) -> LTXBackbone:
    """Load an LTX-Video model from a local diffusers folder.

    Raises:
        BackboneError: a folder is missing, or is not of the expected kind.
    """
    model, causal = files.model, _is_causal(files.model)
    check = partial(check_variant, LTXBackbone.title)
    transformer: Any = load_part(model, "transformer", files.dtype, LTXVideoTransformer3DModel, check)
    vae: Any = load_part(files.vae or model, "vae", torch.float32, AutoencoderKLLTXVideo)
    prompts = text_encoder(t5_prompts(LTX_TEXT, files), files)
    return LTXBackbone(transformer.to(files.device), vae.to(files.device), prompts, model.name, causal=causal)
