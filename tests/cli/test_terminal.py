"""What is printed where the standard streams are closed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from diffstudio import paths
from diffstudio.cli import terminal
from tests.models.tiny import write_tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def code_of(closed: str, *arguments: str | Path) -> int:
    line = shlex.join([sys.executable, "-m", "diffstudio", *map(str, arguments)])
    return subprocess.run(["sh", "-c", f"{line} {closed}"], check=False, timeout=120, cwd=ROOT).returncode


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_accident(closed: str, home: Path, tmp_path: Path) -> None:
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    out = tmp_path / "apple.png"
    assert code_of(closed, "generate", "red apple", "--checkpoint", "tiny", "--steps", "3", "--out", out) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert code_of(closed, "models", "show", "nothing") == 2
    assert not terminal.log_file().exists()


def test_streams_that_are_open_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (sys.stdin, sys.stdout, sys.stderr)
    terminal.open_closed_streams()
    assert (sys.stdin, sys.stdout, sys.stderr) == before
    monkeypatch.setattr(sys, "stderr", None)
    terminal.open_closed_streams()
    terminal.progress("to nobody", last=True)
    made = sys.stderr
    assert made is not None and made.name == os.devnull and sys.stdout is before[1]
    made.close()
