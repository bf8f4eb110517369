"""Wan text-to-video models of any size (2.1, and the two experts of 2.2 14B) through diffusers.

Shape letters: B batch, C latent channels, F frames or latent frames, H, W height and width, N tokens, D text width.
"""

# diffusers and transformers leave some types of the functions used here open.
# pyright: reportPrivateImportUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors import SafetensorError
from torch import Tensor, nn

from ..backbone import GivenPictures, Savings, VideoFormat
from ..clips.prior_prompts import real_world_prompts
from ..errors import BackboneError, PromptError
from ..fingerprint import BaseFingerprint, content_key, fingerprint
from ..prompts import Condition, PriorPrompt, stacked_tokens
from ..training.savings import free_memory, recomputed
from .kept_text import KeptText, TextEncoder
from .wan_files import load_transformer, load_vae
from .wan_names import native_layer_name

KnownPrompts = Callable[[int, int, str], list[PriorPrompt]]

FAMILY = "wan"
WAN_FORMAT = VideoFormat(fps=16.0, frames=81, size=(480, 832), size_multiple=16)
"""Format of Wan 2.1 and of the two experts of Wan 2.2 14B."""
TEXT_TOKENS = 512
"""Tokens of a prompt in the released Wan models."""


class WanBackbone:
    """A Wan transformer, VAE and text encoder as a `Backbone`."""

    variant = ""
    shift = 3.0
    guidance = 4.0
    given: GivenPictures | None = None

    def __init__(
        self,
        transformer: WanTransformer3DModel,
        vae: AutoencoderKLWan,
        text_encoder: Callable[[str], Tensor],
        name: str,
        *,
        format: VideoFormat = WAN_FORMAT,
        known_prompts: KnownPrompts = real_world_prompts,
    ):
        self.module = transformer.requires_grad_(False).eval()
        self.vae = vae.requires_grad_(False).eval()
        self._encode_text = text_encoder
        self.name = name
        self.base_label = ""
        self._fingerprint: BaseFingerprint | None = None
        self.format = format
        self.known_prompts = known_prompts
        self.layers = {
            native_layer_name(path): path
            for path, layer in transformer.blocks.named_modules(prefix="blocks")
            if isinstance(layer, nn.Linear)
        }
        self._mean = torch.tensor(vae.config["latents_mean"]).view(-1, 1, 1, 1)
        self._std = torch.tensor(vae.config["latents_std"]).view(-1, 1, 1, 1)

    @property
    def device(self) -> torch.device:
        return self.module.device

    def fingerprint(self) -> BaseFingerprint:
        if self._fingerprint is None:  # computed once, because later the weights may be spread over processes
            self._fingerprint = self._computed_fingerprint()
        return self._fingerprint

    def _computed_fingerprint(self) -> BaseFingerprint:
        weights = {name: self.module.get_parameter(f"{path}.weight").detach() for name, path in self.layers.items()}
        return fingerprint(FAMILY, weights)

    def running(
        self, _batch_shape: tuple[int, ...], /, savings: Savings | None = None, *, load: bool = True
    ) -> AbstractContextManager[None]:
        """Recompute blocks as the savings say. The whole model stays where it was loaded, so `load` is ignored."""
        return recomputed(self.module.blocks if savings else (), savings or Savings())

    def memory_limit(self) -> int:
        """Free bytes on the device plus the bytes that the model occupies."""
        weights = sum(weight.nbytes for weight in self.module.parameters())
        return free_memory(self.device) + weights

    def step(self) -> AbstractContextManager[None]:
        """Does nothing, because no block overwrites a tensor that its backward pass needs."""
        return nullcontext()

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C, F', H', W'): 1 latent frame for the first frame, 1 per 4 more; an eighth of height and width."""
        return len(self._mean), (frames - 1) // 4 + 1, height // 8, width // 8

    def encode_frames(self, frames_FHWC: Tensor) -> Tensor:
        """Normalised latents (C, F', H', W') of 4n+1 frames in [0, 1]: the mean of the VAE's distribution."""
        pixels = frames_FHWC.permute(3, 0, 1, 2).unsqueeze(0).to(self.vae.device, self.vae.dtype) * 2 - 1
        encoded: Any = self.vae.encode(pixels)
        latents = encoded.latent_dist.mode()[0].float().cpu()
        return ((latents - self._mean) / self._std).to(self.device)

    @torch.no_grad()
    def decode_latents(self, latents_CFHW: Tensor) -> Tensor:
        """Frames (F, H, W, 3) in [0, 1]."""
        latents = latents_CFHW.float().cpu() * self._std + self._mean
        pixels = self.vae.decode(latents.unsqueeze(0).to(self.vae.device, self.vae.dtype), return_dict=False)[0][0]
        return ((pixels.float().cpu() + 1) / 2).clamp(0, 1).permute(1, 2, 3, 0)

    def encode_prompt(self, prompt: str, /) -> Condition:
        """Tokens of the prompt, padded with zeros to the same number for every prompt."""
        return Condition(tokens_ND=self._encode_text(prompt).to(self.device))

    def velocity(self, x_t_BCFHW: Tensor, time_B: Tensor, texts: Sequence[Condition]) -> Tensor:
        """v at x_t, in float32; time 1 is noise (timestep 1000 inside the model)."""
        dtype, text_BND = self.module.dtype, stacked_tokens(texts)
        inputs = x_t_BCFHW.to(dtype), time_B * 1000, text_BND.to(self.device, dtype)
        return self.module(*inputs, return_dict=False)[0].float()


