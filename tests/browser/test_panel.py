"""The training panel on the train nodes, in a real browser, while a real training runs."""

import json
import time
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from setandseq_core.concept_file.file import load_concept
from setandseq_core.embedded.files import TRANSFORMER_FILE
from tools.pictures.interface import Ui
from tools.workflows.embedded import START, TRAIN
from tools.workflows.make import FOLDER

IDENTITY, MOTION = "SetSeq_TrainIdentityLoRA", "SetSeq_TrainMotionResidual"
END_MS = 240_000
SEEDS = count(1)
"""Each test has its own seed, because finished trainings are not repeated."""
CONNECT = """([from, to]) => {
  const of = id => window.app.graph.nodes.find(node => String(node.id) === id);
  const target = of(to);
  of(from).connect(0, target, target.inputs.findIndex(input => input.name === 'settings'));
}"""
MUTED = 2
"""The mode of a node that is left out of the run."""
EMPTY = {"version": 0.4, "nodes": [], "links": []}


RED = """element => {
  const [red, green, blue] = getComputedStyle(element).color.match(/\\d+/g).map(Number);
  return red > green + 50 && red > blue + 50;
}"""


def start_here(
    seed: int,
    set_steps: int,
    sequence_steps: int,
    name: str = "my_concept",
    rate: float | None = None,
    model: str | None = None,
    videos: bool = False,
) -> dict[str, Any]:
    """The workflow that an artist begins with, with fewer steps and a seed of its own.

    Args:
        rate: learning rate of the look.
        model: another model file to load.
        videos: whether the workflow makes videos at its end.
    """
    workflow = json.loads((FOLDER / f"{TRAIN}.json").read_text(encoding="utf-8")) | {"id": str(uuid4())}
    for node in workflow["nodes"]:
        values = node["widgets_values"]
        if node["type"] == IDENTITY:
            values[0], values[3] = set_steps, seed
            values[1] = rate or values[1]
        if node["type"] == "UNETLoader":
            values[0] = model or values[0]
        if node["type"] == MOTION:
            values[0], values[2] = sequence_steps, seed
        if node["type"] == "SetSeq_TrainingSettings":
            values[0] = 1
        if node["type"] == "SetSeq_Regularisation":
            values[0] = 0.0  # no prior clips
        if node["type"] == "KSampler":
            values[2] = 2
        if node["type"] == "SaveVideo" and not videos:
            node["mode"] = MUTED
        if node["type"] == "SetSeq_SaveDynamicConcept":
            values[0] = name
    return workflow


def steps_done(ui: Ui, panel: int = 0) -> int:
    """The step on a panel's bar; 0 before the panel has a bar."""
    return int(ui.region("Training").nth(panel).locator("[role=progressbar]").get_attribute("aria-valuenow") or 0)


def wait_for_step(ui: Ui, least: int, panel: int = 0) -> int:
    deadline = time.monotonic() + END_MS / 1000
    while (step := steps_done(ui, panel)) < least:
        assert time.monotonic() < deadline, ui.region("Training").nth(panel).inner_text()
        ui.page.wait_for_timeout(100)
    return step


def wait_for_text(ui: Ui, text: str, panel: int = 0) -> None:
    ui.region("Training").nth(panel).get_by_text(text).wait_for(timeout=END_MS)


def wait_for_empty_queue(ui: Ui) -> None:
    deadline = time.monotonic() + END_MS / 1000
    while any((queue := ui.server.get("queue")).values()):
        assert time.monotonic() < deadline, queue
        ui.page.wait_for_timeout(200)


def drawn(ui: Ui, panel: int = 0) -> int:
    """The number of losses in a panel's curve."""
    points = ui.region("Training").nth(panel).locator("polyline.setandseq-raw").get_attribute("points") or ""
    return len(points.split())


def test_both_train_nodes_have_a_panel_that_is_never_saved(ui: Ui) -> None:
    for node_type in (IDENTITY, MOTION):
        ui.load(EMPTY)
        ui.add(node_type)
        ui.region("Training").get_by_text("appear here").wait_for()
        assert all("training_panel" not in node["inputs"] for node in ui.prompt().values())
        assert all(len(node["widgets_values"]) == len(ui.widgets(node["id"])) - 1 for node in ui.saved()["nodes"])


