"""The outcome of a prompt in a ComfyUI server, and the ways it can fail."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ComfyUIError(Exception):
    """A server did not start, died or did not answer, or a prompt failed."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Run:
    """The outcome of a prompt."""

    status: str
    """Status: "success", "error", "interrupted", or "rejected" by validation before it ran."""
    prompt_id: str = ""
    error: str = ""
    """The error message as an artist sees it on the node."""
    error_type: str = ""
    node: str = ""
    """Id of the node that failed or was interrupted."""
    node_type: str = ""
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Everything that output nodes showed or saved, by node id."""
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """ComfyUI's messages about the prompt: (kind, data) in order."""

    def succeeded(self) -> "Run":
        """Return this run; raises ComfyUIError with the node and its message if it failed."""
        if self.status != "success":
            raise ComfyUIError(f"The prompt ended as {self.status}, node {self.node} ({self.node_type}): {self.error}")
        return self

    @property
    def cached(self) -> set[str]:
        """Ids of the nodes whose results ComfyUI had cached."""
        return {node for kind, data in self.messages if kind == "execution_cached" for node in data["nodes"]}


class PromptRejectedError(ComfyUIError):
    """The prompt did not pass ComfyUI's validation, in whole or in part; it does not run."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.node_errors: dict[str, Any] = dict(answer.get("node_errors") or {})
        """Errors by node id: class_type, and errors with type, message, details and extra_info."""
        lines = [
            f"node {node} ({found['class_type']}): {reason['message']}: {reason['details']}"
            for node, found in self.node_errors.items()
            for reason in found["errors"]
        ]
        error: dict[str, Any] = answer.get("error") or {"message": "unknown fault", "details": str(answer)}
        super().__init__("\n".join(lines) or f"{error['message']}: {error['details']}")
        about = error.get("extra_info") or {}
        self._place = about.get("node_id") or "", about.get("class_type") or ""

    def as_run(self) -> Run:
        """The rejection as a `Run` that ended at the first node with a fault."""
        place = next(((node, found["class_type"]) for node, found in self.node_errors.items()), self._place)
        return Run(status="rejected", error=str(self), node=place[0], node_type=place[1])


def run_from_history(prompt_id: str, found: Mapping[str, Any]) -> Run:
    """The outcome of a prompt, from ComfyUI's entry in its history."""
    messages = [(kind, data) for kind, data in found["status"]["messages"]]
    status, last = found["status"]["status_str"], {}
    for kind, data in messages:
        if kind in ("execution_error", "execution_interrupted"):
            status, last = kind.removeprefix("execution_"), data
    return Run(
        status=status,
        prompt_id=prompt_id,
        error=str(last.get("exception_message", "")).strip() or ("cancelled" if status == "interrupted" else ""),
        error_type=str(last.get("exception_type", "")),
        node=str(last.get("node_id", "")),
        node_type=str(last.get("node_type", "")),
        outputs=found["outputs"],
        messages=messages,
    )
