"""Text from files is safe to show."""

import json

import pytest

from setandseq_core.errors import SetAndSequenceError
from setandseq_core.shown import shown, shown_json


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
