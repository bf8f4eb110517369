"""ComfyUI prompts for the embedded model, for tests and benchmarks: node id -> node, in the format of POST /prompt."""

from typing import Any

from setandseq_core.embedded.files import TRANSFORMER_FILE, VAE_FILE
from setandseq_core.embedded.settings import EMBEDDED_CONFIG, EMBEDDED_GUIDANCE
from setandseq_core.embedded.world.concepts import CONCEPTS, DEMO

Prompt = dict[str, dict[str, Any]]
CONCEPT = CONCEPTS[DEMO]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """One node; an input is a value, or [id, output number] of another node."""
    return {"class_type": class_type, "inputs": inputs}


def embedded_model(shift: float = 3.0) -> Prompt:
    """Nodes that load the embedded model, with ids such as "model", "vae" and "clip"."""
    return {
        "loader": node("UNETLoader", unet_name=TRANSFORMER_FILE.name, weight_dtype="default"),
        "model": node("ModelSamplingSD3", model=["loader", 0], shift=shift),
        "vae": node("VAELoader", vae_name=VAE_FILE.name),
        "clip": node("SetSeq_EmbeddedTextEncoder"),
    }


def training(
    *,
    set_steps: int = 2,
    sequence_steps: int = 2,
    batch: int = 1,
    rank: int = 4,
    seed: int = 0,
    prior_share: float = 0.0,
    token_learning_rate: float = 0.0,
    preview_every: int = 2,
) -> Prompt:
    """Train both stages on the example clip with nodes "identity" and "concept"; "save" writes "my_concept"."""
    wires = {"model": ["model", 0], "clip": ["clip", 0], "vae": ["vae", 0], "settings": ["settings", 0], "seed": seed}
    wires |= {"references.reference_0": ["reference", 0], "learning_rate": 1e-3}
    stages = EMBEDDED_CONFIG.set_stage, EMBEDDED_CONFIG.sequence_stage
    settings = {"identity_dropout": stages[0].coefficient_dropout, "motion_dropout": stages[1].coefficient_dropout}
    settings |= {"token_masking": 0.1, "weight_decay": 0.01}
    settings |= {"gradient_clipping": 1.0, "gradient_checkpointing": "auto", "preview_every": preview_every}
    settings |= {"time_from": 0.0, "time_to": 1.0}
    regularisation = {"prior_share": prior_share, "prior_weight": 1.0, "prior_empty_prompts": 0.0, "prior_clips": 2}
    regularisation |= {"stitched_share": 0.2, "still_frames": stages[0].still_frames}
    regularisation |= {"time_shift": stages[0].time_shift}
    regularisation |= {"token_learning_rate": token_learning_rate}
    return embedded_model() | {
        "video": node("SetSeq_ExampleClip"),
        "reference": node(
            "SetSeq_ReferenceClip",
            model=["model", 0],
            video=["video", 0],
            static_prompt=CONCEPT.static_prompt,
            motion_prompt=CONCEPT.motion_prompt,
            frames=17,
            width=64,
            height=64,
            image_fps=24.0,
            start=0.0,
            length=0.0,
        ),
        "options": node("SetSeq_TrainingSettings", batch=batch, **settings),
        "settings": node("SetSeq_Regularisation", settings=["options", 0], **regularisation),
        "identity": node("SetSeq_TrainIdentityLoRA", **wires, steps=set_steps, rank=rank),
        "concept": node(
            "SetSeq_TrainMotionResidual",
            model=["model", 0],
            identity=["identity", 0],
            steps=sequence_steps,
            learning_rate=1e-3,
            seed=seed,
        ),
        "save": node("SetSeq_SaveDynamicConcept", concept=["concept", 0], name="my_concept", plain_lora=False),
    }


def quick_settings() -> Prompt:
    """Nodes "options" and "settings" for short trainings: batch 1, no practice clips and no samples."""
    return {name: part for name, part in training(preview_every=0).items() if name in ("options", "settings")}


def sampling(model: list[Any], prompt: str, *, steps: int = 4, seed: int = 7, prefix: str = "latents") -> Prompt:
    """Sample a clip of the embedded model's size; "latents" saves its latents in output/."""
    return {
        "positive": node("CLIPTextEncode", clip=["clip", 0], text=prompt),
        "negative": node("CLIPTextEncode", clip=["clip", 0], text=""),
        "empty": node("EmptyHunyuanLatentVideo", width=64, height=64, length=17, batch_size=1),
        "sampler": node(
            "KSampler",
            model=model,
            seed=seed,
            steps=steps,
            cfg=EMBEDDED_GUIDANCE,
            sampler_name="euler",
            scheduler="simple",
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["empty", 0],
            denoise=1.0,
        ),
        "latents": node("SaveLatent", samples=["sampler", 0], filename_prefix=prefix),
    }
