"""A real server gets harmful file names and numbers, and continues to work."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tools.server.server import Server

CONCEPT = Path(__file__).parents[1] / "core" / "data" / "concept_v1.safetensors"
BROKEN = b"bee\xff\xe2\x80\xae.safetensors"
"""A name that is not UTF-8 and holds a character that reverses the text after it."""


def prompt(concept: str, strength: float = 1.0) -> dict[str, Any]:
    strengths = {"identity_strength": strength, "motion_strength": 1.0}
    load = {"class_type": "SetSeq_LoadDynamicConcept", "inputs": {"concept": concept, **strengths}}
    return {"1": load, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 3]}}}


@pytest.fixture
def concepts(server: Server) -> Path:
    """The folder of concepts with a valid concept in it."""
    folder = server.folder / "models" / "dynamic_concepts"
    shutil.copyfile(CONCEPT, folder / "bee.safetensors")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_name_that_is_not_utf8_does_not_end_the_queue(server: Server, concepts: Path, damaged: bool) -> None:
    path = os.fsencode(concepts) + b"/" + BROKEN
    Path(os.fsdecode(path)).write_bytes(b"damaged" if damaged else CONCEPT.read_bytes())
    try:
        run = server.run(prompt(os.fsdecode(BROKEN)))
        assert run.status == "error"
        assert (
            "bee\\udcff\\u202e.safetensors " + ("is empty or cut short" if damaged else "cannot be read") in run.error
        )
    finally:
        os.unlink(path)
    assert server.run(prompt("bee.safetensors")).succeeded().outputs["2"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '"nan"', "1e999"])
def test_a_strength_that_is_no_number_is_refused(server: Server, concepts: Path, value: str) -> None:
    strengths = f'"concept": "bee.safetensors", "identity_strength": {value}, "motion_strength": 1'
    load = f'{{"class_type": "SetSeq_LoadDynamicConcept", "inputs": {{{strengths}}}}}'
    show = '{"class_type": "PreviewAny", "inputs": {"source": ["1", 3]}}'
    text = f'{{"prompt": {{"1": {load}, "2": {show}}}}}'
    answer = requests.post(f"{server.address}/prompt", data=text, timeout=30)
    assert answer.status_code == 400
    assert "must be a number from -10.0 to 10.0" in answer.text
