"""Keeps the computer awake while it generates or trains, where the system allows it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Protocol

_REASON = "generating images"


class SleepInhibitor(Protocol):
    """`description` is what the settings dialog shows: the method, or why sleep cannot be prevented."""

    description: str
    works: bool

    def hold(self, on: bool) -> None: ...


class _NoInhibitor:
    works = False

    def __init__(self, description: str) -> None:
        self.description = description

    def hold(self, on: bool) -> None:
        """Nothing to do."""


class _InhibitorProcess:
    """A system program that keeps the computer awake while it runs, and ends when diffstudio does."""

    works = True

    def __init__(self, description: str, command: list[str]) -> None:
        self.description, self._command = description, command
        self._process: subprocess.Popen[bytes] | None = None

    def hold(self, on: bool) -> None:
        if (
            self._process is not None and self._process.poll() is not None
        ):  # it has exited: there is no service to inhibit
            self._release()
            self.works, self.description = (
                False,
                f"{self._command[0]} has no effect here: turn off automatic sleep before long jobs.",
            )
        if on and self.works and self._process is None:
            try:  # its standard input closes when this program ends, which ends it too
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            except OSError as error:
                self.works, self.description = False, f"{self._command[0]} does not start: {error.strerror}."
        elif not on:
            self._release()

    def _release(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.communicate()


class _Windows:
    works = True
    description = "Windows stays awake while images are generated or a model trains."
    _CONTINUOUS, _SYSTEM_REQUIRED = 0x80000000, 0x00000001  # ES_… of SetThreadExecutionState

    def hold(self, on: bool) -> None:
        import ctypes

        state = self._CONTINUOUS | (self._SYSTEM_REQUIRED if on else 0)
        ctypes.windll.kernel32.SetThreadExecutionState(state)  # type: ignore[attr-defined,unused-ignore]


def make_sleep_inhibitor() -> SleepInhibitor:
    """The inhibitor for this system."""
    if sys.platform == "win32":
        return _Windows()
    if sys.platform == "darwin" and shutil.which("caffeinate"):
        import os

        return _InhibitorProcess(
            "macOS stays awake while images are generated or a model trains.",
            ["caffeinate", "-i", "-w", str(os.getpid())],
        )
    if shutil.which("systemd-inhibit"):
        return _InhibitorProcess(
            "systemd keeps the computer awake while images are generated or a model trains.",
            ["systemd-inhibit", "--what=idle:sleep", "--who=diffstudio", f"--why={_REASON}", "--mode=block", "cat"],
        )
    return _NoInhibitor("Not available on this system: turn off automatic sleep before long jobs.")
