"""LTX-2 and LTX-2.3 text-to-video models through diffusers: the picture alone, without sound.

The transformer has a branch for the picture and one for the sound, and layers by which each attends to the other. It is
asked with those layers off, so the picture's branch runs as in ComfyUI on latents without sound. The sound's branch
cannot be left out; it is given a single token, and what it makes of it is thrown away.

Shape letters: B batch, C latent channels, F, H, W latent frames, height and width, N text tokens, D text width,
S packed tokens (F H W of them).
"""

# diffusers leaves some types of the functions used here open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from torch import Tensor

from ..errors import BackboneError, VideoError
from ..prompts import Condition
from .folders import TRAINED_HERE, Config, ModelFiles, load_part
from .gemma import TITLE, gemma_prompts
from .ltx import LTX_FORMAT, LTXFamily, check_variant, packed, padded, unpacked
from .text_files import text_encoder

LTX2_FORMAT = LTX_FORMAT


class LTX2Backbone(LTXFamily):
    """An LTX-2 transformer, VAE and text encoder as a `Backbone`."""

    title = TITLE
    family = "ltx2"
    base_label = "LTXV2"
    guidance = 4.0
    skip = ("audio",)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C, F', H', W') of the latents of a clip of this size.

        Raises:
            VideoError: the VAE cannot decode so small a clip.
        """
        least = 2 * self.format.size_multiple
        # A decoder that mirrors latents at their edges needs two of them on each side.
        if min(height, width) < least and self.vae.config["decoder_spatial_padding_mode"] == "reflect":
            raise VideoError(
                f"The clip is {width}x{height}; {self.title} makes clips of {least}x{least} and up.",
                hint="Choose a larger size.",
            )
        return super().latent_shape(frames, height, width)

    def encode_frames(self, frames_FHWC: Tensor) -> Tensor:
        """Normalised latents (C, F', H', W') of frames in [0, 1]; see `latent_shape`."""
        self.latent_shape(*frames_FHWC.shape[:3])
        return super().encode_frames(frames_FHWC)

    def velocity(self, x_t_BCFHW: Tensor, time_B: Tensor, texts: Sequence[Condition]) -> Tensor:
        """v at x_t, in float32; time 1 is noise (timestep 1000 inside the model)."""
        config, dtype, batch = self.module.config, self._dtype, len(x_t_BCFHW)
        frames, height, width = x_t_BCFHW.shape[2:]
        text_BND, mask_BN = padded([text.tokens_ND for text in texts])
        sound_BSC = x_t_BCFHW.new_zeros(batch, 1, config["audio_in_channels"], dtype=dtype)
        velocity_BSC = self.module(
            packed(x_t_BCFHW).to(dtype),
            sound_BSC,
            encoder_hidden_states=text_BND.to(self.device, dtype),
            audio_encoder_hidden_states=sound_BSC.new_zeros(batch, 1, _sound_text_width(config)),
            encoder_attention_mask=mask_BN,
            timestep=time_B * 1000,
            sigma=time_B * 1000,
            num_frames=frames,
            height=height,
            width=width,
            fps=self.format.fps,
            audio_num_frames=1,
            isolate_modalities=True,
            return_dict=False,
        )[0]
        return unpacked(velocity_BSC, (frames, height, width)).float()


def _sound_text_width(config: Config) -> int:
    return config["caption_channels"] if config["use_prompt_embeddings"] else config["audio_cross_attention_dim"]


def _check_release(config: Config) -> None:
    check_variant(TITLE, config)
    if not config.get("ff_bias", True) or not config.get("use_prompt_adaln_single", True):
        raise BackboneError("this is LTX-2.5, which reads another text encoder.", hint=TRAINED_HERE)


def load_ltx2(files: ModelFiles) -> LTX2Backbone:
    """Load an LTX-2 model from a local diffusers folder.

    Raises:
        BackboneError: a folder is missing, or is not of the expected kind.
    """
    transformer: Any = load_part(files.model, "transformer", files.dtype, LTX2VideoTransformer3DModel, _check_release)
    vae: Any = load_part(files.vae or files.model, "vae", torch.float32, AutoencoderKLLTX2Video)
    prompts = text_encoder(gemma_prompts(files), files)
    return LTX2Backbone(transformer.to(files.device), vae.to(files.device), prompts, files.model.name)
