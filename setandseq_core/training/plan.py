"""Plan a training before its first step: its memory, its operations, and the savings that make it fit.

Every number comes from a step on fake tensors (`fake_step`), so it holds for any network that can learn a concept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import nn

from ..backbone import Backbone, Savings
from ..config import MethodConfig
from ..fingerprint import content_key
from ..prompts import Condition
from ..sample import sampled_as
from .fake_step import StepCost, fake_step
from .prior import FRAMES_KEPT
from .savings import EVERY_BLOCK, block_lists

Size = tuple[int, int, int]
"""Frames, height and width in pixels."""
SPARE = 1.02
"""Factor for the memory that the allocator loses between the tensors of a step."""
TRAINED_BYTES = 16
"""Bytes per trained float32 number: the number, its gradient and the two moments of AdamW."""
KEPT_BYTES = 8
"""Bytes per trained number for its first and its best value, which are kept in main memory."""

_known: dict[str, StepCost] = {}
"""Steps counted earlier, keyed by everything that they depend on."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Costs:
    """Cost of a step with any number of samples, extrapolated from a step with one sample and a step with two."""

    one: StepCost
    two: StepCost
    blocks: Mapping[str, int]
    """Number of blocks of each kind in the whole network; the counted steps ran only a few."""

    def peak(self, samples: int) -> int:
        """Peak bytes of a step, without its factors, the concept and the model."""
        return self._at(
            samples, *(self._beyond(cost, cost.peak - cost.factors, "kept") for cost in (self.one, self.two))
        )

    def kept(self, samples: int) -> int:
        """Bytes that all blocks keep for the backward pass."""
        bytes_of = [
            sum(block.kept * self.blocks[name] for name, block in cost.blocks.items()) for cost in (self.one, self.two)
        ]
        return self._at(samples, *bytes_of)

    def forward(self) -> int:
        """Floating-point operations of one sample's forward pass."""
        return self._beyond(self.one, self.one.forward, "forward")

    def operations(self, samples: int) -> int:
        """Floating-point operations of a step."""
        steps = [
            self._beyond(cost, self._beyond(cost, cost.operations, "forward"), "backward")
            for cost in (self.one, self.two)
        ]
        return self._at(samples, *steps)

    def _beyond(self, cost: StepCost, counted: int, share: str) -> int:
        """`counted`, extended to the blocks that did not run."""
        left_out = ((self.blocks[name] - block.run, block) for name, block in cost.blocks.items())
        return counted + sum(count * getattr(block, share) for count, block in left_out)

    @staticmethod
    def _at(samples: int, one: int, two: int) -> int:
        return one + (two - one) * (samples - 1)


