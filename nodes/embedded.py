"""The embedded model in ComfyUI: its nodes, its text encoder as a CLIP, and the example clip."""

from typing import TypeAlias

import folder_paths
import torch
from aiohttp import web
from comfy.model_management import intermediate_device
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE, load_diffusion_model
from comfy.sd1_clip import escape_important, token_weights, unescape_important
from comfy.supported_models_base import ClipTarget
from comfy.utils import load_torch_file
from comfy_api.latest import InputImpl, io
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from server import PromptServer
from torch import Tensor, nn

from ..setandseq_core.backbone import VideoFormat
from ..setandseq_core.clips.prior_prompts import real_world_prompts
from ..setandseq_core.config import PRESETS, STANDARD_PRESET, MethodConfig
from ..setandseq_core.embedded.files import CLIP_FILE, TRANSFORMER_FILE, VAE_FILE, WEIGHTS
from ..setandseq_core.embedded.prior_prompts import embedded_fingerprint, is_embedded, world_prompts
from ..setandseq_core.embedded.settings import (
    EMBEDDED_FORMAT,
    EMBEDDED_GUIDANCE,
    EMBEDDED_PRESETS,
    EMBEDDED_SHIFT,
)
from ..setandseq_core.embedded.text import encode_words, known_words, prompt_notes
from ..setandseq_core.embedded.world.vocabulary import sentences
from ..setandseq_core.fingerprint import BaseFingerprint
from ..setandseq_core.prompts import PriorPrompt
from .models import model_fingerprint
from .wires import CATEGORY

KEY = "setandseq"
Section: TypeAlias = list[tuple[str, float] | tuple[str, float, int]]
"""Words with their weights and, on request, their positions, which start at 1."""


class EmbeddedTokenizer:
    """Splits a prompt into words with weights, which ComfyUI writes like this: "a (red:1.2) circle"."""

    def __init__(self, embedding_directory: object = None, tokenizer_data: object = None):
        """Ignore both arguments, which `comfy.sd.CLIP` passes: there is nothing to load."""

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: object) -> dict[str, list[Section]]:
        """Return one section of (word, weight) pairs or, on request, of (word, weight, position) triples."""
        parts = token_weights(escape_important(text), 1.0)
        pairs = [(word, weight) for part, weight in parts for word in known_words(unescape_important(part))]
        if return_word_ids:
            return {KEY: [[(word, weight, index) for index, (word, weight) in enumerate(pairs, 1)]]}
        return {KEY: [[*pairs]]}

    def state_dict(self) -> dict[str, Tensor]:
        return {}


class EmbeddedEncoder(nn.Module):
    """The core's text encoder with the interface that `comfy.sd.CLIP` needs; it has no weights."""

    def __init__(self, device: object = None, dtype: object = None, model_options: object = None):
        super().__init__()
        self.dtypes = {torch.float32}

    def set_clip_options(self, options: dict[str, object]) -> None:
        """There is one layer and one device, so no option changes anything."""

    def reset_clip_options(self) -> None:
        """There is nothing to reset, because `set_clip_options` changes nothing."""

    def encode_token_weights(self, tokens: dict[str, list[Section]]) -> tuple[Tensor, None]:
        """Encode into tokens (1, N, 4096), 48 per section, each multiplied by its word's weight; no pooled output."""
        return torch.cat([_encode(section) for section in tokens[KEY]]).unsqueeze(0).to(intermediate_device()), None


def _encode(section: Section) -> Tensor:
    tokens_ND = encode_words([entry[0] for entry in section])
    tokens_ND[: len(section)] *= torch.tensor([entry[1] for entry in section]).unsqueeze(1)
    return tokens_ND


def embedded_clip() -> CLIP:
    """The embedded model's text encoder, on the CPU."""
    cpu = torch.device("cpu")
    target = ClipTarget(EmbeddedTokenizer, EmbeddedEncoder)
    return CLIP(target, model_options={"load_device": cpu, "offload_device": cpu})


def register_weights() -> None:
    """Add the embedded weights to the lists of the stock loaders."""
    for kind in ("diffusion_models", "vae"):
        folder_paths.add_model_folder_path(kind, str(WEIGHTS / kind))


