"""Keeping the machine from going to sleep while it works, where the system has a way to ask for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Protocol

_REASON = "making pictures"


class SleepInhibitor(Protocol):
    """`how` is what Settings tells: the means, or why there is none."""

    how: str
    works: bool

    def hold(self, on: bool) -> None: ...


class _Nothing:
    works = False

    def __init__(self, how: str) -> None:
        self.how = how

    def hold(self, on: bool) -> None:
        """There is no way to ask."""


class _Companion:
    """A small program of the system's that keeps the machine awake while it runs. It ends with this one, however that ends."""

    works = True

    def __init__(self, how: str, command: list[str]) -> None:
        self.how, self._command = how, command
        self._process: subprocess.Popen[bytes] | None = None

    def hold(self, on: bool) -> None:
        if (
            self._process is not None and self._process.poll() is not None
        ):  # it gave up by itself: there is nobody to ask
            self._let_go()
            self.works, self.how = (
                False,
                f"{self._command[0]} has no effect here: turn automatic sleep off for long work.",
            )
        if on and self.works and self._process is None:
            try:  # its standard input closes when this program ends, which ends it too
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            except OSError as error:
                self.works, self.how = False, f"{self._command[0]} does not start: {error.strerror}."
        elif not on:
            self._let_go()

    def _let_go(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.communicate()


class _Windows:
    works = True
    how = "Windows is asked to stay awake while pictures are made or a model trains."
    _CONTINUOUS, _SYSTEM_REQUIRED = 0x80000000, 0x00000001  # ES_… of SetThreadExecutionState

    def hold(self, on: bool) -> None:
        import ctypes

        state = self._CONTINUOUS | (self._SYSTEM_REQUIRED if on else 0)
        ctypes.windll.kernel32.SetThreadExecutionState(state)  # type: ignore[attr-defined,unused-ignore]


def awake() -> SleepInhibitor:
    """The means of this system."""
    if sys.platform == "win32":
        return _Windows()
    if sys.platform == "darwin" and shutil.which("caffeinate"):
        import os

        return _Companion(
            "macOS is asked to stay awake while pictures are made or a model trains.",
            ["caffeinate", "-i", "-w", str(os.getpid())],
        )
    if shutil.which("systemd-inhibit"):
        return _Companion(
            "systemd is asked to stay awake while pictures are made or a model trains.",
            ["systemd-inhibit", "--what=idle:sleep", "--who=diffstudio", f"--why={_REASON}", "--mode=block", "cat"],
        )
    return _Nothing("This system offers no way to ask for it: turn its automatic sleep off for long work.")
