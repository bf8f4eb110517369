"""Writes what benchmarks.growth has measured into docs/scale.md and a figure."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.growth_fit import Growth, fitted
from benchmarks.growth_paper import CARDS, CONCEPTS, Line, line
from benchmarks.growth_paper import Model as Counted

ROOT = Path(__file__).parent.parent
STORED = Path(__file__).parent / "results" / "growth_cpu_2026-11.json"
PAGE = ROOT / "docs" / "scale.md"
FIGURE = ROOT / "docs" / "images" / "growth.png"
BEGIN, END = "<!-- growth: written by benchmarks.growth -->\n", "<!-- end of growth -->\n"
STAGES = {"set": "set stage", "sequence": "sequence stage"}
POWERS = {"rank": (0, 1), "width": (0, 1, 2), "processes": (0, 1)}
"""Powers of each axis but for frames and side, which both are tokens."""
LABELS = {"frames": "frames", "side": "side of the frames, pixels", "rank": "rank", "width": "width of the model"}
LABELS |= {"processes": "processes"}
FAR = 10
"""Times the largest x that was measured; a fit says nothing about what lies beyond."""
Record = dict[str, Any]


# --- fits -----------------------------------------------------------------------------------------------------------


def of_axis(cases: Sequence[Record], stage: str, *axes: str) -> list[Record]:
    return [case for case in cases if case["stage"] == stage and case["axis"] in axes]


def by_tokens(cases: Sequence[Record], stage: str, figure: str) -> Growth:
    """The growth of "time" or "memory" with tokens, however these came about."""
    chosen = of_axis(cases, stage, "frames", "side")
    return fitted([case["tokens"] for case in chosen], [case[figure] for case in chosen])


def by_axis(cases: Sequence[Record], stage: str, axis: str, figure: str) -> Growth:
    """The growth with rank or width, or with the share of the samples that one of several processes has."""
    chosen = of_axis(cases, stage, axis)
    return fitted([_x(case) for case in chosen], [case[figure] for case in chosen], POWERS[axis])


def _x(case: Record) -> float:
    return 1 / case["value"] if case["axis"] == "processes" else case["value"]


def of_model(model: Counted) -> Growth:
    """The operations of a sample by its tokens."""
    lengths = model["lengths"]
    return fitted([one["tokens"] for one in lengths], [one["operations"] for one in lengths])


def length_at(model: Counted, tokens: float) -> float:
    """Frames of a clip of as many tokens, at the size that was counted."""
    first, last = model["lengths"][0], model["lengths"][-1]
    frames_a_token = (last["frames"] - first["frames"]) / (last["tokens"] - first["tokens"])
    return first["frames"] + (tokens - first["tokens"]) * frames_a_token


# --- tables ---------------------------------------------------------------------------------------------------------


def measured_table(cases: Sequence[Record]) -> Iterator[str]:
    """Ratios to the base case."""
    yield "| changed | to | tokens | set stage: time | memory | sequence stage: time | memory |"
    yield "|---|---|---|---|---|---|---|"
    for case in of_axis(cases, "sequence", *LABELS):
        same = [one for one in of_axis(cases, "set", case["axis"]) if one["value"] == case["value"]]
        still = _two(same[0]) if same else "1.00 | 1.00"
        yield f"| {LABELS[case['axis']]} | {case['value']} | {case['tokens']} | {still} | {_two(case)} |"


def _two(case: Record) -> str:
    return f"{case['time']:.2f} | {case['memory']:.2f}"


def fit_table(cases: Sequence[Record]) -> Iterator[str]:
    """The parts of each fit at the base case, where the whole is 1."""
    yield "| stage | figure | against x | constant | with x | with x^2 | x^2 overtakes at | largest deviation |"
    yield "|---|---|---|---|---|---|---|---|"
    for stage, name in STAGES.items():
        for figure in ("time", "memory"):
            chosen = of_axis(cases, stage, "frames", "side")
            points = [case["tokens"] for case in chosen], [case[figure] for case in chosen]
            yield _fit_row(name, figure, "tokens", by_tokens(cases, stage, figure), *points)
            for axis in POWERS:
                chosen = of_axis(cases, stage, axis)
                points = [_x(case) for case in chosen], [case[figure] for case in chosen]
                x = "1 / processes" if axis == "processes" else axis
                yield _fit_row(name, figure, x, by_axis(cases, stage, axis, figure), *points)


def _fit_row(stage: str, figure: str, name: str, growth: Growth, x: Sequence[float], y: Sequence[float]) -> str:
    base = min(x, key=lambda each: abs(growth(each) - 1))
    parts = growth.constant, growth.linear * base, growth.quadratic * base**2
    shown = " | ".join(f"{part / sum(parts):.2f}" for part in parts)
    overtaking = f"{growth.overtaking:,.0f}" if growth.overtaking < FAR * max(x) else "-"
    return f"| {stage} | {figure} | {name} | {shown} | {overtaking} | {growth.error(x, y):.0%} |"


def overtaking_table(models: Sequence[Counted]) -> Iterator[str]:
    """Where attention is half of the operations of Wan."""
    yield "| model | tokens | frames at 832x480 | attention at 33 frames | at 81 frames |"
    yield "|---|---|---|---|---|"
    for model in models:
        growth = of_model(model)
        shares = [f"{_attention(growth, model, frames):.0%}" for frames in (33, 81)]
        length = length_at(model, growth.overtaking)
        yield f"| {model['name']} | {growth.overtaking:,.0f} | {length:.0f} | {' | '.join(shares)} |"


def _attention(growth: Growth, model: Counted, frames: int) -> float:
    tokens = next(one["tokens"] for one in model["lengths"] if one["frames"] == frames)
    return growth.quadratic * tokens**2 / growth(tokens)


def paper_table(models: Sequence[Counted]) -> Iterator[str]:
    """Hours and limits, a line for each number of concepts and cards."""
    names = [str(model["name"]) for model in models]
    yield "| concepts | cards |" + "".join(f" {name}: hours | cards for each | limits |" for name in names)
    yield "|---|---|" + "---|---|---|" * len(names)
    for concepts in CONCEPTS:
        for cards in CARDS:
            cells = "".join(_paper_cells(line(model, cards, concepts)) for model in models)
            yield f"| {concepts:,} | {cards} |{cells}"


def _paper_cells(found: Line) -> str:
    hours = found.seconds / 3600
    shown = f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2f}"
    limits = ", ".join(f"{name} {share:.0%}" for name, share in found.largest)
    return f" {shown} | {found.each} | {limits} |"


# --- page and figure ------------------------------------------------------------------------------------------------


def section(values: Record) -> str:
    """The generated part of docs/scale.md."""
    cases, models = values["cases"], values["models"]
    tokens = by_tokens(cases, "sequence", "time").overtaking
    parts = [
        "Measured, each as a ratio to the base case (9 frames of 128x128, rank 8, width 128, one process):",
        "\n".join(measured_table(cases)),
        "Fitted, in parts of the base case:",
        "\n".join(fit_table(cases)),
        f"In the sequence stage of the small model, attention overtakes the rest at {tokens:,.0f} tokens. In Wan:",
        "\n".join(overtaking_table(models)),
        "On paper:",
        "\n".join(paper_table(models)),
    ]
    return "\n\n".join(parts) + "\n"


def with_section(page: str, text: str) -> str:
    """The page with this in place of its generated part."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + text + END + rest.partition(END)[2]


