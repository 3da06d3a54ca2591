"""The desktop that the window runs on: its display, its folders, its signals, and the device status."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from PySide6.QtCore import QMessageLogContext, QSocketNotifier, QStandardPaths, QtMsgType, qInstallMessageHandler
from PySide6.QtWidgets import QApplication, QMessageBox, QWidget

from diffstudio.studio.settings import Settings

PLATFORMS_WITH_CLIPBOARD = ("xcb", "wayland", "windows", "cocoa")  # shared with other programs

_log = logging.getLogger(__name__)


def application(argv: Sequence[str]) -> QApplication:
    """Create the QApplication. Without a display Qt would dump core: print a message and exit instead."""
    messages: list[str] = []

    def handle_message(kind: QtMsgType, context: QMessageLogContext, text: str) -> None:
        if kind is QtMsgType.QtFatalMsg:
            shown = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
            why = f"Qt reports: {' '.join(messages[0].split())}" if messages and shown else "there is no display"
            print(
                f"diffstudio: The window cannot open: {why}. Start it on a desktop, with Qt's libraries installed "
                "(`sudo apt-get install libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 libxcb-keysyms1` on Debian); "
                "`diffstudio generate` makes images without one.",
                file=sys.stderr,
                flush=True,
            )
            os._exit(1)  # Qt aborts when this returns
        messages.append(text)

    before = qInstallMessageHandler(handle_message)
    try:
        return QApplication([sys.argv[0], *argv])
    finally:
        qInstallMessageHandler(before)
        for text in messages:
            _log.warning("Qt: %s", text)


def empty_own_clipboard() -> None:
    """Before the end of the program: empty a clipboard that no other program can read.

    The platforms without a desktop, such as `offscreen`, keep what was copied until after Python has ended, and deleting
    an object made by Python crashes then. The clipboard of a desktop is left as it is.
    """
    if QApplication.platformName() not in PLATFORMS_WITH_CLIPBOARD:
        QApplication.clipboard().clear()


def show_error(message: str) -> None:
    """Show an error without a window of the program: on standard error, and in a box where there is a screen."""
    print(f"diffstudio: {message}", file=sys.stderr, flush=True)
    if QApplication.platformName() not in ("offscreen", "minimal"):  # pragma: no cover - the box waits for a click
        from diffstudio.ui.widgets.dialogs import message_box

        message_box(QMessageBox.Icon.Critical, "diffstudio", message).exec()


def device_status(settings: Settings) -> str:
    """`CPU, 2 threads · 1.9 of 24 GB`"""
    import psutil

    from diffstudio.studio.jobs.device_guess import seems_accelerated

    auto = "accelerator" if seems_accelerated() else "CPU"
    device = {"auto": auto, "cpu": "CPU"}.get(settings.device, settings.device)
    if device == "CPU":
        threads = settings.threads or os.cpu_count() or 1
        device += f", {threads} thread{'s' if threads > 1 else ''}"
    memory = psutil.virtual_memory()
    return f"{device}  ·  {(memory.total - memory.available) / 1e9:.1f} of {memory.total / 1e9:.0f} GB"


def pictures_folder() -> str:
    """The user's Pictures folder, where file dialogs open."""
    usual = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.PicturesLocation)
    return usual if os.path.isdir(usual) else os.path.expanduser("~")


def close_on_signals(window: QWidget) -> Callable[[], None]:
    """Close the window on SIGINT and SIGTERM. Returns a function that undoes this."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    notifier = QSocketNotifier(ours.fileno(), QSocketNotifier.Type.Read)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}

    def close_window() -> None:
        ours.recv(64)
        window.close()

    notifier.activated.connect(close_window)

    def undo() -> None:
        notifier.setEnabled(False)
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()

    return undo
