"""A video model as ComfyUI holds it, as the core's `Backbone`: the MODEL, CLIP and VAE wires of a graph.

Shape letters: B batch, C latent channels, F frames or latent frames, H, W height and width, N tokens, D text width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_management as memory
import torch
from comfy.model_base import WAN22
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import CONST
from comfy.quant_ops import QuantizedTensor
from comfy.sd import CLIP, VAE
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ..setandseq_core.backbone import Savings, VideoFormat
from ..setandseq_core.condition import Condition, stacked_tokens
from ..setandseq_core.errors import BackboneError
from ..setandseq_core.fingerprint import BaseFingerprint
from ..setandseq_core.flow import velocity_from_denoised
from ..setandseq_core.prompts import PriorPrompt
from ..setandseq_core.training.run import content_key
from ..setandseq_core.training.savings import FREE_SHARE, recomputed
from .attention import differentiable_attention
from .embedded import format_of, known_prompts
from .models import check_video_model, model_fingerprint, model_name, patches_key, wan_layers
from .placement import frozen, in_bfloat16

FORCE_CAST = "comfy_force_cast_weights"
"""Of ComfyUI's layers: whether they compute with unpacked weights."""
SMALLEST_TIME = 1e-4
"""Below it the velocity cannot be told from the denoised latents."""


class ComfyBackbone:
    """The wires of a graph as a `Backbone`; what ComfyUI's memory manager loads, it may free again afterwards.

    Raises:
        BackboneError: the MODEL is not a video model that concepts can be made for, or the VAE does not fit it.
    """

    def __init__(self, model: ModelPatcher, clip: CLIP, vae: VAE):
        check_video_model(model)
        sampling: Any = model.get_model_object("model_sampling")
        shift = getattr(sampling, "shift", None)
        if not isinstance(sampling, CONST) or shift is None:
            raise BackboneError(
                f"The connected model samples by {type(sampling).__name__}, not as a flow model.",
                hint="Take the node that changes its sampling out of the wire; ModelSamplingSD3 may stay.",
            )
        channels = model.model.latent_format.latent_channels
        if vae.latent_channels != channels or vae.latent_dim != 3:
            raise BackboneError(
                f"The connected VAE makes {vae.latent_channels} channels, {model_name(model)} needs a video VAE of "
                f"{channels}.",
                hint="Connect the VAE that belongs to the model.",
            )
        self.model, self.vae, self._clip = model, vae, clip
        self.name, self.layers, self.variant = model_name(model), wan_layers(model), patches_key(model)
        self.format = model_format(model)
        self.shift = float(shift)
        self.guidance = 4.0
        self._running = 0
        """How many contexts of `running` are open."""
        self._prompts: dict[str, Condition] = {}
        self._encoded: dict[str, Tensor] = {}
        self._options = dict(model.model_options.get("transformer_options", {}))
        self._options["optimized_attention_override"] = differentiable_attention

    @property
    def module(self) -> nn.Module:
        return self.model.model.diffusion_model

    @property
    def device(self) -> torch.device:
        return self.model.load_device

    def fingerprint(self) -> BaseFingerprint:
        """Fingerprint of the base model, without the LoRAs on it."""
        return model_fingerprint(self.model)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C, F', H', W')."""
        shrink = self.model.model.latent_format.spacial_downscale_ratio
        return self.vae.latent_channels, (frames - 1) // 4 + 1, height // shrink, width // shrink

    def encode_frames(self, frames_FHWC: Tensor) -> Tensor:
        """Latents (C, F', H', W') of frames in [0, 1], normalised as the transformer takes them.

        The same frames are encoded once: what a training has encoded is there for all that looks at it meanwhile.
        """
        key = content_key(frames_FHWC)
        if key not in self._encoded:
            with torch.inference_mode():
                latents = self.model.model.process_latent_in(self.vae.encode(frames_FHWC))[0]
            self._encoded[key] = latents.to(self.device, torch.float32, copy=True)
        return self._encoded[key]

    def decode_latents(self, latents_CFHW: Tensor) -> Tensor:
        """Frames (F, H, W, 3) in [0, 1] of such latents."""
        with torch.inference_mode():
            frames = self.vae.decode(self.model.model.process_latent_out(latents_CFHW.unsqueeze(0)))[0]
        return frames.to("cpu", torch.float32, copy=True)

    def known_prompts(self, count: int, seed: int, own: str, /) -> list[PriorPrompt]:
        """The embedded world's prompts for the embedded model, the real world's for any other."""
        return known_prompts(self.fingerprint(), count, seed, own)

    def encode_prompt(self, prompt: str, /) -> Condition:
        """The prompt's tokens, (N, D); each prompt is encoded once."""
        if prompt not in self._prompts:
            with torch.inference_mode():
                conditioning = self._clip.encode_from_tokens_scheduled(self._clip.tokenize(prompt))
            tokens_ND = conditioning[0][0][0].to(self.device, torch.float32, copy=True)
            self._prompts[prompt] = Condition(tokens_ND=tokens_ND)
        return self._prompts[prompt]

    @contextmanager
    def running(
        self, batch_shape: tuple[int, ...], /, savings: Savings | None = None, *, load: bool = True
    ) -> Iterator[None]:
        """Load the MODEL and let gradients flow through it; to be used inside `differentiable`.

        Its weights may have been made in inference mode; no gradient can pass those, so plain tensors on the same
        memory stand in for them.
        """
        if self._running:  # a sample or a validation in the middle of a training
            yield
            return
        saved = savings or Savings()
        if load:
            needed = max(saved.memory, self.model.memory_required(list(batch_shape)))
            with torch.inference_mode():  # it may move other models out of the way, which were loaded in that mode
                memory.load_models_gpu([self.model], memory_required=needed)
        memory.in_training = True
        self._running += 1
        self.model.pre_run()
        try:
            blocks = self.module.get_submodule("blocks").children() if savings else ()
            with (
                torch.compiler.set_stance("force_eager"),  # compiled code would leave the adapters out
                _without_inference_tensors(self.module),
                _unquantised(self.module),
                in_bfloat16(self.model.model, self.device),
                frozen(self.module),
                recomputed(blocks, saved),
            ):
                yield
        finally:
            self._running -= 1
            memory.in_training = False
            self.model.cleanup()

    @property
    def compute_type(self) -> torch.dtype:
        """The type that the transformer computes in; its weights may have another."""
        return self.model.model.get_dtype_inference()

    def memory_limit(self) -> int:
        """Bytes of the device that the MODEL and its training can have once ComfyUI has unloaded all other models."""
        if memory.is_device_cpu(self.device):
            free: Any = memory.get_free_memory(self.device)
            return int(FREE_SHARE * free) + self.model.loaded_size()
        whole: Any = memory.get_total_memory(self.device)
        return int(whole - memory.extra_reserved_memory())

    def velocity(self, x_t_BCFHW: Tensor, time_B: Tensor, texts: Sequence[Condition]) -> Tensor:
        """The MODEL's velocity at x_t by its own sampling definition; a flow model's sigma is the time."""
        sigma_B = time_B.clamp_min(SMALLEST_TIME)
        conditions = {"c_crossattn": stacked_tokens(texts), "transformer_options": self._options}
        denoised = self.model.model.apply_model(x_t_BCFHW, sigma_B, **conditions)
        return velocity_from_denoised(x_t_BCFHW, denoised, sigma_B)


