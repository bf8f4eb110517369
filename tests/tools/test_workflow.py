"""Converting workflow files to prompts and building them in Python, compared with files that ComfyUI's interface made.

The interface saved data/interface_sample.json (the file names the version). It holds a note, a reroute, a primitive,
muted and bypassed nodes, growing inputs, nested dynamic combos, a seed with its control, and a text from a wire.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tools.workflows.graph import Graph
from tools.workflows.prompt import to_prompt

SAMPLE = json.loads((Path(__file__).parent / "data" / "interface_sample.json").read_text(encoding="utf-8"))
OBJECT_INFO = SAMPLE["object_info"]


@pytest.fixture
def workflow() -> dict[str, Any]:
    return copy.deepcopy(SAMPLE["workflow"])


def of_type(workflow: dict[str, Any], type_: str) -> dict[str, Any]:
    return next(node for node in workflow["nodes"] if node["type"] == type_)


def without_titles(prompt: dict[str, Any]) -> dict[str, Any]:
    """Remove titles, because the interface translates those that nobody changed."""
    return {node_id: {key: node[key] for key in ("class_type", "inputs")} for node_id, node in prompt.items()}


def test_prompt_is_the_interfaces(workflow: dict[str, Any]) -> None:
    assert without_titles(to_prompt(workflow, OBJECT_INFO)) == without_titles(SAMPLE["prompt"])


def test_missing_values_are_the_defaults(workflow: dict[str, Any]) -> None:
    node = of_type(workflow, "CreateVideo")
    node["widgets_values"] = []
    inputs = to_prompt(workflow, OBJECT_INFO)[str(node["id"])]["inputs"]
    assert inputs["bit_depth"] == 8


def test_bypass_takes_the_input_of_the_same_type_and_place(workflow: dict[str, Any]) -> None:
    node = of_type(workflow, "BatchImagesNode")
    node["mode"] = 4
    prompt = to_prompt(workflow, OBJECT_INFO)
    assert str(node["id"]) not in prompt
    video = of_type(workflow, "CreateVideo")
    assert prompt[str(video["id"])]["inputs"]["images"] == [str(of_type(workflow, "ResizeImageMaskNode")["id"]), 0]


def test_bypass_without_a_fitting_input_leaves_the_input_open(workflow: dict[str, Any]) -> None:
    of_type(workflow, "CreateVideo")["mode"] = 4
    saved = of_type(workflow, "SaveVideo")
    assert "video" not in to_prompt(workflow, OBJECT_INFO)[str(saved["id"])]["inputs"]


def test_list_is_not_taken_for_a_link(workflow: dict[str, Any]) -> None:
    node = of_type(workflow, "PrimitiveString")
    node["widgets_values"] = [["1", 0]]
    assert to_prompt(workflow, OBJECT_INFO)[str(node["id"])]["inputs"] == {"value": {"__value__": ["1", 0]}}


def test_unknown_type_is_named(workflow: dict[str, Any]) -> None:
    of_type(workflow, "SaveVideo")["type"] = "NoSuchNode"
    with pytest.raises(ValueError, match="'NoSuchNode', which the server does not have"):
        to_prompt(workflow, OBJECT_INFO)


def built() -> dict[str, Any]:
    """A part of the sample, built in Python."""
    graph = Graph("sample", OBJECT_INFO)
    graph.note("Note", "What this\nis for.", (-400, 0), (300, 200))
    first = graph.add("EmptyImage", (0, 0), width=64, height=48, batch_size=5)
    resize = {"resize_type": "scale dimensions", "resize_type.width": 96, "resize_type.height": 80}
    resize |= {"resize_type.crop": "disabled", "scale_method": "bicubic"}
    resized = graph.add("ResizeImageMaskNode", (400, 0), input=first["IMAGE"], **resize)
    batch = graph.add("BatchImagesNode", (800, 0), images=[resized["resized"], first["IMAGE"]])
    video = graph.add("CreateVideo", (1200, 0), images=batch["IMAGE"])
    codec = {"codec": "h264", "codec.encoding": "re-encode", "codec.encoding.crf": 30.0}
    saved = graph.add("SaveVideo", (1600, 0), room=300, video=video["VIDEO"], filename_prefix="sample/video", **codec)
    graph.add("RandomNoise", (0, 400), noise_seed=123456789012)
    text = graph.add("PrimitiveString", (0, 600), value="a circle")
    graph.add("CLIPTextEncode", (400, 600), text=text["STRING"])
    graph.group("Save", [video, saved])
    return graph.workflow()


@pytest.mark.parametrize(
    "type_", ["ResizeImageMaskNode", "BatchImagesNode", "SaveVideo", "RandomNoise", "CLIPTextEncode"]
)
def test_built_node_is_as_the_interface_saves_it(type_: str) -> None:
    def shown(node: dict[str, Any]) -> dict[str, Any]:
        inputs = [
            {key: value for key, value in entry.items() if key not in ("link", "type")} for entry in node["inputs"]
        ]
        outputs = [output["name"] for output in node["outputs"]]
        return {"inputs": inputs, "outputs": outputs, "values": node["widgets_values"]}

    assert shown(of_type(built(), type_)) == shown(of_type(SAMPLE["workflow"], type_))


def test_built_file_becomes_the_same_prompt() -> None:
    prompt = to_prompt(built(), OBJECT_INFO)
    found = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert found["SaveVideo"] | {"video": None} == SAMPLE["prompt"]["10"]["inputs"] | {"video": None}
    assert found["BatchImagesNode"] == {"images.image0": ["3", 0], "images.image1": ["2", 0]}


def test_order_follows_the_wires() -> None:
    nodes = built()["nodes"]
    order = [node["type"] for node in sorted(nodes, key=lambda node: node["order"])]
    assert order[:4] == ["MarkdownNote", "EmptyImage", "RandomNoise", "PrimitiveString"]
    assert order.index("ResizeImageMaskNode") < order.index("BatchImagesNode") < order.index("CreateVideo")


def test_group_holds_its_nodes_and_their_room() -> None:
    (group,) = built()["groups"]
    x, y, width, height = group["bounding"]
    assert (x, y) == (1190, -70)
    assert x + width > 1600 + 315
    assert y + height > 300


def test_lines_of_a_paragraph_become_one() -> None:
    assert of_type(built(), "MarkdownNote")["widgets_values"] == ["What this is for."]


def test_wrong_input_name_is_told() -> None:
    with pytest.raises(ValueError, match="EmptyImage has no input widht"):
        Graph("wrong", OBJECT_INFO).add("EmptyImage", (0, 0), widht=64)
