"""What the core may import: never ComfyUI, only its own requirements, and itself by relative import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "setandseq_core"
FILES = sorted(CORE.rglob("*.py"))
ALLOWED = {"PIL", "diffusers", "imageio_ffmpeg", "numpy", "peft", "safetensors", "tomli", "torch", "transformers"}
HEAVY = ("PIL", "diffusers", "imageio_ffmpeg", "numpy", "peft", "safetensors", "torch", "transformers")


def imported_in_new_process(statement: str) -> set[str]:
    """Top-level names in sys.modules after a statement, in a Python of its own."""
    script = f"import sys; sys.argv = ['x']; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_module_of_the_core_brings_comfyui() -> None:
    names = imported_in_new_process("import " + ", ".join(map(module_name, FILES)))
    assert "setandseq_core" in names and not names & {"comfy", "comfy_api", "folder_paths", "server", "nodes"}


@pytest.mark.parametrize("module", ["setandseq_core", "setandseq_core.__main__"])
def test_the_package_and_its_help_are_light(module: str) -> None:
    assert not imported_in_new_process(f"import {module}") & set(HEAVY)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CORE)))
def test_only_requirements_are_imported_and_itself_by_relative_import(file: Path) -> None:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    assert found - sys.stdlib_module_names <= ALLOWED | ({"tomllib"} if sys.version_info < (3, 11) else set())