def stored() -> Record:
    """Read the measurements of the last run."""
    return json.loads(STORED.read_text(encoding="utf-8"))


def write_page() -> None:
    """Write the generated part of docs/scale.md and its figure."""
    values = stored()
    text = with_section(PAGE.read_text(encoding="utf-8"), section(values))
    PAGE.write_text(text, encoding="utf-8")
    write_figure(values["cases"], FIGURE)


def write_figure(cases: Sequence[Record], path: Path) -> None:
    """Points and fits of both stages: time above, memory below, a column for each axis."""
    names = ("tokens", *POWERS)
    figure, rows = plt.subplots(2, len(names), figsize=(12, 5), layout="constrained")
    for axes_row, what in zip(rows, ("time", "memory"), strict=True):
        for axes, name in zip(axes_row, names, strict=True):
            for stage in STAGES:
                _plot(axes, cases, stage, name, what)
            axes.set_xlabel(name)
            axes.grid(alpha=0.3)
        axes_row[0].set_ylabel(f"{what}, base case = 1")
    rows[0][0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def _plot(axes: Any, cases: Sequence[Record], stage: str, name: str, what: str) -> None:
    in_tokens = name == "tokens"
    chosen = of_axis(cases, stage, "frames", "side") if in_tokens else of_axis(cases, stage, name)
    x = [case["tokens"] if in_tokens else case["value"] for case in chosen]
    growth = by_tokens(cases, stage, what) if in_tokens else by_axis(cases, stage, name, what)
    places = np.linspace(min(x), max(x), 100)
    curve = [growth(1 / place if name == "processes" else place) for place in places]
    (points,) = axes.plot(x, [case[what] for case in chosen], "o", markersize=4, label=STAGES[stage])
    axes.plot(places, curve, color=points.get_color(), linewidth=1)
