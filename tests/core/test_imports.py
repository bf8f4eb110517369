"""Imports that are allowed in the core: never ComfyUI, only its own requirements, and itself by relative imports."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "setandseq_core"
FILES = sorted(CORE.rglob("*.py"))
ALLOWED = {
    "PIL",
    "av",
    "click",
    "diffusers",
    "imageio_ffmpeg",
    "numpy",
    "peft",
    "safetensors",
    "scipy",
    "tomli",
    "torch",
    "transformers",
}
OPTIONAL = {"accelerate", "ray"}
"""Packages that are imported only where they are needed; pyproject.toml has an extra for each."""
HEAVY = {
    "accelerate",
    "PIL",
    "av",
    "diffusers",
    "imageio_ffmpeg",
    "numpy",
    "peft",
    "safetensors",
    "scipy",
    "torch",
    "transformers",
}


def imported_in_new_process(statement: str) -> set[str]:
    """Top-level names in sys.modules after a statement, in a new Python process."""
    script = f"import sys; sys.argv = ['x']; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_module_of_the_core_brings_comfyui() -> None:
    names = imported_in_new_process("import " + ", ".join(map(module_name, FILES)))
    assert "setandseq_core" in names and not names & {"comfy", "comfy_api", "folder_paths", "server", "nodes"}


@pytest.mark.parametrize("module", ["setandseq_core", "setandseq_core.cli.main"])
def test_the_package_and_its_help_are_light(module: str) -> None:
    assert not imported_in_new_process(f"import {module}") & HEAVY


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CORE)))
def test_only_requirements_are_imported_and_itself_by_relative_import(file: Path) -> None:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    assert found - sys.stdlib_module_names <= ALLOWED | OPTIONAL | (
        {"tomllib"} if sys.version_info < (3, 11) else set()
    )


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.txt"])
def test_every_package_that_the_core_may_import_is_declared(name: str) -> None:
    """This excludes PyTorch, which every ComfyUI has in the build that its machine needs, and the optional packages."""
    declared = re.findall(r"^[ \"]*([a-z-]+)>=", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    modules = {{"pillow": "PIL"}.get(package, package.replace("-", "_")) for package in declared}
    assert modules == ALLOWED - {"torch"}


def test_every_optional_package_has_an_extra() -> None:
    extras = re.findall(r'^([a-z]+) = \["\1[>\[]', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(extras) == OPTIONAL


ROOT_MODULES = [file.stem for file in CORE.glob("*.py") if not file.stem.startswith("__")]
FORBIDDEN = {
    **{module: ("compose", "clips.video", "evaluate", "embedded", "cli") for module in ROOT_MODULES},
    **{room: ("embedded", "cli") for room in ("backbones", "clips", "compose", "concept_file", "evaluate")},
    "training": ("compose", "embedded", "cli"),
    "embedded": ("cli",),
}
"""For each folder of the core, the folders and modules that it must never import."""
FORBIDDEN_OUTSIDE = {
    **{f"nodes/{file.name}": ("setandseq_core.cli",) for file in (ROOT / "nodes").glob("*.py")},
    **{str(file.relative_to(ROOT)): ("benchmarks",) for file in (ROOT / "tools").rglob("*.py")},
}
SEES_THE_EMBEDDED_MODEL = ("embedded.py", "evaluate.py")
"""The only nodes that import the embedded model; all others must work with any model."""


def imported_modules(file: Path) -> set[str]:
    """Dotted names, from the project's root, of everything in the project that a file imports at any place."""
    package = file.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*start, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def reaches(imports: set[str], forbidden: Iterable[str]) -> list[str]:
    return [name for name in sorted(imports) for at in forbidden if name == at or name.startswith(f"{at}.")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CORE)))
def test_no_arrow_of_the_core_runs_back_up(file: Path) -> None:
    room = file.relative_to(CORE).parts[0].removesuffix(".py")
    forbidden = [f"setandseq_core.{at}" for at in FORBIDDEN.get(room, ())]
    assert reaches(imported_modules(file), forbidden) == []


@pytest.mark.parametrize("name", FORBIDDEN_OUTSIDE)
def test_nodes_never_import_the_command_line_nor_tools_the_benchmarks(name: str) -> None:
    assert reaches(imported_modules(ROOT / name), FORBIDDEN_OUTSIDE[name]) == []


@pytest.mark.parametrize("file", sorted((ROOT / "nodes").glob("*.py")), ids=lambda file: file.name)
def test_only_two_nodes_know_the_embedded_model(file: Path) -> None:
    known = reaches(imported_modules(file), ["setandseq_core.embedded"])
    assert file.name in SEES_THE_EMBEDDED_MODEL or known == []


def room_arrows() -> dict[str, set[str]]:
    """For each folder of the core, the folders that it imports."""
    arrows: dict[str, set[str]] = {}
    for file in FILES:
        room = file.relative_to(CORE).parts[0].removesuffix(".py")
        names = {name.split(".")[1] for name in imported_modules(file) if name.startswith("setandseq_core.")}
        arrows.setdefault(room, set()).update(names - {room})
    return arrows


def test_rooms_of_the_core_have_no_circle_and_few_floors() -> None:
    arrows = room_arrows()
    floors: dict[str, int] = {}
    for room in TopologicalSorter(arrows).static_order():  # raises CycleError
        floors[room] = 1 + max((floors[below] for below in arrows.get(room, ())), default=0)
    rooms = arrows.keys() - {"__init__", "__main__"}
    assert len(rooms) <= 23 and max(floors[room] for room in rooms) <= 10
