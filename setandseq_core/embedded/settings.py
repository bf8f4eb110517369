"""Clip format and training settings of the embedded model. Importing this module is cheap."""

from dataclasses import replace

from ..backbone import VideoFormat
from ..config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from .world.scene import FPS, FRAMES, SIZE

EMBEDDED_FORMAT = VideoFormat(fps=FPS, frames=FRAMES, size=(SIZE, SIZE), size_multiple=16)
EMBEDDED_CONFIG = MethodConfig(
    gradient_clipping=1.0,
    prior=PriorConfig(clips=8, empty_prompts=0.5),
    set_stage=SetConfig(steps=200, coefficient_dropout=0.5, learning_rate=1.5e-3, batch=4, time_shift=1.0),
    sequence_stage=SequenceConfig(steps=150, coefficient_dropout=0.3, learning_rate=3e-3, batch=4),
)
"""Settings of the method for the embedded model, which is small, and learns at higher rates and with less dropout than
large models. docs/results.md says what each of them is for."""


def _with_steps(look: int, motion: int) -> MethodConfig:
    config = EMBEDDED_CONFIG
    return replace(
        config,
        set_stage=replace(config.set_stage, steps=look),
        sequence_stage=replace(config.sequence_stage, steps=motion),
    )


EMBEDDED_PRESETS = {"draft": _with_steps(100, 80), "standard": EMBEDDED_CONFIG, "paper": _with_steps(150, 400)}
"""Presets of the embedded model, like `config.PRESETS` for large ones; *paper* has the paper's numbers of steps."""
EMBEDDED_GUIDANCE = 2.0
"""Classifier-free guidance of the embedded model. With more, a concept's look and motion suffer (docs/results.md)."""
EMBEDDED_SHIFT = 3.0
"""Time shift of the embedded model in sampling and training (`flow.shift_time`)."""
