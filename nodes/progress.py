"""Shows the progress of a train node: its bar and, in the panel, the losses, the time left and sample videos."""

import time

import comfy.model_management as memory
from comfy.utils import ProgressBar

from ..nodes import panel
from ..setandseq_core.clips.clip import Reference
from ..setandseq_core.concept import Concept, in_words
from ..setandseq_core.config import MethodConfig
from ..setandseq_core.errors import SetAndSequenceError
from ..setandseq_core.train import Trained
from ..setandseq_core.training.clock import clock
from ..setandseq_core.training.kept import bound_kept
from ..setandseq_core.training.plan import TrainingPlan, plan_training
from ..setandseq_core.training.progress import Progress, StopTraining
from ..setandseq_core.training.proposal import plan_in_words, proposal_in_words
from ..setandseq_core.training.speed import remember_speed, speed
from ..setandseq_core.training.validation import complaint
from .backbone import ComfyBackbone
from .folders import training_folder
from .previews import Previews, clock_of, looping_picture
from .settings import TrainingOptions

TELL_SECONDS = 0.5
"""Shortest time between two messages to the panels, in seconds."""


class TrainingProgress:
    """A progress callback that shows training on a node; use it as a context around the training.

    Args:
        record: names the node, the stage, its steps, and the prompt of the sample videos.
        reference: the clip that the panel shows and that the plan is made for.
        options: if `preview_every` is 0, there are no sample videos, and only the stage's own validation losses.
    """

    def __init__(
        self,
        backbone: ComfyBackbone,
        record: panel.TrainingRecord,
        *,
        reference: Reference,
        options: TrainingOptions,
    ):
        self._backbone, self._record, self._reference, self._options = backbone, record, reference, options
        self._previews: Previews | None = None
        self._bar = ProgressBar(1, node_id=record.node)
        self._told = self._told_validation = 0
        self._told_at, self._told_stride = 0.0, 1
        self._called, self._begun = False, clock_of(backbone.device)()
        self._complaints: list[str] = []
        self._plan: TrainingPlan | None = None
        record.pictures["reference"] = looping_picture(reference.clip.frames_FHWC, reference.clip.fps)
        panel.RECORDS.put(record)
        self._tell(0.0)

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Tell the panels how the training ended."""
        record = self._record
        if error is None:
            record.state = panel.KEPT if record.step < record.steps else panel.FINISHED
            record.message = record.message if self._called else record.message or record.plan
        else:
            record.state = panel.STOPPED if isinstance(error, memory.InterruptProcessingException) else panel.FAILED
            record.message = str(error) if isinstance(error, SetAndSequenceError) else ""
            record.alarming = record.state == panel.FAILED
        record.seconds_left = 0.0
        self._tell(0.0)
        bound_kept(training_folder())

    def __call__(self, progress: Progress) -> None:
        """Show the state of the training.

        Raises:
            StopTraining: the user wants to stop and keep what was learned.
            InterruptProcessingException: the user has pressed Cancel.
        """
        memory.throw_exception_if_processing_interrupted()
        record, last = self._record, progress.step == progress.steps
        if not self._called:
            for loss in progress.losses[:-1]:
                record.losses.add(loss)
            self._previews = self._make_previews()
        self._called = True
        record.message = progress.unsaved or progress.saved_more
        record.alarming = bool(progress.unsaved)
        record.step, record.steps, record.seconds_left = progress.step, progress.steps, progress.seconds_left
        record.losses.add(progress.loss)
        ends = last or record.wish == panel.KEEP
        self._take_validation(progress)
        if self._previews:
            self._previews.validate(progress.validation, ends)
            self._previews.sample(record.step % self._options.preview_every == 0, ends)
        self._bar.update_absolute(record.steps_before + progress.step, record.steps_in_all or progress.steps)
        self._tell(0.0 if ends else TELL_SECONDS)
        if record.wish == panel.KEEP and not last:
            raise StopTraining

    def planned(self, config: MethodConfig, *stages: str) -> TrainingPlan:
        """Show the memory and time of the stages in the panel; return the plan, with the savings that make it fit.

        Practice clips are made in the set stage, so the sequence stage alone makes none.
        """
        backbone, words = self._backbone, self._reference.words
        frames, height, width = self._reference.clip.frames_FHWC.shape[:3]
        text = backbone.encode_prompt(words.motion_prompt if "sequence" in stages else words.static_prompt)
        size = frames, height, width
        plan = plan_training(
            backbone,
            size,
            config,
            text=text,
            stages=stages,
            savings=self._options.savings(),
            prior_clips=None if "set" in stages else 0,
        )
        rate = speed(backbone.device, backbone.compute_type)
        proposal = proposal_in_words(backbone, size, config, plan, rate, text=text)
        self._plan, self._record.plan = plan, " ".join([plan_in_words(plan, rate), proposal]).strip()
        self._tell(0.0)
        return plan

    @property
    def plan_words(self) -> str:
        """Describes the memory and time that the training needs."""
        return self._record.plan

    def making_prior(self, done: int, clips: int) -> None:
        """Show how many prior clips are finished; raise ComfyUI's interrupt if the user has pressed Cancel."""
        memory.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(done, clips)
        self._record.message = f"Making practice clips: {done} of {clips}."
        self._tell(0.0)

    def ended(self, stage: Trained) -> None:
        """Record how fast the stage was, and anything that went wrong, for its summary."""
        if self._plan and self._called:
            done = stage.record["steps"] / max(self._plan.stages[0].steps, 1)
            operations = done * self._plan.stages[0].operations(self._plan.savings[0])
            remember_speed(self._backbone.device, self._backbone.compute_type, operations, stage.record["seconds"])
        found = complaint(stage.validation, stage.taken_from), stage.unsaved
        self._complaints = [text for text in found if text]

    def _take_validation(self, progress: Progress) -> None:
        """Copy the validation losses of the stage into the record."""
        known = {step for step, _ in self._record.validation}
        losses = progress.validation.losses if progress.validation else {}
        self._record.validation += [(step, round(loss, 5)) for step, loss in losses.items() if step not in known]

    def summary(self, what: str, concept: Concept) -> str:
        """Describe a finished training; the node shows the text.

        Args:
            what: "look" or "motion".
        """
        found = concept.info.training[self._record.stage]
        if self._record.expert:
            what += f" ({in_words(self._record.expert)})"
        text = f"Learned the {what}: {found['steps']} steps in {clock(found['seconds'])}, rank {concept.rank}."
        validation = self._record.validation  # single losses are too noisy to tell
        if len(validation) > 1:
            text += f" Validation loss went from {validation[0][1]:.3f} to {validation[-1][1]:.3f}."
        if not self._called:
            text += " Nothing had to be done: this training was done before."
            panel.trained_before(self._record, found["losses"], found["steps"])
        text = " ".join([text, *self._complaints])
        self._record.message = text
        self._record.alarming = bool(self._complaints)
        return text

    def _tell(self, seconds: float) -> None:
        """Send the changes, unless the last message was sent less than `seconds` ago."""
        now, record = time.monotonic(), self._record
        if now - self._told_at < seconds:
            return
        first = self._told if record.losses.stride == self._told_stride else 0
        panel.tell(record, first, self._told_validation)
        self._told_at, self._told_stride = now, record.losses.stride
        self._told, self._told_validation = len(record.losses.values), len(record.validation)

    def _make_previews(self) -> Previews | None:
        frames_FHWC, options = self._reference.clip.frames_FHWC, self._options
        if not options.preview_every:
            return None
        return Previews(self._backbone, self._record, frames_FHWC, options.config, begun=self._begun)
