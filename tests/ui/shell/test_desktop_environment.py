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
