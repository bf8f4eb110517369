"""What a concept is learned from: a clip, and what the artist says of it."""

from dataclasses import dataclass

from torch import Tensor

from .errors import PromptError
from .fitting import Clip


@dataclass(kw_only=True, slots=True, frozen=True)
class Words:
    """What the artist says of a clip.

    Raises:
        PromptError: a prompt does not hold its token.
    """

    static_prompt: str
    """The appearance; holds the identity token [v]."""
    motion_prompt: str
    """The appearance and the movement (Eq. 7); holds both tokens."""
    identity_token: str = ""
    """[v], "" when there is none."""
    motion_token: str = ""
    """[u], "" when there is none."""

    def __post_init__(self) -> None:
        held = [("identity", self.identity_token, "static", self.static_prompt)]
        held += [("identity", self.identity_token, "motion", self.motion_prompt)]
        held += [("motion", self.motion_token, "motion", self.motion_prompt)]
        for kind, token, which, prompt in held:
            if token not in prompt:
                raise PromptError(
                    f"The {kind} token is '{token}', but the {which} prompt does not hold it: '{prompt}'. "
                    "Put the token where the prompt names the concept, or leave it out."
                )


@dataclass(kw_only=True, slots=True, frozen=True)
class Reference:
    """One clip to learn from, and what is said of it."""

    clip: Clip
    words: Words
    mask_FHW: Tensor | None = None
    """Of the clip's frames, 1 on the subject; the rest then counts little. None is all alike."""
