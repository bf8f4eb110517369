"""`python -m tools.embedded_model`: make again, from nothing, what the embedded model is shipped with.

`train` makes the weights: hours on two CPU cores; every part saves as it goes and the same command goes on where it
stopped. `clip` makes the demo's clip.
"""

import argparse
import logging
from pathlib import Path

import torch

from setandseq_core.backbones.wan_files import load_transformer, load_vae
from setandseq_core.clips.video import write_video
from setandseq_core.embedded.files import CLIP_FILE, TRANSFORMER_FILE, VAE_FILE
from setandseq_core.embedded.world.concepts import CONCEPTS, DEMO

from .release import fold_latent_scale, latent_statistics, write_transformer, write_vae
from .train_transformer import TransformerTraining, encode_pool, train_transformer
from .train_vae import VaeTraining, train_vae

log = logging.getLogger(__name__)


def train(folder: Path, vae_config: VaeTraining, config: TransformerTraining, clips: int, *, go_on: bool) -> None:
    """Train the VAE, encode the clips, train the transformer; write both weight files.

    Args:
        go_on: keep the shipped VAE and train the shipped transformer further.
    """
    start = None
    if go_on:
        vae, start = load_vae(VAE_FILE, torch.float32), load_transformer(TRANSFORMER_FILE, torch.float32)
    else:
        vae = train_vae(folder, vae_config)
        fold_latent_scale(vae, *latent_statistics(vae))
        write_vae(vae, VAE_FILE)
    for first in range(0, clips, 200):
        if not (folder / f"pool_{first:06d}.safetensors").exists():
            encode_pool(vae, folder, first, 200, config.creatures)
            log.info("encoded %d of %d clips", first + 200, clips)
    write_transformer(train_transformer(folder, config, start), TRANSFORMER_FILE)
    log.info("wrote %s and %s", VAE_FILE, TRANSFORMER_FILE)


def write_demo_clip(path: Path, fps: int = 24) -> None:
    """The demo concept's clip as an artist would have it: 256x256 pixels, 1.1 seconds, its own frame rate."""
    frames = CONCEPTS[DEMO].frames(torch.arange(27) / fps)
    enlarged = torch.nn.functional.interpolate(frames.movedim(-1, 1), scale_factor=4, mode="bicubic").clamp(0, 1)
    write_video(path, enlarged.movedim(1, -1), fps)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.embedded_model", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train the embedded VAE and transformer; saves and resumes")
    training.add_argument("--folder", type=Path, default=Path("build/embedded_model"), help="where the state is kept")
    training.add_argument("--clips", type=int, default=6000, help="training clips of the transformer")
    text = "keep the shipped VAE and train the shipped transformer further"
    training.add_argument("--go-on", action="store_true", help=text)
    training.add_argument("--frame-steps", type=int, default=VaeTraining().frame_steps)
    training.add_argument("--clip-steps", type=int, default=VaeTraining().clip_steps)
    training.add_argument("--decoder-steps", type=int, default=VaeTraining().decoder_steps)
    training.add_argument("--transformer-steps", type=int, default=TransformerTraining().steps)
    commands.add_parser("clip", help="write the demo's clip again")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.command == "clip":
        write_demo_clip(CLIP_FILE)
        return
    vae_config = VaeTraining(
        frame_steps=arguments.frame_steps, clip_steps=arguments.clip_steps, decoder_steps=arguments.decoder_steps
    )
    config = TransformerTraining(steps=arguments.transformer_steps)
    train(arguments.folder, vae_config, config, arguments.clips, go_on=arguments.go_on)


if __name__ == "__main__":
    main()
