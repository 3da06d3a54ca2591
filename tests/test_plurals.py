"""Sentences are right for one thing too: counts are written by `count_of`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import diffstudio
from diffstudio.plurals import by_number, count_of

PACKAGE = Path(diffstudio.__file__).parent
SEVERAL = re.compile(r" (?:[a-z-]+ )?(?!is\b|was\b|has\b|as\b|this\b)[a-z]+s\b(?! of (?:the|its))")
OF_ALL = re.compile(r"\b([Oo]f|[Aa]ll|the|its|and|for)( the| its| these| only)? $")  # `1 of 1 images`
COMPARES_WITH_ONE = re.compile(r"[=><]=? [12]\b")
# Where there are always several, by the words after the count.
ALWAYS_SEVERAL = (
    " characters",  # of a text that is too long
    " classes; rename them alike",
    " files copied to the clipboard",
    " images are few for a map",
    " images are selected",
    " points for ",  # mistakes of a caller, which nobody reads in the window
    " seeds for ",
    " shares for ",
)


def test_one_thing_is_in_the_singular() -> None:
    assert [count_of(number, "image") for number in (0, 1, 1234)] == ["0 images", "1 image", "1,234 images"]
    assert [count_of(number, "class", "classes") for number in (1, 2)] == ["1 class", "2 classes"]
    assert by_number(1, "is", "are") == "is" and by_number(0, "is", "are") == "are"


def lengths_before_plurals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and following words of each `{len(…)}` before a noun in the plural, unless a condition excludes one thing."""
    within = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr) or any(compares_with_one(one) for one in conditions(node, within)):
            continue
        before = ""
        for value, after in zip(node.values, node.values[1:], strict=False):
            alone = isinstance(value, ast.FormattedValue) and is_length(value.value) and not OF_ALL.search(before)
            if alone and isinstance(after, ast.Constant) and SEVERAL.match(str(after.value)):
                yield node.lineno, str(after.value)
            before = str(value.value) if isinstance(value, ast.Constant) else ""


def is_length(value: ast.expr) -> bool:
    """`len(…)`, or a sum or difference with it."""
    if isinstance(value, ast.BinOp):
        return is_length(value.left) or is_length(value.right)
    return isinstance(value, ast.Call) and ast.unparse(value.func) == "len"


def conditions(node: ast.AST, within: dict[ast.AST, ast.AST]) -> Iterator[ast.expr]:
    while node in within:
        outer = within[node]
        if isinstance(outer, (ast.IfExp, ast.If)) and node is not outer.test:
            yield outer.test
        node = outer


def compares_with_one(condition: ast.expr) -> bool:
    return COMPARES_WITH_ONE.search(ast.unparse(condition)) is not None


def test_no_length_stands_before_a_plural_alone() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}{words}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, words in lengths_before_plurals(ast.parse(path.read_text(encoding="utf-8")))
        if not words.startswith(ALWAYS_SEVERAL)
    ]
    assert found == []
