"""benchmarks.method measures the clips that it keeps, and measures them again when the measure changes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import method as bench
from benchmarks.methods import ABLATIONS, METHODS, Job, Learned, PlainDropout, as_concept
from benchmarks.shots import shots
from setandseq_core.concept_file.file import save_concept
from setandseq_core.embedded.model import EMBEDDED_CONFIG, load_embedded
from setandseq_core.embedded.world.concepts import CONCEPTS
from setandseq_core.lora import coefficient_dropout


def test_kept_clips_are_measured_and_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, stem = CONCEPTS["bee"], bench.file_stem("bee", "LoRA rank 8", 0)
    save_concept(
        as_concept(load_embedded(), Learned(losses=[0.5] * 3), name="bee"), tmp_path / f"{stem}_concept.safetensors"
    )
    kept = {str(number): (clip.frames() * 255).round().to(torch.uint8) for number in range(len(shots(clip)))}
    save_file(kept, tmp_path / f"{stem}_noise0.safetensors")
    assert bench.measure("bee", "LoRA rank 8", 0, 1, tmp_path) == f"{stem}: {len(kept)} clips"
    assert bench.measure("bee", "LoRA rank 8", 0, 1, tmp_path) == f"{stem}: 0 clips"
    (path,) = (tmp_path / bench.measures_key()).glob("*.json")
    found = {record["task"]: record for record in json.loads(path.read_text())}
    assert found["reconstruct"]["identity"] > 0.97 and found["reconstruct"]["prompt_adherence"] == 1
    assert found["background"]["prompt_adherence"] < 1 and found["reconstruct"]["steps"] == 3
    monkeypatch.setattr(bench, "measures_key", lambda: "another")
    assert bench.measure("bee", "LoRA rank 8", 0, 1, tmp_path) == f"{stem}: {len(kept)} clips"


def test_ours_at_its_best_is_the_same_training(tmp_path: Path) -> None:
    backbone, learned = load_embedded(), Learned(losses=[0.5] * 2)
    path = tmp_path / f"{bench.file_stem('bee', bench.OURS, 1)}_concept.safetensors"
    save_concept(as_concept(backbone, learned, name="bee"), path)
    assert set(METHODS) >= {bench.OURS, bench.BEST}
    assert bench.learn(backbone, "bee", bench.BEST, 1, tmp_path).losses == learned.losses


@pytest.mark.parametrize("name", [*METHODS, "basis of the inputs", "dropout not inverted"])
def test_every_method_takes_as_many_steps(name: str) -> None:
    first, second = (replace(EMBEDDED_CONFIG.set_stage, steps=2), replace(EMBEDDED_CONFIG.sequence_stage, steps=1))
    config = replace(EMBEDDED_CONFIG, set_stage=first, sequence_stage=second)
    learned = {**METHODS, **ABLATIONS}[name](load_embedded(), Job(clip=CONCEPTS["bee"], prior=None, config=config))
    assert len(learned.losses) == (0 if name == "base" else 3)


def test_plain_dropout_keeps_entries_as_they_are() -> None:
    ones_RI = torch.ones(20, 20)
    torch.manual_seed(0)
    with PlainDropout():
        dropped_RI = coefficient_dropout(ones_RI, 0.75)
    assert set(dropped_RI.unique().tolist()) == {0.0, 1.0}
    torch.manual_seed(0)
    assert torch.equal(dropped_RI, 0.25 * coefficient_dropout(ones_RI, 0.75))
