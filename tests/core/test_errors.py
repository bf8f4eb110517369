"""Every error tells its reader what to do next."""

import ast
from pathlib import Path

import pytest

from setandseq_core import errors
from setandseq_core.errors import SetAndSequenceError

ROOT = Path(__file__).parents[2]
FILES = sorted(file for folder in ("setandseq_core", "nodes") for file in (ROOT / folder).rglob("*.py"))
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, SetAndSequenceError)
}


def raised_without_hint(file: Path) -> list[int]:
    """Lines that make an error without `hint=`, of a kind that has no default hint."""
    calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in KINDS]
    return [
        call.lineno
        for call in named
        if not KINDS[ast.unparse(call.func)].usual_hint and "hint" not in {keyword.arg for keyword in call.keywords}
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_error_has_a_hint(file: Path) -> None:
    assert raised_without_hint(file) == []


def test_an_error_without_its_own_hint_gives_the_usual_one_of_its_kind() -> None:
    assert str(errors.ConceptFileError("It is damaged.")) == "It is damaged. Get the file again."
    assert str(errors.VideoError("It is empty.", hint="Choose another.")) == "It is empty. Choose another."
