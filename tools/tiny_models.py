"""Tiny random video models of every architecture that ComfyUI supports, in files that it detects by itself.

`TINY` lists for each the network's class, its sizes, and the values that text encoders and nodes put on its
conditioning. If ComfyUI's detection fixes the sizes (Mochi, Cosmos), the model is built without a file.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.tiny_sizes import (
    COG,
    COSMOS,
    HUNYUAN,
    HUNYUAN_15,
    KANDINSKY,
    LTX2,
    LTXV,
    MINIMAX,
    MOCHI,
    NOT_IN_COSMOS_1,
    WAN,
)

Values = dict[str, Any]


@dataclass(kw_only=True, frozen=True)
class Tiny:
    """One architecture at tiny size."""

    kind: str
    """Class in comfy.supported_models that ComfyUI detects it as."""
    network: str
    """Class of the network, as module:class in comfy.ldm."""
    sizes: Mapping[str, Any]
    """Arguments of the network's class."""
    latents: tuple[int, int, int, int] = (16, 2, 4, 4)
    """Shape (C, F, H, W) of a clip's latents."""
    text: tuple[int, int] = (12, 64)
    """Tokens and width of a prompt."""
    pooled: int = 0
    """Width of the pooled prompt; 0 for none."""
    encoded: Callable[[int], Values] = lambda tokens: {}
    """Gives further outputs of the text encoder for a prompt with that many tokens."""
    graph: Callable[[tuple[int, ...]], Values] = lambda shape: {}
    """Gives the values that nodes put on the conditioning for latents of that shape."""
    metadata: Mapping[str, Any] | None = None
    """The `transformer` part of the configuration in the file."""
    detected: bool = True
    """Whether ComfyUI detects it at this size."""


def padded(tokens: int) -> Values:
    """The attention mask of an encoder that pads; the last three tokens are padding."""
    mask = torch.ones(1, tokens, dtype=torch.long)
    mask[:, -3:] = 0
    return {"attention_mask": mask}


def first_frame(channels: int, with_mask: bool = True) -> Callable[[tuple[int, ...]], Values]:
    """Latents of a given first frame, as nodes like WanImageToVideo put them on the conditioning."""

    def make(shape: tuple[int, ...]) -> Values:
        frames, height, width = shape[-3:]
        mask = torch.ones(1, 1, frames, height, width)
        mask[:, :, :1] = 0
        found: Values = {"concat_latent_image": random(1, channels, frames, height, width)}
        return found | ({"concat_mask": mask} if with_mask else {})

    return make


class Vision:
    """The part of CLIP Vision Encode's output that video models use."""

    def __init__(self, width: int):
        self.penultimate_hidden_states = self.last_hidden_state = random(1, 5, width)


def random(*shape: int, seed: int = 3) -> Tensor:
    """Normal random numbers, always the same for a shape and seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TINY: dict[str, Tiny] = {
    "wan_t2v": Tiny(
        kind="WAN21_T2V",
        network="wan.model:WanModel",
        sizes=WAN | {"model_type": "t2v"},
        text=(12, 4096),
    ),
    "wan_i2v": Tiny(
        kind="WAN21_I2V",
        network="wan.model:WanModel",
        sizes=WAN | {"model_type": "i2v", "in_dim": 36},
        text=(12, 4096),
        graph=lambda shape: first_frame(16)(shape) | {"clip_vision_output": Vision(1280)},
    ),
    "wan_22_i2v": Tiny(
        kind="WAN21_T2V",
        network="wan.model:WanModel",
        sizes=WAN | {"model_type": "t2v", "in_dim": 36},
        text=(12, 4096),
        graph=first_frame(16),
    ),
    "wan_22_5b": Tiny(
        kind="WAN22_T2V",
        network="wan.model:WanModel",
        sizes=WAN | {"model_type": "t2v", "in_dim": 48, "out_dim": 48},
        latents=(48, 2, 4, 4),
        text=(12, 4096),
    ),
    "wan_vace": Tiny(
        kind="WAN21_Vace",
        network="wan.model:VaceWanModel",
        sizes=WAN | {"model_type": "vace", "vace_layers": 1, "vace_in_dim": 96},
        text=(12, 4096),
    ),
    "ltx2": Tiny(
        kind="LTXAV",
        network="lightricks.av_model:LTXAVModel",
        sizes=LTX2,
        metadata=LTX2,
        latents=(128, 2, 2, 3),
        text=(128, 64),
        graph=lambda shape: {"frame_rate": 24.0},
    ),
    "ltxv": Tiny(
        kind="LTXV",
        network="lightricks.model:LTXVModel",
        sizes=LTXV,
        metadata={},
        latents=(128, 2, 2, 3),
        text=(12, 4096),
        encoded=padded,
        graph=lambda shape: {"frame_rate": 24.0},
    ),
    "hunyuan_video_15": Tiny(
        kind="HunyuanVideo15",
        network="hunyuan_video.model:HunyuanVideo",
        sizes=HUNYUAN_15,
        latents=(32, 2, 4, 4),
        encoded=lambda tokens: {"conditioning_byt5small": random(1, 5, 1472)},
    ),
    "hunyuan_video_15_meanflow": Tiny(
        kind="HunyuanVideo15",
        network="hunyuan_video.model:HunyuanVideo",
        sizes=HUNYUAN_15 | {"meanflow": True},
        latents=(32, 2, 4, 4),
        graph=lambda shape: first_frame(32)(shape) | {"clip_vision_output": Vision(1152)},
    ),
    "hunyuan_video": Tiny(
        kind="HunyuanVideo",
        network="hunyuan_video.model:HunyuanVideo",
        sizes=HUNYUAN,
        pooled=768,
        encoded=padded,
        graph=lambda shape: {"guidance": 6.0},
    ),
    "hunyuan_video_i2v": Tiny(
        kind="HunyuanVideoI2V",
        network="hunyuan_video.model:HunyuanVideo",
        sizes=HUNYUAN | {"in_channels": 33, "guidance_embed": False},
        pooled=768,
        graph=first_frame(16),
    ),
    "kandinsky5": Tiny(
        kind="Kandinsky5",
        network="kandinsky5.model:Kandinsky5",
        sizes=KANDINSKY,
        text=(12, 3584),
        pooled=768,
    ),
    "cosmos_predict2": Tiny(
        kind="CosmosT2IPredict2",
        network="cosmos.predict2:MiniTrainDIT",
        sizes=COSMOS,
        detected=False,
    ),
    "cosmos_predict2_video2world": Tiny(
        kind="CosmosI2VPredict2",
        network="cosmos.predict2:MiniTrainDIT",
        sizes=COSMOS | {"in_channels": 17},
        detected=False,
    ),
    "mochi": Tiny(
        kind="GenmoMochi",
        network="genmo.joint_model.asymm_models_joint:AsymmDiTJoint",
        sizes=MOCHI,
        latents=(12, 2, 4, 4),
        encoded=padded,
        detected=False,
    ),
    "cogvideox": Tiny(
        kind="CogVideoX_T2V",
        network="cogvideo.model:CogVideoXTransformer3DModel",
        sizes=COG,
    ),
    "minimax_h3": Tiny(
        kind="MiniMaxH3",
        network="minimax.model:MiniMaxH3Model",
        sizes=MINIMAX,
        latents=(24, 7, 4, 4),
    ),
    "unlisted": Tiny(
        kind="CosmosT2V",
        network="cosmos.model:GeneralDIT",
        sizes={key: value for key, value in COSMOS.items() if key not in NOT_IN_COSMOS_1}
        | {
            "image_model": "cosmos",
            "block_config": "FA-CA-MLP",
            "pos_emb_learnable": False,
            "block_x_format": "THWBD",
            "affline_emb_norm": True,
            "extra_per_block_abs_pos_emb": True,
            "extra_per_block_abs_pos_emb_type": "learnable",
        },
        graph=lambda shape: {"frame_rate": 24.0},
        detected=False,
    ),
}


def random_weights(module: torch.nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Random weights that keep activations alive; none is zero, so every gate is open."""
    generator = torch.Generator().manual_seed(seed)
    return {key: _weight(key, value, generator) for key, value in module.state_dict().items()}


