"""Draws the figures of docs/results.md, our method with one thing changed, from the records of benchmarks.method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.tables import EDITS, common_concepts, mean_and_interval

Record = dict[str, Any]
ABLATED = {
    "dropout": {"0": "dropout 0", "0.2": "dropout 0.2", "0.5": "dropout 0.5", "0.8": "dropout 0.8", "0.5, 0.3": ""},
    "inverted dropout": {"kept values / (1 - p)": "", "as they are": "dropout not inverted"},
    "basis": {"of the outputs": "", "of the inputs": "basis of the inputs"},
    "prior preservation": {
        "half without prompt": "",
        "all with their prompts": "prior clips with their prompts",
        "of any place": "prior clips of any place",
        "off": "no prior",
    },
    "time shift of the set stage": {"1": "", "3, the model's own": "the model's own time shift"},
    "frames": {"5": "5 frames", "9": "9 frames", "17": ""},
}
"""For each figure, the label and the ablation of each bar; "" stands for the unchanged recipe."""
STEPS = ("a third of the steps", "", "twice the steps", "five times the steps")
THIRD_OF_PAPER = 500
"""Steps of both stages: a third of the paper's 600 and 900 with regularisation (Table 6)."""
SHOWN = {
    "identity, clip's own prompt": (("reconstruct",), "identity"),
    "identity, edits": (EDITS, "identity"),
    "prompt adherence, edits": (EDITS, "prompt_adherence"),
}


def write_figures(records: Sequence[Record], recipe: str, folder: Path) -> list[str]:
    """Write a PNG for each figure whose records are complete; return the file names."""
    written = []
    for name, bars in ABLATED.items():
        methods = {label: ablation or recipe for label, ablation in bars.items()}
        if concepts := _concepts(records, list(methods.values())):
            written.append(_save(_bars(name, _chosen(records, concepts), methods), name, folder))
    methods = [name or recipe for name in STEPS]
    if concepts := _concepts(records, methods):
        written.append(_save(_curve(_chosen(records, concepts), methods), "steps", folder))
    return written


def _concepts(records: Sequence[Record], methods: list[str]) -> set[str]:
    return common_concepts(records, methods) if {r["method"] for r in records} >= set(methods) else set()


def _chosen(records: Sequence[Record], concepts: set[str]) -> list[Record]:
    return [r for r in records if r["concept"] in concepts]


def _figures(records: Sequence[Record], method: str, shown: str) -> tuple[float, float]:
    tasks, figure = SHOWN[shown]
    return mean_and_interval([r[figure] for r in records if r["method"] == method and r["task"] in tasks])


def _bars(name: str, records: Sequence[Record], methods: dict[str, str]) -> Any:
    figure, axes = plt.subplots(figsize=(6, 2.4), layout="constrained")
    for index, shown in enumerate(SHOWN):
        values = [_figures(records, method, shown) for method in methods.values()]
        places = [place + (index - 1) * 0.26 for place in range(len(values))]
        axes.bar(places, [mean for mean, _ in values], 0.24, yerr=[half for _, half in values], capsize=2, label=shown)
    axes.set_xticks(range(len(methods)), list(methods))
    axes.set_xlabel(name)
    return _finished(figure, axes)


def _curve(records: Sequence[Record], methods: list[str]) -> Any:
    figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
    steps = [next(r["steps"] for r in records if r["method"] == method) for method in methods]
    for shown in SHOWN:
        values = [_figures(records, method, shown) for method in methods]
        axes.errorbar(steps, [m for m, _ in values], [h for _, h in values], marker="o", capsize=2, label=shown)
    axes.axvline(THIRD_OF_PAPER, color="grey", linestyle=":", label="a third of the paper's steps")
    axes.set_xscale("log")
    axes.set_xticks(steps, [str(each) for each in steps])
    axes.minorticks_off()
    axes.set_xlabel("steps of both stages")
    return _finished(figure, axes)


def _finished(figure: Any, axes: Any) -> Any:
    axes.set_ylim(0, 1.05)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
    return figure


def _save(figure: Any, name: str, folder: Path) -> str:
    path = folder / f"ablation_{name.replace(' ', '_')}.png"
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
    return path.name
