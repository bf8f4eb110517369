"""The results table of `train-many`: the state of each concept, as Markdown and CSV."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ..atomic import replaced

WAITING, STARTED, DONE, FAILED = "waiting", "started", "done", "failed"


@dataclass(kw_only=True, slots=True, frozen=True)
class Result:
    """A concept's row in the table."""

    name: str
    state: str = WAITING
    """One of "waiting", "started", "done" and "failed"."""
    seconds: float | None = None
    """Seconds of training, including those in workers that were lost."""
    look_loss: float | None = None
    """Mean loss of the last steps of the set stage."""
    motion_loss: float | None = None
    identity: float | None = None
    """Metrics of a clip sampled with the concept and its motion prompt; None if no model measures them."""
    adherence: float | None = None
    message: str = ""
    """Reason for a failure, and the next step."""


COLUMNS = tuple(field.name for field in fields(Result))


def write_table(results: Sequence[Result], folder: Path) -> None:
    """Write results.csv and results.md."""
    with replaced(folder / "results.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_cells(result) for result in results)
    with replaced(folder / "results.md") as partial:
        partial.write_text(table(results), encoding="utf-8")


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    rows = [[cell.replace("|", "\\|") for cell in _cells(result)] for result in results]
    lines = [[name.replace("_", " ") for name in COLUMNS], ["---"] * len(COLUMNS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(result: Result) -> list[str]:
    return [_shown(getattr(result, name)) for name in COLUMNS]


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
