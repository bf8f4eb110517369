"""The probes of the embedded world in the form that `metrics.evaluate` needs."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from .probes.metrics import identity_similarity, motion_similarity, prompt_adherence
from .world.captions import parse_caption
from .world.scene import SIZE, Caption

LARGEST = 4
"""Maximum scale of clips relative to the world's frames; the demo's videos have this scale."""


@dataclass(kw_only=True, slots=True, frozen=True)
class EmbeddedProbes:
    """Detectors of sprites and backgrounds, for clips of the embedded model."""

    caption: Caption
    name: str = "probes of the embedded model"

    def identity(self, reference_FHWC: Tensor, generated_FHWC: Tensor) -> float:
        """`probes.metrics.identity_similarity`, 0 to 1."""
        return identity_similarity(_small(reference_FHWC), _small(generated_FHWC))

    def motion(self, reference_FHWC: Tensor, generated_FHWC: Tensor) -> float:
        """`probes.metrics.motion_similarity`, -1 to 1."""
        return motion_similarity(_small(reference_FHWC), _small(generated_FHWC))

    def adherence(self, generated_FHWC: Tensor) -> float:
        """`probes.metrics.prompt_adherence`, 0 to 1."""
        return prompt_adherence(_small(generated_FHWC), self.caption)


def embedded_probes(prompt: str, *clips_FHWC: Tensor) -> EmbeddedProbes | None:
    """The probes; None if the prompt is not in the embedded world's grammar or the clips are not 1 to 4 times its size.

    Args:
        prompt: prompt without the concept's tokens; see `metrics.without_tokens`.
    """
    caption = parse_caption(prompt)
    sides = {side for clip in clips_FHWC for side in clip.shape[1:3]}
    square = all(clip.shape[1] == clip.shape[2] for clip in clips_FHWC)
    if caption is None or not square or not sides <= {SIZE * times for times in range(1, LARGEST + 1)}:
        return None
    return EmbeddedProbes(caption=caption)


def _small(frames_FHWC: Tensor) -> Tensor:
    times = frames_FHWC.shape[1] // SIZE
    return functional.avg_pool2d(frames_FHWC.movedim(-1, 1), times).movedim(1, -1) if times > 1 else frames_FHWC
