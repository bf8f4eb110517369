"""Sockets and widgets of a node in the order in which ComfyUI's interface shows and saves them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tools.workflows.prompt import DYNAMIC_COMBO, chosen_inputs, default_value, has_seed_control, input_specs, is_widget

AUTOGROW = "COMFY_AUTOGROW_V3"
OPTIONAL = 7
"""Shape number of an optional input's socket."""


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a node, to be used as an input of another node."""

    node_id: int
    slot: int
    type: str


def node_inputs(inputs: dict[str, Any], given: dict[str, Any], prefix: str = "") -> list[tuple[str, str, dict, bool]]:
    """Name, type, options and whether it is required, for each input; a chosen option's inputs follow its combo."""
    found = []
    for name, kind, options, required in input_specs(inputs):
        name = prefix + name
        found.append((name, kind, options, required))
        if kind == DYNAMIC_COMBO:
            chosen = chosen_inputs(given.get(name, default_value(kind, options)), options)
            found += node_inputs(chosen, given, f"{name}.")
    return found


def node_slots(
    inputs: dict[str, Any], given: dict[str, Any]
) -> tuple[list[tuple[dict[str, Any], Output | None]], list[tuple[Any, bool]]]:
    """Sockets with their sources, and widget values with whether they are long texts.

    As in the interface, sockets without a widget come first, and a widget has a socket in the file only if it
    is linked.
    """
    sockets, linked, widgets = [], [], []
    for name, kind, options, required in node_inputs(inputs, given):
        shape = {} if required else {"shape": OPTIONAL}
        if kind == AUTOGROW:
            sockets += _grown_sockets(name, options["template"], given.get(name, []))
        elif not is_widget(kind, options):
            sockets.append(({"name": name, **shape, "type": kind}, given.get(name)))
        else:
            value = given.get(name, default_value(kind, options))
            if isinstance(value, Output):
                linked.append(({"name": name, **shape, "type": kind, "widget": {"name": name}}, value))
                value = default_value(kind, options)
            widgets.append((value, bool(options.get("multiline"))))
            if has_seed_control(name, options):
                widgets.append(("fixed", False))
            if options.get("video_upload") or options.get("image_upload"):
                widgets.append(("image", False))
    return sockets + linked, widgets


def _grown_sockets(
    name: str, template: dict[str, Any], sources: Sequence[Output]
) -> list[tuple[dict[str, Any], Output | None]]:
    """One socket for each source, and an empty one for the next."""
    (_, kind, _, _), *_ = input_specs(template["input"])
    least, most = template["min"], template["max"]
    sockets = []
    for index in range(min(most, max(least, len(sources)) + 1)):
        label = f"{template['prefix']}{index}"
        shape = {} if index < least else {"shape": OPTIONAL}
        source = sources[index] if index < len(sources) else None
        sockets.append(({"label": label, "name": f"{name}.{label}", **shape, "type": kind}, source))
    return sockets


def node_height(
    sockets: Sequence[Any], outputs: Sequence[Any], widgets: Sequence[tuple[Any, bool]], *, stock: bool
) -> int:
    """The minimum height at which neither renderer of the interface enlarges a node.

    Args:
        stock: whether the node is ComfyUI's own; other nodes show the name of their pack below.
    """
    rows = max(sum("widget" not in socket for socket, _ in sockets), len(outputs))
    return 20 * rows + sum(104 if long else 28 for _, long in widgets) + (14 if stock else 38)
