"""Nodes for the tests only: they write tiny models under the names of large ones, and replace their encoders.

ComfyUI knows only one size of each text and vision encoder, so it would not detect the file of a tiny one.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.tiny_models import TINY, TinyClip, Vision, random_weights, save_tiny, tiny_weights
from tools.tiny_sizes import AUDIO_VAE, LTX2, LTX_VAE, UPSAMPLER, VOCODER

Weights = dict[str, Tensor]


def save_vae(channels: int, file: Path) -> None:
    """A VAE of the tiny autoencoders' kind."""
    network = import_module("comfy.taesd.taehv").TAEHV(channels)
    save_file(random_weights(network), file)


def save_checkpoint(file: Path, seed: int) -> None:
    """LTX-2 in one file: the network, the VAEs of picture and sound, and the vocoder."""
    lightricks = "comfy.ldm.lightricks"
    weights = {f"model.diffusion_model.{key}": value for key, value in tiny_weights("ltx2", seed).items()}
    config = {"transformer": LTX2, "vae": LTX_VAE, "audio_vae": AUDIO_VAE, "vocoder": VOCODER}
    video = import_module(f"{lightricks}.vae.causal_video_autoencoder").VideoVAE(config=LTX_VAE)
    sound = import_module(f"{lightricks}.vae.audio_vae").AudioVAE(metadata={"config": config})
    weights |= prefixed("vae.", steady(random_weights(video)))
    weights |= prefixed("audio_vae.", steady(random_weights(sound.autoencoder)))
    weights |= prefixed("vocoder.", random_weights(sound.vocoder))
    save_file({key: value.contiguous() for key, value in weights.items()}, file, {"config": json.dumps(config)})


def save_upsampler(file: Path) -> None:
    """LTX-2's network for upscaling latents."""
    kind = import_module("comfy.ldm.lightricks.latent_upsampler").LatentUpsampler
    network = kind.from_config(UPSAMPLER, operations=import_module("comfy.ops").disable_weight_init)
    save_file(random_weights(network), file, {"config": json.dumps(UPSAMPLER)})


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + key: value for key, value in weights.items()}


def steady(weights: Weights) -> Weights:
    """Set the statistics so that they leave latents unchanged."""
    means = {key: torch.zeros_like(value) for key, value in weights.items() if key.endswith("mean-of-means")}
    spreads = {key: torch.ones_like(value) for key, value in weights.items() if key.endswith("std-of-means")}
    return weights | means | spreads


class TinyFile:
    """Writes one file into the server's models."""

    CATEGORY = "tests"
    FUNCTION = "write"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"kind": ("STRING", {}), "file": ("STRING", {}), "seed": ("INT", {})}}

    def write(self, kind: str, file: str, seed: int) -> tuple[()]:
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.inference_mode():
            if kind.isdigit():
                save_vae(int(kind), path)
            elif kind == "checkpoint":
                save_checkpoint(path, seed)
            elif kind == "upsampler":
                save_upsampler(path)
            elif kind == "unmatched":
                save_file({"none.lora_up.weight": torch.zeros(1, 1)}, path)
            else:
                save_tiny(kind, path, seed)
        return ()


class TinyTextEncoder:
    """A text encoder of the width that a tiny model needs."""

    CATEGORY = "tests"
    FUNCTION = "make"
    RETURN_TYPES = ("CLIP",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"kind": ("STRING", {})}}

    def make(self, kind: str) -> tuple[TinyClip]:
        return (TinyClip(TINY[kind]),)


class TinyVision:
    """A vision encoder of that width."""

    CATEGORY = "tests"
    FUNCTION = "make"
    RETURN_TYPES = ("CLIP_VISION",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"width": ("INT", {"max": 10_000})}}

    def make(self, width: int) -> tuple["VisionEncoder"]:
        return (VisionEncoder(width),)


class VisionEncoder:
    """A vision encoder that CLIP Vision Encode can call."""

    def __init__(self, width: int) -> None:
        self._width = width

    def encode_image(self, image: Tensor, crop: bool = True) -> Vision:
        return Vision(self._width)


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "TinyFile": TinyFile,
    "TinyTextEncoder": TinyTextEncoder,
    "TinyVision": TinyVision,
}
__all__ = ["NODE_CLASS_MAPPINGS"]
