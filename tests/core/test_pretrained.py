"""Loading models from folders of transformers and diffusers uses no network, no pickles and no code from the folder."""

import ast
import re
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "setandseq_core"
NO_WEIGHTS = re.compile(r"Tokenizer|Processor|Config")
"""Classes whose files hold text only."""
CALLS = [
    pytest.param(call, id=f"{file.relative_to(CORE)}:{call.lineno}")
    for file in sorted(CORE.rglob("*.py"))
    for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"
]


def test_every_way_to_load_a_folder_is_seen() -> None:
    assert len(CALLS) >= 6


@pytest.mark.parametrize("call", CALLS)
def test_from_pretrained_loads_local_safe_files_and_no_code(call: ast.Call) -> None:
    assert isinstance(call.func, ast.Attribute)
    of = ast.unparse(call.func.value)
    said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    assert said.get("local_files_only") == "True"
    assert NO_WEIGHTS.search(of) or said.get("use_safetensors") == "True"
    assert not of.startswith("Auto") or said.get("trust_remote_code") == "False"
