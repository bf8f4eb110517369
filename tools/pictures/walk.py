"""Walk from an empty ComfyUI to a saved concept with clicks and typing only: python -m tools.pictures.walk [VERSION]

It prints the table "Clicks and wires" of docs/walk.md. With `--pictures FOLDER`, it also saves what the screen shows
before the first click, when the workflow has opened, before Run, and at the end. Tiny models take the place of Wan.
"""

import argparse
import sys
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from playwright.sync_api import Locator, expect

from tools.pictures.interface import Ui, write_settings
from tools.pictures.openings import SMALL_WINDOW
from tools.pictures.pictures import PICTURE_MS, frontend_options, page_on
from tools.server.folder import ROOT
from tools.server.server import ComfyUIError, Server
from tools.tiny_wan import write_wan_files
from tools.videos import MAKERS
from tools.workflows import embedded, wan

MOST_CLICKS = 12
"""The aim for every goal."""
TRAIN_SECONDS = 1800.0
OPEN_MS, SETTLE_MS, LOOK_MS = 60_000, 1500, 500
FAILED = "execution_error"
TRAINER = "SetSeq_TrainConcept"
WIDGET = """([type, name]) => {
  const { canvas } = window.app;
  const node = canvas.graph.nodes.find(node => node.type === type);
  const widget = node.widgets.find(widget => widget.name === name);
  const page = canvas.canvas.getBoundingClientRect();
  const place = x => [x + node.pos[0] + canvas.ds.offset[0], widget.y + 10 + node.pos[1] + canvas.ds.offset[1]];
  const [x, y] = place(node.size[0] / 2).map(value => value * canvas.ds.scale);
  const [left] = place(20).map(value => value * canvas.ds.scale);
  return { x: page.left + x, y: page.top + y, left: page.left + left };
}"""
"""Returns where the classic renderer draws a widget: its middle, and its arrow to the left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A row of the table."""

    text: str
    template: str
    own_clip: bool = True
    wheel: int = 0
    """Turns of the wheel until the texts of the train node can be read."""
    hesitation: str
    """Where one hesitates on the way, seen while this was written."""


GOALS = (
    Goal(
        text="a first concept",
        template=embedded.START,
        own_clip=False,
        hesitation="the section is the last on the left",
    ),
    Goal(
        text="your clip on the embedded model",
        template=embedded.START,
        hesitation="the new *Load Video* is below the window's edge; the clip itself plays on *Train Concept*",
    ),
    Goal(text="your clip on Wan 2.1", template=wan.TRAIN, hesitation="three model files must be downloaded first"),
    Goal(
        text="your clip on both experts of Wan 2.2",
        template=wan.TRAIN_EXPERTS,
        wheel=3,
        hesitation="it opens at 50 %, where the classic renderer draws no text: the wheel comes first. "
        "Nothing tells the high-noise file from the low-noise one but its name",
    ),
)
LOOK_PROMPT = "a large [v] square on a grey plain background"
MOTION_PROMPT = "a large [v] square [u] sliding on a grey plain background"
NEW_PROMPT = "a large [v] square [u] sliding on a pink striped background"


@dataclass(slots=True)
class Hand:
    """A hand on mouse and keyboard that writes down its clicks. It never drags, so it draws no wire."""

    ui: Ui
    clicks: list[str] = field(default_factory=list)

    def click(self, what: str, target: Locator) -> None:
        """Click an element."""
        target.click(timeout=OPEN_MS)
        self.clicks.append(what)

    def click_at(self, what: str, x: float, y: float) -> None:
        """Click a point of the window."""
        self.ui.page.mouse.click(x, y)
        self.clicks.append(what)

    def write(self, what: str, target: Locator, text: str) -> None:
        """Click a field and replace its text."""
        self.click(what, target)
        self.ui.page.keyboard.press("Control+a")
        self.ui.page.keyboard.type(text)

    def choose(self, what: str, button: Locator, file: Path) -> None:
        """Click a button that opens the system's file dialog, and a file there."""
        with self.ui.page.expect_file_chooser() as chooser:
            self.click(what, button)
        chooser.value.set_files(file)
        self.clicks.append("the file")


def open_template(hand: Hand, name: str) -> None:
    """Open one of our workflows from the template browser."""
    page = hand.ui.page
    hand.click("Templates", page.get_by_role("button", name="Templates").first)
    dialog = page.get_by_role("dialog")
    hand.click("section *setandseq*", dialog.get_by_text("setandseq", exact=True).first)
    hand.click("the picture", dialog.get_by_test_id(f"template-workflow-{name}"))
    dialog.wait_for(state="detached", timeout=OPEN_MS)
    page.wait_for_function("() => window.app.graph.nodes.some(node => node.type === 'SetSeq_TrainConcept')")
    page.wait_for_timeout(SETTLE_MS)


