"""The pack as a real ComfyUI loads it: its nodes, their inputs and outputs, and the effects of loading."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.server.folder import ROOT
from tools.server.server import Server

AUTOGROW = "COMFY_AUTOGROW_V3"
TRAINING_WIRES = {"model": "MODEL", "clip": "CLIP", "vae": "VAE"}
STRENGTHS = {"identity_strength": "FLOAT", "motion_strength": "FLOAT"}

FROZEN_INPUTS: dict[str, dict[str, str]] = {
    "SetSeq_ReferenceClip": {
        "model": "MODEL",
        "video": "VIDEO,IMAGE",
        "static_prompt": "STRING",
        "motion_prompt": "STRING",
        "frames": "INT",
        "width": "INT",
        "height": "INT",
        "image_fps": "FLOAT",
        "start": "FLOAT",
        "length": "FLOAT",
        "mask": "MASK",
    },
    "SetSeq_TrainConcept": {
        **TRAINING_WIRES,
        "video": "VIDEO",
        "static_prompt": "STRING",
        "motion_prompt": "STRING",
        "name": "STRING",
        "preset": "COMBO",
        "start": "FLOAT",
        "length": "FLOAT",
        "look_steps": "INT",
        "motion_steps": "INT",
        "settings": "SETSEQ_SETTINGS",
        "plan_only": "BOOLEAN",
        "low_noise_model": "MODEL",
        "boundary": "FLOAT",
        "conditioning": "CONDITIONING",
    },
    "SetSeq_TrainIdentityLoRA": {
        **TRAINING_WIRES,
        "references": AUTOGROW,
        "steps": "INT",
        "learning_rate": "FLOAT",
        "rank": "INT",
        "seed": "INT",
        "settings": "SETSEQ_SETTINGS",
        "prior": "SETSEQ_PRIOR",
        "plan_only": "BOOLEAN",
        "conditioning": "CONDITIONING",
    },
    "SetSeq_TrainMotionResidual": {
        "model": "MODEL",
        "identity": "SETSEQ_CONCEPT",
        "steps": "INT",
        "learning_rate": "FLOAT",
        "seed": "INT",
        "plan_only": "BOOLEAN",
    },
    "SetSeq_TrainingSettings": {
        "batch": "INT",
        "identity_dropout": "FLOAT",
        "motion_dropout": "FLOAT",
        "token_masking": "FLOAT",
        "weight_decay": "FLOAT",
        "gradient_clipping": "FLOAT",
        "time_from": "FLOAT",
        "time_to": "FLOAT",
        "gradient_checkpointing": "COMBO",
        "preview_every": "INT",
        "preset": "COMBO",
    },
    "SetSeq_Regularisation": {
        "prior_share": "FLOAT",
        "prior_weight": "FLOAT",
        "prior_empty_prompts": "FLOAT",
        "prior_clips": "INT",
        "stitched_share": "FLOAT",
        "token_learning_rate": "FLOAT",
        "still_frames": "INT",
        "time_shift": "FLOAT",
        "settings": "SETSEQ_SETTINGS",
    },
    "SetSeq_PriorClips": {
        "model": "MODEL",
        "clip": "CLIP",
        "vae": "VAE",
        "reference": "SETSEQ_REFERENCE",
        "prompts": "STRING",
        "clips": "INT",
        "seed": "INT",
        "settings": "SETSEQ_SETTINGS",
    },
    "SetSeq_SaveDynamicConcept": {
        "concept": "SETSEQ_CONCEPT",
        "name": "STRING",
        "plain_lora": "BOOLEAN",
        "float32": "BOOLEAN",
    },
    "SetSeq_LoadDynamicConcept": {"concept": "COMBO", **STRENGTHS, "model": "MODEL", "schedule": "SETSEQ_SCHEDULE"},
    "SetSeq_ComposeConcepts": {
        "model": "MODEL",
        "concepts": AUTOGROW,
        **STRENGTHS,
        "method": "COMBO",
        "masks": "MASK",
        "schedule": "SETSEQ_SCHEDULE",
        "prompts": AUTOGROW,
    },
    "SetSeq_StrengthSchedule": {
        "identity_first": "FLOAT",
        "identity_last": "FLOAT",
        "motion_first": "FLOAT",
        "motion_last": "FLOAT",
        "begin": "FLOAT",
        "end": "FLOAT",
        "negative_strength": "FLOAT",
    },
    "SetSeq_TransferMotion": {"identity": "SETSEQ_CONCEPT", "motion": "SETSEQ_CONCEPT"},
    "SetSeq_EvaluateConcept": {
        "reference": "SETSEQ_REFERENCE",
        "images": "IMAGE",
        "prompt": "STRING",
        "clip_vision": "CLIP_VISION",
        "clip": "CLIP",
    },
    "SetSeq_EmbeddedModel": {},
    "SetSeq_EmbeddedTextEncoder": {},
    "SetSeq_ExampleClip": {},
    "SetSeq_ReferencePictures": {
        "model": "MODEL",
        "reference": "SETSEQ_REFERENCE",
        "pictures": AUTOGROW,
        "static_prompt": "STRING",
        "look_of_clip": "BOOLEAN",
    },
    "SetSeq_SamplingSettings": {
        "steps": "INT",
        "guidance": "FLOAT",
        "sampler": "COMBO",
        "settings": "SETSEQ_SETTINGS",
    },
    "SetSeq_IdentityFromLoRA": {
        **TRAINING_WIRES,
        "references": AUTOGROW,
        "lora": "COMBO",
        "static_prompt": "STRING",
        "trigger_word": "STRING",
        "rank": "INT",
        "leave_out": "BOOLEAN",
        "settings": "SETSEQ_SETTINGS",
        "conditioning": "CONDITIONING",
    },
}
"""Node id -> input -> type. A workflow that somebody saved names these: a change here is a line in CHANGELOG.md."""

FROZEN_OPTIONAL = {
    "SetSeq_ReferenceClip": {"mask"},
    "SetSeq_TrainConcept": {"settings", "plan_only", "low_noise_model", "boundary", "conditioning"},
    "SetSeq_TrainIdentityLoRA": {"settings", "prior", "plan_only", "conditioning"},
    "SetSeq_TrainMotionResidual": {"plan_only"},
    "SetSeq_TrainingSettings": {"preset"},
    "SetSeq_Regularisation": {"settings"},
    "SetSeq_SaveDynamicConcept": {"float32"},
    "SetSeq_SamplingSettings": {"settings"},
    "SetSeq_IdentityFromLoRA": {"settings", "conditioning"},
    "SetSeq_PriorClips": {"settings"},
    "SetSeq_LoadDynamicConcept": {"model", "schedule"},
    "SetSeq_ComposeConcepts": {"method", "masks", "schedule", "prompts"},
    "SetSeq_StrengthSchedule": {"negative_strength"},
    "SetSeq_EvaluateConcept": {"clip_vision", "clip"},
}

FROZEN_GROWING = {
    "SetSeq_IdentityFromLoRA": {("reference_", "SETSEQ_REFERENCE", 1, 20)},
    "SetSeq_ReferencePictures": {("picture_", "IMAGE", 1, 50)},
    "SetSeq_TrainIdentityLoRA": {("reference_", "SETSEQ_REFERENCE", 1, 20)},
    "SetSeq_ComposeConcepts": {("concept_", "SETSEQ_CONCEPT", 1, 20), ("prompt_", "CONDITIONING", 0, 20)},
}
"""For each growing input: the prefix of its names, its type, and its smallest and largest number."""

FROZEN_OUTPUTS: dict[str, dict[str, str]] = {
    "SetSeq_ReferenceClip": {"reference": "SETSEQ_REFERENCE", "images": "IMAGE"},
    "SetSeq_TrainConcept": {
        "model": "MODEL",
        "concept": "SETSEQ_CONCEPT",
        "motion prompt": "STRING",
        "clip": "CLIP",
        "vae": "VAE",
        "low noise model": "MODEL",
    },
    "SetSeq_TrainIdentityLoRA": {"look": "SETSEQ_CONCEPT"},
    "SetSeq_TrainMotionResidual": {"concept": "SETSEQ_CONCEPT"},
    "SetSeq_TrainingSettings": {"settings": "SETSEQ_SETTINGS"},
    "SetSeq_Regularisation": {"settings": "SETSEQ_SETTINGS"},
    "SetSeq_PriorClips": {"prior": "SETSEQ_PRIOR", "images": "IMAGE"},
    "SetSeq_SaveDynamicConcept": {},
    "SetSeq_LoadDynamicConcept": {
        "model": "MODEL",
        "concept": "SETSEQ_CONCEPT",
        "look prompt": "STRING",
        "motion prompt": "STRING",
    },
    "SetSeq_ComposeConcepts": {"model": "MODEL"},
    "SetSeq_StrengthSchedule": {"schedule": "SETSEQ_SCHEDULE"},
    "SetSeq_TransferMotion": {"concept": "SETSEQ_CONCEPT"},
    "SetSeq_SamplingSettings": {"settings": "SETSEQ_SETTINGS"},
    "SetSeq_ReferencePictures": {"reference": "SETSEQ_REFERENCE"},
    "SetSeq_IdentityFromLoRA": {"look": "SETSEQ_CONCEPT"},
    "SetSeq_EvaluateConcept": {
        "report": "STRING",
        "look": "FLOAT",
        "motion": "FLOAT",
        "prompt_adherence": "FLOAT",
        "temporal_coherence": "FLOAT",
        "mse": "FLOAT",
    },
    "SetSeq_EmbeddedModel": {"model": "MODEL", "clip": "CLIP", "vae": "VAE"},
    "SetSeq_EmbeddedTextEncoder": {"clip": "CLIP"},
    "SetSeq_ExampleClip": {"video": "VIDEO"},
}

OUTPUT_NODES = ("SetSeq_TrainConcept", "SetSeq_SaveDynamicConcept", "SetSeq_EvaluateConcept")
HEAVY = {"peft", "diffusers", "accelerate"}
FOLDER_NAMES = ["Set and Sequence.v1-beta", "nodes", "123"]


@pytest.fixture(scope="module")
def our_nodes(server: Server) -> dict[str, dict[str, Any]]:
    """ComfyUI's description of our nodes."""
    return {name: node for name, node in server.object_info().items() if name.startswith("SetSeq_")}


