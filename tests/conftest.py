"""What every test stands on: a home of its own, no network, no screen, and nothing left behind."""

from __future__ import annotations

import os

if "SLIPCOVER_ENABLED" in os.environ:
    from slipcover import pytest_plugin

    if pytest_plugin._slipcover_instance is not None:  # of a worker
        # Never replace the code of a function while it runs: the QPainter of a paintEvent would outlive the painting.
        pytest_plugin._slipcover_instance.d_miss_threshold = 2**31 - 1

from diffstudio.__main__ import ENVIRONMENT

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch is imported: small arithmetic, and others work beside a test
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.update(ENVIRONMENT | os.environ)  # as the program itself has it

import faulthandler
import gc
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import settings
from pytestqt.qtbot import QtBot

# The same examples in every run, so that a failure is due to the change at hand, and no deadline, which a busy machine or
# a first import would miss. `pytest --hypothesis-profile default` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent
if (
    "SLIPCOVER_ENABLED" in os.environ
):  # coverage is measured: in this process by slipcover, in its children by coverage.py
    os.environ["COVERAGE_PROCESS_START"] = str(ROOT / "pyproject.toml")
    os.environ["COVERAGE_FILE"] = str(ROOT / "artefacts" / "coverage" / "children")

PATIENCE_MS = 60_000  # for what the window does in the background: pytest-qt's 5 s are too short on a busy machine
THREADS_THAT_STAY = ("asyncio_", "tqdm", "pytest_timeout")  # pools and monitors that live as long as the process


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """After a crash, print the stack of the thread that crashed: those of all others push it out of a report."""
    faulthandler.enable(config.stash[fault_handler_stderr_fd_key], all_threads=False)


def pytest_collection_finish() -> None:
    """The thousands of tests themselves need not be looked at in every collection."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Collect garbage between the tests, in the main thread: a Qt object that is destroyed in another one crashes.

    Only now has pytest let go of the fixtures of a test, among them whole windows.
    """
    gc.disable()
    result = yield
    with_qt = "qapp" in getattr(item, "fixturenames", ())
    gc.collect(2 if with_qt or gc.get_count()[2] > 100 else 1)
    return result


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh place for everything of the person's: settings, pictures, checkpoints, runs."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("DIFFSTUDIO_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def patient_waits() -> Iterator[None]:
    """`qtbot` waits PATIENCE_MS unless a test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("waitActive", "waitExposed", "waitSignal", "waitSignals", "waitUntil", "waitCallback"):
            patch.setattr(QtBot, name, _patient(getattr(QtBot, name)))
        yield


def _patient(wait: Callable[..., Any]) -> Callable[..., Any]:
    def patient(self: QtBot, *args: Any, timeout: int = PATIENCE_MS, **keywords: Any) -> Any:
        __tracebackhide__ = True
        return wait(self, *args, timeout=timeout, **keywords)

    return patient


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Any connection but to this machine itself fails the test that made it: the program works offline."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        yield


def _guarded(real: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: socket.socket, address: Any) -> Any:
        local = self.family not in (socket.AF_INET, socket.AF_INET6) or address[0] in ("127.0.0.1", "::1", "localhost")
        if not local:
            pytest.fail(f"a test reached for the network: {address}")
        return real(self, address)

    return connect


@pytest.fixture(autouse=True, scope="module")
def libraries_left_out_of_garbage_collection() -> Iterator[None]:
    """After the files that import diffusers or Qt: a full collection takes half a second with their objects, and every
    model that is loaded begins with one.
    """
    modules = len(sys.modules)
    yield
    if len(sys.modules) > modules + 100:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10.0
    for thread in _new_threads(before):
        thread.join(max(0.0, deadline - time.monotonic()))
    left = _new_threads(before)
    assert not left, f"threads left running: {left}"


def _new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before
        and not thread.name.startswith(THREADS_THAT_STAY)
        and type(thread).__name__ not in ("TMonitor", "_DummyThread")
    ]


@pytest.fixture(autouse=True, scope="module")
def no_leaked_processes() -> Iterator[None]:
    process = psutil.Process()
    before = set(process.children(recursive=True))
    yield
    started = [child for child in process.children(recursive=True) if child not in before]
    _, alive = psutil.wait_procs(started, timeout=20.0)
    running = [_described(child) for child in alive]
    for child in alive:
        child.kill()
    assert not running, f"processes left running: {running}"


def _described(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return str(process)


@pytest.fixture(autouse=True)
def no_leaked_widgets_or_timers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of tests that use the window: what was not given to `qtbot.addWidget`, and timers that still run.

    What they copied is removed from the clipboard, as at the end of the program.
    """
    if "qtbot" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("qapp")
    before = {id(widget) for widget in _top_level_widgets()}
    yield  # pytest-qt has closed the widgets that it was given before the code below runs
    from diffstudio.ui.shell.desktop_environment import empty_own_clipboard

    empty_own_clipboard()
    gc.collect()
    assert not (left := _left(before)), f"widgets or timers left behind: {left}"


def _top_level_widgets() -> list[Any]:
    from PySide6.QtCore import QCoreApplication, QEvent
    from PySide6.QtWidgets import QApplication

    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    return list(QApplication.topLevelWidgets())


def _left(before: set[int]) -> list[str]:
    import shiboken6
    from PySide6.QtCore import QTimer

    widgets = [
        f"{type(widget).__name__} {widget.objectName()!r}"
        for widget in _top_level_widgets()
        if id(widget) not in before
    ]
    kinds = {QTimer, *QTimer.__subclasses__()}
    timers = [
        f"{type(thing).__name__} of {thing.parent()!r}"
        for thing in gc.get_objects()
        if type(thing) in kinds and shiboken6.isValid(thing) and thing.isActive()
    ]
    return widgets + timers
