"""Sample a video to a file, for the commands `sample` and `compose`."""

from pathlib import Path

from ..backbone import Backbone
from ..clips.video import write_video
from ..compose.apply import Applied
from ..sample import latent_noise
from .console import counting
from .options import SamplingOptions


def sample_to_file(
    applied: Applied,
    backbone: Backbone,
    shape: tuple[int, int, int],
    prompt: str,
    options: SamplingOptions,
    out: Path,
) -> None:
    """Sample a video and write it, with progress on the terminal.

    Args:
        applied: the concepts on the backbone.
        backbone: gives the shape of the latents and the frame rate.
        shape: frames, height and width in pixels.
        prompt: describes the video.
        options: all other settings of the video.
        out: an mp4, gif or webm file.
    """
    noise = latent_noise(backbone.latent_shape(*shape), options.seed).to(backbone.device)
    latents = applied.sample(
        noise,
        prompt,
        negative_prompt=options.negative_prompt,
        steps=options.steps,
        guidance=options.guidance,
        progress=counting("sampling"),
    )
    write_video(out, backbone.decode_latents(latents), backbone.format.fps)
