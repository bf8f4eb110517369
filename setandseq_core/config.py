"""Settings of the method, with the paper's values as defaults (Table 6 and section 8 of Abdal et al. 2025).

They are saved inside the concept file, so a file says how it was made.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, TypeVar, cast

from .errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Values = dict[str, Any]
"""Settings, or a record of a training, as JSON values."""


@dataclass(kw_only=True, slots=True, frozen=True)
class StageConfig:
    """Settings that both stages have."""

    steps: int = 150
    """Optimizer steps; 0 leaves the stage out."""
    coefficient_dropout: float = 0.8
    """Probability of dropping an entry of the trained coefficients or residual (Eq. 10), in [0, 1)."""
    learning_rate: float = 1e-4
    batch: int = 8
    """Samples per step, each with its own noise and time."""

    def __post_init__(self) -> None:
        _need(self.steps >= 0, "steps", self.steps, "0 or more")
        _need(0 <= self.coefficient_dropout < 1, "coefficient_dropout", self.coefficient_dropout, "in [0, 1)")
        _need(0 < self.learning_rate <= 1, "learning_rate", self.learning_rate, "above 0 and at most 1")
        _need(self.batch >= 1, "batch", self.batch, "1 or more")


@dataclass(kw_only=True, slots=True, frozen=True)
class SetConfig(StageConfig):
    """Settings of the set stage, which learns identity basis and coefficients from single frames."""

    still_frames: int = 1
    """Length, 4n+1, of the still clip that shows each frame; 1 is the paper's single frame."""
    time_shift: float = 0.0
    """How far the times of the frames lean towards the noise (`flow.shift_time`), 0 or from 0.1 to 100. 1 samples times
    uniformly; 0 uses the model's own shift, which is tuned for clips. A single frame has fewer tokens, so less noise
    already hides its look. Not in the paper."""

    def __post_init__(self) -> None:
        StageConfig.__post_init__(self)
        shifts = self.time_shift == 0 or 0.1 <= self.time_shift <= 100
        _need(shifts, "time_shift", self.time_shift, "0, or from 0.1 to 100")
        _need(self.still_frames >= 1 and self.still_frames % 4 == 1, "still_frames", self.still_frames, "4n+1")


@dataclass(kw_only=True, slots=True, frozen=True)
class SequenceConfig(StageConfig):
    """Settings of the sequence stage, which learns the motion residual from the clip."""

    steps: int = 400
    coefficient_dropout: float = 0.5


@dataclass(kw_only=True, slots=True, frozen=True)
class PriorConfig:
    """Prior preservation: training also on clips from the base model (section 3.4.1)."""

    share: float = 0.25
    """Fraction of samples that are prior clips, in [0, 1); 0 turns prior preservation off."""
    weight: float = 1.0
    """Loss weight of a prior clip. The concept's clip has weight 1."""
    empty_prompts: float = 0.0
    """Fraction of prior samples shown with the empty prompt, in [0, 1]. Guidance moves away from the prediction for
    that prompt; if training leaves it unchanged, more of the look is kept. Not in the paper."""
    clips: int = 16
    """Number of prior clips to make if none are given."""

    def __post_init__(self) -> None:
        _need(0 <= self.share < 1, "prior.share", self.share, "in [0, 1)")
        _need(self.weight >= 0, "prior.weight", self.weight, "0 or more")
        _need(0 <= self.empty_prompts <= 1, "prior.empty_prompts", self.empty_prompts, "from 0 to 1")
        _need(1 <= self.clips <= 10_000, "prior.clips", self.clips, "from 1 to 10000")


EULER, LCM = "euler", "lcm"
SAMPLERS = (EULER, LCM)
"""Euler's method, and a sampler for step-distilled models that adds new noise after every step."""


@dataclass(kw_only=True, slots=True, frozen=True)
class SamplingConfig:
    """Settings for the clips that training generates: prior clips and previews. Not in the paper."""

    steps: int = 20
    guidance: float = 0.0
    """Classifier-free guidance: 0 uses the model's own, 1 turns it off, as step-distilled models need."""
    sampler: str = EULER
    """One of `SAMPLERS`."""

    def __post_init__(self) -> None:
        _need(1 <= self.steps <= 1000, "sampling.steps", self.steps, "from 1 to 1000")
        _need(0 <= self.guidance <= 100, "sampling.guidance", self.guidance, "from 0 to 100")
        _need(self.sampler in SAMPLERS, "sampling.sampler", self.sampler, f"one of {', '.join(SAMPLERS)}")


