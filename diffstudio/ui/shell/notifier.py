"""Desktop notifications, by the service of the system. They never take the focus.

On Linux `notify-send` (libnotify) or `gdbus` (GLib) sends them to the notification service of the desktop
(org.freedesktop.Notifications, https://specifications.freedesktop.org/notification-spec/); elsewhere, and where neither
is installed, Qt's system tray does.
"""

from __future__ import annotations

import html
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol

from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QSystemTrayIcon

from diffstudio.studio.metadata.metadata import storable

_APPLICATION = "diffstudio"
_NO_SERVICE = "This desktop has no notification service: nothing is shown when work ends."
_SHOWN_MS = 10_000


class Notifier(Protocol):
    """`description` is what the settings dialog shows: how, or why nothing can be shown."""

    @property
    def works(self) -> bool: ...

    @property
    def description(self) -> str: ...

    def notify(self, title: str, text: str) -> None: ...

    def close(self) -> None: ...


class NoNotifier:
    works = False
    description = _NO_SERVICE

    def notify(self, title: str, text: str) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class CommandNotifier:
    """Sends each notification with a program of the system, whose exit code says whether there is a service."""

    def __init__(self, program: str, arguments: Callable[[str, str], list[str]]) -> None:
        self._program, self._arguments = program, arguments
        self._sent: list[subprocess.Popen[bytes]] = []
        self._problem = ""

    @property
    def works(self) -> bool:
        self._look()
        return not self._problem

    @property
    def description(self) -> str:
        return f"Shown by {self._program}." if self.works else self._problem

    def notify(self, title: str, text: str) -> None:
        self._look()
        try:
            self._sent.append(
                subprocess.Popen(
                    [self._program, *self._arguments(storable(title), storable(text))],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self._problem = f"{self._program} does not start: {why}."

    def close(self) -> None:
        for process in self._sent:
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:  # the service does not answer
                process.kill()
                process.wait()
        self._sent.clear()

    def _look(self) -> None:
        """Whether the notifications sent so far were taken by a service."""
        for process in [each for each in self._sent if each.poll() is not None]:
            self._sent.remove(process)
            self._problem = "" if process.returncode == 0 else _NO_SERVICE


class TrayNotifier:
    """Qt's system tray. Its icon is there only while there is a notification. A click calls `on_click`."""

    works = True
    description = "Shown by the system tray."

    def __init__(self, icon: QIcon, on_click: Callable[[], None]) -> None:
        self._tray = QSystemTrayIcon(icon)
        self._on_click = on_click
        self._tray.messageClicked.connect(self._clicked)
        self._tray.activated.connect(self._clicked)

    def notify(self, title: str, text: str) -> None:
        self._tray.show()
        self._tray.showMessage(title, text, self._tray.icon(), _SHOWN_MS)

    def close(self) -> None:
        self._tray.hide()

    def _clicked(self) -> None:
        self._tray.hide()
        self._on_click()


def notify_send_arguments(title: str, text: str) -> list[str]:
    """The arguments of `notify-send`. Services take the text for HTML, so it is escaped."""
    return [f"--app-name={_APPLICATION}", f"--expire-time={_SHOWN_MS}", "--", title, html.escape(text, quote=False)]


def gdbus_arguments(title: str, text: str) -> list[str]:
    """The arguments of `gdbus`, which reads them as GVariant text: title and text are quoted."""
    return [
        "call",
        "--session",
        "--dest=org.freedesktop.Notifications",
        "--object-path=/org/freedesktop/Notifications",
        "--method=org.freedesktop.Notifications.Notify",
        "--timeout=5",
        "--",
        _quoted(_APPLICATION),
        "uint32 0",  # it replaces no other
        _quoted(""),
        _quoted(title),
        _quoted(html.escape(text, quote=False)),
        "@as []",
        "@a{sv} {}",
        str(_SHOWN_MS),
    ]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def make_notifier(icon: QIcon, on_click: Callable[[], None]) -> Notifier:
    """The notifier for this system."""
    if sys.platform.startswith("linux"):
        for program, arguments in (("notify-send", notify_send_arguments), ("gdbus", gdbus_arguments)):
            if shutil.which(program):
                return CommandNotifier(program, arguments)
    if QSystemTrayIcon.isSystemTrayAvailable():
        return TrayNotifier(icon, on_click)
    return NoNotifier()