@pytest.mark.parametrize("ui", ["nodes2"], indirect=True)  # the other trainings of this file run in the classic one
def test_start_here_runs_to_the_end_while_the_panels_update(ui: Ui, concepts: Path) -> None:
    for video in (ui.server.folder / "output").rglob("*.mp4"):
        video.unlink()
    ui.load(start_here(seed=next(SEEDS), set_steps=60, sequence_steps=8, videos=True))
    ui.show(ui.node(IDENTITY))
    ui.run()
    seen = [wait_for_step(ui, 1)]
    while seen[-1] < 60:
        seen.append(wait_for_step(ui, seen[-1] + 1))
    assert len(seen) > 2 and drawn(ui) == 60
    wait_for_text(ui, "Learned the look: 60 steps")
    wait_for_text(ui, "Learned the motion: 8 steps", panel=1)
    pictures = ui.region("Training").nth(1).locator("img")
    assert [pictures.nth(i).get_attribute("alt") or "" for i in range(pictures.count())] == [
        "Your clip: a large [v] creature [u] wandering on a blue plain background",
        "Sample at step 8: a large [v] creature [u] wandering on a blue plain background",
    ]
    ui.page.wait_for_function(
        "() => [...document.querySelectorAll('.setandseq-pictures img')].every(picture => picture.naturalWidth > 0)"
    )
    label = ui.region("Training").nth(1).locator("svg").get_attribute("aria-label") or ""
    assert label.startswith("Loss curve: 0.") and "validation 0." in label
    assert ui.region("Training").get_by_role("button", name="Finish now").count() == 0
    ui.show(ui.node(MOTION))
    ui.region("Training").nth(1).locator(".setandseq-pictures button").last.click()
    large = ui.page.get_by_role("dialog", name="Sample at step 8")
    large.wait_for()
    large.click()
    large.wait_for(state="detached")
    wait_for_empty_queue(ui)
    made = {path.name.removesuffix("_00001_.mp4") for path in (ui.server.folder / "output").rglob("*.mp4")}
    assert made >= {"reconstructed", "green", "pink", "star", "calm", "no_motion"}  # "base" only the first time
    assert [path.name for path in concepts.iterdir()] == ["my_concept.safetensors"]


def test_a_reload_and_a_second_tab_show_it_all_and_can_stop_and_keep(canvas: Ui, concepts: Path) -> None:
    workflow = start_here(seed=next(SEEDS), set_steps=5000, sequence_steps=2, name="kept")
    canvas.load(workflow)
    workflow = canvas.saved()  # with the marks of its train nodes
    canvas.run()
    before = wait_for_step(canvas, 5)
    canvas.open()
    canvas.load(workflow)
    canvas.show(canvas.node(IDENTITY))
    assert wait_for_step(canvas, before) >= before and drawn(canvas) >= before
    second = Ui(canvas.page.context.new_page(), canvas.server)
    second.open()
    second.load(workflow)
    now = wait_for_step(second, before)
    wait_for_step(second, now + 3)
    assert drawn(second) >= now + 3
    second.show(second.node(IDENTITY))
    second.region("Training").first.get_by_role("button", name="Finish now").click()
    wait_for_text(canvas, "finished early")
    wait_for_text(canvas, "Learned the motion: 2 steps", panel=1)
    second.page.close()
    wait_for_empty_queue(canvas)
    concept = load_concept(concepts / "kept.safetensors")
    assert 5 <= concept.info.training["set"]["steps"] < 5000


def test_stop_cancels_and_the_next_run_goes_on_from_there(canvas: Ui, concepts: Path) -> None:
    canvas.load(start_here(seed=next(SEEDS), set_steps=5000, sequence_steps=2))
    canvas.run()
    wait_for_step(canvas, 4)
    stop = canvas.region("Training").first.get_by_role("button", name="Pause")
    stop.focus()
    canvas.page.keyboard.press("Enter")
    wait_for_text(canvas, "run again to resume")
    wait_for_empty_queue(canvas)
    assert not list(concepts.iterdir())
    stopped = steps_done(canvas)
    canvas.run()
    wait_for_step(canvas, stopped + 1)
    assert drawn(canvas) >= stopped + 1  # the curve begins at the first step
    canvas.show(canvas.node(IDENTITY))
    stop.click()
    wait_for_empty_queue(canvas)


