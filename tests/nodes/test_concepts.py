"""Saving and loading concepts, and applying them to models."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]
LAYER = "blocks.1.ffn.2"


@pytest.fixture
def weighted(pack: Pack) -> Call:
    """A concept on a wire, with its identity and motion strength."""

    def make(concept: Any, identity: float = 1.0, motion: float = 1.0) -> Any:
        strengths = pack("setandseq_core.concept").Strengths(identity, motion)
        return pack("nodes.wires").WeightedConcept(concept=concept, strengths=strengths)

    return make


@pytest.fixture
def saved(run: Call, folders: Path, weighted: Call) -> Callable[..., list[str]]:
    """Saves with the node; returns the files in the models folder afterwards."""

    def save(concept: Any, name: str, plain_lora: bool = False, float32: bool = False, **strengths: float) -> list[str]:
        wanted = {"name": name, "plain_lora": plain_lora, "float32": float32}
        shown = run("SaveDynamicConcept", concept=weighted(concept, **strengths), **wanted).ui.as_dict()
        assert shown["text"][0].startswith("Concept: dynamic_concepts/")
        return sorted(path.relative_to(folders).as_posix() for path in folders.rglob("*") if path.is_file())

    return save


@pytest.fixture
def load(run: Call) -> Call:
    """Loads with the node."""

    def execute(concept: str, model: Any = None, identity: float = 1.0, motion: float = 1.0) -> Any:
        strengths = {"identity_strength": identity, "motion_strength": motion}
        return run("LoadDynamicConcept", concept=concept, model=model, **strengths)

    return execute


def weight_of(model: Any) -> torch.Tensor:
    """One weight of a MODEL with its patches, as sampling uses it."""
    with torch.inference_mode():
        return model.patch_weight_to_device(f"diffusion_model.{LAYER}.weight", return_weight=True).clone()


@pytest.mark.parametrize("float32", [False, True])
def test_a_saved_concept_comes_back(
    pack: Pack, load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], load: Call, float32: bool
) -> None:
    model = load_wan()
    concept = make_concept(model)
    assert saved(concept, "bee", float32=float32) == ["dynamic_concepts/bee.safetensors"]
    patched, wire, static_prompt, motion_prompt = load("bee.safetensors", model, 0.5, -2.0).result
    assert type(patched) is type(model)
    assert (wire.strengths.identity, wire.strengths.motion) == (0.5, -2.0)
    assert (static_prompt, motion_prompt) == ("a [v] bee", "a [v] bee, [u] dancing")
    assert wire.concept.info == concept.info
    for layer, value in concept.layers.items():
        kept = value.motion_residual_RI if float32 else value.motion_residual_RI.bfloat16().float()
        assert torch.equal(wire.concept.layers[layer].motion_residual_RI, kept)


def test_saving_again_changes_nothing_and_never_overwrites(
    load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], folders: Path
) -> None:
    model = load_wan()
    first, second = make_concept(model, seed=1), make_concept(model, seed=2)
    saved(first, "bee", plain_lora=True)
    file = folders / "dynamic_concepts" / "bee.safetensors"
    before = file.stat().st_mtime_ns, file.read_bytes()
    assert len(saved(first, "bee", plain_lora=True)) == 2
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before
    assert len(saved(second, "bee")) == 3
    assert saved(second, "bee", plain_lora=True) == [
        "dynamic_concepts/bee.safetensors",
        "dynamic_concepts/bee_2.safetensors",
        "loras/bee.safetensors",
        "loras/bee_2.safetensors",
    ]
    assert file.read_bytes() == before[1]


def test_a_folder_that_cannot_be_written_is_told_with_its_name_and_the_next_step(
    pack: Pack, load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], folders: Path
) -> None:
    concept = make_concept(load_wan())
    (folders / "dynamic_concepts" / "animals").write_text("a file where a folder is needed")
    storage_error = pack("setandseq_core.errors").StorageError
    with pytest.raises(storage_error, match=r"animals/bee\.safetensors cannot be written .* It needs .* MiB") as error:
        saved(concept, "animals/bee")
    assert "choose another folder" in error.value.hint
    assert saved(concept, "bee") == ["dynamic_concepts/animals", "dynamic_concepts/bee.safetensors"]


def test_saving_a_plain_lora_says_which_learned_tokens_are_missing(
    run: Call, load_wan: Call, make_concept: Call, weighted: Call, folders: Path
) -> None:
    concept = make_concept(load_wan())
    taught = weighted(replace(concept, embeddings={"identity_embedding": torch.ones(4096)}))
    (shown,) = run("SaveDynamicConcept", concept=taught, name="bee", plain_lora=True).ui.as_dict()["text"]
    assert "learned tokens (identity embedding) are not in the plain LoRA" in shown
    (shown,) = run("SaveDynamicConcept", concept=taught, name="bee", plain_lora=False).ui.as_dict()["text"]
    assert "learned tokens" not in shown


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("animals/bee", "animals/bee.safetensors"),
        ("../../outside", "outside.safetensors"),
        ("/elsewhere/outside", "elsewhere/outside.safetensors"),
        ("..\\..\\outside.safetensors", "outside.safetensors"),
    ],
)
def test_names_do_not_lead_out_of_the_folder(
    load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], load: Call, name: str, file: str
) -> None:
    assert saved(make_concept(load_wan()), name, plain_lora=True) == [f"dynamic_concepts/{file}", f"loras/{file}"]
    assert load(file).result[1].concept.info.name == Path(file).stem


def test_what_is_no_name_is_told_before_anything_runs(pack: Pack) -> None:
    validate = pack("nodes").SaveDynamicConcept.validate_inputs
    for name in ("", "/", "..", ".safetensors", "animals/"):
        assert "is no name for a file. Give one such as" in validate(name=name)
    assert validate(name="animals/bee") is True and validate() is True


def test_new_files_are_in_the_list_and_changed_ones_are_loaded_again(
    pack: Pack, load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], folders: Path
) -> None:
    node = pack("nodes").LoadDynamicConcept
    assert node.INPUT_TYPES()["required"]["concept"][1]["options"] == []
    saved(make_concept(load_wan()), "bee")
    assert node.INPUT_TYPES()["required"]["concept"][1]["options"] == ["bee.safetensors"]
    before = node.fingerprint_inputs(concept="bee.safetensors", identity_strength=1.0)
    assert node.fingerprint_inputs(concept="bee.safetensors", identity_strength=2.0) == before
    file = folders / "dynamic_concepts" / "bee.safetensors"
    file.write_bytes(file.read_bytes() + b" ")
    assert node.fingerprint_inputs(concept="bee.safetensors") != before


@pytest.mark.parametrize("name", ["ant.safetensors", "../bee.safetensors", "/etc/passwd", "", "bee"])
def test_a_missing_concept_says_where_it_belongs(
    pack: Pack,
    load_wan: Call,
    make_concept: Call,
    saved: Callable[..., list[str]],
    load: Call,
    folders: Path,
    name: str,
) -> None:
    saved(make_concept(load_wan()), "bee")
    message = f"There is no concept '{name}' in {folders / 'dynamic_concepts'}. Found there: bee.safetensors."
    answer = pack("nodes").LoadDynamicConcept.validate_inputs(concept=name)
    assert answer.startswith(message)
    with pytest.raises(pack("setandseq_core.errors").ConceptFileError) as error:
        load(name)
    assert str(error.value) == answer


def test_a_present_or_wired_concept_is_valid(
    pack: Pack, load_wan: Call, make_concept: Call, saved: Callable[..., list[str]]
) -> None:
    saved(make_concept(load_wan()), "bee")
    assert pack("nodes").LoadDynamicConcept.validate_inputs(concept="bee.safetensors") is True
    assert pack("nodes").LoadDynamicConcept.validate_inputs() is True


def test_hostile_and_foreign_files_are_refused(
    pack: Pack, load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], load: Call, folders: Path
) -> None:
    saved(make_concept(load_wan()), "bee", plain_lora=True)
    good, folder = (folders / "dynamic_concepts" / "bee.safetensors").read_bytes(), folders / "dynamic_concepts"
    (folder / "pickle.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    (folder / "cut.safetensors").write_bytes(good[: len(good) // 2])
    (folder / "flipped.safetensors").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    (folder / "lora.safetensors").write_bytes((folders / "loras" / "bee.safetensors").read_bytes())
    for name, match in {
        "pickle": "not a .safetensors file",
        "cut": "cut short",
        "flipped": "is damaged",
        "lora": "is a plain LoRA, not a concept",
    }.items():
        with pytest.raises(pack("setandseq_core.errors").ConceptFileError, match=match):
            load(f"{name}.safetensors")


@pytest.mark.parametrize(("seed", "heads"), [(1, 1), (0, 2)], ids=["other weights", "other size"])
def test_a_concept_of_another_model_names_both(
    pack: Pack, load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], load: Call, seed: int, heads: int
) -> None:
    saved(make_concept(load_wan()), "bee")
    other = load_wan(seed=seed, heads=heads)
    match = (
        "The concept 'bee' was made for Wan 2.1 T2V .128 wide, 2 blocks.. "
        f"It does not fit the connected model, Wan 2.1 T2V .{128 * heads} wide.*another base model"
    )
    with pytest.raises(pack("setandseq_core.errors").ConceptMismatchError, match=match):
        load("bee.safetensors", other)


def test_a_concept_on_an_image_model_names_both(
    pack: Pack, load_wan: Call, make_concept: Call, image_model: Any, run: Call, weighted: Call
) -> None:
    concepts = {"concept_0": weighted(make_concept(load_wan()))}
    match = "'bee' was made for Wan 2.1 T2V .* connected model, SD15 .an image model.* 'wan' family"
    with pytest.raises(pack("setandseq_core.errors").ConceptMismatchError, match=match):
        run("ComposeConcepts", model=image_model, concepts=concepts, identity_strength=0.0, motion_strength=0.0)


def test_without_a_model_the_concept_and_prompts_still_come(
    load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], load: Call
) -> None:
    saved(make_concept(load_wan()), "bee")
    blocked, wire, *prompts = load("bee.safetensors").result
    assert type(blocked) is import_module("comfy_execution.graph_utils").ExecutionBlocker
    assert "Connect Load Diffusion Model" in blocked.message
    assert wire.concept.info.name == "bee"
    assert prompts == ["a [v] bee", "a [v] bee, [u] dancing"]


@pytest.mark.parametrize(("identity", "motion"), [(1, 1), (0, 1), (1, 0), (-1, 1), (0.3, -2.5), (10, 10)])
def test_a_concept_does_what_its_plain_export_does(
    comfyui: ModuleType,
    load_wan: Call,
    make_concept: Call,
    saved: Callable[..., list[str]],
    load: Call,
    velocity: Callable[[Any], torch.Tensor],
    identity: float,
    motion: float,
) -> None:
    model = load_wan()
    saved(make_concept(model), "bee", plain_lora=True, float32=True, identity=identity, motion=motion)
    before = velocity(model)
    with torch.inference_mode():
        exported = comfyui.LoraLoaderModelOnly().load_lora_model_only(model, "bee.safetensors", 1.0)[0]
    found = velocity(load("bee.safetensors", model, identity, motion).result[0])
    assert torch.equal(found, velocity(exported))
    assert (found - before).abs().max() > 1e-3
    assert torch.equal(velocity(model), before)


@pytest.mark.parametrize(("identity", "motion"), [(1, 1), (0, 1), (1, 0), (-0.5, 2), (10, 10), (0, 0)])
def test_strengths_scale_their_parts(
    pack: Pack, load_wan: Call, make_concept: Call, weighted: Call, identity: float, motion: float
) -> None:
    model = load_wan()
    concept, before = make_concept(model), weight_of(model)
    layer = concept.layers[LAYER]
    change = layer.identity_basis_OR @ (identity * layer.coefficients_RI + motion * layer.motion_residual_RI)
    patched = pack("nodes.apply").apply_concepts(model, [weighted(concept, identity, motion)])
    torch.testing.assert_close(weight_of(patched), before + change, rtol=1e-5, atol=1e-6)
    assert bool(patched.patches) == (identity != 0 or motion != 0)
    assert not model.patches


def test_concepts_add_up(pack: Pack, load_wan: Call, make_concept: Call, weighted: Call, run: Call) -> None:
    model = load_wan()
    first, second = make_concept(model, seed=1), make_concept(model, seed=2)
    one, two = first.layers[LAYER], second.layers[LAYER]
    change = one.identity_basis_OR @ (0.5 * one.coefficients_RI + one.motion_residual_RI)
    change += two.identity_basis_OR @ (1.5 * two.coefficients_RI + 4.0 * two.motion_residual_RI)
    concepts = {"concept_0": weighted(first, 1.0, 0.5), "concept_1": weighted(second, 3.0, 2.0)}
    both = run("ComposeConcepts", model=model, concepts=concepts, identity_strength=0.5, motion_strength=2.0).result[0]
    torch.testing.assert_close(weight_of(both), weight_of(model) + change, rtol=1e-5, atol=1e-6)


def test_concepts_stay_beside_other_loras(
    comfyui: ModuleType, load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], load: Call
) -> None:
    model = load_wan()
    saved(make_concept(model, seed=1), "bee")
    saved(make_concept(model, seed=2), "style", plain_lora=True)
    with torch.inference_mode():
        styled = comfyui.LoraLoaderModelOnly().load_lora_model_only(model, "style.safetensors", 0.7)[0]
    alone = weight_of(load("bee.safetensors", model).result[0]) - weight_of(model)
    found = weight_of(load("bee.safetensors", styled).result[0]) - weight_of(styled)
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_concepts_fit_the_same_model_in_few_bits(
    pack: Pack,
    load_wan: Call,
    make_concept: Call,
    weighted: Call,
    velocity: Callable[[Any], torch.Tensor],
    dtype: torch.dtype,
) -> None:
    concept, model = make_concept(load_wan()), load_wan(dtype=dtype)
    before = velocity(model)
    found = velocity(pack("nodes.apply").apply_concepts(model, [weighted(concept)]))
    assert found.isfinite().all()
    assert (found - before).abs().max() > 1e-2


def test_a_concept_of_the_t2v_model_fits_vace(
    pack: Pack, load_wan: Call, make_concept: Call, weighted: Call, vace_model: Any
) -> None:
    patched = pack("nodes.apply").apply_concepts(vace_model, [weighted(make_concept(load_wan()))])
    assert len(patched.patches) == 2 * 10


def test_plain_lora_holds_the_effect_at_the_strengths_of_the_wire(
    load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], folders: Path
) -> None:
    concept = make_concept(load_wan())
    saved(concept, "calm", plain_lora=True, motion=0.0)
    down = load_file(folders / "loras" / "calm.safetensors")[f"diffusion_model.{LAYER}.lora_A.weight"]
    assert torch.equal(down, concept.layers[LAYER].coefficients_RI)


def test_what_is_shown_says_what_strengths_mean(
    load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], load: Call
) -> None:
    saved(make_concept(load_wan()), "bee")

    def shown(identity: float, motion: float) -> list[str]:
        return load("bee.safetensors", None, identity, motion).ui.as_dict()["text"][0].splitlines()

    assert shown(1, 0.5) == [
        "Made for: Wan 2.1 T2V (128 wide, 2 blocks)",
        "Look prompt: a [v] bee",
        "Motion prompt: a [v] bee, [u] dancing",
    ]
    assert shown(0, -10)[3:] == [
        "Look strength 0: the look is off.",
        "Motion strength -10: pushes away from the trained motion.",
        "Motion strength -10: far beyond the trained strength; the picture may break up.",
    ]


def test_the_lora_loader_says_in_the_log_which_node_takes_a_concept(
    pack: Pack, load_wan: Call, make_concept: Call, saved: Callable[..., list[str]], folders: Path, caplog: Any
) -> None:
    model = load_wan()
    saved(make_concept(model), "bee")
    content = import_module("comfy.utils").load_torch_file(str(folders / "dynamic_concepts" / "bee.safetensors"))
    import_module("comfy.sd").load_lora_for_models(model, None, content, 1.0, 0.0)
    assert caplog.messages[-1] == "lora key not loaded: use_the_node_Load_Dynamic_Concept"
