"""What training gave, made into a concept: with its prompts, its training record and a thumbnail.

Shape letters: F frames, H height, W width, C the three channels red, green and blue.
"""

import io
import math
from datetime import datetime, timezone
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .backbone import Backbone, backbone_fingerprint
from .concept import Concept, ConceptInfo
from .config import MethodConfig
from .train import Trained
from .video import Clip

MAX_THUMBNAIL_SIDE = 256
MAX_LOSSES = 100
"""Points of the loss curve that a concept keeps for each stage."""


def new_concept(
    backbone: Backbone,
    clip: Clip,
    config: MethodConfig,
    trained: Trained,
    *,
    name: str,
    static_prompt: str,
    motion_prompt: str,
) -> Concept:
    """The concept that was trained on `clip`, ready to be saved.

    Raises:
        ConceptMismatchError: the weights are not finite.
    """
    info = ConceptInfo(
        name=name,
        static_prompt=static_prompt,
        motion_prompt=motion_prompt,
        identity_token="",
        motion_token="",
        base=backbone_fingerprint(backbone),
        base_name=backbone.name,
        config=config.as_dict(),
        training=training_record(clip, config, trained),
        thumbnail=thumbnail(clip.frames_FHWC),
    )
    return Concept(info=info, layers=trained.layers)


def training_record(clip: Clip, config: MethodConfig, trained: Trained) -> dict[str, Any]:
    """How a concept came about, as JSON values; the losses of each stage are means over equal parts of it."""
    num_frames, height, width, _ = clip.frames_FHWC.shape
    record: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "finished": trained.finished,
        "resolution": f"{width}x{height}",
        "frames": num_frames,
        "fps": clip.fps,
        "clip": clip.choice,
        "seed": config.seed,
    }
    for stage, found in trained.record.items():
        losses = pooled(found["losses"], MAX_LOSSES)
        record[stage] = {"steps": found["steps"], "seconds": round(found["seconds"], 1), "losses": losses}
    return record


def pooled(values: list[float], most: int) -> list[float]:
    """At most `most` means over neighbouring values, each over the same number of them but for the last."""
    length = max(1, math.ceil(len(values) / most))
    parts = [values[start : start + length] for start in range(0, len(values), length)]
    return [round(sum(part) / len(part), 6) for part in parts]


def thumbnail(frames_FHWC: Tensor) -> bytes:
    """A PNG of the middle frame, at most 256 pixels a side; frames are RGB in [0, 1]."""
    frame_HWC = (frames_FHWC[len(frames_FHWC) // 2].clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    image = Image.fromarray(frame_HWC.numpy())
    image.thumbnail((MAX_THUMBNAIL_SIDE, MAX_THUMBNAIL_SIDE))
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()
