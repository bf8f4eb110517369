"""Practice Clips: makes clips with the model itself, for prior preservation."""

from collections.abc import Callable

import comfy.model_management as memory
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from comfy.utils import ProgressBar
from comfy_api.latest import io
from server import PromptServer

from ..setandseq_core.clips.clip import Reference
from ..setandseq_core.config import PriorConfig
from .backbone import ComfyBackbone, differentiable
from .folders import training_folder
from .messages import show_text
from .settings import TrainingOptions
from .wires import CATEGORY, PriorWire, ReferenceWire, SettingsWire, encoder_inputs

DEFAULT = PriorConfig()


class PriorClips(io.ComfyNode):
    """Makes prior clips with `make_prior`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SetSeq_PriorClips",
            display_name="Practice Clips",
            category=CATEGORY,
            description="Makes practice clips with the model itself. The train nodes mix them with your clip, so that "
            "the model does not forget what else it can show. Without this node, the train nodes make their own.",
            search_aliases=["prior clips", "prior preservation", "regularization images", "set and sequence"],
            inputs=[
                io.Model.Input("model", tooltip="The video model to train."),
                *encoder_inputs(),
                ReferenceWire.Input(
                    "reference", tooltip="The clip to learn from. Practice clips get its size and length."
                ),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="",
                    tooltip="One line per clip, in two parts, look and motion: A brown dog | It is running along a "
                    "beach. If empty, prompts are chosen for you; every fourth one is the reference's own prompt "
                    "without its tokens.",
                ),
                io.Int.Input(
                    "clips", default=DEFAULT.clips, min=1, max=1000, tooltip="Number of clips if you give no prompts."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="The same seed makes the same clips.",
                ),
                SettingsWire.Input(
                    "settings",
                    optional=True,
                    tooltip="From Sampling Settings, needed if the model or a LoRA on it is step-distilled.",
                ),
            ],
            outputs=[
                PriorWire.Output("prior", tooltip="For Train Identity LoRA."),
                io.Image.Output("images", tooltip="The clips, one after another."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        clip: CLIP,
        vae: VAE,
        reference: Reference,
        prompts: str,
        clips: int,
        seed: int,
        settings: TrainingOptions | None = None,
    ) -> io.NodeOutput:
        from ..setandseq_core.clips.prior_prompts import automatic_prompts, read_prompts
        from ..setandseq_core.training.prior import make_prior

        with differentiable():
            backbone = ComfyBackbone(model, clip, vae)
            words = [reference.words]
            chosen = read_prompts(prompts) or automatic_prompts(backbone, words, clips, seed)
            frames, height, width = reference.clip.frames_FHWC.shape[:3]
            prior = make_prior(
                backbone,
                chosen,
                (frames, height, width),
                seed=seed,
                sampling=(settings or TrainingOptions()).config.sampling,
                folder=training_folder(),
                progress=making_progress(cls.hidden.unique_id),
                must_save=False,
            )
            images_FHWC = torch.cat([backbone.decode_latents(latents_CFHW) for latents_CFHW in prior.latents_KCFHW])
        lines = [f"{len(chosen)} clips:", *(prompt.motion for prompt in chosen)]
        return io.NodeOutput(prior, images_FHWC, ui=show_text("\n".join(lines), cls.hidden.unique_id))


def making_progress(node_id: str) -> Callable[[int, int], None]:
    """A callback that shows the number of finished prior clips on a node and raises after Cancel."""
    bar = ProgressBar(1, node_id=node_id)

    def show(done: int, clips: int) -> None:
        memory.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, clips)
        PromptServer.instance.send_progress_text(f"practice clips: {done} of {clips}", node_id)

    return show
