"""Help in the interface: every node has a page that explains every input, and each language has all names."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.server.folder import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
PAGES = ROOT / "js" / "docs"
LOCALES = sorted((ROOT / "locales").glob("*/nodeDefs.json"))


@pytest.fixture
def schemas(pack: Callable[[str], Any], folders: Path) -> dict[str, Any]:
    """The schema of each node by its id; one of them shows the list of concepts, which needs `folders`."""
    return {schema.node_id: schema for schema in (node.define_schema() for node in pack("nodes").NODES)}


def texts(schemas: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """Each node's schema with its page."""
    for node_id, schema in schemas.items():
        yield schema, (PAGES / f"{node_id}.md").read_text(encoding="utf-8")


def test_every_node_has_a_page_and_no_page_is_left_over(schemas: dict[str, Any]) -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == schemas.keys()


def test_a_page_explains_every_input_and_output(schemas: dict[str, Any]) -> None:
    for schema, text in texts(schemas):
        rows = re.findall(r"^\| (\*\*.+?) \| ", text, re.MULTILINE)
        explained = {name for row in rows for name in re.findall(r"\*\*([\w ]+)\*\*", row)}
        assert explained == {part.display_name or part.id for part in [*schema.inputs, *schema.outputs]}, schema.node_id


def test_a_page_has_its_name_and_its_sections(schemas: dict[str, Any]) -> None:
    for schema, text in texts(schemas):
        wanted = [f"# {schema.display_name}", "## When to use it"]
        wanted += ["## Inputs"] * bool(schema.inputs) + ["## Outputs"] * bool(schema.outputs)
        lines = text.splitlines()
        assert [line for line in [*wanted, "## What goes wrong, and why"] if line not in lines] == [], schema.node_id


def test_a_page_has_a_small_picture(schemas: dict[str, Any]) -> None:
    for schema, text in texts(schemas):
        pictures = re.findall(r"!\[.+\]\((.+)\)", text)
        assert pictures and all((PAGES / picture).stat().st_size < 150_000 for picture in pictures), schema.node_id


@pytest.mark.parametrize("locale", LOCALES, ids=lambda path: path.parent.name)
def test_a_language_names_everything(schemas: dict[str, Any], locale: Path) -> None:
    known: dict[str, dict[str, Any]] = json.loads(locale.read_text(encoding="utf-8"))
    assert known.keys() == schemas.keys()
    for node_id, found in known.items():
        schema = schemas[node_id]
        assert found["inputs"].keys() == {part.id for part in schema.inputs}, node_id
        assert list(found["outputs"]) == [str(index) for index, _ in enumerate(schema.outputs)], node_id
        parts = [*found["inputs"].values(), *found["outputs"].values()]
        assert all(part["name"] and part["tooltip"] for part in parts), node_id
        assert found["display_name"] and found["description"], node_id


def test_there_is_a_language_besides_english() -> None:
    assert LOCALES
