"""Workflow files, as ComfyUI's interface saves them, turned into prompts for its server.

`object_info` is what the server's /object_info says: the inputs and outputs of every node it has.
"""

from collections.abc import Iterator
from typing import Any

NOTES = ("Note", "MarkdownNote")
REROUTE = "Reroute"
PRIMITIVE = "PrimitiveNode"
"""Virtual nodes: they are in the file and never in the prompt."""
MUTED, BYPASSED = 2, 4
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", DYNAMIC_COMBO)


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """The prompt of a workflow file of version 0.4, as the interface would queue it; node ids are kept.

    Muted and bypassed nodes, notes, reroutes and primitives are resolved as the interface does it.

    Raises:
        ValueError: a node is a subgraph, or of a type that the server does not have.
    """
    graph = _Links(workflow)
    return {
        str(node["id"]): {
            "class_type": node["type"],
            "inputs": _inputs(node, object_info, graph),
            "_meta": {"title": node.get("title") or _info(node, object_info)["display_name"] or node["type"]},
        }
        for node in workflow["nodes"]
        if not _virtual(node) and node.get("mode", 0) not in (MUTED, BYPASSED)
    }


def input_specs(inputs: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], bool]]:
    """Name, type, options and whether it is required, of each input of a node's or an option's `inputs`."""
    for group in ("required", "optional"):
        for name, (kind, *rest) in inputs.get(group, {}).items():
            options = rest[0] if rest else {}
            if isinstance(kind, list):
                kind, options = "COMBO", {**options, "options": kind}
            yield name, kind, options, group == "required"


def is_widget(kind: str, options: dict[str, Any]) -> bool:
    """Whether an input of that type has its value on the node; all others have only a socket."""
    return not options.get("forceInput") and options.get("widgetType", kind) in WIDGET_TYPES


def has_seed_control(name: str, options: dict[str, Any]) -> bool:
    """Whether a second value follows: what becomes of a seed after a run."""
    return bool(options.get("control_after_generate", name in ("seed", "noise_seed")))


def default_value(kind: str, options: dict[str, Any]) -> Any:
    """What a new node's widget shows."""
    if kind == DYNAMIC_COMBO:
        return options["options"][0]["key"]
    if kind == "COMBO":
        return options.get("default", next(iter(options.get("options", ())), None))
    return options.get("default", {"STRING": "", "BOOLEAN": False, "COLOR": "#ffffff"}.get(kind, 0))


def chosen_inputs(key: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The inputs that a dynamic combo has while `key` is chosen."""
    return next((option["inputs"] for option in options["options"] if option["key"] == key), {})


class _Links:
    """Where each input's value comes from."""

    def __init__(self, workflow: dict[str, Any]) -> None:
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        self.links = {link[0]: link for link in workflow["links"]}

    def value(self, link_id: int | None) -> Any:
        """[node id, slot] in the prompt, a primitive's own value, or None where the link leads nowhere."""
        if link_id not in self.links:
            return None
        _, node_id, slot, _, _, kind = self.links[link_id]
        node = self.nodes[node_id]
        mode = node.get("mode", 0)
        if mode == MUTED:
            return None
        if node["type"] == PRIMITIVE:
            return _wrapped(node["widgets_values"][0])
        if node["type"] == REROUTE:
            return self.value(node["inputs"][0]["link"])
        if mode == BYPASSED:
            return self.value(_passed_on(node, slot, kind))
        return [str(node_id), slot]


def _passed_on(node: dict[str, Any], slot: int, kind: str) -> int | None:
    """The link that a bypassed node gives to its output: at the same place if it fits, else the first that fits."""
    inputs = node.get("inputs", [])
    kind = node["outputs"][slot]["type"] if kind == "*" else kind
    candidates = [*inputs[slot : slot + 1], *inputs]
    exact = [entry for entry in candidates if entry["type"] == kind]
    fitting = [entry for entry in candidates if kind in entry["type"].split(",")]
    return next((entry["link"] for entry in (exact or fitting)), None)


def _inputs(node: dict[str, Any], object_info: dict[str, Any], graph: _Links) -> dict[str, Any]:
    info = _info(node, object_info)
    values = iter(node.get("widgets_values") or ())
    inputs = {name: _wrapped(value) for name, value in _widget_values(info["input"], values).items()}
    for entry in node.get("inputs") or ():
        if (value := graph.value(entry.get("link"))) is not None:
            inputs[entry["name"]] = value
        elif entry.get("link") is not None:
            inputs.pop(entry["name"], None)
    return inputs


def _widget_values(inputs: dict[str, Any], values: Iterator[Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind, options, _ in input_specs(inputs):
        if not is_widget(kind, options):
            continue
        value = found[prefix + name] = next(values, default_value(kind, options))
        if kind == DYNAMIC_COMBO:
            found |= _widget_values(chosen_inputs(value, options), values, f"{prefix}{name}.")
        elif has_seed_control(prefix + name, options):
            next(values, None)
    return found


def _wrapped(value: Any) -> Any:
    """A list as the server wants it, so that it is not taken for a link."""
    return {"__value__": value} if isinstance(value, list) else value


def _virtual(node: dict[str, Any]) -> bool:
    return node["type"] in (*NOTES, REROUTE, PRIMITIVE)


def _info(node: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    if node["type"] not in object_info:
        raise ValueError(
            f"Node {node['id']} is of type '{node['type']}', which the server does not have. "
            "Subgraphs are not turned into prompts: unpack them in the interface first. "
            "For another type, install the pack that it comes from."
        )
    return object_info[node["type"]]
