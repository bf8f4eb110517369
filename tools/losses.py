"""`python -m tools.losses`: print the losses and a hash of the concept of four small trainings.

A refactor must not change the output. The trainings cover the embedded model with prior clips, learned tokens, masks
and stitched clips; a random Wan in bfloat16 through diffusers; and the embedded model through ComfyUI.
"""

import asyncio
import hashlib
import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from setandseq_core.backbone import Backbone
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.clips.clip import Clip, Reference, Words
from setandseq_core.concept import Concept
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.embedded.files import TRANSFORMER_FILE, VAE_FILE
from setandseq_core.embedded.model import load_embedded
from setandseq_core.embedded.text import encode_prompt
from setandseq_core.embedded.world.concepts import CONCEPTS, IDENTITY_TOKEN, MOTION_TOKEN
from setandseq_core.learn import learn_concept
from setandseq_core.training.prior import automatic_prior
from tools.server.folder import ROOT, comfyui_folder

CONFIG = MethodConfig(
    rank=4,
    gradient_clipping=1.0,
    token_learning_rate=1e-3,
    stitched_share=0.3,
    prior=PriorConfig(share=0.25, clips=4, empty_prompts=0.5),
    set_stage=SetConfig(steps=6, batch=4, learning_rate=1e-3, time_shift=1.0),
    sequence_stage=SequenceConfig(steps=6, batch=4, learning_rate=1e-3),
)
PACK = "pack_of_the_losses"


def reference(name: str, identity_token: str = IDENTITY_TOKEN) -> Reference:
    """A concept clip of the embedded world with a round mask."""
    concept = CONCEPTS[name]
    frames_FHWC = concept.frames()
    side = torch.linspace(-1, 1, frames_FHWC.shape[1])
    mask_HW = (side.square().view(-1, 1) + side.square() < 0.8).float()
    words = Words(
        static_prompt=concept.static_prompt.replace(IDENTITY_TOKEN, identity_token),
        motion_prompt=concept.motion_prompt.replace(IDENTITY_TOKEN, identity_token),
        identity_token=identity_token,
        motion_token=MOTION_TOKEN,
    )
    clip = Clip(frames_FHWC=frames_FHWC, fps=16.0, choice=name)
    return Reference(clip=clip, words=words, mask_FHW=mask_HW.expand(len(frames_FHWC), -1, -1))


def report(title: str, concept: Concept, losses: list[float]) -> None:
    """Print the losses and a hash of the concept's tensors."""
    digest = hashlib.sha256()
    for name, layer in sorted(concept.layers.items()):
        for tensor in (layer.identity_basis_OR, layer.coefficients_RI, layer.motion_residual_RI):
            digest.update(name.encode() + tensor.numpy().tobytes())
    for name, embedding_D in sorted(concept.embeddings.items()):
        digest.update(name.encode() + embedding_D.numpy().tobytes())
    print(f"{title}\n  losses {' '.join(loss.hex() for loss in losses)}\n  concept {digest.hexdigest()}", flush=True)


def learned(backbone: Backbone, references: list[Reference], config: MethodConfig) -> tuple[Concept, list[float]]:
    """Learn a concept; return it and the loss of every step."""
    losses: list[float] = []
    prior = automatic_prior(backbone, references, config)
    concept = learn_concept(
        backbone, references, config, name="x", prior=prior, progress=lambda now: losses.append(now.loss)
    )
    return concept, losses


def through_comfyui() -> None:
    """Train the embedded model through ComfyUI's classes."""
    sys.path.insert(0, str(comfyui_folder()))
    sys.argv = sys.argv[:1]
    import_module("comfy.cli_args").args.cpu = True
    import_module("server").PromptServer(asyncio.new_event_loop())
    spec = spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = sys.modules[PACK] = module_from_spec(spec)
    spec.loader.exec_module(module)
    backbones: Any = import_module(f"{PACK}.nodes.backbone")
    with torch.inference_mode():
        model = import_module("comfy.sd").load_diffusion_model(str(TRANSFORMER_FILE))
        vae = import_module("comfy.sd").VAE(sd=import_module("comfy.utils").load_torch_file(str(VAE_FILE)))
        clip = import_module(f"{PACK}.nodes.embedded").embedded_clip()
        with backbones.differentiable():
            backbone = backbones.ComfyBackbone(model, clip, vae)
            config = replace(CONFIG, token_learning_rate=0.0)
            report(
                "embedded, through ComfyUI", *learned(backbone, [reference("bee"), reference("lantern", "skz")], config)
            )


def main() -> None:
    """Run all four trainings."""
    torch.set_num_threads(1)
    report("embedded, learned tokens", *learned(load_embedded(), [reference("bee")], CONFIG))
    config = replace(CONFIG, token_learning_rate=0.0)
    report("embedded, stitched", *learned(load_embedded(), [reference("bee"), reference("lantern", "skz")], config))
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_attention_heads": 1, "ffn_dim": 64, "num_layers": 2}
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2)
    transformer: Any = WanTransformer3DModel(**sizes)
    transformer.to(torch.bfloat16)
    wan = WanBackbone(transformer, vae, encode_prompt, "random")
    config = replace(config, prior=PriorConfig(share=0.0))
    report("random Wan in bfloat16, through diffusers", *learned(wan, [reference("bee")], config))
    through_comfyui()


if __name__ == "__main__":
    main()
