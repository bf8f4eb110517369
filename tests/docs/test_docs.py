"""Docs are correct: names exist, links lead somewhere, and names that need a docstring have one."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from setandseq_core.cli.main import commands

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FILES = sorted((ROOT / "setandseq_core").rglob("*.py"))
ROOMS = {part for file in FILES for part in file.with_suffix("").relative_to(ROOT / "setandseq_core").parts}


def test_every_function_in_the_paper_map_exists() -> None:
    text = (ROOT / "docs/paper_map.md").read_text(encoding="utf-8").partition("## Departures from the paper")[0]
    names = re.findall(r"`([a-z_.]+)\.(\w+)`", text)
    assert len(names) > 10
    for module, name in names:
        assert getattr(importlib.import_module(f"setandseq_core.{module}"), name).__doc__, f"{module}.{name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_public_names_that_do_not_say_all_have_a_docstring(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree), "the module"
    assert [name for name, node in public(tree) if not ast.get_docstring(node) and not says_all(node)] == []


def public(tree: ast.Module | ast.ClassDef) -> list[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions, classes and their public methods."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            found.append((node.name, node))
            if isinstance(node, ast.ClassDef):
                found += [(f"{node.name}.{name}", inner) for name, inner in public(node)]
    return found


def says_all(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether name and types say everything: forward(), a property, or a typed function of at most two statements."""
    if isinstance(node, ast.ClassDef):
        return False
    of_property = any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)
    typed = all(each.annotation for each in node.args.args if each.arg not in ("self", "cls"))
    return node.name == "forward" or of_property or (len(node.body) <= 2 and typed and node.returns is not None)


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("make test", "make demo"):
        assert name in text
    assert all(f"| `{command}` |" in text for command in commands.commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    files = {(page.parent / link).resolve() for link in links if "://" not in link}
    assert [str(file) for file in sorted(files) if not file.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_make_targets_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", text, re.MULTILINE)) <= made
    paths = re.findall(r"`((?:setandseq_core|nodes|js|tools|locales|tests|docs|benchmarks)/[\w/.]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_in_the_core_that_are_named_exist(page: Path) -> None:
    """A name such as `clips.stitch.stitch` is the end of a module's path in the core and a name in that module."""
    lost = []
    for module, name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)\.([A-Za-z_]\w+)`", page.read_text(encoding="utf-8")):
        files = [
            file for file in FILES if file.with_suffix("").parts[-module.count(".") - 1 :] == tuple(module.split("."))
        ]
        found = [re.search(rf"^\s*(?:def |class )?{name}\b", file.read_text(encoding="utf-8"), re.M) for file in files]
        if module.split(".")[0] in ROOMS and name != "py" and not any(found):
            lost.append(f"{module}.{name}")
    assert lost == []
