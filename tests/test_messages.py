"""Every sentence of the program stands in one place, so that it can be reworded or translated there."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "diffstudio"
FEWEST_WORDS = 4
WORD = re.compile(r"[A-Za-z][A-Za-z'-]+")
SQL = re.compile(r"(INTEGER|TEXT|BEGIN|CREATE|DELETE|INSERT|PRAGMA|SELECT|UPDATE)\b")


def texts_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each string but docstrings; the values in an f-string are left out."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            skipped |= {id(statement.value) for statement in node.body if isinstance(statement, ast.Expr)}
        elif isinstance(node, ast.JoinedStr):
            skipped |= {id(value) for value in node.values}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)


def is_sentence(text: str) -> bool:
    return " " in text.strip() and len(WORD.findall(text)) >= FEWEST_WORDS and SQL.match(text) is None


def test_no_sentence_stands_in_two_places() -> None:
    places = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, text in texts_of(ast.parse(path.read_text(encoding="utf-8"))):
            if is_sentence(text):
                places[text.strip()].append(f"{path.relative_to(PACKAGE)}:{line}")
    assert len(places) > 500
    assert {text: where for text, where in places.items() if len(where) > 1} == {}
