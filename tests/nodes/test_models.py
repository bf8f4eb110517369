"""Facts about a MODEL: its layers, its fingerprint, and whether concepts can be made for it."""

from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from safetensors.torch import load_file

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.backbones.wan_files import load_transformer
from setandseq_core.embedded.text import encode_prompt

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]
FP8_DISTANCE = 0.05
BF16_DISTANCE = 0.005


@pytest.fixture
def apart(pack: Pack) -> Callable[[Any, Any], float]:
    """The distance between the fingerprints of two MODELs; the second one may have more layers."""
    core, models = pack("setandseq_core.fingerprint"), pack("nodes.models")

    def measure(first: Any, second: Any) -> float:
        found = models.model_fingerprint(first), models.model_fingerprint(second)
        core.check_base(*found)
        return core.distance(*found)

    return measure


def test_all_linear_layers_of_the_blocks_are_found(pack: Pack, load_wan: Call) -> None:
    model = load_wan()
    layers = pack("nodes.models").adapted_layers(model)
    assert len(layers) == 2 * 10
    assert {"blocks.0.self_attn.q", "blocks.1.cross_attn.o", "blocks.1.ffn.2"} <= layers.keys()
    for path in layers.values():
        assert isinstance(model.model.diffusion_model.get_submodule(path), torch.nn.Linear)


def test_fingerprint_is_that_of_the_same_file_in_diffusers(
    pack: Pack, load_wan: Call, wan_file: Callable[..., Path]
) -> None:
    vae = AutoencoderKLWan(base_dim=4)
    expected = WanBackbone(load_transformer(wan_file(), torch.float32), vae, encode_prompt, "random").fingerprint()
    assert asdict(pack("nodes.models").model_fingerprint(load_wan())) == asdict(expected)


def test_fingerprint_survives_bf16(load_wan: Call, apart: Callable[..., float]) -> None:
    assert 0 < apart(load_wan(), load_wan(dtype=torch.bfloat16)) < BF16_DISTANCE


def test_fingerprint_survives_fp8(load_wan: Call, apart: Callable[..., float]) -> None:
    assert 0 < apart(load_wan(), load_wan(dtype=torch.float8_e4m3fn)) < FP8_DISTANCE


def test_fingerprint_survives_scaled_fp8(
    pack: Pack, load_wan: Call, load_scaled_wan: Call, apart: Callable[..., float]
) -> None:
    model = load_scaled_wan()
    layer = model.model.diffusion_model.get_submodule("blocks.0.ffn.0")
    assert not isinstance(layer, torch.nn.Linear)  # this is what makes quantised files special
    assert len(pack("nodes.models").adapted_layers(model)) == 2 * 10
    assert 0 < apart(load_wan(), model) < FP8_DISTANCE


@pytest.mark.parametrize("loaded", [False, True], ids=["on the wire", "merged in"])
def test_fingerprint_leaves_patches_out(
    pack: Pack, load_wan: Call, make_concept: Call, velocity: Callable[[Any], torch.Tensor], loaded: bool
) -> None:
    models, wires = pack("nodes.models"), pack("nodes.wires")
    concept = make_concept(load_wan())
    model = load_wan()
    patched = pack("nodes.apply").apply_concepts(model, [wires.WeightedConcept(concept=concept)])
    models._fingerprints.clear()  # applying looked at the model before it was patched
    if loaded:
        velocity(patched)
        assert len(patched.backup) == 2 * 10
    assert models.model_fingerprint(patched) == concept.info.base


def test_fingerprints_of_two_models_differ(load_wan: Call, apart: Callable[..., float]) -> None:
    with pytest.raises(Exception, match="another base model: same shapes, other weights"):
        apart(load_wan(), load_wan(seed=1))


def test_fingerprint_is_taken_once_a_model(pack: Pack, load_wan: Call) -> None:
    models, model = pack("nodes.models"), load_wan()
    assert models.model_fingerprint(model) is models.model_fingerprint(model.clone())
    assert models.model_fingerprint(model) is not models.model_fingerprint(load_wan())