def test_another_copy_of_the_workflow_shows_nothing_of_it(canvas: Ui) -> None:
    workflow = start_here(seed=next(SEEDS), set_steps=2, sequence_steps=1)
    canvas.load(workflow)
    canvas.run()
    wait_for_text(canvas, "Learned the look: 2 steps")
    wait_for_empty_queue(canvas)
    canvas.load(workflow)
    canvas.region("Training").first.get_by_text("appear here").wait_for()


def test_train_more_resumes_with_half_as_many_steps_again(canvas: Ui, concepts: Path) -> None:
    canvas.load(json.loads((FOLDER / f"{START}.json").read_text(encoding="utf-8")))
    node = canvas.node("SetSeq_TrainConcept")
    settings = canvas.add("SetSeq_Regularisation", prior_share=0.0)
    canvas.page.evaluate(CONNECT, [settings, node])
    canvas.change(node, look_steps=2, motion_steps=4, name="more")
    canvas.show(node)
    canvas.run()
    wait_for_text(canvas, "Learned the motion: 4 steps")
    canvas.region("Training").get_by_role("button", name="Train more").click()
    wait_for_text(canvas, "Learned the motion: 6 steps")
    wait_for_empty_queue(canvas)
    assert drawn(canvas) == 6
    found = load_concept(concepts / "more_2.safetensors").info.training
    assert (found["set"]["steps"], found["sequence"]["steps"]) == (2, 6)


def red_text(ui: Ui) -> str:
    """The message on the first panel, which must be red."""
    said = ui.region("Training").first.locator(".setandseq-alarm").first
    said.wait_for(timeout=END_MS)
    assert said.evaluate(RED)
    return said.inner_text()


def test_a_training_that_makes_it_worse_is_red_and_its_best_state_is_what_is_saved(canvas: Ui, concepts: Path) -> None:
    canvas.load(start_here(seed=next(SEEDS), set_steps=8, sequence_steps=1, name="worse", rate=0.1))
    canvas.show(canvas.node(IDENTITY))
    canvas.run()
    wait_for_text(canvas, "Training made it worse")
    text = red_text(canvas)
    wait_for_text(canvas, "Learned the motion: 1 steps", panel=1)
    wait_for_empty_queue(canvas)
    record = load_concept(concepts / "worse.safetensors").info.training["set"]
    before, after = record["validation"]
    assert after > before and f"rose from {before:.3f} to {after:.3f}" in text
    assert f"of step {record['taken_from']} (" in text and "Lower the learning rate and train again" in text


def test_a_loss_that_is_not_finite_ends_in_red_with_the_reason_and_the_next_step(canvas: Ui, concepts: Path) -> None:
    """The model's velocities are so large that the squares of a gradient are no longer finite."""
    weights = load_file(TRANSFORMER_FILE)
    weights["head.head.weight"] = 1e10 * weights["head.head.weight"].float()
    with safe_open(TRANSFORMER_FILE, "pt") as file:
        metadata = file.metadata()
    models = canvas.server.folder / "models" / "diffusion_models"
    models.mkdir(exist_ok=True)
    save_file(weights, models / "wild.safetensors", metadata)
    canvas.load(start_here(seed=next(SEEDS), set_steps=4, sequence_steps=1, model="wild.safetensors"))
    canvas.show(canvas.node(IDENTITY))
    canvas.run()
    wait_for_text(canvas, "failed")
    wait_for_empty_queue(canvas)
    said = canvas.region("Training").first.locator(".setandseq-alarm")
    assert all(said.nth(index).evaluate(RED) for index in range(said.count()))
    text = said.last.inner_text()
    assert "is not a finite number at step 1, also after the learning rate was lowered" in text
    assert "Lower the learning rate" in text and not list(concepts.iterdir())
