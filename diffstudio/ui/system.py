"""The system around the window: what it has, and what it asks of us."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

from PySide6.QtCore import QSocketNotifier
from PySide6.QtWidgets import QWidget

from diffstudio.studio.settings import Settings


def machine(settings: Settings) -> str:
    """`CPU, 2 threads · 1.9 of 24 GB`"""
    import psutil

    from diffstudio.studio.machine import seems_accelerated

    auto = "accelerator" if seems_accelerated() else "CPU"
    device = {"auto": auto, "cpu": "CPU"}.get(settings.device, settings.device)
    if device == "CPU":
        threads = settings.threads or os.cpu_count() or 1
        device += f", {threads} thread{'s' if threads > 1 else ''}"
    memory = psutil.virtual_memory()
    return f"{device}  ·  {(memory.total - memory.available) / 1e9:.1f} of {memory.total / 1e9:.0f} GB"


def close_on_signals(window: QWidget) -> Callable[[], None]:
    """SIGINT and SIGTERM close the window as its cross would. Returns what undoes it."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    notifier = QSocketNotifier(ours.fileno(), QSocketNotifier.Type.Read)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}

    def heard() -> None:
        ours.recv(64)
        window.close()

    notifier.activated.connect(heard)

    def undo() -> None:
        notifier.setEnabled(False)
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()

    return undo
