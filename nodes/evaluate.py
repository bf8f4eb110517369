"""Evaluate Concept: measures how well a generated clip keeps the concept and follows its prompt."""

from comfy.clip_vision import ClipVisionModel
from comfy.sd import CLIP
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..setandseq_core.clips.clip import Reference
from ..setandseq_core.embedded.evaluation import embedded_probes
from ..setandseq_core.evaluate.metrics import Evaluation, Figure, evaluate, without_tokens
from .messages import show_text
from .vision import VisionEmbedder, VisionTextEmbedder
from .wires import CATEGORY, ReferenceWire


def evaluate_clip(
    reference: Reference, images: Tensor, prompt: str, vision: ClipVisionModel | None, clip: CLIP | None
) -> Evaluation:
    """Compute all figures of a generated clip with the connected models; an empty prompt stands for the reference's."""
    words, frames_FHWC = reference.words, images[..., :3]
    tokens, prompt = (words.identity_token, words.motion_token), prompt.strip() or words.motion_prompt
    return evaluate(
        reference.clip.frames_FHWC,
        frames_FHWC,
        prompt,
        tokens=tokens,
        image_model=VisionEmbedder(vision) if vision and not clip else None,
        text_model=VisionTextEmbedder(vision, clip) if vision and clip else None,
        probes=embedded_probes(without_tokens(prompt, tokens), reference.clip.frames_FHWC, frames_FHWC),
    )


def _on_wire(figure: Figure) -> float | ExecutionBlocker:
    """Return the figure's value, or a blocker that stops all nodes that need the figure and gives the reason."""
    return ExecutionBlocker(figure.why) if figure.value is None else figure.value


class EvaluateConcept(io.ComfyNode):
    """Measures a generated clip with `evaluate_clip`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_EvaluateConcept",
            display_name="Evaluate Concept",
            category=CATEGORY,
            description="Compares a generated video with its prompt and with the clip that the concept was trained on: "
            "look, motion, prompt, steadiness. If a score cannot be computed, it says which input is missing.",
            search_aliases=["metrics", "clip score", "identity similarity", "motion fidelity", "set and sequence"],
            inputs=[
                ReferenceWire.Input(
                    "reference", tooltip="The clip that the concept was trained on, from Reference Clip."
                ),
                io.Image.Input("images", tooltip="The frames of the generated video, at the reference's frame rate."),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="The prompt of the video. If it is empty, the reference's motion prompt is used.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="From Load CLIP Vision: a CLIP or DINOv2 model that compares the looks. The embedded model "
                    "needs none.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The text encoder of the CLIP model at clip_vision, with its text projection, to check the "
                    "prompt. Do not connect the video model's text encoder.",
                ),
            ],
            outputs=[
                io.String.Output("report", tooltip="All scores, their ranges and the models that computed them."),
                io.Float.Output("identity", display_name="look", tooltip="Similarity of the looks. 1 is identical."),
                io.Float.Output(
                    "motion", tooltip="Similarity of the motions, from -1 to 1. 0 means unrelated, or no motion."
                ),
                io.Float.Output(
                    "prompt_adherence", tooltip="How well the video matches the prompt, without its tokens."
                ),
                io.Float.Output(
                    "temporal_coherence", tooltip="Similarity of consecutive frames. 1 is perfectly steady."
                ),
                io.Float.Output("mse", tooltip="Mean squared difference from the reference. 0 is identical."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        reference: Reference,
        images: Tensor,
        prompt: str,
        clip_vision: ClipVisionModel | None = None,
        clip: CLIP | None = None,
    ) -> io.NodeOutput:
        found = evaluate_clip(reference, images, prompt, clip_vision, clip)
        figures = (found.identity, found.motion, found.prompt_adherence, found.temporal_coherence, found.mse)
        report = found.report()
        return io.NodeOutput(report, *map(_on_wire, figures), ui=show_text(report, cls.hidden.unique_id))