def turn_wheel(ui: Ui, turns: int) -> None:
    """Zoom in on the train node."""
    place = ui.page.evaluate(WIDGET, [TRAINER, "name"])
    ui.page.mouse.move(place["x"], place["y"])
    for _ in range(turns):
        ui.page.mouse.wheel(0, -100)
        ui.page.wait_for_timeout(LOOK_MS)


def describe_own_clip(hand: Hand, clip: Path, name: str) -> None:
    """Choose the video and the preset *draft*, and write the prompts and the concept's name."""
    page = hand.ui.page
    hand.choose("*Choose a video…*", page.get_by_role("button", name="Choose a video…"), clip)
    expect(hand.ui.region("Clip").locator("video")).to_be_visible(timeout=OPEN_MS)
    hand.write("the look", page.get_by_role("textbox", name="look prompt"), LOOK_PROMPT)
    hand.write("the motion", page.get_by_role("textbox", name="motion prompt"), MOTION_PROMPT)
    place = page.evaluate(WIDGET, [TRAINER, "name"])
    hand.click_at("the name", place["x"], place["y"])
    page.keyboard.press("Control+a")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    place = page.evaluate(WIDGET, [TRAINER, "preset"])
    hand.click_at("the preset *draft*", place["left"], place["y"])
    hand.write("the new prompt", page.get_by_role("textbox", name="text", exact=True).first, NEW_PROMPT)


def press_run(hand: Hand) -> None:
    """Start the workflow."""
    hand.click("**Run**", hand.ui.page.get_by_test_id("queue-button"))


def wait_for_concept(ui: Ui, name: str, earlier: Container[str]) -> None:
    """Wait until the server has saved a concept.

    Args:
        earlier: ids of the runs before this one.

    Raises:
        ComfyUIError: the run failed.
        TimeoutError: nothing was saved in time.
    """
    file = ui.server.folder / "models" / "dynamic_concepts" / f"{name}.safetensors"
    end = monotonic() + TRAIN_SECONDS
    while not file.exists():
        runs = [run for prompt, run in ui.server.get("history").items() if prompt not in earlier]
        failed = [run for run in runs if run["status"]["messages"][-1][0] == FAILED]
        if failed:
            raise ComfyUIError(f"The run for {name} failed: {failed[-1]['status']['messages'][-1]}")
        if monotonic() > end:
            raise TimeoutError(f"There is no {file} after {TRAIN_SECONDS:.0f} s.")
        ui.page.wait_for_timeout(LOOK_MS)


def walk(server: Server, goal: Goal, clip: Path, pictures: Path | None) -> tuple[Hand, int]:
    """Reach a goal from a new page; return the hand and the number of nodes on the screen at the end."""
    name = f"walked_{GOALS.index(goal)}" if goal.own_clip else "my_concept"
    with page_on(server, *SMALL_WINDOW) as ui:

        def picture(step: str) -> None:
            if pictures:
                file = pictures / f"{GOALS.index(goal)}_{step}.png"
                ui.page.screenshot(path=file, timeout=PICTURE_MS)

        hand = Hand(ui)
        picture("empty")
        open_template(hand, goal.template)
        picture("opened")
        if goal.wheel:
            turn_wheel(ui, goal.wheel)
        if goal.own_clip:
            describe_own_clip(hand, clip, name)
            picture("described")
        nodes = ui.page.evaluate("() => window.app.graph.nodes.length")
        earlier = set(server.get("history"))
        press_run(hand)
        wait_for_concept(ui, name, earlier)
        picture("saved")
    server.clear()
    return hand, nodes


def row(goal: Goal, hand: Hand, nodes: int) -> str:
    """A row of the table in docs/walk.md."""
    clicks = f"{len(hand.clicks)}: {', '.join(hand.clicks)}"
    return f"| {goal.text}: *{goal.template}* | {nodes} | {clicks} | 0 | {goal.hesitation} |"


def main() -> None:
    """Walk to all goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", default="", help="a release of the interface that was fetched")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument("--goals", default="0123", metavar="NUMBERS", help="only these rows of the table, from 0 on")
    arguments = parser.parse_args()
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    print("| goal | nodes on the screen | clicks | wires drawn | where one hesitates |\n|---|---|---|---|---|")
    most = 0
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_settings(folder)
        write_wan_files(folder / "models")
        (folder / "custom_nodes").mkdir()
        (folder / "custom_nodes" / "tiny_encoder").symlink_to(ROOT / "tools" / "tiny_encoder", target_is_directory=True)
        clip = MAKERS["small.webm"](folder / "my_clip.webm")
        with Server(folder, options=frontend_options(arguments.version)) as server:
            for index in map(int, arguments.goals):
                hand, nodes = walk(server, GOALS[index], clip, arguments.pictures)
                print(row(GOALS[index], hand, nodes), flush=True)
                most = max(most, len(hand.clicks))
    if most > MOST_CLICKS:
        sys.exit(f"{most} clicks are more than {MOST_CLICKS}.")


if __name__ == "__main__":
    main()
