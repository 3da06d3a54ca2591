"""Interrupted is not an error: no handler for failures may swallow it."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffstudio
from diffstudio.errors import DiffstudioError, Interrupted

PACKAGE = Path(diffstudio.__file__).resolve().parent
BROAD = {"Exception", "BaseException"}
# Handlers that may catch everything, because nothing that they guard can raise Interrupted.
JUSTIFIED = {
    ("imaging/decoding.py", "_is_animated"): "only Pillow runs in it",
    ("imaging/decoding.py", "_orientation"): "only Pillow runs in it",
    ("models/components/download.py", "<module>"): "the top of a child process; the parent interrupts it by ending it",
    ("models/conditioning/token_count.py", "_made"): "only the tokenizers library runs in it",
    ("models/families/pixel_file.py", "load"): "a file is read in one go, without a look at what is asked meanwhile",
    ("studio/metadata/readers/sd_parsers_graph.py", "read_through_sd_parsers"): "only sd-parsers runs in it",
    ("studio/jobs/step_store.py", "_write"): "only NumPy and Pillow run in it",
    ("studio/library/link_receiver.py", "<module>"): "the top of a child process; the parent ends it",
    ("training/fold_networks.py", "_restore"): "only torch.load and restoring tensors run in it",
    ("training/run/resume.py", "_restore"): "only torch.load and restoring tensors run in it",
    ("training/run/resume.py", "_stored_tokenizer"): "only a file and the tokenizers library are read in it",
}


def broad_handlers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The function and the line of each handler that catches Interrupted and does not raise it again."""

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, int]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if isinstance(node, ast.Try | ast.TryStar):
            caught = False
            for handler in node.handlers:
                names = names_of(handler.type)
                last = handler.body[-1]
                passes_on = isinstance(last, ast.Raise) and last.exc is None
                if (not names or names & BROAD) and not caught and not passes_on:
                    yield function, handler.lineno
                caught = caught or "Interrupted" in names
        if isinstance(node, ast.withitem) and ast.unparse(node.context_expr).split("(")[0].endswith("suppress"):
            call = node.context_expr
            if isinstance(call, ast.Call) and any(names_of(argument) & BROAD for argument in call.args):
                yield function, call.lineno
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    yield from walk(tree, "<module>")


def names_of(node: ast.AST | None) -> set[str]:
    """Last names of the exception classes of an `except` clause; empty for a bare one."""
    if node is None:
        return set()
    members = node.elts if isinstance(node, ast.Tuple) else [node]
    return {ast.unparse(member).rpartition(".")[2] for member in members}


def test_no_broad_handler_swallows_it() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), function): line
        for path in sorted(PACKAGE.rglob("*.py"))
        for function, line in broad_handlers(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert {key: line for key, line in found.items() if key not in JUSTIFIED} == {}
    assert set(JUSTIFIED) <= set(found), "no longer there: take it out of the list"


@pytest.mark.parametrize(
    ("source", "swallows"),
    [
        ("try: f()\nexcept Exception: pass", True),
        ("try: f()\nexcept (ValueError, Exception) as e: raise OSError() from e", True),
        ("try: f()\nexcept: pass", True),
        ("with contextlib.suppress(Exception): f()", True),
        ("try: f()\nexcept BaseException:\n    g()\n    raise", False),
        ("try: f()\nexcept Interrupted: h()\nexcept Exception: pass", False),
        ("try: f()\nexcept Exception: pass\nexcept Interrupted: h()", True),
        ("try: f()\nexcept errors.Interrupted: h()\nexcept Exception: pass", False),
        ("try: f()\nexcept DiffstudioError: pass", False),
    ],
)
def test_the_walk_finds_what_swallows(source: str, swallows: bool) -> None:
    assert bool(list(broad_handlers(ast.parse(source)))) is swallows


def test_it_is_no_failure_and_has_its_own_exit_code_and_sentence() -> None:
    interrupted = Interrupted("Stopped at step 3", "Resume it with --resume")
    assert not isinstance(interrupted, DiffstudioError) and interrupted.exit_code == 130
    assert str(interrupted) == "Stopped at step 3. Resume it with --resume." and str(Interrupted()) == "Stopped."
    again = pickle.loads(pickle.dumps(interrupted))
    assert (again.message, again.remedy) == (interrupted.message, interrupted.remedy)
