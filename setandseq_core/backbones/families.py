"""The model families that the command line trains through diffusers, one entry each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..backbone import VideoFormat
from ..errors import BackboneError
from .folders import TRAINED_HERE, ModelFiles, part_in
from .gemma import gemma_prompts
from .loaded import LoadedBackbone
from .ltx import LTX_FORMAT, LTX_TEXT, load_ltx
from .ltx2 import LTX2_FORMAT, load_ltx2
from .t5 import t5_prompts
from .text_files import TextSource
from .wan import WAN_FORMAT, WAN_TEXT, load_wan


@dataclass(kw_only=True, slots=True, frozen=True)
class Family:
    """A kind of model in diffusers."""

    transformer: str
    """diffusers' class of its transformer, by which a folder is recognised."""
    format: VideoFormat
    text: Callable[[ModelFiles], TextSource]
    load: Callable[[ModelFiles], LoadedBackbone]


WAN = Family(
    transformer="WanTransformer3DModel",
    format=WAN_FORMAT,
    text=partial(t5_prompts, WAN_TEXT),
    load=load_wan,
)
LTX = Family(
    transformer="LTXVideoTransformer3DModel",
    format=LTX_FORMAT,
    text=partial(t5_prompts, LTX_TEXT),
    load=load_ltx,
)
LTX2 = Family(
    transformer="LTX2VideoTransformer3DModel",
    format=LTX2_FORMAT,
    text=gemma_prompts,
    load=load_ltx2,
)
FAMILIES = (WAN, LTX, LTX2)


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
