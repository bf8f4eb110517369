"""Build workflow files in Python as ComfyUI's interface saves them: it opens and saves them without a change.

graph = Graph("My workflow", object_info)
model = graph.add("UNETLoader", (0, 0), unet_name="wan2.1_t2v_1.3B_fp16.safetensors")
graph.add("ModelSamplingSD3", (400, 0), model=model["MODEL"], shift=5.0)
text = graph.text()
"""

import json
import re
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from tools.workflows.prompt import INSIDE, OUTSIDE
from tools.workflows.slots import Output, node_height, node_inputs, node_slots

FRONTEND_VERSION = "1.47.12"
"""Version of the interface that the files were compared with."""
GROUP_COLOUR = "#3f789e"
GREEN, RED = ("#232", "#353"), ("#322", "#533")
"""Colours of the official templates' positive and negative prompts."""
NOTE_COLOURS = ("#222", "#000")
MARGIN, TITLE_HEIGHT = 10, 70
"""Space between a group's border and its nodes, and above them for the titles of the group and the first node."""
WRAPPED = re.compile(r"(?<!\n)\n(?![\n#-]|\d+\. )\s*")
"""A line break within a paragraph or a list item."""
SHOWN = {
    "SetSeq_TrainIdentityLoRA": 340,
    "SetSeq_TrainMotionResidual": 360,
    "SetSeq_LoadDynamicConcept": 470,
    "SetSeq_ComposeConcepts": 180,
    "SetSeq_ReferenceClip": 277,
}
"""Height of the panel that js/ shows on a node, below its inputs."""
COLLAPSED_WIDTH = 225
"""Width of a collapsed node; Nodes 2.0 makes no node narrower."""
NODE_GAP, GROUP_GAP = 50, 70
"""Space between two nodes of a column, and additional space between two groups."""
COLUMN_WIDTH, COLUMN_STEP = 400, 440
"""Width of a column's nodes, and distance between columns; five columns are readable when a workflow opens."""

LINK_KEYS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")

Point = tuple[float, float]


