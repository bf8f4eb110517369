"""Messages that help pages and docs quote exist in the code.

A help page quotes a message as **"text"**, with ... in place of the parts that vary. The code must hold it as a string
that is not a docstring.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HELP = sorted((ROOT / "js" / "docs").glob("**/*.md"))
PAGES = [*HELP, *sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
SOURCES = [*(ROOT / "nodes").rglob("*.py"), *(ROOT / "setandseq_core").rglob("*.py")]
QUOTE = re.compile(r'\*\*"(.+?)"\*\*', re.DOTALL)


@pytest.fixture(scope="module")
def messages() -> list[str]:
    """Every string of the code except docstrings; f-strings have {} in place of their values."""
    return [text for path in SOURCES for text in strings(ast.parse(path.read_text(encoding="utf-8")))]


def strings(tree: ast.Module) -> Iterator[str]:
    """All strings of a module except docstrings."""
    docs = {id(part) for node in ast.walk(tree) for part in docstring(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def docstring(node: ast.AST) -> list[ast.expr]:
    """The docstrings of a module, class or function, including those below the fields of a class."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        return [line.value for line in node.body if isinstance(line, ast.Expr)]
    return []


def test_help_pages_quote_messages() -> None:
    assert sum(len(QUOTE.findall(page.read_text(encoding="utf-8"))) for page in HELP) >= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_quoted_message_is_one_of_the_code(page: Path, messages: list[str]) -> None:
    quotes = [" ".join(quote.split()) for quote in QUOTE.findall(page.read_text(encoding="utf-8"))]
    assert [quote for quote in quotes if not any(matches(quote, text) for text in messages)] == []


def matches(quote: str, message: str) -> bool:
    """Whether the message holds all parts of the quote, in their order."""
    parts = (re.escape(part.strip()) for part in quote.split("..."))
    return re.search(".*".join(parts), message, re.DOTALL) is not None
