"""Names of concepts in a real ComfyUI: from other systems, with dates, in other folders, and in the wrong loader."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from setandseq_core.embedded.files import TRANSFORMER_FILE
from tools.server.server import Server
from tools.workflows.graphs import Prompt, node

CONCEPT = Path(__file__).parents[1] / "core" / "data" / "concept_v1.safetensors"
STRENGTHS = {"identity_strength": 1.0, "motion_strength": 1.0}


def loaded(concept: str) -> Prompt:
    """A prompt that loads a concept and shows its motion prompt."""
    return {
        "load": node("SetSeq_LoadDynamicConcept", concept=concept, **STRENGTHS),
        "show": node("PreviewAny", source=["load", 3]),
    }


def saved(concept: str, name: str) -> Prompt:
    """A prompt that loads a concept and saves it under another name."""
    save = node("SetSeq_SaveDynamicConcept", concept=["load", 1], name=name, plain_lora=False)
    return loaded(concept) | {"save": save}


@pytest.fixture
def concepts(server: Server) -> Path:
    """The folder of concepts, with animals/bee.safetensors in it."""
    folder = server.folder / "models" / "dynamic_concepts"
    (folder / "animals").mkdir(exist_ok=True)
    shutil.copyfile(CONCEPT, folder / "animals" / "bee.safetensors")
    return folder


@pytest.mark.skipif(os.sep != "/", reason="there the backslash is the separator itself")
def test_a_concept_is_found_by_the_name_in_a_windows_workflow(server: Server, concepts: Path) -> None:
    run = server.run(loaded("animals\\bee.safetensors")).succeeded()
    assert run.outputs["show"] == server.run(loaded("animals/bee.safetensors")).succeeded().outputs["show"]
    missing = server.run(loaded("animals\\ant.safetensors"))
    assert missing.status == "rejected" and "There is no concept 'animals\\ant.safetensors'" in missing.error


def test_dates_in_a_name_are_filled_in(server: Server, concepts: Path) -> None:
    text = server.run(saved("animals/bee.safetensors", "%year%/bee_%date:yyyy-MM-dd%")).succeeded().outputs["save"]
    (name,) = re.findall(r"dynamic_concepts/(\S+)", text["text"][0])
    assert re.fullmatch(r"\d{4}/bee_\d{4}-\d\d-\d\d\.safetensors", name)
    assert (concepts / name).is_file()


def test_comfyuis_own_lora_loader_names_the_node_that_takes_a_concept(server: Server) -> None:
    concepts, loras = (server.folder / "models" / kind for kind in ("dynamic_concepts", "loras"))
    loras.mkdir(exist_ok=True)
    shutil.copyfile(CONCEPT, concepts / "bee.safetensors")
    server.run(saved("bee.safetensors", "wrong_loader")).succeeded()
    shutil.move(concepts / "wrong_loader.safetensors", loras / "wrong_loader.safetensors")
    graph = {
        "model": node("UNETLoader", unet_name=TRANSFORMER_FILE.name, weight_dtype="default"),
        "lora": node(
            "LoraLoaderModelOnly",
            model=["model", 0],
            lora_name="wrong_loader.safetensors",
            strength_model=1.0,
        ),
        "show": node("PreviewAny", source=["lora", 0]),
    }
    server.run(graph).succeeded()
    assert "lora key not loaded: use_the_node_Load_Dynamic_Concept" in server.log_text()


@pytest.mark.skipif(sys.platform == "win32", reason="a lock file that is open cannot be moved there")
def test_the_default_of_extra_model_paths_takes_new_concepts_and_what_a_kill_left_is_removed(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    extra, base = tmp_path / "extra", tmp_path / "comfyui"
    own = base / "models" / "dynamic_concepts"
    for folder, name in ((extra, "bee"), (own, "bee"), (own, "ant")):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CONCEPT, folder / f"{name}.safetensors")
    left = extra / ".setandseq-0a1b2c3d.partial"
    left.mkdir()
    (left / "lock").touch()
    config = tmp_path / "paths.yaml"
    config.write_text(f"mine:\n  base_path: {tmp_path}\n  is_default: true\n  dynamic_concepts: extra\n")
    server = start_server(base, options=["--extra-model-paths-config", str(config)])
    assert not left.exists()
    server.run(saved("ant.safetensors", "new")).succeeded()
    assert sorted(path.name for path in extra.iterdir()) == ["bee.safetensors", "new.safetensors"]
    assert sorted(path.name for path in own.iterdir()) == ["ant.safetensors", "bee.safetensors"]
