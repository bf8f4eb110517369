"""ComfyUI's wires as a backbone: the same numbers as the core, gradients through any MODEL, and no trace afterwards."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch

from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]
PROMPTS = {"static_prompt": "a [v] blob", "motion_prompt": "a [v] blob [u] hopping"}
CONFIG = MethodConfig(
    prior=PriorConfig(share=0.0),
    rank=2,
    gradient_clipping=1.0,
    set_stage=SetConfig(steps=3, batch=2, learning_rate=1e-2),
    sequence_stage=SequenceConfig(steps=3, batch=1, learning_rate=1e-2),
)


@pytest.fixture
def wires(pack: Pack) -> tuple[Any, Any]:
    """The embedded CLIP and VAE."""
    file = pack("setandseq_core.embedded.model").VAE_FILE
    with torch.inference_mode():
        vae = import_module("comfy.sd").VAE(sd=import_module("comfy.utils").load_torch_file(str(file)))
        return pack("nodes.embedded").embedded_clip(), vae


@pytest.fixture
def learn(pack: Pack, wires: tuple[Any, Any]) -> Call:
    """Learns a concept of five random frames on a MODEL inside a node; returns it and all losses."""
    reference, fitting = pack("setandseq_core.clips.clip"), pack("setandseq_core.clips.clip")
    frames = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    clip = fitting.Clip(frames_FHWC=frames, fps=16.0, choice="random")

    def run(model: Any, *, checkpointing: bool = False, mask: torch.Tensor | None = None) -> tuple[Any, list[float]]:
        losses: list[float] = []
        one = reference.Reference(clip=clip, words=reference.Words(**PROMPTS), mask_FHW=mask)
        with torch.inference_mode(), pack("nodes.backbone").differentiable():
            backbone = pack("nodes.backbone").ComfyBackbone(model, *wires)
            found = pack("setandseq_core.learn").learn_concept(
                backbone,
                [one],
                CONFIG,
                name="blob",
                savings=pack("setandseq_core.backbone").Savings(recomputed=2 if checkpointing else 0),
                progress=lambda progress: losses.append(progress.loss),
            )
        return found, losses

    return run


@torch.inference_mode()
def output(model: Any) -> torch.Tensor:
    """The MODEL's output for fixed inputs; ComfyUI's memory manager loads the MODEL."""
    generator = torch.Generator().manual_seed(3)
    x, text = torch.randn(1, 16, 2, 4, 4, generator=generator), torch.randn(1, 48, 4096, generator=generator)
    import_module("comfy.model_management").load_models_gpu([model])
    return model.model.apply_model(x, torch.tensor([0.5]), c_crossattn=text)


def patched(model: Any) -> Any:
    """A MODEL with a LoRA on it, as a LoRA loader returns it."""
    with torch.inference_mode():
        model = model.clone()
        key = "diffusion_model.blocks.0.self_attn.q.weight"
        shape = model.model.diffusion_model.blocks[0].self_attn.q.weight.shape
        model.add_patches({key: (0.1 * torch.ones(shape),)})
    return model


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "float8_e4m3fn", "scaled fp8"])
@pytest.mark.parametrize("with_lora", [False, True])
def test_any_model_learns_and_is_bit_for_bit_as_before(
    load_wan: Call, load_scaled_wan: Call, learn: Call, weights: str, with_lora: bool
) -> None:
    model = load_scaled_wan() if weights == "scaled fp8" else load_wan(dtype=getattr(torch, weights))
    model = patched(model) if with_lora else model
    before = output(model)
    concept, losses = learn(model)
    assert torch.equal(output(model), before)
    assert len(losses) == 6 and all(loss > 0 for loss in losses)
    for layer in concept.layers.values():
        assert layer.identity_basis_OR.any() and layer.motion_residual_RI.any()
        assert layer.coefficients_RI.dtype == torch.float32
    memory = import_module("comfy.model_management")
    assert not memory.in_training
    with torch.inference_mode():
        memory.unload_all_models()
    assert torch.equal(output(model), before)


def test_losses_are_those_of_the_core(pack: Pack, load_wan: Call, learn: Call, wan_file: Call) -> None:
    from setandseq_core.backbones.wan import WanBackbone
    from setandseq_core.backbones.wan_files import load_transformer, load_vae
    from setandseq_core.clips.clip import Clip, Reference, Words
    from setandseq_core.embedded.files import VAE_FILE
    from setandseq_core.embedded.text import encode_prompt
    from setandseq_core.learn import learn_concept

    model = load_wan()
    transformer = load_transformer(wan_file(), torch.float32)
    backbone = WanBackbone(transformer, load_vae(VAE_FILE, torch.float32), encode_prompt, "core")
    backbone.shift = model.get_model_object("model_sampling").shift
    frames = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    clip = Clip(frames_FHWC=frames, fps=16.0, choice="random")
    expected: list[float] = []
    reference = Reference(clip=clip, words=Words(**PROMPTS))
    learn_concept(backbone, [reference], CONFIG, name="blob", progress=lambda progress: expected.append(progress.loss))
    assert learn(model)[1] == pytest.approx(expected, abs=1e-4)


def test_checkpointing_changes_no_loss(load_wan: Call, learn: Call) -> None:
    assert learn(load_wan(), checkpointing=True)[1] == learn(load_wan())[1]


def test_the_mask_decides_what_counts(load_wan: Call, learn: Call) -> None:
    half = torch.zeros(5, 32, 32)
    half[:, :, :16] = 1
    assert learn(load_wan(), mask=half)[1] != learn(load_wan())[1]
    assert learn(load_wan(), mask=torch.ones(5, 32, 32))[1] == pytest.approx(learn(load_wan())[1], abs=1e-5)


def test_cancel_leaves_no_trace(load_wan: Call, learn: Call) -> None:
    memory = import_module("comfy.model_management")
    model = load_wan()
    before = output(model)
    memory.interrupt_current_processing(True)
    with pytest.raises(memory.InterruptProcessingException):
        learn(model)
    assert torch.equal(output(model), before)
    assert not memory.in_training and "lora_A" not in str(model.model.diffusion_model)
    assert learn(model)[1]


def test_another_vae_is_refused(pack: Pack, load_wan: Call, wires: tuple[Any, Any]) -> None:
    clip, vae = wires
    vae.latent_channels = 4
    with pytest.raises(pack("setandseq_core.errors").BackboneError, match="Connect the VAE that belongs to the model"):
        pack("nodes.backbone").ComfyBackbone(load_wan(), clip, vae)


def test_a_model_that_is_no_flow_is_refused(pack: Pack, load_wan: Call, wires: tuple[Any, Any]) -> None:
    sampling = import_module("comfy.model_sampling")
    model = load_wan().clone()
    model.add_object_patch("model_sampling", sampling.ModelSamplingDiscrete())
    with pytest.raises(pack("setandseq_core.errors").BackboneError, match="ModelSamplingDiscrete, which gives"):
        pack("nodes.backbone").ComfyBackbone(model, *wires)


def test_the_embedded_model_has_a_guidance_of_its_own(pack: Pack, load_wan: Call, wires: tuple[Any, Any]) -> None:
    from setandseq_core.embedded.files import TRANSFORMER_FILE
    from setandseq_core.embedded.model import load_embedded

    embedded = import_module("comfy.sd").load_diffusion_model(str(TRANSFORMER_FILE))
    of_embedded, of_another = (pack("nodes.backbone").ComfyBackbone(model, *wires) for model in (embedded, load_wan()))
    assert of_embedded.guidance == load_embedded().guidance
    assert of_another.guidance == pack("nodes.families").family_of(of_another.model).guidance != of_embedded.guidance
