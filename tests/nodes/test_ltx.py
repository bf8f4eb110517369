"""A concept for LTX-Video or LTX-2 is the same in ComfyUI and on the command line, whichever trained it."""

import json
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from setandseq_core.backbones.families import family_of
from setandseq_core.backbones.folders import ModelFiles
from setandseq_core.backbones.ltx import LTXFamily
from setandseq_core.compose.apply import applied_concept
from setandseq_core.concept_file.file import load_concept
from tools.tiny_folders import TEXT_WIDTH, ltx2_settings, native_ltx, native_ltx2, write_ltx, write_ltx2

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
WORDS = {"static_prompt": "a blob", "motion_prompt": "a blob hopping", "identity_token": "", "motion_token": ""}


@pytest.fixture(scope="module", params=["LTX-Video", "LTX-2", "LTX-2.3"])
def release(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(release: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("models") / "ltx"
    return write_ltx(at) if release == "LTX-Video" else write_ltx2(at, newer=release == "LTX-2.3")


@pytest.fixture(scope="module")
def backbone(folder: Path) -> LTXFamily:
    """The model on the command line."""
    found = family_of(folder).load(ModelFiles(model=folder))
    assert isinstance(found, LTXFamily)
    return found


@pytest.fixture(scope="module")
def model(
    comfyui: ModuleType,
    release: str,
    folder: Path,
    backbone: LTXFamily,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """The same model in ComfyUI."""
    file = tmp_path_factory.mktemp("native") / "ltx.safetensors"
    if release == "LTX-Video":
        weights = native_ltx(backbone.module.state_dict())
        settings: dict[str, Any] = {"transformer": {"caption_channels": TEXT_WIDTH}}
    else:
        connectors = load_file(folder / "connectors" / "diffusion_pytorch_model.safetensors")
        weights = native_ltx2(backbone.module.state_dict(), connectors)
        settings = ltx2_settings(newer=release == "LTX-2.3")
    contiguous = {key: weight.contiguous() for key, weight in weights.items()}
    save_file(contiguous, file, {"config": json.dumps(settings)})
    with torch.inference_mode():
        return import_module("comfy.sd").load_diffusion_model(str(file), model_options={"dtype": torch.float32})


def inputs(backbone: LTXFamily) -> tuple[Tensor, Tensor, Any]:
    x_t = torch.randn(1, 128, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    return x_t, torch.tensor([0.6]), backbone.encode_prompt("a sks blob")


def velocity_in_comfyui(model: Any, backbone: LTXFamily) -> Tensor:
    """ComfyUI's network takes LTX-2's latents in a list, without those of a sound, and a text for the sound too."""
    x_t, time_B, text = inputs(backbone)
    text_BND, network = text.tokens_ND[None], model.model.diffusion_model
    with torch.inference_mode():
        import_module("comfy.model_management").load_models_gpu([model])
        if backbone.family == "ltxv":
            mask_BN = torch.ones(text_BND.shape[:2], dtype=torch.long)
            return network(x_t, time_B, text_BND, mask_BN, frame_rate=25).clone()
        width = network.audio_inner_dim if network.caption_proj_before_connector else network.caption_channels
        both_BND = torch.cat([text_BND, torch.zeros(*text_BND.shape[:2], width)], dim=-1)
        return network([x_t], time_B, both_BND, None, frame_rate=25).clone()


@torch.no_grad()
def velocity_here(backbone: LTXFamily) -> Tensor:
    x_t, time_B, text = inputs(backbone)
    return backbone.velocity(x_t, time_B, [text])


def random_concept(pack: Pack | None, base: Any) -> Any:
    """A concept for a base with random matrices, of the pack's own classes or of the command line's."""
    module = pack("setandseq_core.concept") if pack else import_module("setandseq_core.concept")
    draw = torch.Generator().manual_seed(2)
    layers = {}
    for name, (outputs, width) in base.layers.items():
        layers[name] = module.ConceptLayer(
            identity_basis_OR=0.1 * torch.randn(outputs, 2, generator=draw),
            coefficients_RI=0.1 * torch.randn(2, width, generator=draw),
            motion_residual_RI=0.1 * torch.randn(2, width, generator=draw),
        )
    info = module.ConceptInfo(name="blob", **WORDS, base=base, base_name="ltx", config={"rank": 2}, training={})
    return module.Concept(info=info, layers=layers)


def test_both_describe_the_model_alike(pack: Pack, model: Any, backbone: LTXFamily) -> None:
    assert asdict(pack("nodes.models").model_fingerprint(model)) == asdict(backbone.fingerprint())
    assert asdict(pack("nodes.models").family_format(model)) == asdict(backbone.format)
    assert pack("nodes.models").adapted_layers(model) == backbone.layers
    family = pack("nodes.families").family_of(model)
    found = (family.name, family.guidance, family.civitai, family.reads_padding, family.regions)
    expected = (backbone.family, backbone.guidance, backbone.base_label)
    assert found == (*expected, backbone.reads_padding, backbone.takes_regions)
    assert pack("nodes.times").times_of(model).shift == pytest.approx(backbone.shift, rel=1e-5)


def test_a_concept_of_the_command_line_acts_in_comfyui(
    pack: Pack, model: Any, backbone: LTXFamily, tmp_path: Path
) -> None:
    concept = random_concept(None, backbone.fingerprint())
    import_module("setandseq_core.concept_file.file").save_concept(concept, tmp_path / "blob.safetensors")
    read = pack("setandseq_core.concept_file.file").load_concept(tmp_path / "blob.safetensors")
    patched = pack("nodes.apply").apply_concepts(model, [pack("nodes.wires").WeightedConcept(concept=read)])
    with applied_concept(backbone, load_concept(tmp_path / "blob.safetensors")):
        expected = velocity_here(backbone)
    assert (expected - velocity_here(backbone)).abs().max() > 1e-2
    torch.testing.assert_close(velocity_in_comfyui(patched, backbone), expected, rtol=0, atol=1e-4)


def test_a_concept_of_comfyui_acts_on_the_command_line(
    pack: Pack, model: Any, backbone: LTXFamily, tmp_path: Path
) -> None:
    concept = random_concept(pack, pack("nodes.models").model_fingerprint(model))
    pack("setandseq_core.concept_file.file").save_concept(concept, tmp_path / "blob.safetensors")
    read = load_concept(tmp_path / "blob.safetensors")
    patched = pack("nodes.apply").apply_concepts(model, [pack("nodes.wires").WeightedConcept(concept=concept)])
    with applied_concept(backbone, read):
        found = velocity_here(backbone)
    torch.testing.assert_close(found, velocity_in_comfyui(patched, backbone), rtol=0, atol=1e-3)
