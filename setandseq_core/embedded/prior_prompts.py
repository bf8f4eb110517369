"""Prior prompts of the embedded model: what its world can show, said in its own words."""

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
"""Share of sprites without a named look, and as often without a named motion: the kinds a concept is one of."""


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
        own: a concept's prompt, without tokens. What is alone in its scene is then in the concept's place: if only the
            concept were ever there, the place would tell it from the prior, and not its token.
    """
    rng = Random(f"prior {seed}")
    captions = [random_caption(rng, sprites=rng.choice((1, 2)), creatures=CREATURES) for _ in range(count)]
    if place := parse_caption(own):
        captions = [_at(place, each) if len(each.sprites) == 1 else each for each in captions]
    return [PriorPrompt(appearance=caption.static, motion=str(caption)) for caption in captions]


def _at(place: Caption, caption: Caption) -> Caption:
    return replace(caption, background=place.background, texture=place.texture, camera=place.camera)
