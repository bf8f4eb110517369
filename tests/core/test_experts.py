"""Concepts for a base of two experts: one file, the expert that a model is, plain LoRAs, and hostile files."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from setandseq_core.compose.add import transfer_motion
from setandseq_core.compose.strengths import WeightedConcept
from setandseq_core.concept import Concept, ConceptInfo, ConceptLayer, expert_for, experts_of
from setandseq_core.concept_file.export import describe, export_lora, export_sum
from setandseq_core.concept_file.file import load_concept, save_concept
from setandseq_core.concept_file.info import manager_metadata
from setandseq_core.concept_file.safetensors import read_header
from setandseq_core.errors import ConceptFileError, ConceptMismatchError
from setandseq_core.fingerprint import BaseFingerprint, fingerprint

GOLDEN = Path(__file__).parent / "data" / "concept_v3.safetensors"
GOLDEN_BYTES = GOLDEN.read_bytes()
Q, FFN = "blocks.0.self_attn.q", "blocks.1.ffn.0"
PARTS = ("coefficients", "identity_basis", "motion_residual")
HIGH_PITCH, LOW_PITCH = 0.9, 2.3
"""Pitches of the waves that serve as the weights of the two experts."""


def wave(rows: int, columns: int, pitch: float) -> torch.Tensor:
    """A matrix that is the same on every machine, with no random numbers."""
    return torch.sin(torch.arange(rows * columns, dtype=torch.float64) * pitch).reshape(rows, columns).float()


def base(pitch: float) -> BaseFingerprint:
    return fingerprint("wan", {Q: wave(6, 4, pitch), FFN: wave(8, 4, pitch + 0.2)})


def make_layer(num_out: int, num_in: int, pitch: float) -> ConceptLayer:
    return ConceptLayer(
        identity_basis_OR=wave(num_out, 2, pitch),
        coefficients_RI=wave(2, num_in, pitch + 0.4),
        motion_residual_RI=wave(2, num_in, pitch + 0.8) / 2,
    )


def make_expert(expert: str, pitch: float, times: list[float], tokens: float = 0.0) -> Concept:
    info = ConceptInfo(
        name="golden",
        static_prompt="a sks lantern, red paper",
        motion_prompt="a sks lantern, red paper, mvx swinging slowly",
        identity_token="sks",
        motion_token="mvx",
        base=base(pitch),
        base_name=f"tiny Wan, {expert}",
        config={"rank": 2, "time_range": times},
        training={"seed": 7, "date": "2026-01-02", "resolution": "64x64", "set": {"steps": 150}},
        author="someone",
        tags=["lantern"],
    )
    embeddings = {"identity_embedding": torch.full((4,), tokens)} if tokens else {}
    return Concept(info=info, layers={Q: make_layer(6, 4, pitch), FFN: make_layer(8, 4, pitch)}, embeddings=embeddings)


def make_concept() -> Concept:
    """The concept of the golden file.

    The file was written once, in version 3 of the format, by
    `save_concept(make_concept(), GOLDEN, dtype=torch.float32)`. Never rewrite it: it represents all the concepts that
    people have.
    """
    low = make_expert("low", LOW_PITCH, [0.0, 0.875], tokens=0.5)
    return replace(make_expert("high", HIGH_PITCH, [0.875, 1.0], tokens=0.25), low_noise=low)


def assert_same(first: Concept, second: Concept, tolerance: float = 0.0) -> None:
    ours, theirs = experts_of(first), experts_of(second)
    assert list(ours) == list(theirs)
    for expert, concept in ours.items():
        other = theirs[expert]
        assert concept.info == other.info and list(concept.layers) == list(other.layers)
        for layer, value in concept.layers.items():
            for part in ("identity_basis_OR", "coefficients_RI", "motion_residual_RI"):
                found = getattr(other.layers[layer], part)
                torch.testing.assert_close(getattr(value, part), found, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(concept.embeddings, other.embeddings, rtol=tolerance, atol=tolerance)


def test_one_file_holds_both_experts(tmp_path: Path) -> None:
    concept = make_concept()
    save_concept(concept, tmp_path / "a.safetensors", dtype=torch.float32)
    assert_same(load_concept(tmp_path / "a.safetensors"), concept)
    header = read_header(tmp_path / "a.safetensors")
    keys = [f"{layer}.{part}" for layer in (Q, FFN) for part in PARTS] + ["identity_embedding"]
    experts = ("high_noise", "low_noise")
    sign = "use_the_node_Load_Dynamic_Concept"
    assert sorted(header.shapes) == sorted([sign, *(f"{expert}.{key}" for expert in experts for key in keys)])
    assert header.metadata["setandseq.version"] == "3"
    info = json.loads(header.metadata["setandseq.info"])
    assert sorted(info) == sorted(
        ["author", "experts", "identity_token", "motion_prompt", "motion_token", "name", "static_prompt", "tags"]
    )
    own = [sorted(expert) for expert in info["experts"].values()]
    assert list(info["experts"]) == list(experts) and own == [["base", "base_name", "config", "training"]] * 2


def test_the_golden_file_of_version_3_loads_for_ever() -> None:
    golden, made = load_concept(GOLDEN), make_concept()
    assert_same(golden, made, tolerance=1e-6)
    low = experts_of(golden)["low_noise"]
    assert low.layers[Q].identity_basis_OR[0, 1].item() == pytest.approx(0.745705, abs=1e-6)
    assert low.info.config["time_range"] == [0.0, 0.875]


def test_each_expert_finds_its_own_part_whatever_the_precision_of_its_file() -> None:
    concept = make_concept()
    for pitch, expert in ((HIGH_PITCH, "high"), (LOW_PITCH, "low")):
        weights = {Q: wave(6, 4, pitch).half(), FFN: wave(8, 4, pitch + 0.2).half()}
        found = expert_for(concept, fingerprint("wan", weights))
        assert found.info.base_name == f"tiny Wan, {expert}" and found.low_noise is None
        assert found.info.name == "golden"


def test_a_new_name_is_the_name_of_both() -> None:
    concept = make_concept()
    renamed = replace(concept, info=replace(concept.info, name="lamp"))
    assert [part.info.name for part in experts_of(renamed).values()] == ["lamp", "lamp"]


def test_a_model_that_is_neither_expert_is_told_from_both() -> None:
    concept = make_concept()
    with pytest.raises(ConceptMismatchError) as caught:
        expert_for(concept, base(5.1))
    text = str(caught.value)
    assert "tiny Wan, high for high noise (0.875 to 1)" in text and "tiny Wan, low for low noise (0 to 0.875)" in text
    assert "away from the one for high noise" in text and "away from the one for low noise" in text
    larger = fingerprint("wan", {Q: wave(6, 4, HIGH_PITCH), FFN: wave(9, 4, HIGH_PITCH)})
    with pytest.raises(ConceptMismatchError, match=r"other layers than the one for high noise.*\[8, 4\].*\[9, 4\]"):
        expert_for(concept, larger)
    with pytest.raises(ConceptMismatchError, match="'wan' family.*'ltx'"):
        expert_for(concept, replace(base(HIGH_PITCH), family="ltx"))


@pytest.mark.parametrize(
    ("low", "match"),
    [
        (make_expert("low", LOW_PITCH, [0.0, 0.9]), r"overlap.*0\.9"),
        (make_expert("low", LOW_PITCH, [0.5, 0.1]), "overlap"),
        (make_concept(), "one family and one rank"),
    ],
)
def test_experts_that_cannot_be_one_base_are_refused(low: Concept, match: str) -> None:
    with pytest.raises(ConceptMismatchError, match=match):
        replace(make_concept(), low_noise=low)


def test_a_plain_lora_is_written_for_each_expert(tmp_path: Path) -> None:
    concept = make_concept()
    paths = export_lora(concept, tmp_path / "lamp.safetensors")
    assert [path.name for path in paths] == ["lamp_high_noise.safetensors", "lamp_low_noise.safetensors"]
    assert sorted(tmp_path.iterdir()) == paths
    for path, (expert, part) in zip(paths, experts_of(concept).items(), strict=True):
        (alone,) = export_lora(part, tmp_path / "alone.safetensors")
        assert load_file(path).keys() == load_file(alone).keys()
        assert all(torch.equal(tensor, load_file(alone)[name]) for name, tensor in load_file(path).items())
        metadata = read_header(path).metadata
        assert metadata["modelspec.title"] == f"golden ({expert.replace('_', ' ')})"
        assert "setandseq.version" not in metadata


def test_a_sum_of_two_concepts_is_written_for_each_expert(tmp_path: Path) -> None:
    pair = WeightedConcept(concept=make_concept())
    made = export_sum([pair, pair], tmp_path / "sum.safetensors")
    assert [path.name for path in made.paths] == ["sum_high_noise.safetensors", "sum_low_noise.safetensors"]
    assert made.missing == ["identity_embedding"]
    low = experts_of(pair.concept)["low_noise"].layers[Q]
    tensors = load_file(made.paths[1])
    down, up = (tensors[f"diffusion_model.{Q}.lora_{side}.weight"] for side in "AB")
    torch.testing.assert_close(up @ down, 2 * torch.mm(*low.factors()), rtol=1e-5, atol=1e-5)
    with pytest.raises(ConceptMismatchError, match="another base model"):
        export_sum([pair, WeightedConcept(concept=make_expert("high", HIGH_PITCH, [0.875, 1.0]))], tmp_path / "no")


def test_motion_is_transferred_in_both_experts() -> None:
    concept = make_concept()
    low = experts_of(concept)["low_noise"]
    faster = {
        name: replace(layer, motion_residual_RI=2 * layer.motion_residual_RI) for name, layer in low.layers.items()
    }
    moved = transfer_motion(concept, replace(concept, low_noise=replace(low, layers=faster)))
    found = experts_of(moved)["low_noise"]
    assert torch.equal(found.layers[Q].motion_residual_RI, 2 * low.layers[Q].motion_residual_RI)
    assert found.info.name == moved.info.name == "golden moving as golden"
    with pytest.raises(ConceptMismatchError, match="two experts"):
        transfer_motion(concept, low)


def test_describe_shows_both() -> None:
    lines = describe(make_concept()).splitlines()
    for line in (
        "Name: golden",
        "High noise, base model: tiny Wan, high (family wan)",
        "High noise, noise levels: 0.875 to 1",
        "Low noise, base model: tiny Wan, low (family wan)",
        "Low noise, weights: 2 layers, rank 2, 60 values",
    ):
        assert line in lines
    assert len([line for line in lines if line.startswith("Name")]) == 1


def test_managers_read_the_label_of_both_experts() -> None:
    concept = make_concept()
    layers = {Q: [5120, 5120]}
    wide = replace(concept.info.base, layers=layers, projections=dict.fromkeys(layers, 0.1))
    metadata = manager_metadata(replace(concept.info, base=wide), 2, "", kind="setandseq-concept")
    assert metadata["ss_base_model_version"] == "Wan Video 2.2 T2V-A14B"


def changed(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> bytes:
    """The golden file with a changed header and changed info; its data stays the same."""
    (size,) = struct.unpack("<Q", GOLDEN_BYTES[:8])
    header = json.loads(GOLDEN_BYTES[8 : 8 + size])
    metadata = header["__metadata__"]
    info = json.loads(metadata["setandseq.info"])
    change(header, info)
    metadata["setandseq.info"] = json.dumps(info)
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + GOLDEN_BYTES[8 + size :]


def renamed(header: dict[str, Any], old: str, new: str) -> None:
    header[new] = header.pop(old)


def lowered(header: dict[str, Any], info: dict[str, Any]) -> None:
    header["__metadata__"]["setandseq.version"] = "1"


def overlapping(header: dict[str, Any], info: dict[str, Any]) -> None:
    info["experts"]["low_noise"]["config"]["time_range"] = [0.0, 0.95]


def timeless(header: dict[str, Any], info: dict[str, Any]) -> None:
    info["experts"]["high_noise"]["config"]["time_range"] = 5


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lowered, "lacks .*'base'"),
        (overlapping, "overlap"),
        (timeless, "overlap"),
        (lambda header, info: info["experts"].pop("low_noise"), "experts' lacks .*'low_noise'"),
        (lambda header, info: info["experts"].update(middle={}), "unknown .*'middle'"),
        (lambda header, info: info["experts"].update(low_noise=[]), "experts.low_noise' is a list"),
        (lambda header, info: info["experts"]["low_noise"].pop("base"), "experts.low_noise' lacks .*'base'"),
        (lambda header, info: info["experts"]["low_noise"]["base"]["layers"].popitem(), "same layers"),
        (lambda header, info: info.update(base={}), "unknown .*'base'"),
        (lambda header, info: info.update(experts={}), "lacks .*'high_noise'"),
        (lambda header, info: renamed(header, f"low_noise.{Q}.coefficients", f"{Q}.coefficients"), "missing"),
        (lambda header, info: renamed(header, f"low_noise.{Q}.coefficients", f"high_noise.{Q}.more"), "unknown"),
        (lambda header, info: renamed(header, "low_noise.identity_embedding", "identity_embedding"), "high_noise or"),
        (lambda header, info: info["experts"]["low_noise"].update(training={"a": [[[[[[[[]]]]]]]]}), "nested more"),
    ],
)
def test_hostile_files_of_two_experts_are_refused(tmp_path: Path, change: Any, match: str) -> None:
    path = tmp_path / "stranger.safetensors"
    path.write_bytes(changed(change))
    with pytest.raises((ConceptFileError, ConceptMismatchError), match=match) as caught:
        load_concept(path)
    assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()
