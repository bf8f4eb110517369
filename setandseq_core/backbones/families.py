"""The model families that the command line trains through diffusers, one entry each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..backbone import VideoFormat
from ..errors import BackboneError
from .folders import TRAINED_HERE, ModelFiles, part_in
from .loaded import LoadedBackbone
from .ltx import LTX_FORMAT, LTX_TEXT, load_ltx
from .t5 import TextFormat
from .wan import WAN_FORMAT, WAN_TEXT, load_wan


@dataclass(kw_only=True, slots=True, frozen=True)
class Family:
    """A kind of model in diffusers."""

    transformer: str
    """diffusers' class of its transformer, by which a folder is recognised."""
    format: VideoFormat
    text: TextFormat
    load: Callable[[ModelFiles], LoadedBackbone]


WAN = Family(transformer="WanTransformer3DModel", format=WAN_FORMAT, text=WAN_TEXT, load=load_wan)
LTX = Family(transformer="LTXVideoTransformer3DModel", format=LTX_FORMAT, text=LTX_TEXT, load=load_ltx)
FAMILIES = (WAN, LTX)


def family_of(model: Path) -> Family:
    """The family of a diffusers folder, by the class in its configuration. A single file can only be Wan's, and is
    checked when it is loaded.

    Raises:
        BackboneError: it is a folder of another model, or of none; the message names what it holds.
    """
    if not model.is_dir():
        return WAN
    folder, found = part_in(model, "transformer")
    for family in FAMILIES:
        if found == family.transformer:
            return family
    raise BackboneError(f"{folder}: holds a {found}, which the command line does not train.", hint=TRAINED_HERE)
