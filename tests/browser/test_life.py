"""Our widgets live as long as their node is in a graph, whatever happens around it; tested in a real browser."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from tools.pictures.interface import Ui
from tools.workflows.embedded import TRAIN
from tools.workflows.make import FOLDER

pytestmark = pytest.mark.every_frontend
SOME_LOOKS_MS = 1200
OURS = ("SetSeq_ReferenceClip", "SetSeq_TrainIdentityLoRA", "SetSeq_TrainMotionResidual")
TO_SUBGRAPH = """types => {
  const chosen = window.app.graph.nodes.filter(node => types.includes(node.type));
  const { node } = window.app.graph.convertToSubgraph(new Set(chosen));
  return String(node.id);
}"""
OPEN_SUBGRAPH = """id => {
  const node = window.app.graph.nodes.find(node => String(node.id) === id);
  window.app.canvas.openSubgraph(node.subgraph, node);
}"""
CLOSE_SUBGRAPH = "() => window.app.canvas.setGraph(window.app.rootGraph)"
FOLLOW = """async id => {
  const { follow } = await import('/extensions/setandseq/graph.mjs');
  const node = window.app.graph.nodes.find(node => String(node.id) === id);
  window.watched = { text: 'first', fails: false, looks: 0, seen: [] };
  follow(node, () => {
    window.watched.looks += 1;
    if (window.watched.fails) throw new Error('the graph is not whole');
    return window.watched.text;
  }, () => window.watched.seen.push(window.watched.text));
}"""
REMOVE = "id => window.app.graph.remove(window.app.graph.nodes.find(node => String(node.id) === id))"


def workflow() -> dict[str, Any]:
    return json.loads((FOLDER / f"{TRAIN}.json").read_text(encoding="utf-8"))


def test_a_subgraph_can_be_made_of_our_nodes_and_they_go_on_in_it(ui: Ui) -> None:
    ui.load(workflow())
    ui.page.wait_for_timeout(SOME_LOOKS_MS)
    subgraph = ui.page.evaluate(TO_SUBGRAPH, OURS)
    ui.page.wait_for_timeout(SOME_LOOKS_MS)
    assert ui.errors == []
    ui.page.evaluate(OPEN_SUBGRAPH, subgraph)
    reference = ui.node("SetSeq_ReferenceClip")
    ui.show(reference)
    check = ui.region("Prompt check")
    expect(check.get_by_text("Motion: [u] stands for")).to_be_visible()
    ui.change(reference, motion_prompt="")
    expect(check.get_by_text("Motion prompt: repeat the look prompt")).to_be_visible()
    ui.show(ui.node("SetSeq_TrainIdentityLoRA"))
    expect(ui.region("Training").get_by_text("appear here").first).to_be_visible()
    ui.page.evaluate(CLOSE_SUBGRAPH)


def test_watching_survives_an_error_that_is_reported_once_and_ends_with_the_node(ui: Ui) -> None:
    node = ui.add("SetSeq_ReferenceClip")
    ui.page.evaluate(FOLLOW, node)
    ui.page.wait_for_function("() => window.watched.seen.length === 1")
    ui.page.evaluate("() => Object.assign(window.watched, { fails: true, text: 'second' })")
    ui.page.wait_for_timeout(SOME_LOOKS_MS)
    assert len(ui.errors) == 1 and "the graph is not whole" in ui.errors.pop()
    ui.page.evaluate("() => { window.watched.fails = false; }")
    ui.page.wait_for_function("() => window.watched.seen.join() === 'first,second'")
    ui.page.evaluate(REMOVE, node)
    looks = ui.page.evaluate("() => window.watched.looks")
    ui.page.wait_for_timeout(SOME_LOOKS_MS)
    assert ui.page.evaluate("() => window.watched.looks") == looks


def test_a_node_that_never_gets_a_graph_is_not_watched(ui: Ui) -> None:
    """Making a subgraph makes such copies, and so do previews of nodes in the library."""
    ui.page.evaluate("() => { window.loose = window.LiteGraph.createNode('SetSeq_LoadDynamicConcept'); }")
    ui.page.wait_for_timeout(SOME_LOOKS_MS)
    assert ui.page.evaluate("() => window.loose.graph") is None
    assert ui.errors == []
