"""The sizes of the window and its columns, over a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtWidgets import QWidget

from diffstudio.ui.widgets.layout.window_state import WindowState, read_window_state, save_geometry, save_widths

pytestmark = pytest.mark.usefixtures("qapp")


def test_what_is_saved_is_read_again(home: Path) -> None:
    assert read_window_state().state == WindowState() and read_window_state().problem == ""
    geometry = QWidget().saveGeometry()
    save_geometry(geometry)
    save_widths("train", {"runs": 300, "details": 280})
    save_widths("gallery", {"details": 270})
    save_widths("train", {"runs": 310})
    loaded = read_window_state()
    assert loaded.state == WindowState(geometry, {"gallery": {"details": 270}, "train": {"runs": 310}})
    assert loaded.problem == ""


def test_values_that_cannot_be_read_are_named_and_the_others_kept(home: Path) -> None:
    (home / "window.ini").write_text(
        "[General]\nformat=1\ngeometry=12\n[columns]\nlab\\jobs=90000\nlab\\form=-3\nlab\\result=400\n"
    )
    loaded = read_window_state()
    assert loaded.state == WindowState(None, {"lab": {"result": 400}})
    assert loaded.problem == (
        "Some of the sizes of the window and its columns could not be read and are not used: width of form, width of jobs, "
        "size of the window."
    )


@pytest.mark.parametrize(("content", "why"), [(b"nonsense", "not a file of settings"), (b"format=2", "format 2")])
def test_a_file_that_cannot_be_read_is_set_aside(home: Path, content: bytes, why: str) -> None:
    (home / "window.ini").write_bytes(content)
    loaded = read_window_state()
    assert loaded.state == WindowState() and why in loaded.problem
    assert (home / "window.ini.damaged").read_bytes() == content
    save_widths("lab", {"jobs": 200})
    assert read_window_state().state.widths == {"lab": {"jobs": 200}} and read_window_state().problem == ""