def test_video_models_are_taken_and_named(pack: Pack, load_wan: Call) -> None:
    models = pack("nodes.models")
    models.check_video_model(load_wan())
    assert models.model_name(load_wan()) == "Wan 2.1 T2V (128 wide, 2 blocks)"
    assert models.model_name(load_wan(heads=2)) == "Wan 2.1 T2V (256 wide, 2 blocks)"


def test_image_model_is_refused(pack: Pack, image_model: Any) -> None:
    with pytest.raises(pack("setandseq_core.errors").BackboneError, match="SD15 .an image.*makes pict.*Connect a"):
        pack("nodes.models").check_video_model(image_model)


def test_a_name_says_which_releases_have_these_shapes(pack: Pack) -> None:
    wan = pack("nodes.families").FAMILIES[0]
    assert wan.title("WAN21_T2V", 1536, takes_picture=False) == "Wan 2.1 T2V"
    assert wan.title("WAN21_T2V", 5120, takes_picture=False) == "Wan 2.1 or 2.2 T2V"
    assert wan.title("WAN21_T2V", 5120, takes_picture=True) == "Wan 2.2 I2V"


def test_variants_are_named(pack: Pack, load_wan: Call, vace_model: Any) -> None:
    models = pack("nodes.models")
    assert models.model_name(load_wan(in_channels=36)) == "Wan 2.2 I2V (128 wide, 2 blocks)"
    assert models.model_name(vace_model) == "Wan 2.1 VACE (128 wide, 2 blocks)"
    assert models.adapted_layers(vace_model).keys() == models.adapted_layers(load_wan()).keys()


def test_patches_have_a_key_of_their_content(pack: Pack, load_wan: Call) -> None:
    patches_key, model = pack("nodes.models").patches_key, load_wan()
    layer = "diffusion_model.blocks.0.self_attn.q.weight"
    shape = model.model.state_dict()[layer].shape

    def patched(value: float, strength: float = 1.0) -> str:
        other = model.clone()
        other.add_patches({layer: (value * torch.ones(shape),)}, strength)
        return patches_key(other)

    assert patches_key(model) == ""
    assert patched(0.1) == patched(0.1) != ""
    assert len({patched(0.1), patched(0.2), patched(0.1, 0.5)}) == 3


def test_cores_bypass_lora_is_part_of_the_patches_key(
    comfyui: ModuleType, pack: Pack, load_wan: Call, folders: Path, make_concept: Call
) -> None:
    """It acts by an injection and not by patches. If ignored, one model's results would be reused for another."""
    patches_key, model = pack("nodes.models").patches_key, load_wan()
    for seed, name in ((1, "one"), (2, "two")):
        (folders / "loras").mkdir(parents=True, exist_ok=True)
        export = pack("setandseq_core.concept_file.export").export_lora
        export(make_concept(model, seed=seed), folders / "loras" / f"{name}.safetensors")

    def with_bypass(name: str, strength: float = 1.0) -> str:
        lora = load_file(folders / "loras" / f"{name}.safetensors")
        with torch.inference_mode():
            patched, _ = import_module("comfy.sd").load_bypass_lora_for_models(model, None, lora, strength, 0.0)
        assert patched.injections and not patched.patches
        return patches_key(patched)

    keys = [with_bypass("one"), with_bypass("two"), with_bypass("one", 0.5)]
    assert len({"", *keys}) == 4
    assert with_bypass("one") == keys[0]


def test_an_unknown_injection_is_never_taken_for_another(comfyui: ModuleType, pack: Pack, load_wan: Call) -> None:
    extension = import_module("comfy.patcher_extension")

    def inject(_patcher: Any) -> None:
        pass

    def key(function: Call) -> str:
        model = load_wan()
        model.set_injections("other pack", [extension.PatcherInjection(inject=function, eject=inject)])
        return pack("nodes.models").patches_key(model)

    one, two = key(inject), key(lambda _patcher: None)
    assert len({"", one, two}) == 3
