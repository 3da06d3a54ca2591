"""The window at its beginning and end, in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
@pytest.mark.parametrize(
    ("display", "expected"), [({}, "there is no display"), ({"DISPLAY": ":4711"}, "could not connect to display :4711")]
)
def test_without_a_display_the_window_ends_in_a_sentence(
    tmp_path: Path, display: dict[str, str], expected: str
) -> None:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-m", "diffstudio"],
        env={**environment, **display, "DIFFSTUDIO_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("diffstudio: The window cannot open: ") and done.stderr.count("\n") == 1
    assert expected in done.stderr and "diffstudio generate" in done.stderr


COPY_AND_CLOSE = """
import sys
from PySide6.QtCore import QTimer
from PySide6.QtGui import QImage
from diffstudio.ui import app
from diffstudio.ui.shell import desktop_environment
from diffstudio.ui.widgets.images import copy_and_drag

def copy_and_close(window):
    copy_and_drag.copy(QImage(8, 8, QImage.Format.Format_RGB32))
    print("copied", app.QGuiApplication.clipboard().mimeData().hasImage())
    window.close()

close_on_signals = desktop_environment.close_on_signals

def with_a_copy(window):
    window.first_painted.connect(lambda: QTimer.singleShot(0, lambda: copy_and_close(window)))
    return close_on_signals(window)

desktop_environment.close_on_signals = with_a_copy
sys.exit(app.main([]))
"""


def test_the_program_ends_cleanly_after_an_image_was_copied(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COPY_AND_CLOSE], capture_output=True, text=True, timeout=120, check=False
    )
    platform = "This plugin does not support propagateSizeHints()"  # `offscreen`, about itself
    complaints = [line for line in done.stderr.splitlines() if line != platform]
    assert (done.returncode, done.stdout, complaints) == (0, "copied True\n", [])