class UMT5Prompts:
    """Wan's own text encoder from the `tokenizer` and `text_encoder` folders of a diffusers model."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype):
        """Load both without network; pickled weights and code in the folders are refused.

        Raises:
            BackboneError: a folder is missing, or transformers cannot load it.
        """
        from transformers import AutoTokenizer, UMT5EncoderModel

        for part in ("tokenizer", "text_encoder"):
            if not (folder / part).is_dir():
                raise BackboneError(
                    f"{folder} has no folder '{part}'. A Wan model needs the tokenizer and text_encoder folders of its "
                    "diffusers release.",
                    hint="Give the folder that holds them with --text-encoder.",
                )
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                folder / "tokenizer",
                local_files_only=True,
                trust_remote_code=False,
            )
            encoder: Any = UMT5EncoderModel.from_pretrained(
                folder / "text_encoder",
                local_files_only=True,
                use_safetensors=True,
                dtype=dtype,
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BackboneError(
                f"The text encoder in {folder} cannot be loaded ({reason}).",
                hint="Get its tokenizer and text_encoder folders again, with weights as .safetensors files.",
            ) from error
        self._encoder = encoder.to(device).eval()

    @torch.no_grad()
    def __call__(self, prompt: str) -> Tensor:
        """Tokens of the prompt, (512, D), padded with zeros.

        Raises:
            PromptError: the prompt is too long for the encoder.
        """
        tokens = self._tokenizer(prompt, return_tensors="pt", add_special_tokens=True)
        count = tokens.input_ids.shape[1]
        if count > TEXT_TOKENS:
            raise PromptError(
                f"The prompt has {count} tokens; Wan takes {TEXT_TOKENS}.",
                hint="Shorten it.",
            )
        tokens = tokens.to(self._encoder.device)
        text = self._encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state[0]
        return nn.functional.pad(text, (0, 0, 0, TEXT_TOKENS - count))


def umt5_prompts(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[str, Callable[[], TextEncoder]]:
    """A key that identifies a text encoder by the sizes of its files, and the function that loads it."""
    files = [path for part in ("tokenizer", "text_encoder") for path in sorted((folder / part).glob("*"))]
    key = content_key(str(dtype), *(f"{path.name} {path.stat().st_size}" for path in files))
    return key, partial(UMT5Prompts, folder, device, dtype)


def load_wan(
    model: Path,
    *,
    vae: Path | None = None,
    text_encoder: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    kept_text: Path | None = None,
) -> WanBackbone:
    """Load a Wan model from a local diffusers folder, or from a single native file with its VAE and text encoder.

    Args:
        kept_text: folder of encoded prompts; the text encoder loads only for a prompt that is not there.
    Raises:
        BackboneError: a file is missing, or is not of the expected kind.
    """
    if model.is_file() and (vae is None or text_encoder is None):
        raise BackboneError(
            f"{model.name} holds the transformer alone.",
            hint="Give its VAE with --vae and the folder of its tokenizer and text_encoder with --text-encoder, or "
            "give a diffusers folder that holds all of them.",
        )
    device = torch.device(device)
    transformer: Any = load_transformer(model, dtype)
    loaded_vae: Any = load_vae(vae or model, torch.float32)
    text_folder = text_encoder or model
    if kept_text is None:
        prompts: TextEncoder = UMT5Prompts(text_folder, device, dtype)
    else:
        prompts = KeptText(kept_text, *umt5_prompts(text_folder, device, dtype))
    return WanBackbone(transformer.to(device), loaded_vae.to(device), prompts, model.stem)
