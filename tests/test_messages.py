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


ARTICLE = re.compile(r"\b(a|an|the)\b", re.IGNORECASE)
# What makes a control with a label, and which of its arguments is the label.
LABELLED = {
    "Card": 1,
    "CheckBox": 0,
    "Chip": 0,
    "EmptyState": 3,
    "PrimaryButton": 0,
    "QAction": 0,
    "QPushButton": 0,
    "QRadioButton": 0,
    "RailButton": 0,
    "SecondaryButton": 0,
}


def labels_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each label of a button or menu entry that stands in the code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            given = node.args[LABELLED[name] : LABELLED[name] + 1] if name in LABELLED else []
            given += [word.value for word in node.keywords if word.arg in ("button_text", "action")]
            if isinstance(node.func, ast.Attribute) and node.func.attr == "show_message":
                given += node.args[2:3]
            if isinstance(node.func, ast.Attribute) and node.func.attr == "set_content":
                given += node.args[3:4]
        elif isinstance(node, ast.Tuple) and len(node.elts) >= 3 and isinstance(node.elts[2], ast.Lambda):
            given = node.elts[:1]  # an entry of a menu
        else:
            continue
        for each in given:
            for part in ast.walk(each):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield node.lineno, part.value


def test_no_label_of_a_button_or_menu_entry_has_an_article() -> None:
    found, seen = [], 0
    for path in sorted((PACKAGE / "ui").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = list(labels_of(tree))
        if path.name in ("actions.py", "terms.py"):
            for node in tree.body:
                match node:
                    case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                        texts += [] if name.endswith("_TIP") else [(node.lineno, text)]
        seen += len(texts)
        found += [f"{path.relative_to(PACKAGE)}:{line} {text}" for line, text in texts if ARTICLE.search(text)]
    assert seen > 150
    assert found == []


FLAG = re.compile(r"(?:^|[\s`“]|(?<!var)\()--[a-z-]+(?![a-z:-])")  # not a variable of CSS
# What only the command line can show: files that it writes itself, machines that it is told to join.
FOR_THE_COMMAND_LINE = {
    "studio/evaluations/synthesise/records.py",
    "studio/generation/output_files.py",
    "training/distributed/cluster.py",
    "training/distributed/reaching.py",
}


def test_no_sentence_that_the_window_may_show_names_an_option_of_the_command_line() -> None:
    found, seen = [], 0
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith("cli/") or place in FOR_THE_COMMAND_LINE:
            continue
        for line, text in texts_of(ast.parse(path.read_text(encoding="utf-8"))):
            if " " in text.strip():
                seen += 1
                found += [f"{place}:{line} {text}"] if FLAG.search(text) else []
    assert seen > 2000
    assert found == []


# Not `%` of the formatting operator, nor of dates.
SPACED_PERCENT = re.compile(r"(?:^|[0-9}])[ \u00a0\u2009\u202f]%(?![(%\w])")


def test_no_space_stands_before_a_percent_sign() -> None:
    """`82%`, in sentences, on controls and in the manual; `figures.md` comes from the benchmarks."""
    found, seen = [], 0
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, text in texts_of(ast.parse(path.read_text(encoding="utf-8"))):
            seen += "%" in text
            found += [f"{path.relative_to(PACKAGE)}:{line} {text}"] if SPACED_PERCENT.search(text) else []
    for path in sorted((PACKAGE.parent / "resources" / "manual").glob("*.md")):
        if path.name != "figures.md":
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                seen += "%" in line
                found += [f"{path.name}:{number} {line}"] if SPACED_PERCENT.search(line) else []
    assert seen > 60
    assert found == []
