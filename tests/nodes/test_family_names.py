"""Families are named in one place: nodes/families.py."""

import ast
from collections.abc import Callable, Iterator
from typing import Any

from setandseq_core.backbones.ltx import LTXBackbone
from setandseq_core.backbones.ltx2 import LTX2Backbone
from setandseq_core.backbones.wan import WanBackbone
from tools.server.folder import ROOT

Pack = Callable[[str], Any]


def test_only_one_file_names_a_family(pack: Pack) -> None:
    """No other code names a family or its class in ComfyUI, except that the core names those that diffusers runs."""
    families = pack("nodes.families").FAMILIES
    here = {backbone.family for backbone in (WanBackbone, LTXBackbone, LTX2Backbone)}
    names = {word for family in families for word in (family.name, *family.kinds)}
    in_core = names - {word for family in families if family.name in here for word in (family.name, *family.kinds)}
    folders = {ROOT / "nodes": names | {"WAN21", "WAN22"}, ROOT / "setandseq_core": in_core}
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for folder, forbidden in folders.items()
        for path in sorted(folder.rglob("*.py"))
        if path != ROOT / "nodes" / "families.py"
        for word in _words(ast.parse(path.read_text(encoding="utf-8")))
        if word in forbidden
    ]
    assert found == []


def _words(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
