"""What a train node shows while it works: a bar, a line of text, and now and then a picture of what it has learned.

Shape letters: B batch, C latent channels, F frames or latent frames, H, W height and width.
"""

from typing import Any

import comfy.model_management as memory
import torch
from comfy.sd import VAE
from comfy.utils import ProgressBar
from latent_preview import get_previewer
from PIL import Image
from server import PromptServer
from torch import Tensor

from ..setandseq_core.console import clock
from ..setandseq_core.runs import Progress
from ..setandseq_core.sample import latent_noise, sample_latents
from .backbone import ComfyBackbone

PREVIEW_STEPS = 8
PREVIEW_SIDE = 512
PREVIEW_FRAMES = 4
TEXT_EVERY = 5
"""Steps between two updates of the text."""


class TrainingProgress:
    """A core progress callback that shows itself on a node.

    Args:
        prompt: what the pictures are of.
        latent_shape: (C, F, H, W) of the pictures.
        preview_every: steps between two pictures; 0 makes none.
    """

    def __init__(
        self,
        backbone: ComfyBackbone,
        node_id: str,
        *,
        prompt: str,
        latent_shape: tuple[int, int, int, int],
        preview_every: int,
    ):
        self._backbone, self._node_id, self._prompt = backbone, node_id, prompt
        self._noise = latent_noise(latent_shape, 0).to(backbone.device)
        self._preview_every = preview_every
        self._bar = ProgressBar(1, node_id=node_id)
        self.called = False

    def __call__(self, progress: Progress) -> None:
        """Show where training stands; raises ComfyUI's interrupt when the user has pressed Cancel."""
        memory.throw_exception_if_processing_interrupted()
        self.called = True
        last = progress.step == progress.steps
        preview = None
        if self._preview_every and (last or progress.step % self._preview_every == 0):
            preview = self._preview()
        self._bar.update_absolute(progress.step, progress.steps, preview)
        if last or progress.step % TEXT_EVERY == 0:
            text = f"{progress.stage} stage: step {progress.step} of {progress.steps}, loss {progress.loss:.3f}, "
            text += f"{clock(progress.seconds_left)} left"
            PromptServer.instance.send_progress_text(text, self._node_id)

    @torch.no_grad()
    def _preview(self) -> tuple[str, Image.Image, int] | None:
        module = self._backbone.module
        module.eval()
        latents_CFHW = sample_latents(self._backbone, self._noise, self._prompt, steps=PREVIEW_STEPS, guidance=1.0)
        module.train()
        picture = _picture(self._backbone, latents_CFHW)
        return None if picture is None else ("JPEG", picture, PREVIEW_SIDE)


def _picture(backbone: ComfyBackbone, latents_CFHW: Tensor) -> Image.Image | None:
    """Some frames side by side: through the VAE where it fits beside the model, else ComfyUI's rough preview."""
    if fits_beside(backbone.vae, tuple(latents_CFHW.shape), backbone.device):
        frames_FHWC = backbone.decode_latents(latents_CFHW)
        count = min(PREVIEW_FRAMES, len(frames_FHWC))
        chosen = [round(i * (len(frames_FHWC) - 1) / max(count - 1, 1)) for i in range(count)]
        strip_HWC = torch.cat([frames_FHWC[i] for i in chosen], dim=1)
        return Image.fromarray((strip_HWC.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    previewer: Any = get_previewer(backbone.device, backbone.model.model.latent_format)
    return previewer.decode_latent_to_preview(latents_CFHW.unsqueeze(0)) if previewer else None


def fits_beside(vae: VAE, latent_shape: tuple[int, ...], device: torch.device) -> bool:
    """Whether decoding leaves the loaded model where it is: it must not be moved while it trains."""
    needed: Any = vae.patcher.model_size() + vae.memory_used_decode((1, *latent_shape), vae.vae_dtype)
    return needed < memory.get_free_memory(device)
