"""Presents the MODEL, CLIP and VAE of a graph as the core's `Backbone`.

Nothing here depends on a model family, because ComfyUI runs the model just as it does for a sampler.

Shape letters: B batch, C latent channels, F frames or latent frames, H, W height and width, N tokens, D text width.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import comfy.model_management as memory
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ..setandseq_core.backbone import GivenPictures, Savings, VideoFormat
from ..setandseq_core.errors import BackboneError
from ..setandseq_core.fingerprint import BaseFingerprint, content_key
from ..setandseq_core.flow import velocity_from_denoised
from ..setandseq_core.prompts import Condition, PriorPrompt
from ..setandseq_core.training.savings import FREE_SHARE, block_lists, recomputed
from .conditions import Asking, condition_of, key_of, same_condition
from .embedded import format_of, guidance_of, known_prompts
from .families import family_of
from .given import check_fits, given_by, pictures_for
from .gradients import kept_before_writing, plain_kernels, run_twice, unquantised, without_inference_tensors
from .models import (
    adapted_layers,
    check_video_model,
    family_format,
    model_fingerprint,
    model_name,
    patches_key,
)
from .placement import frozen, in_bfloat16
from .times import times_of


class ComfyBackbone:
    """A MODEL, CLIP and VAE as a `Backbone`. ComfyUI's memory manager loads them and may unload them afterwards.

    Args:
        conditioning: a CONDITIONING of the graph. Everything in it except the text is used, such as a first frame.
    Raises:
        BackboneError: the MODEL is not a video model that concepts can be made for, or the VAE does not fit it.
        ConfigError: the CONDITIONING holds something that has no meaning for a training.
    """

    def __init__(
        self,
        model: ModelPatcher,
        clip: CLIP,
        vae: VAE,
        *,
        conditioning: Sequence[Any] | None = None,
    ):
        check_video_model(model)
        self._times = times_of(model)
        if not self._times.known:
            raise BackboneError(
                f"The connected model samples by {type(self._times.sampling).__name__}, which gives no velocity.",
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
        self.name, self.layers, self.variant = model_name(model), adapted_layers(model), patches_key(model)
        self.format = model_format(model)
        self.shift = self._times.shift
        self._family, self._asking = family_of(model), Asking(model)
        given = given_by(conditioning)
        self._numbers = given.numbers
        if given.numbers:
            self.variant = content_key(self.variant, key_of(given.numbers))
        self.given: GivenPictures | None = pictures_for(model, vae, given.pictures)
        self.given_by_graph = list(given.pictures)
        """Names of the pictures on the CONDITIONING."""
        self.guidance = guidance_of(model) or self._family.guidance
        self.reads_padding, self.takes_regions = self._family.reads_padding, self._family.regions
        self.base_label = self._family.civitai
        self._running = 0
        """Number of open `running` contexts."""
        self._prompts: dict[str, Condition] = {}
        self._encoded: dict[str, Tensor] = {}

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
        """Shape (C, F', H', W') of the latents of a clip of this size."""
        shrink = self.model.model.latent_format.spacial_downscale_ratio
        latent_frames = (frames - self.format.time_offset) // self.format.time_stride + 1
        return self.vae.latent_channels, latent_frames, height // shrink, width // shrink

    def encode_frames(self, frames_FHWC: Tensor) -> Tensor:
        """Latents (C, F', H', W') of frames in [0, 1], normalised as the transformer expects them.

        The same frames are encoded only once: previews reuse what the training has encoded.
        """
        key = content_key(frames_FHWC)
        if key not in self._encoded:
            with torch.inference_mode():
                latents = self.model.model.process_latent_in(self.vae.encode(frames_FHWC))[0]
            self._encoded[key] = latents.to(self.device, torch.float32, copy=True)
        return self._encoded[key]

    def decode_latents(self, latents_CFHW: Tensor) -> Tensor:
        """Frames (F, H, W, 3) in [0, 1], decoded from latents like those of `encode_frames`."""
        with torch.inference_mode():
            frames = self.vae.decode(self.model.model.process_latent_out(latents_CFHW.unsqueeze(0)))[0]
        return frames.to("cpu", torch.float32, copy=True)

    def known_prompts(self, count: int, seed: int, own: str, /) -> list[PriorPrompt]:
        """Prompts about the embedded world for the embedded model, and about the real world for any other model."""
        return known_prompts(self.fingerprint(), count, seed, own)

    def encode_prompt(self, prompt: str, /) -> Condition:
        """Encode a prompt into tokens, everything that the text encoder adds to them, and the numbers of the graph;
        repeat no encoding."""
        if prompt not in self._prompts:
            with torch.inference_mode():
                conditioning = self._clip.encode_from_tokens_scheduled(self._clip.tokenize(prompt))
            self._prompts[prompt] = condition_of(conditioning, self.device, self._numbers)
        return self._prompts[prompt]

    def check_pictures(self, prompt: str, length: int, height: int, width: int) -> None:
        """Refuse pictures of the graph that do not fit a clip of this length and size.

        Raises:
            ConfigError: names both lengths and sizes.
        """
        if self.given and self.given_by_graph:
            text = self.given.of_graph(self.encode_prompt(prompt))
            latents = torch.zeros(1, *self.latent_shape(length, height, width), device=self.device)
            check_fits(self._asking, text, latents, self.format, self.model.model.latent_format.spacial_downscale_ratio)

    @contextmanager
    def running(
        self, batch_shape: tuple[int, ...], /, savings: Savings | None = None, *, load: bool = True
    ) -> Iterator[None]:
        """Load the MODEL and let gradients flow through it; use it inside `differentiable`.

        Weights that were created in inference mode block gradients, so plain tensors on the same memory replace them.
        """
        if self._running:  # a sample or a validation in the middle of a training
            yield
            return
        saved = savings or Savings()
        if load:
            needed = max(saved.memory, self.model.memory_required(list(batch_shape)))
            with torch.inference_mode():  # it may unload other models, which were loaded in that mode
                memory.load_models_gpu([self.model], memory_required=needed)
        memory.in_training = True
        self._running += 1
        self.model.pre_run()
        try:
            lists = block_lists(self.module, self.layers).values() if savings else ()
            blocks = [block for blocks in lists for block in blocks.children()]
            with (
                torch.compiler.set_stance("force_eager"),  # compiled code would leave the adapters out
                without_inference_tensors(self.model.model),
                unquantised(self.module),
                in_bfloat16(self.model.model, self.device),
                frozen(self.module),
                plain_kernels(),
                recomputed(blocks, saved, run_twice if self._family.writes_in_place else None),
            ):
                yield
        finally:
            self._running -= 1
            memory.in_training = False
            self.model.cleanup()

    @property
    def compute_type(self) -> torch.dtype:
        """The dtype that the transformer computes in, which may differ from that of its weights."""
        return self.model.model.get_dtype_inference()

    def memory_limit(self) -> int:
        """Device memory, in bytes, for the MODEL and its training once ComfyUI has unloaded all other models."""
        if memory.is_device_cpu(self.device):
            free: Any = memory.get_free_memory(self.device)
            return int(FREE_SHARE * free) + self.model.loaded_size()
        whole: Any = memory.get_total_memory(self.device)
        return int(whole - memory.extra_reserved_memory())

    def step(self) -> AbstractContextManager[object]:
        """Protect the tensors that the backward pass needs from blocks that write into them.

        Enter it anew for each step, because it tracks every tensor that is saved inside.
        """
        return kept_before_writing() if self._family.writes_in_place else nullcontext()

    def velocity(self, x_t_BCFHW: Tensor, time_B: Tensor, texts: Sequence[Condition]) -> Tensor:
        """The MODEL's velocity at x_t, computed from the denoised latents that it would give a sampler.

        Samples with the same condition form one batch if the network accepts different times in a batch.
        """
        rows = same_condition(texts, together=self._family.batches)
        found = [self._velocity(x_t_BCFHW[part], time_B[part], texts[part]) for part in rows]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _velocity(self, x_t_BCFHW: Tensor, time_B: Tensor, texts: Sequence[Condition]) -> Tensor:
        time_B = self._times.bounded(time_B)
        x, sigma_B = self._times.as_sampled(x_t_BCFHW, time_B)
        values = self._family.while_training if torch.is_grad_enabled() else {}
        denoised = self._asking.denoised(x, sigma_B, texts, values)
        return velocity_from_denoised(x_t_BCFHW, denoised, time_B)


def model_format(model: ModelPatcher) -> VideoFormat:
    """The format of the clips that a MODEL takes."""
    return format_of(model) or family_format(model)


@contextmanager
def differentiable() -> Iterator[None]:
    """A context for training in nodes: inference mode is off, and Cancel takes effect before a model's next part runs.

    Loading, encoding and decoding stay in inference mode, because some of them need it; their results are copied.
    """
    cancel = register_module_forward_pre_hook(lambda *_: memory.throw_exception_if_processing_interrupted())
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        cancel.remove()
