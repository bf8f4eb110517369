"""The command `export`: write a concept as a plain LoRA."""

from pathlib import Path

import click

from .console import say
from .files import CONCEPT_SUFFIX, check_out
from .options import FILE, StrengthOptions, command, out_option, strength_options


@command(
    "Write a concept as a plain LoRA.",
    "lantern.safetensors --out lantern_lora.safetensors --motion-strength 0.5",
)
@click.argument("file", type=FILE, metavar="FILE")
@out_option("The LoRA: a .safetensors file. An existing file is replaced.")
@strength_options
def export(file: Path, out: Path, strengths: StrengthOptions) -> None:
    """Write the concept in FILE as a plain LoRA that stock ComfyUI and diffusers load.

    The LoRA holds the look and the motion at the given strengths; they can no longer be changed separately. A concept
    for the two experts of Wan 2.2 becomes two files, with _high_noise and _low_noise added to the name.
    """
    from ..concept import Strengths, experts_of
    from ..concept_file.export import export_lora, missing_tokens
    from ..concept_file.file import load_concept
    from ..errors import ConfigError

    check_out(out, CONCEPT_SUFFIX)
    if out.resolve() == file.resolve():
        raise ConfigError(f"--out is the concept itself, {file}.", hint="Give the LoRA another name.")
    concept = load_concept(file)
    fixed = Strengths(strengths.identity_strength, strengths.motion_strength)
    shown = f"identity {strengths.identity_strength:g}, motion {strengths.motion_strength:g}"
    bases = [part.info.base_name for part in experts_of(concept).values()]
    for path, base_name in zip(export_lora(concept, out, fixed), bases, strict=True):
        say(f"Made {path}: a LoRA of rank {concept.rank} for {base_name}, strengths {shown}.")
    if missing := missing_tokens(list(concept.embeddings)):
        say(missing)
