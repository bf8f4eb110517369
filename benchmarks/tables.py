"""Writes docs/results.json, docs/results.md and the contact sheets of benchmarks.method."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from benchmarks.more_clips import MORE_CLIPS
from setandseq_core.embedded.model import EMBEDDED_CONFIG
from setandseq_core.evaluate.contact_sheet import contact_sheet

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- tables: written by benchmarks.method -->\n", "<!-- end of tables -->\n"
FIGURES = ("identity", "motion", "prompt_adherence", "temporal_coherence", "mse")
TASKS = {
    "reconstruct": "Reconstruct: the clip's own prompt",
    "background": "Change the background",
    "second object": "Add an object",
    "motion strength 0.5": "Half the motion strength",
}
COMPOSED = {"compose two": "Compose two concepts", "compose three": "Compose three concepts"}
EDITS = ("background", "second object")
Record = dict[str, Any]


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval from the standard error."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
    return mean, 1.96 * math.sqrt(variance / len(values))


def table(records: Sequence[Record], methods: Sequence[str], tasks: Sequence[str]) -> Iterator[str]:
    """Markdown rows, one per method."""
    yield f"| method | clips | {' | '.join(FIGURES)} |".replace("_", " ")
    yield "|---|---|" + "---|" * len(FIGURES)
    for method in methods:
        chosen = [r for r in records if r["method"] == method and r["task"] in tasks]
        if chosen:
            cells = [mean_and_interval([r[figure] for r in chosen]) for figure in FIGURES]
            shown = [f"{mean:.3f} +- {half:.3f}" for mean, half in cells]
            yield f"| {method} | {len(chosen)} | {' | '.join(shown)} |"


def by_concept(records: Sequence[Record], methods: Sequence[str]) -> Iterator[str]:
    """Markdown rows with the identity and adherence of all edits, one column per concept."""
    names = list(dict.fromkeys(r["concept"] for r in records))
    yield f"| identity / adherence | {' | '.join(names)} |"
    yield "|---|" + "---|" * len(names)
    for method in methods:
        cells = []
        for name in names:
            chosen = [r for r in records if (r["method"], r["concept"]) == (method, name) and r["task"] in EDITS]
            means = [sum(r[f] for r in chosen) / len(chosen) for f in ("identity", "prompt_adherence") if chosen]
            cells.append(" / ".join(f"{mean:.2f}" for mean in means) or "-")
        yield f"| {method} | {' | '.join(cells)} |"


def by_training(records: Sequence[Record], methods: Sequence[str]) -> Iterator[str]:
    """Markdown rows with the identity and adherence of all edits, one column per training."""
    trainings = sorted({r["training"] for r in records})
    yield f"| identity / adherence | {' | '.join(f'seed {training}' for training in trainings)} |"
    yield "|---|" + "---|" * len(trainings)
    for method in methods:
        cells = []
        for training in trainings:
            chosen = [r for r in records if (r["method"], r["training"]) == (method, training) and r["task"] in EDITS]
            pairs = [mean_and_interval([r[f] for r in chosen]) for f in ("identity", "prompt_adherence") if chosen]
            cells.append(" / ".join(f"{mean:.3f} +- {half:.3f}" for mean, half in pairs) or "-")
        yield f"| {method} | {' | '.join(cells)} |"


def common_concepts(records: Sequence[Record], methods: Sequence[str]) -> set[str]:
    """Names of the concepts that all these methods have learned."""
    return set.intersection(*({r["concept"] for r in records if r["method"] == method} for method in methods))


def _least_and_most(records: Sequence[Record], methods: Sequence[str], key: str) -> str:
    """Count each method's distinct values of the key: "3", or "3 to 6" if the methods differ."""
    counts = [len({r[key] for r in records if r["method"] == method}) for method in methods]
    return " to ".join(str(count) for count in dict.fromkeys((min(counts), max(counts))))


def ablated_records(records: Sequence[Record], methods: Sequence[str]) -> list[Record]:
    """Records of these methods with training seed 0, from the noises that all of them share."""
    chosen = [r for r in records if r["training"] == 0 and r["method"] in methods]
    by_method = [{r["seed"] for r in chosen if r["method"] == name} for name in {r["method"] for r in chosen}]
    noises = set.intersection(*by_method) if by_method else set()
    return [r for r in chosen if r["seed"] in noises]


def ablation_table(records: Sequence[Record], methods: Sequence[str]) -> Iterator[str]:
    """Markdown rows, one per ablation of our method, on the concepts that all of them learned."""
    found = [name for name in methods if any(r["method"] == name for r in records)]
    common = common_concepts(records, found)
    yield f"Concepts: {', '.join(sorted(common))}."
    yield ""
    yield "| | steps | reconstruct: identity | motion | edits: identity | prompt adherence |"
    yield "|---|---|---|---|---|---|"
    for method in found:
        chosen = [r for r in records if r["method"] == method and r["concept"] in common]
        cells = [str(chosen[0]["steps"])]
        for tasks, figures in ((("reconstruct",), ("identity", "motion")), (EDITS, ("identity", "prompt_adherence"))):
            for figure in figures:
                mean, half = mean_and_interval([r[figure] for r in chosen if r["task"] in tasks])
                cells.append(f"{mean:.3f} +- {half:.3f}")
        yield f"| {method} | {' | '.join(cells)} |"