def known_prompts(base: BaseFingerprint, count: int, seed: int, own: str) -> list[PriorPrompt]:
    """Prompts about the embedded world for the embedded model, about the real world for any other; see `Backbone`."""
    return (world_prompts if is_embedded(base) else real_world_prompts)(count, seed, own)


def format_of(model: ModelPatcher) -> VideoFormat | None:
    """The format of the clips that the embedded model takes; None for any other model."""
    return format_of_base(model_fingerprint(model))


def format_of_base(base: BaseFingerprint) -> VideoFormat | None:
    """The same for a model that is known by its fingerprint."""
    return EMBEDDED_FORMAT if is_embedded(base) else None


def guidance_of(model: ModelPatcher) -> float | None:
    """The guidance that suits the embedded model; None for any other model."""
    return EMBEDDED_GUIDANCE if is_embedded(model_fingerprint(model)) else None


def embedded_base() -> BaseFingerprint:
    """The embedded model's fingerprint."""
    return embedded_fingerprint()


def method_for(model: ModelPatcher, preset: str = STANDARD_PRESET) -> MethodConfig:
    """The settings of a preset for a model. The embedded model is small, so its presets have higher learning rates."""
    return (EMBEDDED_PRESETS if is_embedded(model_fingerprint(model)) else PRESETS)[preset]


def register_prompt_notes() -> None:
    """Answer `GET /setandseq/prompt_notes?prompt=...` with sentences about words the embedded model does not know."""

    @PromptServer.instance.routes.get("/setandseq/prompt_notes")
    async def notes(request: web.Request) -> web.Response:
        return web.json_response(sentences(prompt_notes(request.query.get("prompt", ""))))


def register_example_clip() -> None:
    """Answer `GET /setandseq/example_clip` with the video file of Example Clip."""

    @PromptServer.instance.routes.get("/setandseq/example_clip")
    async def clip(_: web.Request) -> web.FileResponse:
        return web.FileResponse(CLIP_FILE)


class EmbeddedModel(io.ComfyNode):
    """Loads the embedded model as MODEL, CLIP and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; frozen in tests/comfyui/test_server.py."""
        return io.Schema(
            node_id="SetSeq_EmbeddedModel",
            display_name="Embedded Model",
            category=CATEGORY,
            description="The small video model that comes with this pack: 64x64 pixels, 17 frames, simple shapes. It is"
            " for trying things out; nothing is downloaded.",
            search_aliases=["small model", "example model", "set and sequence model", "load model"],
            inputs=[],
            outputs=[
                io.Model.Output("model", tooltip="For Train Concept and the sampler."),
                io.Clip.Output("clip", tooltip="For Train Concept and CLIP Text Encode."),
                io.Vae.Output("vae", tooltip="For Train Concept and VAE Decode."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Load all three parts from the files of this pack."""
        (model,) = ModelSamplingSD3().patch(load_diffusion_model(str(TRANSFORMER_FILE)), EMBEDDED_SHIFT)
        return io.NodeOutput(model, embedded_clip(), VAE(sd=load_torch_file(str(VAE_FILE))))


class EmbeddedTextEncoder(io.ComfyNode):
    """Returns the text encoder of the embedded model as a CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_EmbeddedTextEncoder",
            display_name="Embedded Text Encoder",
            category=CATEGORY,
            description="The text encoder of the small model included with this pack (setandseq_embedded_transformer "
            "in Load Diffusion Model, setandseq_embedded_vae in Load VAE). It has no weights and reads up to 48 words.",
            search_aliases=["embedded clip", "set and sequence text encoder", "clip loader"],
            inputs=[],
            outputs=[io.Clip.Output("clip", tooltip="For CLIP Text Encode and the train nodes.")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(embedded_clip())


class ExampleClip(io.ComfyNode):
    """Returns the clip that the demo learns from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_ExampleClip",
            display_name="Example Clip",
            category=CATEGORY,
            description="A short clip for the embedded model. It shows a creature the model has never seen, which "
            "moves in its own way. For a clip of your own, use Load Video.",
            search_aliases=["demo clip", "example video", "sample clip"],
            inputs=[],
            outputs=[io.Video.Output("video", tooltip="For Reference Clip.")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(InputImpl.VideoFromFile(str(CLIP_FILE)))
