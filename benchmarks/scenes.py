"""Several concepts in one video: a small clip of each, the prompt that names all of them, and measures for each place.

Letters: F frames, H height, W width; P places of a scene, one for each concept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import permutations

import torch
from torch import Tensor

from setandseq_core.clips.clip import Clip, Reference, Words
from setandseq_core.compose.regions import boxes, stripes
from setandseq_core.embedded.probes.detectors import detect
from setandseq_core.embedded.probes.metrics import identity_similarity, motion_similarity
from setandseq_core.embedded.world.concepts import CONCEPTS, ConceptClip
from setandseq_core.embedded.world.scene import (
    BACKGROUND_COLOURS,
    SIZE,
    Path,
    Scene,
    background_tones,
    clip_times,
    render,
)
from setandseq_core.evaluate.metrics import mse, temporal_coherence

BACKGROUND = "brown"
RADIUS, REACH = 9.5, 0.5
"""Sprites are small and move half as far as in `CONCEPTS`, so that several of them fit into one picture."""
PLACES = {
    2: ((SIZE / 4, SIZE / 2), (3 * SIZE / 4, SIZE / 2)),
    3: ((SIZE / 4, SIZE / 4), (3 * SIZE / 4, SIZE / 4), (SIZE / 2, 3 * SIZE / 4)),
}
"""Places for two concepts side by side, and for three: two above and one below."""

Group = tuple[str, ...]
"""Names of the concepts, in the order of `PLACES`."""


@dataclass(kw_only=True, slots=True, frozen=True)
class SmallClip(ConceptClip):
    """A concept small enough to leave room for others, with its own tokens."""

    number: int

    @property
    def tokens(self) -> tuple[str, str]:
        """The tokens of its look and its motion."""
        return f"[v{self.number}]", f"[u{self.number}]"

    @property
    def words(self) -> Words:
        """Its prompts on its own background."""
        (v, u), place = self.tokens, f"on a {self.background} {self.texture} background"
        return Words(
            static_prompt=f"a small {v} creature {place}",
            motion_prompt=f"a small {v} creature {u} wandering {place}",
            identity_token=v,
            motion_token=u,
        )

    @property
    def static_prompt(self) -> str:
        return self.words.static_prompt

    @property
    def motion_prompt(self) -> str:
        return self.words.motion_prompt


def room_for_others(clip: ConceptClip, number: int) -> SmallClip:
    """A small version of the concept, with the tokens of that number."""

    def motion(times: Tensor) -> Path:
        path = clip.motion(times)
        return replace(path, x=REACH * path.x, y=REACH * path.y)

    own = {item.name: getattr(clip, item.name) for item in fields(clip)}
    return SmallClip(**own | {"radius": RADIUS, "motion": motion, "number": number})


CLIPS = {name: room_for_others(clip, index + 1) for index, (name, clip) in enumerate(CONCEPTS.items())}


def reference(name: str, *, masked: bool = False) -> Reference:
    """The clip alone on its background, optionally with a mask of the sprite."""
    clip = CLIPS[name]
    frames, empty = clip.frames(), render(replace(clip.scene(), sprites=()))
    mask_FHW = ((frames - empty).abs().amax(-1) > 0.02).float()
    return Reference(
        clip=Clip(frames_FHWC=frames, fps=16.0, choice=name), words=clip.words, mask_FHW=mask_FHW if masked else None
    )


def prompt(names: Sequence[str]) -> str:
    """One prompt that names all concepts, on a background that none was trained on."""
    creatures = [f"a small {v} creature {u} wandering" for v, u in (CLIPS[name].tokens for name in names)]
    return f"{' and '.join(creatures)} on a {BACKGROUND} plain background"


def regions(count: int) -> Tensor:
    """The place of each of them, as masks (P, 1, H, W) of any size."""
    if count == 2:
        return stripes(count)
    return boxes([(0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 1, 1)]).unsqueeze(1)


def truth(group: Group) -> Tensor:
    """The scene that the prompt asks for, rendered: (F, H, W, 3)."""
    places = PLACES[len(group)]
    sprites = [CLIPS[name].scene(clip_times(), place).sprites[0] for name, place in zip(group, places, strict=True)]
    return render(
        Scene(sprites=tuple(sprites), tones=background_tones(BACKGROUND_COLOURS[BACKGROUND]), texture="plain")
    )


def figures(frames_FHWC: Tensor, group: Group) -> dict[str, object]:
    """Measure the sprite in each place; everything outside the place gets the frames' commonest colour.

    The prompt does not say which concept is where, so the concepts are assigned to places such that all looks together
    match best. "looks" has a row for each concept: how similar the sprite in its place is to every concept. "motions"
    has the similarity to the concept's own motion. The other figures are means over the concepts, with the names that
    benchmarks.method uses.
    """
    colour = frames_FHWC.flatten(0, 2).median(dim=0).values
    masks = torch.nn.functional.interpolate(regions(len(group)), (SIZE, SIZE), mode="nearest")[:, 0] > 0.5
    shown = [torch.where(mask_HW.unsqueeze(-1), frames_FHWC, colour) for mask_HW in masks]
    references, all_of = [CLIPS[name].frames() for name in group], range(len(group))
    likeness = [[identity_similarity(one, place) for one in references] for place in shown]
    order = max(permutations(all_of), key=lambda order: sum(likeness[place][who] for who, place in enumerate(order)))
    motions = [motion_similarity(references[who], shown[place]) for who, place in enumerate(order)]
    background, found = detect(frames_FHWC), sum(bool(detect(place).sprites) for place in shown)
    stated = [background.background == BACKGROUND, background.texture == "plain"]
    placed = tuple(group[order.index(place)] for place in all_of)
    return {
        "present": found,
        "places": list(placed),
        "looks": [[round(value, 4) for value in likeness[place]] for place in order],
        "motions": [round(value, 4) for value in motions],
        "identity": round(sum(likeness[place][who] for who, place in enumerate(order)) / len(group), 4),
        "motion": round(sum(motions) / len(group), 4),
        "prompt_adherence": round((sum(stated) + found) / (len(stated) + len(group)), 4),
        "temporal_coherence": round(temporal_coherence(frames_FHWC), 4),
        "mse": round(mse(truth(placed), frames_FHWC), 4),
    }