def inputs_of(node: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The type and the rest of the description of each input, in the order in which the node shows them."""
    found = {}
    for group in ("required", "optional"):
        for name, (kind, *options) in node["input"].get(group, {}).items():
            found[name] = ("COMBO" if isinstance(kind, list) else kind), (options[0] if options else {})
    return found


def start_log(server: Server) -> Iterator[str]:
    """The lines that the server wrote until it was up."""
    yield from server.log_text().partition("To see the GUI go to")[0].splitlines()


def import_seconds(server: Server, pack: str) -> float:
    """The time that importing the pack took according to the server."""
    found = re.search(rf"([\d.]+) seconds: .*/custom_nodes/{re.escape(pack)}$", server.log_text(), re.MULTILINE)
    assert found is not None, server.log_text()
    return float(found[1])


def assert_quiet(server: Server) -> None:
    """Check that the server wrote no warning and no error while it started."""
    assert not [line for line in start_log(server) if re.search("WARN|ERROR|FAILED|Warning|Traceback", line)]


def test_node_ids_are_frozen(our_nodes: dict[str, dict[str, Any]]) -> None:
    assert sorted(our_nodes) == sorted(FROZEN_INPUTS)


@pytest.mark.parametrize("name", FROZEN_INPUTS)
def test_inputs_and_outputs_are_frozen(our_nodes: dict[str, dict[str, Any]], name: str) -> None:
    node = our_nodes[name]
    inputs = inputs_of(node)
    assert {name: kind for name, (kind, _) in inputs.items()} == FROZEN_INPUTS[name]
    assert set(node["input"].get("optional", {})) == FROZEN_OPTIONAL.get(name, set())
    assert dict(zip(node["output_name"], node["output"], strict=True)) == FROZEN_OUTPUTS[name]
    growing = {
        (template["prefix"], *(kind for kind, *_ in template["input"]["required"].values()), *limits(template))
        for template in (options["template"] for kind, options in inputs.values() if kind == AUTOGROW)
    }
    assert growing == FROZEN_GROWING.get(name, set())


def limits(template: dict[str, Any]) -> tuple[int, int]:
    return template["min"], template["max"]


@pytest.mark.parametrize("name", FROZEN_INPUTS)
def test_node_explains_itself(our_nodes: dict[str, dict[str, Any]], name: str) -> None:
    node = our_nodes[name]
    assert node["category"] == "Set-and-Sequence"
    assert node["display_name"] and node["description"] and node["search_aliases"]
    assert node["output_node"] == (name in OUTPUT_NODES)
    inputs = inputs_of(node)
    assert not [name for name, (_, options) in inputs.items() if not options.get("tooltip")]
    assert len([name for name, (_, options) in inputs.items() if not options.get("advanced")]) <= 10


def test_pack_loads_quietly(server: Server) -> None:
    assert_quiet(server)


@pytest.mark.parametrize("folder_name", FOLDER_NAMES)
def test_folder_may_have_any_name_and_neighbours(
    start_server: Callable[..., Server], crowded_folder: Path, comfyui: Path, folder_name: str
) -> None:
    server = start_server(crowded_folder, folder_name)
    assert_quiet(server)
    assert import_seconds(server, "other_pack") >= 0
    nodes = server.object_info()
    ours = {name: node["python_module"] for name, node in nodes.items() if name.startswith("SetSeq_")}
    assert ours == dict.fromkeys(FROZEN_INPUTS, f"custom_nodes.{folder_name}")

    inside = server.run({"1": {"class_type": "Other_Modules", "inputs": {}}}).succeeded().outputs["1"]
    assert inside["nodes_file"] == [str(comfyui / "nodes.py")]
    assert not HEAVY & set(inside["packages"])
    assert "setandseq_core" not in inside["packages"]
    assert not [path for path in inside["sys_path"] if Path(path).resolve().is_relative_to(ROOT / "nodes")]
    assert str(ROOT) not in {str(Path(path).resolve()) for path in inside["sys_path"]}


def test_importing_the_pack_alone_loads_nothing_heavy() -> None:
    """Pytest and other tools import a folder's `__init__.py` without ComfyUI."""
    program = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r})\n"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "comfy", "comfy_api", *HEAVY} & set(finished.stdout.split())
