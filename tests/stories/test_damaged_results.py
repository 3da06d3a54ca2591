"""Stored results that were damaged or written by somebody else: the window names the damage, and never raises."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.errors import RunProblem
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.pages import attention, features, image_map, likelihood, restore, reverse
from tests.studio.evaluations.views import (
    test_attention,
    test_features,
    test_image_map,
    test_likelihood,
    test_restore,
    test_reverse,
)

RESULTS: dict[str, tuple[LabPage, Callable[[Path], dict[str, Any]]]] = {
    "attention": (attention.PAGE, test_attention.write_result),
    "features": (features.PAGE, lambda folder: test_features.example()),
    "map": (image_map.PAGE, lambda folder: test_image_map.example(folder, folder / "tiny.safetensors")),
    "reverse": (reverse.PAGE, test_reverse.example),
    "restore": (restore.PAGE, test_restore.example),
    "likelihood": (likelihood.PAGE, lambda folder: test_likelihood.example()),
}
PYTHON = re.compile(r"Error|NoneType|<class|object is|__|\b(str|dict|int|float)\b")  # names of Python's own
OTHERS: tuple[Any, ...] = (None, "x", -1, [], ["x"], {"x": 1}, float("inf"), float("nan"), 10**400)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of each value inside a JSON object, the first two of a list."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def damaged(values: dict[str, Any], path: tuple[Any, ...], other: Any) -> dict[str, Any]:
    found = copy.deepcopy(values)
    inside: Any = found
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = other
    return found


@pytest.mark.parametrize("verb", RESULTS)
def test_any_other_value_is_shown_or_named(verb: str, tmp_path: Path, qtbot: QtBot, dressed: QApplication) -> None:
    page, write = RESULTS[verb]
    job = JobFolder(tmp_path / "job")
    values = write(job.path)
    view = page.make_view()
    qtbot.addWidget(view)
    view.resize(700, 900)
    shown = 0
    for path in places(values):
        for other in OTHERS:
            try:
                result = page.read_result(job, damaged(values, path, other))
            except RunProblem as problem:
                assert not PYTHON.search(str(problem)), problem
                continue
            try:
                view.show_result(result)
            except Exception as error:
                error.add_note(f"{'.'.join(map(str, path))}: {other!r}")
                raise
            shown += 1
    view.grab()
    assert shown
