"""Records for the training panel in the browser: each train node's last training, and the user's wishes. Events carry
only the changes; a page that loads later, after a reload or in a second tab, asks for the whole record.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management as memory
from aiohttp import web
from server import PromptServer

from ..setandseq_core.errors import shown_json

EVENT = "setandseq.training"
ROUTE = "/setandseq/training/{node}"
MOST_VALUES = 1000
"""Number of losses kept per training; when there are twice as many, pairs are averaged."""
MOST_RECORDS = 20
SAMPLE = "sample_"
MOST_SAMPLES = 8
COPY = "setandseq_copy"
"""The property that distinguishes a train node from the same node in another copy of the workflow."""
TRAINING, FINISHED, KEPT, STOPPED, FAILED = "training", "finished", "kept", "stopped", "failed"
KEEP, STOP = "keep", "stop"
"""A user's wishes: stop and keep what was learned, or cancel the prompt."""


@dataclass(kw_only=True, slots=True)
class LossCurve:
    """The losses of all steps; in long trainings, means of several steps each."""

    start: int = 0
    """Steps before the first value."""
    stride: int = 1
    """Steps that each value stands for."""
    values: list[float] = field(default_factory=list)
    _pending: list[float] = field(default_factory=list)

    def add(self, loss: float) -> None:
        """Add the loss of the next step."""
        self._pending.append(loss)
        if len(self._pending) < self.stride:
            return
        self.values.append(round(sum(self._pending) / self.stride, 5))
        self._pending.clear()
        if len(self.values) == 2 * MOST_VALUES:
            self.values[:] = [round(sum(pair) / 2, 5) for pair in zip(self.values[::2], self.values[1::2], strict=True)]
            self.stride *= 2

    @property
    def end(self) -> int:
        """Number of steps done."""
        return self.start + self.stride * len(self.values) + len(self._pending)


@dataclass(kw_only=True, slots=True)
class TrainingRecord:
    """State of the latest training on a train node."""

    node: str
    workflow: str = ""
    """The copy of a workflow that holds the node (see `copy_id`), because nodes of other copies have the same ids."""
    run: int = field(default_factory=time.time_ns)
    """Distinguishes the trainings of a node."""
    stage: str = ""
    steps: int = 0
    step: int = 0
    expert: str = ""
    """The expert that learns, if one request trains two."""
    steps_before: int = 0
    """Steps of the request's earlier parts."""
    steps_in_all: int = 0
    """Steps of all parts of the request; 0 if it has only one."""
    prompt: str = ""
    state: str = TRAINING
    message: str = ""
    alarming: bool = False
    """Whether the message says that something is wrong, and is shown in red."""
    seconds_left: float = 0.0
    wish: str = ""
    plan: str = ""
    """The training's needs, in words; "" until they are known."""
    losses: LossCurve = field(default_factory=LossCurve)
    validation: list[tuple[int, float]] = field(default_factory=list)
    """Pairs of a step and its validation loss."""
    pictures: dict[str, bytes] = field(default_factory=dict)
    """WebP files: "reference", "sample" for the newest one, and "sample_40" for that of step 40."""
    sample_step: int = 0

    def add_sample(self, picture: bytes) -> None:
        """Show a sample of the current step. Only a few of the older samples are kept, spread over all steps."""
        self.pictures["sample"] = self.pictures[f"{SAMPLE}{self.step}"] = picture
        self.sample_step = self.step
        steps = sorted(int(name.removeprefix(SAMPLE)) for name in self.pictures if name.startswith(SAMPLE))
        if len(steps) > MOST_SAMPLES:
            gaps = {step: after - before for before, step, after in zip(steps, steps[1:], steps[2:], strict=False)}
            del self.pictures[f"{SAMPLE}{min(gaps, key=gaps.__getitem__)}"]

    def news(self, first: int = 0, first_validation: int = 0) -> dict[str, Any]:
        """The record as JSON values, with the losses from these indices onwards."""
        names = (
            "node",
            "workflow",
            "stage",
            "steps",
            "step",
            "expert",
            "steps_before",
            "steps_in_all",
            "prompt",
            "state",
            "message",
            "alarming",
            "wish",
            "plan",
            "sample_step",
        )
        return {name: getattr(self, name) for name in names} | {
            "run": str(self.run),
            "seconds_left": round(self.seconds_left, 1),
            "start": self.losses.start,
            "stride": self.losses.stride,
            "first": first,
            "losses": self.losses.values[first:],
            "first_validation": first_validation,
            "validation": self.validation[first_validation:],
            "pictures": sorted(self.pictures),
        }


