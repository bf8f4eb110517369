"""The tables and figures of docs/results.md, from a few records."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.tables import mean_and_interval, report

FIGURES = ("identity", "motion", "prompt_adherence", "temporal_coherence", "mse")


def record(method: str, task: str, concept: str, value: float, steps: int = 300) -> dict[str, Any]:
    about = {"method": method, "task": task, "concept": concept, "steps": steps, "seed": 0, "training": 0}
    return about | dict.fromkeys(FIGURES, value)


PRIORS = ("no prior", "prior clips of any place", "prior clips with their prompts")
RECORDS = [
    record(method, task, concept, value)
    for method, value in (("base", 0.1), ("ours", 0.5), *((name, 0.4) for name in PRIORS))
    for task in ("reconstruct", "background", "second object")
    for concept in ("bee", "lantern")
]


def test_interval_is_of_the_mean() -> None:
    mean, half = mean_and_interval([0.0, 1.0, 0.0, 1.0])
    assert (mean, round(half, 3)) == (0.5, 0.566)


def test_every_method_has_a_row_and_only_concepts_count_that_all_have() -> None:
    text = report([*RECORDS, record("ours", "background", "shell", 0.9)], ["base", "ours"], ["ours", "no prior"])
    assert "| base | 4 | 0.100 +- 0.000" in text and "| ours | 4 | 0.500 +- 0.000" in text
    assert "| identity / adherence | bee | lantern | shell |" in text
    assert "Concepts: bee, lantern." in text


def test_trainings_count_together_and_are_shown_apart() -> None:
    again = [{**record("ours", "background", "bee", 0.9), "training": 1}]
    text = report([*RECORDS, *again], ["base", "ours"], ["ours"])
    assert "| ours | 5 | 0.580" in text and "1 noises for each prompt and\n1 to 2 trainings" in text
    by_seed = text.partition("by the seed of the training")[2].partition("###")[0]
    assert "| ours | 0.500 +- 0.000 / 0.500 +- 0.000 | 0.900 +- 0.000 / 0.900 +- 0.000 |" in by_seed
    assert "| base | 0.100 +- 0.000 / 0.100 +- 0.000 | - |" in by_seed
    assert "by the seed of the training" not in report(RECORDS, ["base", "ours"], ["ours"])


def test_clips_that_no_recipe_was_chosen_on_are_told_apart() -> None:
    wasp = [record("ours", task, "wasp", 0.9) for task in ("reconstruct", "background")]
    text = report([*RECORDS, *wasp], ["base", "ours"], ["ours"])
    assert "| ours | 4 | 0.500" in text.partition("### Clips that no recipe was chosen on")[0]
    assert "| ours | 1 | 0.900" in text.partition("### Clips that no recipe was chosen on")[2]
    assert "no recipe was chosen on" not in report(RECORDS, ["base", "ours"], ["ours"])


def test_composing_has_tables_of_its_own() -> None:
    composed = [
        record("ours", "compose two", "bee + lantern", 0.6),
        record("base", "compose two", "bee + lantern", 0.2),
    ]
    text = report([*RECORDS, *composed], ["base", "ours"], ["ours"])
    assert "### Compose two concepts" in text and "### Compose three concepts" not in text
    assert "| ours | 1 | 0.600" in text and "| ours | 4 | 0.500" in text


def test_figures_are_made_of_what_is_there(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.figures import write_figures

    assert write_figures(RECORDS, "ours", tmp_path) == ["ablation_prior_preservation.png"]
    with Image.open(tmp_path / "ablation_prior_preservation.png") as picture:
        assert picture.size == (600, 240)
