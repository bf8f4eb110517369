"""Every error tells its reader what to do next, and text from files is safe to show."""

import ast
import json
from pathlib import Path

import pytest

from setandseq_core import errors
from setandseq_core.errors import SetAndSequenceError, shown, shown_json

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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a [v] bee, красная, 蜂 🐝", "a [v] bee, красная, 蜂 🐝"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("bee\udcff.safetensors", r"bee\udcff.safetensors"),
        ("exe\u202egnp.safetensors", r"exe\u202egnp.safetensors"),
        ("be\u200be", r"be\u200be"),
        ("one\u2028two\u2029three", r"one\u2028two\u2029three"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\ufeffbee", r"\ufeffbee"),
    ],
)
def test_hidden_and_broken_characters_are_escaped(text: str, expected: str) -> None:
    assert shown(text) == expected
    expected.encode("utf-8")


def test_values_are_what_every_json_reader_takes() -> None:
    value = {"a": [1.5, float("nan"), float("-inf"), True, None], "b\udcff": ("\u202e",)}
    assert shown_json(value) == {"a": [1.5, None, None, True, None], "b\\udcff": ["\\u202e"]}
    json.dumps(shown_json(value), allow_nan=False).encode("utf-8")


def test_what_is_no_json_value_is_an_error() -> None:
    with pytest.raises(TypeError, match="A bytes is no JSON value"):
        shown_json({"a": b"x"})


def test_messages_of_errors_are_safe() -> None:
    error = SetAndSequenceError("There is no bee\udcff.", hint="Rename \u202ebee.")
    assert str(error) == r"There is no bee\udcff. Rename \u202ebee."
    assert (error.message, error.hint) == (r"There is no bee\udcff.", r"Rename \u202ebee.")