def model_format(model: ModelPatcher) -> VideoFormat:
    """Clips that a Wan model takes: a token is a patch of two by two latents."""
    embedded = format_of(model)
    if embedded is not None:
        return embedded
    size_multiple = 2 * model.model.latent_format.spacial_downscale_ratio
    if isinstance(model.model, WAN22):
        return VideoFormat(fps=24.0, frames=121, size=(704, 1280), size_multiple=size_multiple)
    return VideoFormat(fps=16.0, frames=81, size=(480, 832), size_multiple=size_multiple)


@contextmanager
def differentiable() -> Iterator[None]:
    """A context for training in nodes: inference mode is off, and Cancel is obeyed before any part of any model runs.

    ComfyUI's own loading, encoding and decoding stay in inference mode, which some of it needs; copies leave it.
    """
    cancel = register_module_forward_pre_hook(lambda *_: memory.throw_exception_if_processing_interrupted())
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        cancel.remove()


@contextmanager
def _without_inference_tensors(module: nn.Module) -> Iterator[None]:
    """Put plain tensors on the same memory in place of those made in inference mode; but for quantised ones."""
    before: list[tuple[dict[str, Any], str, Tensor]] = []
    for part in module.modules():
        held: dict[str, Any]
        for held in (part._parameters, part._buffers):
            for name, value in held.items():
                if type(value) in (nn.Parameter, Tensor) and value.is_inference():
                    before.append((held, name, value))
    try:
        for held, name, value in before:
            plain = torch.empty(0, dtype=value.dtype, device=value.device)
            plain.set_(value.untyped_storage(), value.storage_offset(), value.shape, value.stride())
            held[name] = nn.Parameter(plain, requires_grad=False) if isinstance(value, nn.Parameter) else plain
        yield
    finally:
        for held, name, value in before:
            held[name] = value


@contextmanager
def _unquantised(module: nn.Module) -> Iterator[None]:
    """Let layers with quantised weights compute with unpacked ones, which gradients can pass."""
    parts = [part for part in module.modules() if isinstance(getattr(part, "weight", None), QuantizedTensor)]
    before = [getattr(part, FORCE_CAST, False) for part in parts]
    for part in parts:
        setattr(part, FORCE_CAST, True)
    try:
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            setattr(part, FORCE_CAST, value)
