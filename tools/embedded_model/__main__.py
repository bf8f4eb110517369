"""`python -m tools.embedded_model`: train the embedded model, and measure it.

`vae` and `transformer` train, on a GPU if there is one, else for hours on a CPU core. They save at intervals, and the
same command resumes. They write their weight file into the folder of their state, where it can be measured before it
replaces the shipped one. `measure` prints how good a model is. `clip` makes the demo's clip.
"""

import argparse
import logging
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import torch

from setandseq_core.backbones.wan_files import load_transformer, load_vae
from setandseq_core.embedded.files import CLIP_FILE, TRANSFORMER_FILE, VAE_FILE
from setandseq_core.embedded.world.concepts import CONCEPTS, DEMO

from .grow import deepened, widened
from .quality import prompt_following, vae_quality
from .release import fold_latent_scale, latent_statistics, write_transformer, write_vae
from .train_transformer import TransformerTraining, encode_pool, train_transformer
from .train_vae import VaeTraining, train_vae

log = logging.getLogger(__name__)

Config = TypeVar("Config", VaeTraining, TransformerTraining)


def make_vae(folder: Path, config: VaeTraining, start: Path | None, device: str) -> Path:
    """Train a VAE, from new weights or from a file, and write it into the folder."""
    small = load_vae(start, torch.float32) if start else None
    if small and 2 * small.config["base_dim"] == config.width:
        small = widened(small, torch.Generator().manual_seed(config.seed))
    vae = train_vae(folder, config, small, device)
    if not config.keep_latents:
        fold_latent_scale(vae, *latent_statistics(vae, device=device))
    write_vae(vae, folder / VAE_FILE.name)
    return folder / VAE_FILE.name


def make_transformer(
    folder: Path, config: TransformerTraining, clips: int, vae: Path, start: Path | None, device: str
) -> Path:
    """Encode `clips` clips with a VAE, train a transformer on them, and write it into the folder."""
    began = monotonic()
    encode_pool(load_vae(vae, torch.float32), folder, clips, config, batch=40 if device == "cuda" else 8, device=device)
    if config.minutes:
        config = replace(config, minutes=max(config.minutes - (monotonic() - began) / 60, 1e-9))
    shallow = load_transformer(start, torch.float32) if start else None
    if shallow and len(shallow.blocks) < config.layers:
        shallow = deepened(shallow, config.layers)
    trained = train_transformer(folder, config, shallow, device)
    write_transformer(trained, folder / TRANSFORMER_FILE.name)
    return folder / TRANSFORMER_FILE.name


def measure(vae: Path, transformer: Path, count: int, device: str) -> Iterator[tuple[str, float]]:
    """PSNR of the VAE in dB, then how often generated clips show what their prompts say, on `count` clips each."""
    decoder = load_vae(vae, torch.float32)
    yield from vae_quality(decoder, count, device).items()
    generator = load_transformer(transformer, torch.float32)
    together = 100 if device == "cuda" else 10
    yield from prompt_following(generator, decoder, count, device, together).items()


def write_demo_clip(path: Path, fps: int = 24) -> None:
    """Write the demo concept's clip as an artist would have it: 256x256 pixels, 1.1 seconds, 24 frames per second."""
    from setandseq_core.clips.video import write_video  # needs ffmpeg, which trainings do not need

    frames = CONCEPTS[DEMO].frames(torch.arange(27) / fps)
    enlarged = torch.nn.functional.interpolate(frames.movedim(-1, 1), scale_factor=4, mode="bicubic").clamp(0, 1)
    write_video(path, enlarged.movedim(1, -1), fps)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; a training's fields are its options."""
    parser = argparse.ArgumentParser(prog="python -m tools.embedded_model", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, config in (("vae", VaeTraining), ("transformer", TransformerTraining)):
        command = commands.add_parser(name, help=f"train the {name}; saves and resumes")
        text = "where the state and the weights are kept"
        command.add_argument("--folder", type=Path, default=Path("build/embedded_model"), help=text)
        command.add_argument("--start", type=Path, help="weights to start from (default: new ones)")
        for field in fields(config):
            option = f"--{field.name.replace('_', '-')}"
            text = "default: %(default)s"
            if isinstance(field.default, bool):
                command.add_argument(option, action="store_true")
            else:
                command.add_argument(option, type=type(field.default), default=field.default, help=text)
        if name == "transformer":
            command.add_argument("--clips", type=int, default=8000, help="training clips (default: %(default)s)")
            command.add_argument("--vae", type=Path, default=VAE_FILE, help="default: the shipped one")
    command = commands.add_parser("measure", help="print how good a VAE and a transformer are")
    command.add_argument("--vae", type=Path, default=VAE_FILE, help="default: the shipped one")
    command.add_argument("--transformer", type=Path, default=TRANSFORMER_FILE, help="default: the shipped one")
    command.add_argument("--count", type=int, default=200, help="clips for each figure (default: %(default)s)")
    commands.add_parser("clip", help="write the demo's clip again")
    return parser


def _config(config: type[Config], options: argparse.Namespace) -> Config:
    given: dict[str, Any] = {field.name: getattr(options, field.name) for field in fields(config)}
    return config(**given)


def main() -> None:
    """Run the command line."""
    options = build_parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.command == "clip":
        write_demo_clip(CLIP_FILE)
    elif options.command == "vae":
        log.info("wrote %s", make_vae(options.folder, _config(VaeTraining, options), options.start, device))
    elif options.command == "transformer":
        config = _config(TransformerTraining, options)
        path = make_transformer(options.folder, config, options.clips, options.vae, options.start, device)
        log.info("wrote %s", path)
    else:
        for name, value in measure(options.vae, options.transformer, options.count, device):
            print(f"{name:24} {value:.2f} dB" if value > 1 else f"{name:24} {100 * value:.1f} %", flush=True)


if __name__ == "__main__":
    main()
