"""Turn workflow files, as ComfyUI's interface saves them, into prompts for its server.

`object_info` is the server's answer to /object_info: the inputs and outputs of all its nodes.
"""

from collections.abc import Callable, Iterator
from typing import Any

Node = dict[str, Any]
Link = list[Any]
"""A link: its id, the source's id and slot, the target's id and slot, and its type."""
INSIDE, OUTSIDE = -10, -20
"""Ids of the nodes that stand for the inputs and the outputs of a subgraph."""
NOTES = ("Note", "MarkdownNote")
REROUTE = "Reroute"
PRIMITIVE = "PrimitiveNode"
"""Type of nodes that hold a value; like notes and reroutes, they are in the file but never in the prompt."""
MUTED, BYPASSED = 2, 4
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", DYNAMIC_COMBO)


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """The prompt for a workflow file of version 0.4, as the interface would queue it; node ids are kept.

    Muted and bypassed nodes, notes, reroutes, primitives and subgraphs are resolved as in the interface. A node in a
    subgraph has an id such as "5:101".

    Raises:
        ValueError: the server does not have a node's type.
    """
    workflow = unpacked(workflow)
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


def unpacked(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow with each subgraph node replaced by the nodes inside; their ids become texts."""
    definitions = {each["id"]: each for each in workflow.get("definitions", {}).get("subgraphs", ())}
    nodes, links = workflow["nodes"], workflow["links"]
    while held := next((node for node in nodes if node["type"] in definitions), None):
        nodes, links = _without(held, definitions[held["type"]], nodes, links)
    return {"nodes": nodes, "links": links}


def _without(held: Node, inner: dict[str, Any], nodes: list[Node], links: list[Link]) -> tuple[list[Node], list[Link]]:
    """Nodes and links, with the node that holds one subgraph replaced by the subgraph's content."""

    def named(number: object) -> str:
        return f"{held['id']}:{number}"

    given = {entry["name"]: entry.get("link") for entry in held["inputs"]}  # inputs that are widgets may be missing
    sources = {link[0]: link[1:3] for link in links}
    results = {link["target_slot"]: link for link in inner["links"] if link["target_id"] == OUTSIDE}
    unfed = {
        link["id"]
        for link in inner["links"]
        if link["origin_id"] == INSIDE and sources.get(given.get(inner["inputs"][link["origin_slot"]]["name"])) is None
    }
    found = []
    for link_id, *origin, target, target_slot, kind in links:
        if origin[0] == held["id"]:
            link = results[origin[1]]
            origin = [named(link["origin_id"]), link["origin_slot"]]
        if target != held["id"]:
            found.append([link_id, *origin, target, target_slot, kind])
    for link in inner["links"]:
        origin = [named(link["origin_id"]), link["origin_slot"]]
        if link["origin_id"] == INSIDE:
            origin = sources.get(given.get(inner["inputs"][link["origin_slot"]]["name"]))
        if origin is not None and link["target_id"] != OUTSIDE:
            found.append([named(link["id"]), *origin, named(link["target_id"]), link["target_slot"], link["type"]])
    return [
        *(node for node in nodes if node is not held),
        *(_renamed(node, named, unfed) for node in inner["nodes"]),
    ], found


def _renamed(node: Node, named: Callable[[object], str], unfed: set[int]) -> Node:
    """The node with ids that are valid outside the subgraph; widgets keep their own values if a link has no source."""
    inputs = [
        {**entry, "link": None if entry.get("link") in (None, *unfed) else named(entry["link"])}
        for entry in node["inputs"]
    ]
    return {**node, "id": named(node["id"]), "inputs": inputs}


def input_specs(inputs: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], bool]]:
    """Name, type, options and whether it is required, for each input in the `inputs` of a node or an option."""
    for group in ("required", "optional"):
        for name, (kind, *rest) in inputs.get(group, {}).items():
            options = rest[0] if rest else {}
            if isinstance(kind, list):
                kind, options = "COMBO", {**options, "options": kind}
            yield name, kind, options, group == "required"


def is_widget(kind: str, options: dict[str, Any]) -> bool:
    """Whether an input of that type has a widget on the node; others have only a socket."""
    return not options.get("forceInput") and options.get("widgetType", kind) in WIDGET_TYPES


def has_seed_control(name: str, options: dict[str, Any]) -> bool:
    """Whether the input has a second value, which says how the seed changes after a run."""
    return bool(options.get("control_after_generate", name in ("seed", "noise_seed")))


def default_value(kind: str, options: dict[str, Any]) -> Any:
    """The value that a new node's widget shows."""
    if kind == DYNAMIC_COMBO:
        return options["options"][0]["key"]
    if kind == "COMBO":
        return options.get("default", next(iter(options.get("options", ())), None))
    return options.get("default", {"STRING": "", "BOOLEAN": False, "COLOR": "#ffffff"}.get(kind, 0))


def chosen_inputs(key: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The inputs that a dynamic combo has while `key` is chosen."""
    return next((option["inputs"] for option in options["options"] if option["key"] == key), {})


class _Links:
    """The source of each input's value."""

    def __init__(self, workflow: dict[str, Any]) -> None:
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        self.links = {link[0]: link for link in workflow["links"]}

    def value(self, link_id: int | None) -> Any:
        """[node id, slot] in the prompt, a primitive's own value, or None if the link leads nowhere."""
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
    """The input link that a bypassed node passes to an output: the one at the same slot, or the first that fits."""
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
    """A value, with lists wrapped so that the server does not take them for links."""
    return {"__value__": value} if isinstance(value, list) else value


def _virtual(node: dict[str, Any]) -> bool:
    return node["type"] in (*NOTES, REROUTE, PRIMITIVE)


def _info(node: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    if node["type"] not in object_info:
        raise ValueError(
            f"Node {node['id']} is of type '{node['type']}', which the server does not have. "
            "Install the pack that it comes from."
        )
    return object_info[node["type"]]
