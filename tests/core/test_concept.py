"""Concepts: equations, fingerprint, the file's round trip, the golden file and the export."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from setandseq_core.concept import Concept, ConceptInfo, ConceptLayer, Strengths, effective_coefficients
from setandseq_core.concept_file.export import describe, export_lora
from setandseq_core.concept_file.file import load_concept, save_concept
from setandseq_core.concept_file.info import manager_metadata
from setandseq_core.errors import ConceptFileError, ConceptMismatchError
from setandseq_core.fingerprint import check_base, distance, fingerprint, sign_pattern

GOLDEN = Path(__file__).parent / "data" / "concept_v1.safetensors"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
)
FIRST_SIGNS = [-1, -1, -1, 1, -1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, 1]
Q, FFN = "blocks.0.self_attn.q", "blocks.1.ffn.0"


def wave(rows: int, columns: int, pitch: float) -> torch.Tensor:
    """A matrix that is the same on every machine, with no random numbers."""
    return torch.sin(torch.arange(rows * columns, dtype=torch.float64) * pitch).reshape(rows, columns).float()


def make_layer(num_out: int, num_in: int, rank: int) -> ConceptLayer:
    return ConceptLayer(
        identity_basis_OR=wave(num_out, rank, 0.3),
        coefficients_RI=wave(rank, num_in, 0.7),
        motion_residual_RI=wave(rank, num_in, 1.1) / 2,
    )


def make_concept() -> Concept:
    """The concept of the golden file.

    The file was written once, in version 1 of the format, by `save_concept(make_concept(), GOLDEN)`. Never rewrite it:
    it represents all the concepts that people have.
    """
    info = ConceptInfo(
        name="golden",
        static_prompt="a sks lantern, red paper",
        motion_prompt="a sks lantern, red paper, mvx swinging slowly",
        identity_token="sks",
        motion_token="mvx",
        base=fingerprint("wan", {Q: wave(6, 4, 0.9), FFN: wave(8, 4, 1.3)}),
        base_name="setandseq toy",
        config={"rank": 2, "set": {"steps": 150}},
        training={
            "steps": [150, 400],
            "seed": 7,
            "date": "2026-01-02",
            "resolution": "64x64",
            "frames": 17,
            "fps": 8.0,
        },
        thumbnail=PNG,
        author="someone",
        tags=["lantern"],
    )
    return Concept(info=info, layers={Q: make_layer(6, 4, 2), FFN: make_layer(8, 4, 2)})


def assert_same(first: Concept, second: Concept, tolerance: float = 0.0) -> None:
    assert list(first.layers) == list(second.layers)
    for layer, value in first.layers.items():
        for part in ("identity_basis_OR", "coefficients_RI", "motion_residual_RI"):
            torch.testing.assert_close(
                getattr(value, part), getattr(second.layers[layer], part), rtol=tolerance, atol=tolerance
            )


@pytest.mark.parametrize(("identity", "motion"), [(1.0, 1.0), (0.3, 1.7), (0.0, 1.0), (1.0, 0.0)])
def test_factors_are_equation_6_with_strengths(identity: float, motion: float) -> None:
    generator = torch.Generator().manual_seed(0)
    a1, b1, b2 = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((7, 3), (3, 5), (3, 5)))
    layer = ConceptLayer(identity_basis_OR=a1, coefficients_RI=b1, motion_residual_RI=b2)
    up, down = layer.factors(Strengths(identity, motion))
    torch.testing.assert_close(up @ down, identity * (a1 @ b1) + motion * (a1 @ b2), rtol=1e-12, atol=1e-12)


def test_factors_without_a_motion_residual_are_equation_3() -> None:
    a1, b1 = wave(7, 3, 0.3).double(), wave(3, 5, 0.7).double()
    layer = ConceptLayer(identity_basis_OR=a1, coefficients_RI=b1, motion_residual_RI=torch.zeros_like(b1))
    torch.testing.assert_close(torch.mm(*layer.factors()), a1 @ b1, rtol=0, atol=0)


def test_coefficients_sum_identity_and_motion() -> None:
    b1, b2 = wave(3, 5, 0.7).double(), wave(3, 5, 1.1).double()
    got = effective_coefficients(b1, b2, Strengths(0.5, 2.0))
    torch.testing.assert_close(got, 0.5 * b1 + 2.0 * b2, rtol=1e-15, atol=0)


def test_coefficients_of_different_shapes_show_both() -> None:
    with pytest.raises(ConceptMismatchError, match=r"\[3, 4\].*\[3, 5\]"):
        effective_coefficients(torch.ones(3, 5), torch.ones(3, 4))


def test_wrong_rank_names_the_layer() -> None:
    concept = make_concept()
    with pytest.raises(ConceptMismatchError, match=rf"{FFN}.*\[8, 3\].*\[8, 2\]"):
        Concept(info=concept.info, layers=concept.layers | {FFN: make_layer(8, 4, 3)})


def test_a_layer_unknown_to_the_base_or_not_finite_is_refused() -> None:
    concept = make_concept()
    with pytest.raises(ConceptMismatchError, match=r"blocks\.9\.ffn\.0"):
        Concept(info=concept.info, layers={"blocks.9.ffn.0": make_layer(8, 4, 2)})
    broken = replace(concept.layers[Q], motion_residual_RI=torch.full((2, 4), float("nan")))
    with pytest.raises(ConceptMismatchError, match=f"{Q}.*motion_residual"):
        Concept(info=concept.info, layers={Q: broken})
    with pytest.raises(ConceptMismatchError, match="no layers"):
        Concept(info=concept.info, layers={})


def test_sign_pattern_is_frozen() -> None:
    signs = sign_pattern()
    assert signs[:16].int().tolist() == FIRST_SIGNS
    assert signs.shape == (4096,) and abs(signs.sum().item()) < 4 * 64


def test_projection_is_the_worked_example_of_the_docs() -> None:
    weight = torch.arange(1, 7).reshape(2, 3).float()
    assert fingerprint("wan", {"a": weight}).projections == {"a": -1.36277}
    assert fingerprint("wan", {"a": 8 * weight}).projections == {"a": -1.36277}
    assert fingerprint("wan", {"a": 0 * weight}).projections == {"a": 0.0}


def random_weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"blocks.{i}.ffn.0": torch.randn(96, 64, generator=generator) / 50 for i in range(12)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_fingerprint_survives_storage_in_fewer_bits(dtype: torch.dtype) -> None:
    weights = random_weights(0)
    stored = {layer: weight.to(dtype) for layer, weight in weights.items()}
    check_base(fingerprint("wan", weights), fingerprint("wan", stored))
    assert distance(fingerprint("wan", weights), fingerprint("wan", stored)) < 0.1


def test_fingerprint_survives_fine_tuning_but_not_another_training() -> None:
    weights, other = random_weights(0), random_weights(1)
    tuned = {layer: weight + 0.1 * other[layer] for layer, weight in weights.items()}
    check_base(fingerprint("wan", weights), fingerprint("wan", tuned))
    with pytest.raises(ConceptMismatchError, match=r"another base model.*first in layer 'blocks"):
        check_base(fingerprint("wan", weights), fingerprint("wan", other))


def test_check_base_names_the_first_layer_that_differs() -> None:
    weights = random_weights(0)
    made_for = fingerprint("wan", weights)
    with pytest.raises(ConceptMismatchError, match="'wan' family.*'ltx'"):
        check_base(made_for, fingerprint("ltx", weights))
    fewer = {layer: weight for layer, weight in weights.items() if layer != "blocks.3.ffn.0"}
    with pytest.raises(ConceptMismatchError, match=r"blocks\.3\.ffn\.0"):
        check_base(made_for, fingerprint("wan", fewer))
    check_base(fingerprint("wan", fewer), made_for)  # a model may have more layers than the concept changes
    with pytest.raises(ConceptMismatchError, match=r"blocks\.5\.ffn\.0.*\[96, 64\].*\[96, 32\]"):
        check_base(made_for, fingerprint("wan", weights | {"blocks.5.ffn.0": weights["blocks.5.ffn.0"][:, :32]}))


def test_concept_file_round_trip(tmp_path: Path) -> None:
    concept = make_concept()
    save_concept(concept, tmp_path / "a.safetensors", dtype=torch.float32)
    loaded = load_concept(tmp_path / "a.safetensors")
    assert_same(concept, loaded)
    assert loaded.info == concept.info and loaded.rank == 2
    save_concept(loaded, tmp_path / "b.safetensors", dtype=torch.float32)
    assert_same(concept, load_concept(tmp_path / "b.safetensors"))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.safetensors", "b.safetensors"]


def test_a_concept_is_stored_in_bfloat16_and_changes_no_more_when_it_is_saved_again(tmp_path: Path) -> None:
    concept = make_concept()
    concept = Concept(info=replace(concept.info, thumbnail=None, tags=[], author=""), layers=concept.layers)
    save_concept(concept, tmp_path / "a.safetensors")
    assert {tensor.dtype for tensor in load_file(tmp_path / "a.safetensors").values() if tensor.numel()} == {
        torch.bfloat16
    }
    loaded = load_concept(tmp_path / "a.safetensors")
    assert loaded.info == concept.info
    assert loaded.layers[Q].coefficients_RI.dtype == torch.float32
    assert_same(concept, loaded, tolerance=0.01)
    save_concept(loaded, tmp_path / "b.safetensors")
    assert_same(loaded, load_concept(tmp_path / "b.safetensors"))


def test_values_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    concept = make_concept()
    huge = Concept(info=concept.info, layers={Q: replace(concept.layers[Q], coefficients_RI=torch.full((2, 4), 1e6))})
    with pytest.raises(ConceptFileError, match="coefficients.*bfloat16"):
        save_concept(huge, tmp_path / "a.safetensors", dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def test_info_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    concept = make_concept()
    for training in ({"loss": float("nan")}, {"model": torch}, {"note": "\x1b[31m"}):
        with pytest.raises(ConceptFileError):
            save_concept(replace(concept, info=replace(concept.info, training=training)), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_file_keys_and_metadata_are_frozen(tmp_path: Path) -> None:
    save_concept(make_concept(), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        keys, metadata = sorted(file.keys()), file.metadata()
    parts = ("coefficients", "identity_basis", "motion_residual")
    layers = [f"{layer}.{part}" for layer in (Q, FFN) for part in parts]
    assert keys == [*layers, "use_the_node_Load_Dynamic_Concept"]
    assert sorted(metadata) == [
        *("modelspec." + key for key in ("architecture", "author", "date", "description", "hash_sha256", "resolution")),
        *(
            "modelspec." + key
            for key in ("sai_model_spec", "tags", "thumbnail", "title", "trigger_phrase", "usage_hint")
        ),
        *("setandseq." + key for key in ("info", "version")),
        *("ss_base_model_version", "ss_network_alpha", "ss_network_dim", "ss_network_module", "ss_output_name"),
        *("ss_tag_frequency", "sshs_model_hash"),
    ]
    assert metadata["setandseq.version"] == "1"
    assert metadata["modelspec.architecture"] == "wan/setandseq-concept"
    assert metadata["modelspec.trigger_phrase"] == "sks, mvx"
    assert metadata["ss_network_dim"] == metadata["ss_network_alpha"] == "2"
    assert json.loads(metadata["ss_tag_frequency"]) == {"golden": {"sks": 1, "mvx": 1, "lantern": 1}}
    assert metadata["modelspec.hash_sha256"] == "0x" + metadata["sshs_model_hash"]


def test_the_golden_file_of_version_1_loads_for_ever() -> None:
    golden, made = load_concept(GOLDEN), make_concept()
    assert_same(golden, made, tolerance=1e-6)
    assert golden.layers[Q].identity_basis_OR[0, 1].item() == pytest.approx(0.295520, abs=1e-6)
    assert golden.layers[FFN].motion_residual_RI[0, 1].item() == pytest.approx(0.445604, abs=1e-6)
    assert golden.info.base.projections == pytest.approx(made.info.base.projections, abs=1e-5)
    assert replace(golden.info, base=made.info.base) == made.info
    check_base(golden.info.base, made.info.base)


def test_describe_tells_what_a_person_asks() -> None:
    text = describe(make_concept())
    assert make_concept().motion_prompt == "a sks lantern, red paper, mvx swinging slowly"
    for line in (
        "Name: golden",
        "Appearance: a sks lantern, red paper",
        "Base model: setandseq toy (family wan)",
        "Weights: 2 layers, rank 2, 60 values",
        "Method rank: 2",
        "Training frames: 17",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(("identity", "motion"), [(1.0, 1.0), (0.4, 1.5)])
def test_export_is_the_concept_at_its_strengths(tmp_path: Path, identity: float, motion: float) -> None:
    concept = make_concept()
    path = tmp_path / "lora.safetensors"
    export_lora(concept, path, Strengths(identity, motion))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = {name: tensor.double() for name, tensor in load_file(path).items()}
    assert len(tensors) == 6 and metadata["modelspec.architecture"] == "wan/lora"
    assert metadata["ss_network_module"] == "networks.lora" and "setandseq.version" not in metadata
    for layer, value in concept.layers.items():
        down, up = (tensors[f"diffusion_model.{layer}.lora_{side}.weight"] for side in "AB")
        scale = tensors[f"diffusion_model.{layer}.alpha"].item() / down.shape[0]
        down_RI = identity * value.coefficients_RI.double() + motion * value.motion_residual_RI.double()
        needed = value.identity_basis_OR.double() @ down_RI
        torch.testing.assert_close(scale * up @ down, needed, rtol=1e-6, atol=1e-6)


def test_a_plain_lora_says_which_learned_tokens_are_missing(tmp_path: Path) -> None:
    concept = make_concept()
    path = tmp_path / "lora.safetensors"
    export_lora(replace(concept, embeddings={"identity_embedding": torch.ones(4)}), path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        assert not [key for key in file.keys() if "embedding" in key]  # noqa: SIM118
    assert metadata["setandseq.without"] == "identity_embedding"
    assert "learned tokens (identity embedding) are not in the plain LoRA" in metadata["modelspec.usage_hint"]
    export_lora(concept, path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert "setandseq.without" not in metadata and "learned tokens" not in metadata["modelspec.usage_hint"]


def test_managers_read_civitais_label_of_the_base(tmp_path: Path) -> None:
    concept = make_concept()
    layers = {"blocks.0.self_attn.q": [1536, 1536]}
    base = replace(concept.info.base, layers=layers, projections=dict.fromkeys(layers, 0.1))
    assert manager_metadata(replace(concept.info, base=base), 2, "", kind="lora")["ss_base_model_version"] == (
        "Wan Video 1.3B t2v"
    )