def more_clips_tables(records: Sequence[Record], methods: Sequence[str]) -> Iterator[str]:
    """Tables of the clips that no recipe was chosen on: those that all methods with any of them have learned."""
    found = [name for name in methods if any(r["method"] == name for r in records)]
    if not found:
        return
    common = common_concepts(records, found)
    chosen = [r for r in records if r["concept"] in common]
    yield "### Clips that no recipe was chosen on"
    yield ""
    yield "Small sprites in two tones or stripes on fast paths (`benchmarks/more_clips.py`). With their own prompts:"
    yield ""
    yield from table(chosen, found, ("reconstruct",))
    yield ""
    yield "All edits of them:"
    yield ""
    yield from table(chosen, found, EDITS)
    yield ""
    yield from by_concept(chosen, found)
    yield ""


def composed_tables(records: Sequence[Record]) -> Iterator[str]:
    """One table for two composed concepts and one for three."""
    for task, title in COMPOSED.items():
        chosen = [r for r in records if r["task"] == task]
        if not chosen:
            continue
        yield f"### {title}"
        yield ""
        groups = sorted({name for r in chosen for name in r["concept"].split(" + ")})
        yield f"{', '.join(groups)} in every order. [composition.md](composition.md) counts how often all appear."
        yield ""
        yield from table(chosen, list(dict.fromkeys(r["method"] for r in chosen)), (task,))
        yield ""
        yield f"![One clip by each method]({sheet_name(task)})"
        yield ""


def report(
    records: Sequence[Record], methods: Sequence[str], ablations: Sequence[str], figures: Sequence[str] = ()
) -> str:
    """The tables of docs/results.md."""
    composed = [r for r in records if r["task"] in COMPOSED]
    alone = [r for r in records if r["task"] in TASKS]
    ablated = ablated_records(alone, ablations)
    measured = [r for r in alone if r["method"] in methods]
    every = [r for r in measured if r["concept"] not in MORE_CLIPS]
    common, trainings = common_concepts(every, methods), sorted({r["training"] for r in every})
    records = [r for r in every if r["concept"] in common]
    names = list(dict.fromkeys(r["concept"] for r in records))
    stages = EMBEDDED_CONFIG.set_stage, EMBEDDED_CONFIG.sequence_stage
    noises, seeds = (_least_and_most(records, methods, key) for key in ("seed", "training"))
    lines = [
        f"{len(records)} clips of {len(names)} concepts ({', '.join(names)}): {noises} noises for each prompt and",
        f"{seeds} trainings of each method (seeds {', '.join(str(each) for each in trainings)}). Ours has",
        f"rank {EMBEDDED_CONFIG.rank} and trains {stages[0].steps} steps at a learning rate of",
        f"{stages[0].learning_rate:g}, then {stages[1].steps} at {stages[1].learning_rate:g}, with a batch of",
        f"{stages[0].batch}. Every other method trains the same number of steps with the same batch.",
        "",
        "### All edits: another background, a second object",
        "",
        *table(records, methods, EDITS),
        "",
        "This table holds every concept that a method learned. The other tables hold only the concepts that all "
        "methods learned:",
        "",
        *by_concept(every, methods),
        "",
    ]
    if len(trainings) > 1:
        lines += ["The same edits by the seed of the training:", "", *by_training(records, methods), ""]
    for task, title in TASKS.items():
        lines += [f"### {title}", "", *table(records, methods, (task,)), ""]
        lines += [f"![One clip by each method]({sheet_name(task)})", ""]
    lines += more_clips_tables([r for r in measured if r["concept"] in MORE_CLIPS], methods)
    lines += composed_tables(composed)
    if any(r["method"] in ablations[1:] for r in ablated):
        lines += ["### Ours with one thing changed", "", *ablation_table(ablated, ablations), ""]
        lines += [line for name in figures for line in (f"![One thing changed: {name[9:-4]}](images/{name})", "")]
    return "\n".join(lines)


def sheet_name(task: str) -> str:
    """Path of a task's contact sheet, relative to docs/."""
    return f"images/method_{task.replace(' ', '_').replace('.', '_')}.png"


def write_report(
    records: Sequence[Record],
    methods: Sequence[str],
    ablations: Sequence[str],
    sheets: Mapping[str, Sequence[tuple[str, Tensor]]],
    figures: Sequence[str],
) -> None:
    """Write docs/results.json, the tables in docs/results.md, and the contact sheets.

    Args:
        ablations: methods to compare, the unchanged one first.
        sheets: the rows of each task's contact sheet.
        figures: file names of the ablations' pictures in docs/images.
    """
    text = ",\n".join(json.dumps(record) for record in records)
    (DOCS / "results.json").write_text(f"[\n{text}\n]\n")
    page = DOCS / "results.md"
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(
        before + BEGIN + "\n" + report(records, methods, ablations, figures) + "\n" + END + rest.partition(END)[2]
    )
    for task, rows in sheets.items():
        sheet = contact_sheet(rows)
        sheet.convert("P", palette=Image.Palette.ADAPTIVE, colors=96).save(DOCS / sheet_name(task), optimize=True)
