"""Prior prompts for the embedded model: scenes that its world can show, in its own words."""

from dataclasses import replace
from functools import lru_cache
from random import Random

from safetensors.torch import load_file

from ..clips.prior_prompts import PriorPrompt
from ..errors import ConceptMismatchError
from ..fingerprint import BaseFingerprint, check_base, fingerprint
from .files import TRANSFORMER_FILE
from .world.captions import parse_caption
from .world.scene import Caption, random_caption

CREATURES = 0.5
"""Share of sprites whose look has no name, and share of those whose motion has none; a concept is of both kinds."""


@lru_cache(maxsize=1)
def embedded_fingerprint() -> BaseFingerprint:
    weights = {
        name.removesuffix(".weight"): weight
        for name, weight in load_file(TRANSFORMER_FILE).items()
        if name.startswith("blocks.") and name.endswith(".weight") and weight.ndim == 2
    }
    return fingerprint("wan", weights)


def is_embedded(base: BaseFingerprint) -> bool:
    try:
        check_base(base, embedded_fingerprint())
    except ConceptMismatchError:
        return False
    return True


def world_prompts(count: int, seed: int = 0, own: str = "") -> list[PriorPrompt]:
    """Two-part prompts of random scenes with one or two sprites.

    Args:
        own: a concept's prompt without tokens. Scenes with one sprite then take place on the concept's background. If
            only the concept were seen there, the background would tell it from prior clips, and not its token.
    """
    rng = Random(f"prior {seed}")
    captions = [random_caption(rng, sprites=rng.choice((1, 2)), creatures=CREATURES) for _ in range(count)]
    if place := parse_caption(own):
        captions = [_at(place, each) if len(each.sprites) == 1 else each for each in captions]
    return [PriorPrompt(appearance=caption.static, motion=str(caption)) for caption in captions]


def _at(place: Caption, caption: Caption) -> Caption:
    return replace(caption, background=place.background, texture=place.texture, camera=place.camera)
