"""Checks the numbers of a prompt before anything runs.

ComfyUI only compares a number with `min` and `max`. NaN passes that test, and a prompt sent to the API may hold it. A
node that defines its own `validate_inputs` must run these checks there.
"""

from comfy_api.latest import io

Numeric = (io.Float.Input, io.Int.Input)


class CheckedNode(io.ComfyNode):
    """A node that refuses numbers outside their ranges and options outside their lists."""

    @classmethod
    def validate_inputs(cls, **values: object) -> bool | str:
        """Say which value is out of range. Values from links are not known yet: they are None or missing."""
        return complaint(cls.define_schema(), values) or True


def complaint(schema: io.Schema, values: dict[str, object]) -> str:
    """A message about the first invalid value; "" if there is none."""
    for each in schema.inputs:
        value = values.get(each.id)
        if value is None:
            continue
        if isinstance(each, Numeric) and not _in_range(each, value):
            return f"{each.id} is {value}; it must be a number from {each.min} to {each.max}."
        if isinstance(each, io.Combo.Input) and value not in (each.options or ()):
            return f"{each.id} is '{value!s:.100}'; it must be one of {', '.join(map(str, each.options or ()))}."
    return ""


def _in_range(taken: "io.Float.Input | io.Int.Input", value: object) -> bool:
    low, high = taken.min, taken.max
    return isinstance(value, int | float) and low is not None and high is not None and low <= value <= high
