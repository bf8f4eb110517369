"""From a clip to a concept: encode, train both stages, and write down how it was made."""

import io
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .backbone import Backbone, backbone_fingerprint
from .concept import Concept, ConceptInfo
from .config import MethodConfig
from .errors import PromptError
from .runs import ProgressCallback
from .train import Trained, encode_reference, train_concept
from .video import Clip

THUMBNAIL_SIDE = 256
LOSSES_KEPT = 100


@dataclass(kw_only=True, slots=True, frozen=True)
class Words:
    """What the artist says of a clip.

    Raises:
        PromptError: a prompt does not hold its token.
    """

    name: str
    static_prompt: str
    """The appearance; holds the identity token [v]."""
    motion_prompt: str
    """The appearance and the movement (Eq. 7); holds both tokens."""
    identity_token: str = ""
    """[v], "" when there is none."""
    motion_token: str = ""
    """[u], "" when there is none."""

    def __post_init__(self) -> None:
        held = (("identity", self.identity_token, "static", self.static_prompt),)
        held += (("motion", self.motion_token, "motion", self.motion_prompt),)
        for kind, token, which, prompt in held:
            if token not in prompt:
                raise PromptError(
                    f"The {kind} token is '{token}', but the {which} prompt does not hold it: '{prompt}'. "
                    "Put the token where the prompt names the concept, or leave it out."
                )


def learn_concept(
    backbone: Backbone,
    clip: Clip,
    words: Words,
    config: MethodConfig,
    *,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Concept:
    """Learn a dynamic concept from one clip.

    Args:
        folder: where unfinished work is kept; the same clip, words and settings go on from there.
        progress: called after every step; may raise StopTraining, then the concept holds what was learned so far and
            its record says `"finished": False`.
    Raises:
        PromptError: a prompt is empty or too long.
    """
    reference = encode_reference(backbone, clip.frames_FHWC, words.static_prompt, words.motion_prompt)
    trained = train_concept(backbone, [reference], config, folder=folder, progress=progress)
    info = ConceptInfo(
        name=words.name,
        static_prompt=words.static_prompt,
        motion_prompt=words.motion_prompt,
        identity_token=words.identity_token,
        motion_token=words.motion_token,
        base=backbone_fingerprint(backbone),
        base_name=backbone.name,
        config=_plain(config.as_dict()),
        training=training_record(clip, trained, config),
        thumbnail=thumbnail(clip.frames_FHWC),
    )
    return Concept(info=info, layers=trained.layers)


def training_record(clip: Clip, trained: Trained, config: MethodConfig) -> dict[str, Any]:
    """What was trained on, when and for how long, as JSON values; losses pooled to at most 100 a stage."""
    frames, height, width = clip.frames_FHWC.shape[:3]
    stages = {
        stage: {"steps": record["steps"], "seconds": round(record["seconds"], 1), "losses": _pooled(record["losses"])}
        for stage, record in trained.record.items()
    }
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "resolution": f"{width}x{height}",
        "frames": frames,
        "fps": clip.fps,
        "seed": config.seed,
        "clip": clip.choice,
        "finished": trained.finished,
        **stages,
    }


def thumbnail(frames_FHWC: Tensor) -> bytes:
    """The middle frame of frames in [0, 1] as a PNG of at most 256 pixels a side."""
    middle = frames_FHWC[len(frames_FHWC) // 2]
    picture = Image.fromarray((middle.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _pooled(losses: list[float]) -> list[float]:
    size = -(-len(losses) // LOSSES_KEPT) or 1
    groups = [losses[i : i + size] for i in range(0, len(losses), size)]
    return [round(sum(group) / len(group), 5) for group in groups]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value
