"""The files in workflows/ and their thumbnails; another test, with a server, checks that the files are up to date."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from setandseq_core.clips.video import write_video
from tools.workflows.make import CELL, COLUMNS, FOLDER, MAKERS, ROWS, film_strips, write_thumbnails

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # imageio-ffmpeg leaves pipes open


@pytest.mark.parametrize("name", MAKERS)
def test_workflow_has_a_small_thumbnail(name: str) -> None:
    path = FOLDER / f"{name}.jpg"
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("JPEG", (400, 300))
    assert path.stat().st_size < 60_000


def test_folder_holds_workflows_and_thumbnails_only() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}{end}" for name in MAKERS for end in (".json", ".jpg")}


@pytest.mark.parametrize("name", MAKERS)
def test_nodes_do_not_overlap_and_there_is_a_note(name: str) -> None:
    nodes = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["nodes"]
    assert any(node["type"] == "MarkdownNote" for node in nodes)
    boxes = []
    for node in nodes:
        (left, top), (width, height) = node["pos"], node["size"]
        shown = 0 if node.get("flags", {}).get("collapsed") else height  # a collapsed node has only the 30 of its title
        boxes.append((left, top, left + width, top + shown + 30))
    for i, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:i]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart, (nodes[i]["type"], nodes[i]["pos"])


@pytest.mark.parametrize("name", MAKERS)
def test_all_of_it_can_be_read_as_it_opens(name: str) -> None:
    """The interface shows all nodes at once, in a window of 1440x900 at 0.38 of their size or larger."""
    boxes = [(left, top, left + width, top + height) for left, top, width, height in groups_and_notes(name)]
    left, top, right, bottom = zip(*boxes, strict=True)
    assert max(right) - min(left) <= 2800 and max(bottom) - min(top) <= 1600


def groups_and_notes(name: str) -> list[list[float]]:
    workflow = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    notes = [node["pos"] + node["size"] for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    return [group["bounding"] for group in workflow["groups"]] + notes


@pytest.mark.parametrize("name", MAKERS)
def test_every_node_has_an_id_of_its_own(name: str) -> None:
    """New frontends number nodes anew where two graphs of a file share an id."""
    ids = [node["id"] for node in nodes_of(name)]
    assert len(ids) == len({*ids})


def nodes_of(name: str) -> list[dict[str, Any]]:
    """The nodes of a workflow and of its subgraphs."""
    workflow = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    graphs = [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]
    return [node for graph in graphs for node in graph["nodes"]]


def test_files_to_download_are_named_with_their_place() -> None:
    wanted = 0
    for name in MAKERS:
        for node in nodes_of(name):
            for model in node["properties"].get("models", ()):
                assert set(model) == {"name", "url", "directory"}
                assert model["url"].startswith("https://huggingface.co/Comfy-Org/")
                assert model["url"].endswith(f"/{model['directory']}/{model['name']}")
                assert model["name"] == node["widgets_values"][0]
                wanted += 1
    assert wanted > 0


def test_three_videos_have_a_row_each_from_first_to_last_frame() -> None:
    videos = [(torch.arange(5.0) + start).view(5, 1, 1, 1).expand(5, 8, 6, 3) / 255 for start in (0, 100, 200)]
    sheet = film_strips(videos)
    assert sheet.size == (COLUMNS * CELL, ROWS * CELL)
    for row, video in enumerate(videos):
        for column, frame in ((0, 0), (COLUMNS - 1, 4)):
            found = sheet.getpixel((column * CELL + CELL // 2, row * CELL + CELL // 2))
            assert found == (round(255 * video[frame, 0, 0, 0].item()),) * 3


def test_thumbnails_are_made_of_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.workflows.make.FOLDER", tmp_path)
    (tmp_path / "pictures").mkdir()
    first, second, *others = MAKERS
    write_video(tmp_path / "pictures" / f"{first} a.mp4", torch.rand(5, 64, 64, 3), 16)
    Image.new("RGB", (90, 200)).save(tmp_path / "pictures" / f"{second}.png")
    assert write_thumbnails(tmp_path / "pictures") == others
    for name in (first, second):
        with Image.open(tmp_path / f"{name}.jpg") as picture:
            assert picture.size == (400, 300)