class Node:
    """A node in a graph; `node["MODEL"]` is its output of that name."""

    def __init__(self, entry: dict[str, Any], room: float = 0) -> None:
        self.entry = entry
        self._room = room

    def __getitem__(self, name: str) -> Output:
        slot = next(i for i, output in enumerate(self.entry["outputs"]) if output["name"] == name)
        return Output(self.entry["id"], slot, self.entry["outputs"][slot]["type"])

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, with room to grow. A collapsed node is only its title, above its top."""
        (x, y), (width, height) = self.entry["pos"], self.entry["size"]
        if self.entry["flags"]:
            return x, y, x + width, y
        return x, y, x + width, y + max(height, self._room)


class Graph:
    """A workflow under construction."""

    first_id = 1
    """Id of the first node and of the first link."""
    scale = 0.6
    """Scale at which the workflow opens."""

    def __init__(self, name: str, object_info: dict[str, Any]) -> None:
        self.name = name
        self._object_info = object_info
        self._nodes: list[dict[str, Any]] = []
        self._links: list[list[Any]] = []
        self._groups: list[dict[str, Any]] = []
        self._subgraphs: list[Subgraph] = []

    def add(
        self,
        type_: str,
        pos: Point,
        *,
        size: Point | None = None,
        room: float = 0,
        title: str = "",
        colours: tuple[str, str] | None = None,
        models: Sequence[dict[str, str]] = (),
        collapsed: bool = False,
        **inputs: Any,
    ) -> Node:
        """Add a node.

        Args:
            size: width and height; None fits the height to its inputs.
            room: the height to keep free for it; some nodes are small in the file and grow when they show something.
            models: files that its loader needs: name, url and directory of each.
            collapsed: show only its title.
            inputs: an `Output` or a value by name; a list of `Output` for an input that grows. Inputs that are left
                out have their default, and seeds stay fixed.
        """
        info = self._object_info[type_]
        stock = not info["python_module"].startswith("custom_nodes.")
        sockets, widgets = node_slots(info["input"], inputs)
        if unknown := set(inputs) - {name for name, *_ in node_inputs(info["input"], inputs)}:
            raise ValueError(f"{type_} has no input {', '.join(sorted(unknown))}.")
        properties: dict[str, Any] = {"Node name for S&R": type_}
        if models:
            properties["models"] = list(models)
        height = node_height(sockets, info["output"], widgets, stock=stock)
        outputs = zip(info["output_name"], info["output"], strict=True)
        entry = {
            "id": self._next_id,
            "type": type_,
            "pos": list(pos),
            "size": list(size or (315, height + SHOWN.get(type_, 0))),
            "flags": {"collapsed": True} if collapsed else {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": name, "type": kind, "links": None} for name, kind in outputs],
            **({"title": title} if title else {}),
            "properties": properties,
            "widgets_values": [value for value, _ in widgets],
            **_colours(colours),
        }
        self._nodes.append(entry)
        for socket, source in sockets:
            entry["inputs"].append({**socket, "link": None if source is None else self._link(source, entry)})
        return Node(entry, room)

    def note(self, title: str, text: str, pos: Point, size: Point) -> Node:
        """Add a note in Markdown; line breaks within its paragraphs are removed."""
        entry = {
            "id": self._next_id,
            "type": "MarkdownNote",
            "pos": list(pos),
            "size": list(size),
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "title": title,
            "properties": {},
            "widgets_values": [WRAPPED.sub(" ", text.strip())],
            **_colours(NOTE_COLOURS),
        }
        self._nodes.append(entry)
        return Node(entry)

    def group(self, title: str, nodes: Iterable[Node]) -> None:
        """Add a titled frame around the nodes."""
        left, top, right, bottom = zip(*(node.box for node in nodes), strict=True)
        x, y = min(left) - MARGIN, min(top) - TITLE_HEIGHT
        self._groups.append(
            {
                "id": len(self._groups) + 1,
                "title": title,
                "bounding": [x, y, max(right) + MARGIN - x, max(bottom) + MARGIN - y],
                "color": GROUP_COLOUR,
                "flags": {},
            }
        )

    def use(self, subgraph: "Subgraph", pos: Point, size: Point, **inputs: Output) -> Node:
        """Add a node that holds a subgraph and shows the widgets that the subgraph promotes."""
        entry = {
            "id": self._next_id,
            "type": subgraph.id,
            "pos": list(pos),
            "size": list(size),
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": name, "type": kind, "links": None} for name, kind in subgraph.output_types()],
            "title": subgraph.name,
            "properties": {"proxyWidgets": subgraph.promoted},
            "widgets_values": [],
        }
        self._nodes.append(entry)
        self._subgraphs.append(subgraph)
        for name, kind in subgraph.input_types():
            link = self._link(inputs[name], entry)
            entry["inputs"].append({"name": name, "type": kind, "link": link})
        return Node(entry)

    def workflow(self) -> dict[str, Any]:
        """The graph in the format of its file."""
        self._number()
        left = min(node["pos"][0] for node in self._nodes)
        top = min(node["pos"][1] for node in self._nodes)
        return {
            "id": unique_id(self.name),
            "revision": 0,
            "last_node_id": max(graph.last_ids()[0] for graph in (self, *self._subgraphs)),
            "last_link_id": max(graph.last_ids()[1] for graph in (self, *self._subgraphs)),
            "nodes": self._nodes,
            "links": self._links,
            "groups": self._groups,
            **self._definitions(),
            "config": {},
            "extra": {
                "ds": {"scale": self.scale, "offset": [60 - left, 140 - top]},
                "frontendVersion": FRONTEND_VERSION,
            },
            "version": 0.4,
        }

    def text(self) -> str:
        """The content of the workflow file."""
        return json.dumps(self.workflow(), indent=2) + "\n"

    def last_ids(self) -> tuple[int, int]:
        """The highest ids of its nodes and of its links; one below the first id if there are none."""
        return self.first_id + len(self._nodes) - 1, self.first_id + len(self._links) - 1

    @property
    def _next_id(self) -> int:
        return self.first_id + len(self._nodes)

    def _number(self) -> None:
        """Set each node's place in the order of execution."""
        by_id = {node["id"]: node for node in self._nodes}
        for order, node_id in enumerate(_execution_order(self._nodes, self._links)):
            by_id[node_id]["order"] = order

    def _definitions(self) -> dict[str, Any]:
        definitions = [subgraph.definition() for subgraph in self._subgraphs]
        return {"definitions": {"subgraphs": definitions}} if definitions else {}

    def _link(self, source: Output, target: dict[str, Any]) -> int:
        link_id = self.first_id + len(self._links)
        self._links.append([link_id, source.node_id, source.slot, target["id"], len(target["inputs"]), source.type])
        output = self._outputs_of(source.node_id)[source.slot]
        output["links"] = [*(output["links"] or ()), link_id]
        return link_id

    def _outputs_of(self, node_id: int) -> list[dict[str, Any]]:
        return self._nodes[node_id - self.first_id]["outputs"]