@dataclass(kw_only=True, slots=True, frozen=True)
class MethodConfig:
    """All settings of a training. Together with the clip, the prompts and the model, they determine the result."""

    rank: int = 32
    token_masking: float = 0.1
    """Probability of masking a token of the prompt (section 3.4.3), in [0, 1)."""
    token_learning_rate: float = 0.0
    """Learning rate of the learned tokens; the paper uses 1e-5. At 0, rare words are used instead."""
    stitched_share: float = 0.2
    """Fraction of steps that show two different concepts side by side (section 5.2.2), in [0, 1)."""
    time_range: tuple[float, float] = (0.0, 1.0)
    """Times to train on, such as those of one expert of Wan 2.2 14B: 0.875 to 1, or 0 to 0.875."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    gradient_clipping: float = 0.05
    seed: int = 0
    prior: PriorConfig = field(default_factory=PriorConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    set_stage: SetConfig = field(default_factory=SetConfig)
    sequence_stage: SequenceConfig = field(default_factory=SequenceConfig)

    def __post_init__(self) -> None:
        _need(1 <= self.rank <= 1024, "rank", self.rank, "from 1 to 1024")
        _need(0 <= self.token_masking < 1, "token_masking", self.token_masking, "in [0, 1)")
        _need(0 <= self.token_learning_rate <= 1, "token_learning_rate", self.token_learning_rate, "from 0 to 1")
        _need(0 <= self.stitched_share < 1, "stitched_share", self.stitched_share, "in [0, 1)")
        _need(are_times(self.time_range), "time_range", self.time_range, "two rising values in [0, 1]")
        _need(len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "betas", self.betas, "two values in [0, 1)")
        _need(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _need(self.gradient_clipping > 0, "gradient_clipping", self.gradient_clipping, "above 0")
        _need(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 4294967295")

    def as_dict(self) -> Values:
        """The settings as plain values, for the concept file."""
        return dataclasses.asdict(self)


Settings = TypeVar("Settings", MethodConfig, SetConfig, SequenceConfig, PriorConfig)


def _are_several(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def are_times(value: object) -> TypeGuard[Sequence[float]]:
    """Whether these are two rising numbers in [0, 1]."""
    if not _are_several(value) or len(value) != 2:
        return False
    numbers = [number for number in value if isinstance(number, int | float) and not isinstance(number, bool)]
    return len(numbers) == 2 and 0 <= numbers[0] < numbers[1] <= 1


def _need(holds: bool, name: str, found: object, needed: str) -> None:
    numbers = cast(tuple[object, ...], found) if isinstance(found, tuple) else (found,)
    # Infinity passes "0 or more", but a concept file cannot hold it.
    if not holds or any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise ConfigError(
            f"The setting '{name}' is {found}; it must be {needed}.",
            hint="Give an allowed value, or leave the setting out.",
        )


PAPER = MethodConfig()
STANDARD = MethodConfig(
    prior=PriorConfig(clips=8),
    set_stage=SetConfig(batch=4),
    sequence_stage=SequenceConfig(steps=250, batch=1),
)
"""For 33 frames at 480p on a 24 GB GPU with 80 TFLOP/s, the plan predicts 17 minutes for both stages of Wan 1.3B and
under two hours for Wan 14B in 8-bit floats. Making prior clips adds 5 and 34 minutes once."""
DRAFT = MethodConfig(
    prior=PriorConfig(clips=4),
    set_stage=SetConfig(steps=75, batch=4),
    sequence_stage=SequenceConfig(steps=100, batch=1),
)
"""Gives a first look at the result in two fifths of STANDARD's time."""
PRESETS = {"draft": DRAFT, "standard": STANDARD, "paper": PAPER}
STANDARD_PRESET = "standard"


def config_from_dict(values: Mapping[str, object], base: MethodConfig | None = None) -> MethodConfig:
    """`base` (or the defaults) with the given values in it; sections such as the two stages are nested dicts.

    Raises:
        ConfigError: a name is unknown, a value has the wrong type or is out of range.
    """
    return _replaced(base or MethodConfig(), values, "")


def read_config(path: Path, base: MethodConfig | None = None) -> MethodConfig:
    """`base` (or the defaults) with the settings of a TOML file in it.

    Raises:
        ConfigError: the file is missing or not TOML, or `config_from_dict` refuses its values.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"The settings file {path} cannot be read: {error}.", hint="Give a TOML text file."
        ) from error
    return config_from_dict(values, base)


def _replaced(config: Settings, values: Mapping[str, object], prefix: str) -> Settings:
    known = {f.name for f in dataclasses.fields(config)}
    changes: Values = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"Unknown setting '{prefix}{name}'.", hint=f"Known ones: {', '.join(sorted(known))}.")
        current = getattr(config, name)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, dict):
                raise ConfigError(
                    f"'{prefix}{name}' must be a section of settings, not {value!r}.",
                    hint=f"Write [{name}] on a line of its own and its settings below it.",
                )
            changes[name] = _replaced(cast(Any, current), cast(dict[str, object], value), f"{name}.")
        else:
            changes[name] = _typed(current, value, prefix + name)
    return dataclasses.replace(config, **changes)


def _typed(current: object, value: object, name: str) -> object:
    if _are_several(current) and _are_several(value):
        return tuple(_typed(current[0], entry, name) for entry in value)
    if isinstance(current, float) and type(value) is int:
        return float(value)
    if type(value) is not type(current):
        needed = type(current).__name__
        raise ConfigError(
            f"The setting '{name}' is {value!r}; it must be of type {needed}.",
            hint=f"Write it like {current!r}, its usual value.",
        )
    return value