def _weight(key: str, value: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(value.shape, generator=generator)
    if not value.is_floating_point():
        return value.clone()
    if value.ndim >= 2 and key.endswith("weight"):
        return drawn / value[0].numel() ** 0.5
    return 1 + 0.1 * drawn if key.endswith(("weight", "scale")) else 0.2 * drawn


def load_tiny(name: str, folder: Path, seed: int = 0) -> Any:
    """The MODEL of a tiny architecture, from ComfyUI's own loader if it detects the architecture.

    Args:
        folder: folder for the model's file.
        seed: seed of its weights.
    """
    tiny = TINY[name]
    if not tiny.detected:
        return _made(tiny, seed)
    file = folder / f"{name}_{seed}.safetensors"
    save_tiny(name, file, seed)
    with torch.inference_mode():
        return import_module("comfy.sd").load_diffusion_model(str(file), model_options={"dtype": torch.float32})


def save_tiny(name: str, file: Path, seed: int = 0) -> None:
    """Write the file of a tiny architecture that ComfyUI detects."""
    tiny = TINY[name]
    metadata = None if tiny.metadata is None else {"config": json.dumps({"transformer": dict(tiny.metadata)})}
    save_file(tiny_weights(name, seed), file, metadata)


def tiny_weights(name: str, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a tiny architecture, as its file holds them."""
    tiny = TINY[name]
    module, kind = tiny.network.split(":")
    operations = import_module("comfy.ops").disable_weight_init
    network = getattr(import_module(f"comfy.ldm.{module}"), kind)(
        **tiny.sizes, device="cpu", dtype=torch.float32, operations=operations
    )
    return {key: value.contiguous() for key, value in random_weights(network, seed).items()}


def _made(tiny: Tiny, seed: int) -> Any:
    config = getattr(import_module("comfy.supported_models"), tiny.kind)(dict(tiny.sizes))
    config.set_inference_dtype(torch.float32, None)
    with torch.inference_mode():
        base = config.get_model({})
        base.diffusion_model.load_state_dict(random_weights(base.diffusion_model, seed))
    cpu = torch.device("cpu")
    return import_module("comfy.model_patcher").ModelPatcher(base, cpu, cpu)


class TinyClip:
    """A stand-in for `comfy.sd.CLIP`: random tokens, always the same for a prompt; longer prompts may give more.

    Args:
        given: values that nodes of the graph put on its conditioning.
    """

    def __init__(self, tiny: Tiny, given: Values | None = None):
        self._tiny, self._given = tiny, given or {}

    def tokenize(self, text: str) -> list[str]:
        """Split the text into words."""
        return text.split()

    def encode_from_tokens_scheduled(self, words: list[str]) -> list[list[Any]]:
        """A CONDITIONING with one entry."""
        seed = sum(map(ord, " ".join(words)))
        count = max(self._tiny.text[0], len(words))
        values = {**self._given, **self._tiny.encoded(count)}
        values["pooled_output"] = random(1, self._tiny.pooled, seed=seed) if self._tiny.pooled else None
        return [[random(1, count, self._tiny.text[1], seed=seed), values]]
