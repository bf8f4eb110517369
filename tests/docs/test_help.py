"""Help in the interface: a page for every node that explains every input, and all names in each language."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.test_server import FROZEN_INPUTS, FROZEN_OUTPUTS

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "js" / "docs"
LOCALES = sorted((ROOT / "locales").glob("*/nodeDefs.json"))
SECTIONS = {"## When to use it", "## Inputs", "## Outputs", "## What goes wrong, and why"}


def test_every_node_has_a_page_and_no_page_is_left_over() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == FROZEN_INPUTS.keys()


@pytest.mark.parametrize("node", FROZEN_INPUTS)
def test_a_page_explains_every_input_and_output(node: str) -> None:
    text = (PAGES / f"{node}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\*\*.+?) \| ", text, re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"\*\*(\w+)\*\*", row)}
    assert FROZEN_INPUTS[node].keys() | FROZEN_OUTPUTS[node].keys() == explained
    wanted = SECTIONS - ({"## Inputs"} if not FROZEN_INPUTS[node] else set())
    wanted -= {"## Outputs"} if not FROZEN_OUTPUTS[node] else set()
    assert wanted <= set(text.splitlines())


@pytest.mark.parametrize("node", FROZEN_INPUTS)
def test_a_page_has_a_picture(node: str) -> None:
    pictures = re.findall(r"!\[.+\]\((.+)\)", (PAGES / f"{node}.md").read_text(encoding="utf-8"))
    assert pictures and all((PAGES / picture).stat().st_size < 150_000 for picture in pictures)


@pytest.mark.parametrize("locale", LOCALES, ids=lambda path: path.parent.name)
def test_a_language_names_everything(locale: Path) -> None:
    known: dict[str, dict[str, Any]] = json.loads(locale.read_text(encoding="utf-8"))
    assert known.keys() == FROZEN_INPUTS.keys()
    for node, texts in known.items():
        assert texts["inputs"].keys() == FROZEN_INPUTS[node].keys(), node
        assert list(texts["outputs"]) == [str(index) for index in range(len(FROZEN_OUTPUTS[node]))], node
        parts = [*texts["inputs"].values(), *texts["outputs"].values()]
        assert all(part["name"] and part["tooltip"] for part in parts), node
        assert texts["display_name"] and texts["description"], node


def test_there_is_a_language_besides_english() -> None:
    assert LOCALES