@dataclass(kw_only=True, slots=True, frozen=True)
class StagePlan:
    """Memory and operations of one stage."""

    stage: str
    """Name of the stage: "set" or "sequence"."""
    steps: int
    batch: int
    tokens: int
    """Tokens of one sample."""
    weights: int
    """Bytes of the model's weights as stored."""
    concept: int
    """Bytes of the concept in training, its gradients and its optimizer state."""
    material: int
    """Bytes of all latents and encoded prompts that the stage trains on."""
    factors: int
    """Bytes of coefficients after dropout, and of dropout masks."""
    keeping: Costs
    """The cost of steps that keep everything for the backward pass."""
    recomputing: Costs
    """The cost of steps in which every block runs again."""

    @property
    def num_blocks(self) -> int:
        """Number of blocks of all kinds."""
        return sum(self.keeping.blocks.values())

    def memory(self, savings: Savings) -> int:
        """Peak bytes, without the weights."""
        samples = savings.samples_at_once or self.batch
        least = self.recomputing.peak(samples)
        if savings.in_main_memory:
            boundaries = self.recomputing.kept(samples)
            found = least - boundaries + min(boundaries, 2 * boundaries // max(self.num_blocks, 1))
        elif savings.recomputed >= self.num_blocks:
            found = least
        else:
            spared = self.keeping.kept(samples) - self.recomputing.kept(samples)
            found = max(least, self.keeping.peak(samples) - spared * savings.recomputed // self.num_blocks)
        return int(SPARE * (found + self.factors)) + self.concept + self.material

    def operations(self, savings: Savings) -> int:
        """Floating-point operations of all steps."""
        share = min(savings.recomputed, self.num_blocks) / max(self.num_blocks, 1)
        keeping, recomputing = self.keeping.operations(self.batch), self.recomputing.operations(self.batch)
        return int(keeping + (recomputing - keeping) * share) * self.steps

    def fitting(self, limit: int) -> Savings:
        """Savings with which the training and the model together fit into `limit` bytes.

        Tries in this order: no savings; recomputing as few blocks as possible; moving the inputs of recomputed blocks
        to main memory; splitting the batch. If nothing fits, part of the model's weights must wait in main memory, and
        the batch is split into as few parts as then fit.
        """
        num = self.num_blocks
        all_saved = Savings(recomputed=num, in_main_memory=True)
        in_parts = [replace(all_saved, samples_at_once=count) for count in _halves(self.batch)]
        in_order = [*(Savings(recomputed=count) for count in range(num + 1)), all_saved, *in_parts]
        fitting = [each for each in in_order if self.memory(each) <= limit - self.weights]
        without_weights = [each for each in (all_saved, *in_parts) if self.memory(each) <= limit]
        chosen = (*fitting, *without_weights, in_parts[-1] if in_parts else all_saved)[0]
        return replace(chosen, memory=self.memory(chosen))


@dataclass(kw_only=True, slots=True, frozen=True)
class TrainingPlan:
    """Memory and operations of a training of one or both stages on a device."""

    name: str
    """The model's name, with the type of its weights."""
    limit: int
    """Bytes available to model and training together."""
    stages: tuple[StagePlan, ...]
    savings: tuple[Savings, ...]
    """The savings of each stage."""
    prior: int
    """Floating-point operations for making prior clips."""

    @property
    def memory(self) -> int:
        """Peak bytes, including the weights."""
        return self.stages[0].weights + self.training_memory

    @property
    def training_memory(self) -> int:
        """Peak bytes, without the weights."""
        return max(savings.memory for savings in self.savings)

    @property
    def strongest(self) -> Savings:
        """The savings of the more demanding stage, which are enough for the other stage, too."""
        return max(self.savings, key=lambda each: (each.in_main_memory, each.recomputed, -each.samples_at_once))

    @property
    def fits(self) -> bool:
        """Whether the training fits, with the model's weights in main memory if necessary."""
        return self.training_memory <= self.limit

    @property
    def operations(self) -> int:
        """Floating-point operations of the whole training."""
        stages = zip(self.stages, self.savings, strict=True)
        return self.prior + sum(stage.operations(savings) for stage, savings in stages)


def plan_training(
    backbone: Backbone,
    size: Size,
    config: MethodConfig,
    *,
    text: Condition,
    stages: tuple[str, ...] = ("set", "sequence"),
    savings: Savings | None = None,
    limit: int | None = None,
    prior_clips: int | None = None,
) -> TrainingPlan:
    """Plan a training with a clip of this size; the model is not loaded, run or changed.

    Args:
        text: any prompt of the training, for its number of tokens.
        savings: savings to plan with; None chooses the ones that are needed.
        limit: bytes available to model and training together; None for the device's own limit.
        prior_clips: number of prior clips still to be made; None for all that the settings ask for.
    """
    room = backbone.memory_limit() if limit is None else limit
    planned = tuple(plan_stage(backbone, stage, size, config, text) for stage in stages)
    chosen = tuple(
        replace(savings, memory=stage.memory(savings)) if savings else stage.fitting(room) for stage in planned
    )
    clips = prior_clips if prior_clips is not None else config.prior.clips if config.prior.share else 0
    clip = _costs(backbone, "sequence", backbone.latent_shape(*size), config.rank, text, Savings()) if clips else None
    sampling = sampled_as(backbone, config.sampling)
    passes = 1 if sampling.guidance == 1 else 2
    return TrainingPlan(
        name=f"{backbone.name} {weights_type(backbone.module)}",
        limit=room,
        stages=planned,
        savings=chosen,
        prior=clips * sampling.steps * passes * clip.forward() if clip else 0,
    )


def plan_stage(backbone: Backbone, stage: str, size: Size, config: MethodConfig, text: Condition) -> StagePlan:
    """Plan one stage, "set" or "sequence"; see `plan_training`."""
    frames, height, width = size
    is_set = stage == "set"
    settings = config.set_stage if is_set else config.sequence_stage
    seen = min(config.set_stage.still_frames, frames) if is_set else frames
    shape_CFHW = backbone.latent_shape(seen, height, width)
    keeping, recomputing = (
        _costs(backbone, stage, shape_CFHW, config.rank, text, savings)
        for savings in (Savings(), Savings(recomputed=EVERY_BLOCK))
    )
    on_the_cpu = backbone.device.type == "cpu"
    sizes = [_size_of(backbone.module.get_submodule(path)) for path in backbone.layers.values()]
    num_in, num_out = (sum(numbers) for numbers in zip(*sizes, strict=True))
    trained, frozen = (num_in + num_out, 0) if is_set else (num_in, num_in + num_out)
    bytes_of_trained = TRAINED_BYTES + (KEPT_BYTES if on_the_cpu else 0)
    return StagePlan(
        stage=stage,
        steps=settings.steps,
        batch=settings.batch,
        tokens=prod(shape_CFHW[1:]) // backbone.format.patch**2,
        weights=sum(stored_bytes(value) for value in backbone.module.parameters()),
        concept=config.rank * (bytes_of_trained * trained + 4 * frozen),
        material=_material(shape_CFHW, frames if is_set else 1, FRAMES_KEPT if is_set else 1, config, text),
        factors=keeping.one.factors * num_in // max(keeping.one.inputs, 1),
        keeping=keeping,
        recomputing=recomputing,
    )


def stored_bytes(weight: nn.Parameter) -> int:
    """Bytes of a weight as stored, packed if it is quantised."""
    return getattr(weight, "_qdata", weight).nbytes


def weights_type(module: nn.Module) -> str:
    """The type of most of a network's weights, in words: "fp8", "bf16", "fp16", "fp32" ..."""
    numbers: dict[str, int] = {}
    for weight in module.parameters():
        kind = str(getattr(weight, "_qdata", weight).dtype).removeprefix("torch.")
        numbers[kind] = numbers.get(kind, 0) + weight.numel()
    kind = max(numbers, key=numbers.__getitem__)
    return "fp8" if kind.startswith("float8") else kind.replace("bfloat", "bf").replace("float", "fp")


def _halves(batch: int) -> list[int]:
    """Sizes of ever smaller parts of a batch, halved down to one sample."""
    found: list[int] = []
    while batch > 1:
        batch = -(-batch // 2)
        found.append(batch)
    return found


def _size_of(layer: Any) -> tuple[int, int]:
    return layer.in_features, layer.out_features


def _material(shape_CFHW: tuple[int, ...], samples: int, of_each: int, config: MethodConfig, text: Condition) -> int:
    """Bytes of the clip's latents, the prior clips' latents and all prompts; latents are float32.

    Args:
        samples: number of latents from the clip.
        of_each: number of latents from each prior clip.
    """
    clips = config.prior.clips if config.prior.share else 0
    return 4 * prod(shape_CFHW) * (samples + clips * of_each) + text.tokens_ND.nbytes * (1 + clips)


def _costs(
    backbone: Backbone, stage: str, shape_CFHW: tuple[int, ...], rank: int, text: Condition, savings: Savings
) -> Costs:
    lists = block_lists(backbone.module, backbone.layers)
    one, two = (_cost(backbone, stage, (batch, *shape_CFHW), rank, text, savings) for batch in (1, 2))
    return Costs(one=one, two=two, blocks={name: len(blocks) for name, blocks in lists.items()})


def _cost(
    backbone: Backbone, stage: str, shape: tuple[int, ...], rank: int, text: Condition, savings: Savings
) -> StepCost:
    """Cost of a step on fake tensors, counted once for all networks of the same kind and sizes."""
    module = backbone.module
    weights = [f"{name} {tuple(value.shape)} {value.dtype}" for name, value in module.named_parameters()]
    settings = f"{stage} {shape} {rank} {tuple(text.tokens_ND.shape)} {text.tokens_ND.dtype} {savings}"
    key = content_key(type(module).__qualname__, str(backbone.device), settings, *weights)
    if key not in _known:
        _known[key] = fake_step(backbone, stage, shape, rank, text, savings)
    return _known[key]
