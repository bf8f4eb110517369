"""Runs both of our stages on a random Wan, as the train nodes do."""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu.inside import Pack
from benchmarks.gpu.steps import Steps, watched_steps
from benchmarks.gpu.wan import Clip, RandomText, load_vae

PROMPT = "a thing that moves"
FRAMES_OF_SET = 8


@dataclass(kw_only=True)
class Training:
    """A MODEL and a clip on which both stages can be run."""

    pack: Pack
    model: Any
    clip: Clip
    rank: int = 32
    recomputed: bool = False
    """Whether all blocks run again in the backward pass; otherwise as many as the plan chooses."""
    identity: Any = field(init=False, default=None)
    """The result of the set stage, from which the sequence stage starts."""
    backbone: Any = field(init=False)

    def __post_init__(self) -> None:
        self.backbone = self.pack("nodes.backbone").ComfyBackbone(self.model, RandomText(), load_vae())

    def config(self, steps: int, batch: int) -> Any:
        """Settings of both stages without prior clips."""
        settings = self.pack("setandseq_core.config")
        return settings.MethodConfig(
            rank=self.rank,
            prior=settings.PriorConfig(share=0.0),
            set_stage=settings.SetConfig(steps=steps, batch=batch),
            sequence_stage=settings.SequenceConfig(steps=steps, batch=batch),
        )

    def run(self, stage: str, *, steps: int, batch: int = 1, **options: Any) -> Any:
        """Train the "set" or the "sequence" stage and return its result. Options are those of `train_identity`."""
        train, encode = (self.pack(f"setandseq_core.{name}") for name in ("train", "clips.encode"))
        config = self.config(steps, batch)
        options = {"savings": self.plan(stage, batch).savings[0]} | options
        with self.pack("nodes.backbone").differentiable():
            material = encode.Material(clips=[self._encoded(stage)])
            if stage == "set":
                trained = train.train_identity(self.backbone, material, config, **options)
                self.identity = trained.layers
                return trained
            return train.train_motion(self.backbone, self.identity, material, config, **options)

    def _encoded(self, stage: str) -> Any:
        """The encoded clip as a stage sees it."""
        encode, pixels = self.pack("setandseq_core.clips.encode"), self.clip.pixels()
        if stage == "set":
            return encode.encode_frame_set(self.backbone, pixels[:FRAMES_OF_SET], PROMPT)
        return encode.encode_frame_sequence(self.backbone, pixels, PROMPT)

    def watched(self, stage: str, *, steps: int, batch: int = 1) -> Steps:
        """Train a stage and measure its steps, without the validation between them."""
        train, encode = (self.pack(f"setandseq_core.{name}") for name in ("train", "clips.encode"))
        trainable = self.pack("setandseq_core.lora").trainable_concept
        run_of_stage = self.pack("setandseq_core.training.run").StageRun
        config, backbone, savings = self.config(steps, batch), self.backbone, self.plan(stage, batch).savings[0]
        is_set = stage == "set"
        with self.pack("nodes.backbone").differentiable():
            one = self._encoded(stage)
            shape = (batch, *(one.latents_SCFHW.shape[1:] if is_set else one.latents_CFHW.shape))
            with (
                watched_steps() as found,
                backbone.running(shape, savings),
                trainable(backbone.module, backbone.layers, rank=self.rank, seed=0, device=backbone.device) as concept,
            ):
                parameters = concept.begin_set_stage(0.8)
                if not is_set:
                    parameters = concept.begin_sequence_stage(0.5)
                run = run_of_stage(
                    stage=stage,
                    key="",
                    parameters=parameters,
                    config=config.set_stage if is_set else config.sequence_stage,
                    method=config,
                    savings=savings,
                )
                loop = train.run_set_stage if is_set else train.run_sequence_stage
                loop(backbone, concept, encode.Material(clips=[one]), config, run)
        return found

    def plan(self, stage: str, batch: int = 1) -> Any:
        """Plan a stage: its needs, and the savings that make it fit."""
        plans, savings = self.pack("setandseq_core.training.plan"), self.pack("setandseq_core.training.savings")
        all_blocks = self.pack("setandseq_core.backbone").Savings(recomputed=savings.EVERY_BLOCK)
        with self.pack("nodes.backbone").differentiable():
            return plans.plan_training(
                self.backbone,
                (self.clip.frames, self.clip.height, self.clip.width),
                self.config(1, batch),
                text=self.backbone.encode_prompt(PROMPT),
                stages=(stage,),
                savings=all_blocks if self.recomputed else None,
            )

    def savings_in_words(self, plan: Any) -> str:
        """The savings of a planned stage in words, such as "with checkpointing"."""
        return self.pack("setandseq_core.training.savings").in_words(plan.savings[0]) or "everything kept"
