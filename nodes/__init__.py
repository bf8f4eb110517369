"""The nodes: thin wrappers of setandseq_core for ComfyUI. Importing this package loads neither peft nor diffusers."""

from comfy_api.latest import ComfyExtension, io

from .card import register_card
from .compose import ComposeConcepts, StrengthScheduleNode, TransferMotion
from .concepts import LoadDynamicConcept, SaveDynamicConcept
from .embedded import (
    EmbeddedModel,
    EmbeddedTextEncoder,
    ExampleClip,
    register_example_clip,
    register_prompt_notes,
    register_weights,
)
from .evaluate import EvaluateConcept
from .fit import register_fit
from .folders import register
from .identity import IdentityFromLoRA
from .kept import register_kept
from .panel import register_panel
from .pictures import ReferencePictures
from .prior import PriorClips
from .reference import ReferenceClip
from .settings import Regularisation, SamplingSettings, TrainingSettings
from .train_concept import TrainConcept
from .training import TrainIdentityLoRA, TrainMotionResidual

NODES: list[type[io.ComfyNode]] = [
    TrainConcept,
    ReferenceClip,
    ReferencePictures,
    PriorClips,
    TrainIdentityLoRA,
    IdentityFromLoRA,
    TrainMotionResidual,
    TrainingSettings,
    Regularisation,
    SamplingSettings,
    SaveDynamicConcept,
    LoadDynamicConcept,
    ComposeConcepts,
    StrengthScheduleNode,
    TransferMotion,
    EvaluateConcept,
    EmbeddedModel,
    EmbeddedTextEncoder,
    ExampleClip,
]


class SetAndSequence(ComfyExtension):
    """The extension that ComfyUI loads."""

    async def on_load(self) -> None:
        """Register the pack's folders, and the routes that its browser code calls."""
        register()
        register_weights()
        register_card()
        register_prompt_notes()
        register_example_clip()
        register_fit()
        register_panel()
        register_kept()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return all nodes of the pack."""
        return NODES