class Records:
    """The last trainings, by workflow and node."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], TrainingRecord] = {}

    def put(self, record: TrainingRecord) -> None:
        """Replace the record of that node; the oldest records are dropped."""
        key = record.workflow, record.node
        self._records.pop(key, None)
        self._records[key] = record
        for oldest in list(self._records)[:-MOST_RECORDS]:
            del self._records[oldest]

    def any_trains(self) -> bool:
        """Whether a training is running."""
        return any(record.state == TRAINING for record in self._records.values())

    def get(self, node: str, workflow: str = "") -> TrainingRecord | None:
        """The record of that node in that workflow, or else in a prompt whose workflow is not known."""
        return self._records.get((workflow, node)) or self._records.get(("", node))


RECORDS = Records()


def copy_id(extra_pnginfo: object, node_id: str) -> str:
    """The copy of a workflow that a node is in: its own mark or the workflow's id; "" if the client sent neither."""
    workflow = extra_pnginfo.get("workflow") if isinstance(extra_pnginfo, Mapping) else None
    if not isinstance(workflow, Mapping):
        return ""
    properties = _node(workflow, node_id).get("properties")
    mark = properties.get(COPY) if isinstance(properties, Mapping) else None
    return str(mark or workflow.get("id") or "")


def _node(workflow: Mapping[str, Any], node_id: str) -> Mapping[str, Any]:
    """The node that a prompt calls "4", or "5:101" in a subgraph; an empty one if the workflow has no such node."""
    definitions = workflow.get("definitions")
    subgraphs = definitions.get("subgraphs", ()) if isinstance(definitions, Mapping) else ()
    graph, found = workflow, {}
    for part in node_id.split(":"):
        found = next((node for node in graph.get("nodes", ()) if str(node.get("id")) == part), {})
        graph = next((each for each in subgraphs if each.get("id") == found.get("type")), {})
    return found


def tell(record: TrainingRecord, first: int = 0, first_validation: int = 0) -> None:
    """Send the changes to every open page."""
    PromptServer.instance.send_sync(EVENT, shown_json(record.news(first, first_validation)))


def register_panel() -> None:
    """Add the routes by which pages read records and send the user's wishes."""
    routes = PromptServer.instance.routes

    @routes.get(ROUTE)
    async def whole(request: web.Request) -> web.Response:
        record = _asked(request)
        return web.json_response(shown_json(record.news()) if record else {})

    @routes.get(ROUTE + "/{picture}")
    async def picture(request: web.Request) -> web.Response:
        record = _asked(request)
        content = record.pictures.get(request.match_info["picture"]) if record else None
        if content is None:
            raise web.HTTPNotFound
        return web.Response(body=content, content_type="image/webp", headers={"Cache-Control": "no-store"})

    @routes.post(ROUTE + "/{wish}")
    async def wish(request: web.Request) -> web.Response:
        record, wish = _asked(request), request.match_info["wish"]
        if record is None or record.state != TRAINING or wish not in (KEEP, STOP):
            raise web.HTTPConflict(text="This node does not train at present.")
        record.wish = wish
        if wish == STOP:
            memory.interrupt_current_processing()
        tell(record, len(record.losses.values), len(record.validation))
        return web.json_response({})


def _asked(request: web.Request) -> TrainingRecord | None:
    return RECORDS.get(request.match_info["node"], request.query.get("workflow", ""))


def trained_before(record: TrainingRecord, losses: Iterable[float], steps: int) -> None:
    """Fill the record of a training that was already finished.

    Args:
        losses: from the concept's file, each the mean of an equal number of steps.
    """
    values = list(losses)
    record.steps = record.step = steps
    record.losses = LossCurve(values=values, stride=max(1, -(-steps // max(len(values), 1))))