class Subgraph(Graph):
    """A workflow that another workflow shows as one node, with named and typed inputs and outputs.

    Its ids begin above those of all workflows here, because new frontends need each id to be unique in a file. Of
    several subgraphs in a file, each has a `first_id` of its own.
    """

    def __init__(
        self, name: str, object_info: dict[str, Any], owner: str, *, first_id: int = 101, **inputs: str
    ) -> None:
        super().__init__(name, object_info)
        self.first_id = first_id
        self.id = unique_id(f"{owner}/{name}")
        self.promoted: list[list[str]] = []
        self._given = [{"name": given, "type": kind, "links": None} for given, kind in inputs.items()]
        self._results: list[tuple[str, Output, int]] = []

    def __getitem__(self, name: str) -> Output:
        """The subgraph's input with that name."""
        slot = next(slot for slot, given in enumerate(self._given) if given["name"] == name)
        return Output(INSIDE, slot, self._given[slot]["type"])

    def give(self, name: str, source: Output) -> None:
        """Add an output to the node that holds the subgraph."""
        link_id = self._link(source, {"id": OUTSIDE, "inputs": self._results})
        self._results.append((name, source, link_id))

    def promote(self, node: Node, *widgets: str, **named: str) -> None:
        """Show widgets of an inner node on the node that holds the subgraph; `named` gives some another name."""
        for widget in (*widgets, *named):
            self.promoted.append([str(node.entry["id"]), widget])
        for widget, label in named.items():
            shown = {"label": label, "name": widget, "type": "STRING", "widget": {"name": widget}, "link": None}
            node.entry["inputs"].append(shown)

    def input_types(self) -> list[tuple[str, str]]:
        """Name and type of each input."""
        return [(given["name"], given["type"]) for given in self._given]

    def output_types(self) -> list[tuple[str, str]]:
        """Name and type of each output."""
        return [(name, source.type) for name, source, _ in self._results]

    def definition(self) -> dict[str, Any]:
        """The subgraph in the format of the file."""
        self._number()
        left, top, right, _ = zip(*(Node(entry).box for entry in self._nodes), strict=True)
        node_id, link_id = self.last_ids()
        return {
            "id": self.id,
            "version": 1,
            "state": {"lastGroupId": 0, "lastNodeId": node_id, "lastLinkId": link_id, "lastRerouteId": 0},
            "revision": 0,
            "config": {},
            "name": self.name,
            "inputNode": {"id": INSIDE, "bounding": [min(left) - 200, min(top), 120, 20 * len(self._given) + 40]},
            "outputNode": {"id": OUTSIDE, "bounding": [max(right) + 80, min(top), 120, 60]},
            "inputs": [self._socket(given["name"], given["type"], given["links"] or []) for given in self._given],
            "outputs": [self._socket(name, source.type, [link]) for name, source, link in self._results],
            "widgets": [],
            "nodes": self._nodes,
            "groups": self._groups,
            "links": [dict(zip(LINK_KEYS, link, strict=True)) for link in self._links],
            "extra": {},
        }

    def _socket(self, name: str, kind: str, links: list[int]) -> dict[str, Any]:
        return {"id": unique_id(f"{self.id}/{name}"), "name": name, "type": kind, "linkIds": links}

    def _outputs_of(self, node_id: int) -> list[dict[str, Any]]:
        return self._given if node_id == INSIDE else super()._outputs_of(node_id)


def unique_id(name: str) -> str:
    """An id that is always the same for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"setandseq/{name}"))


def _colours(colours: tuple[str, str] | None) -> dict[str, str]:
    return {} if colours is None else {"color": colours[0], "bgcolor": colours[1]}


def _execution_order(nodes: list[dict[str, Any]], links: list[list[Any]]) -> list[int]:
    """Node ids in the interface's order of execution: a node follows after the sources of all its inputs."""
    by_id = {node["id"]: node for node in nodes}
    sources = {link[0]: link[1] for link in links}
    targets = {link[0]: link[3] for link in links}
    waiting = {
        node_id: sum(sources.get(entry["link"]) in by_id for entry in node["inputs"]) for node_id, node in by_id.items()
    }
    ready, order = deque(node_id for node_id in by_id if not waiting[node_id]), []
    while ready:
        node = by_id[ready.popleft()]
        order.append(node["id"])
        for output in node["outputs"]:
            for link in output["links"] or ():
                if targets[link] not in by_id:
                    continue
                waiting[targets[link]] -= 1
                if not waiting[targets[link]]:
                    ready.append(targets[link])
    return order


class Column:
    """Nodes below each other, with room for their titles; each group gets its title when it is complete."""

    def __init__(self, graph: Graph, x: float, y: float = 0) -> None:
        self.x, self.y = x, y
        self._graph = graph
        self._nodes: list[Node] = []

    def add(self, type_: str, *, tall: float | None = None, **options: Any) -> Node:
        """Add a node below the last one, as high as needed or `tall`; see `Graph.add` for `options`."""
        node = self._graph.add(type_, (self.x, self.y), **options)
        width = COLLAPSED_WIDTH if options.get("collapsed") else COLUMN_WIDTH
        node.entry["size"] = [width, tall or node.entry["size"][1]]
        self._nodes.append(node)
        self.y = node.box[3] + NODE_GAP
        return node

    def group(self, title: str) -> None:
        """Add a frame around the nodes since the last group."""
        self._graph.group(title, self._nodes)
        self._nodes = []
        self.y += GROUP_GAP


def noted_columns(graph: Graph, count: int, *notes: tuple[str, str, float]) -> list[Column]:
    """Columns side by side, with notes at the top of the first; each note is its title, text and height."""
    columns = [Column(graph, index * COLUMN_STEP) for index in range(count)]
    y = -TITLE_HEIGHT
    for title, text, height in notes:
        graph.note(title, text, (-MARGIN, y), (COLUMN_WIDTH + 2 * MARGIN, height))
        y += height + NODE_GAP
    columns[0].y = y + NODE_GAP
    return columns
