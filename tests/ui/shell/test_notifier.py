"""Notifications: shown when work ends behind other windows, and silent only where there is no service."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication, QLabel, QSystemTrayIcon, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.errors import OutOfMemory
from diffstudio.studio.events import Cancelled, Failed, Finished, ImageSaved, Started
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.settings import Settings
from diffstudio.training.run.run_folder import Status
from diffstudio.ui.settings_dialog import SettingsDialog
from diffstudio.ui.shell.notifier import (
    CommandNotifier,
    NoNotifier,
    TrayNotifier,
    gdbus_arguments,
    make_notifier,
    notify_send_arguments,
)
from diffstudio.ui.shell.sleep_inhibitor import make_sleep_inhibitor
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import icons
from diffstudio.ui.wiring.jobs import JobController
from diffstudio.ui.wiring.notifications import NotificationController
from tests.ui.samples import picture

pytestmark = pytest.mark.usefixtures("dressed")
HOSTILE = '-<img src="/x"> it\'s \\ & "so"\nnext'
linux = pytest.mark.skipif(sys.platform != "linux", reason="these programs are Linux's")


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[str]]]:
    """A `notify-send` that writes down its arguments; returns those of each call."""
    script = tmp_path / "bin" / "notify-send"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport json, sys\nopen({str(tmp_path / 'calls')!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")

    def calls() -> list[list[str]]:
        file = tmp_path / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    return calls


@linux
def test_notify_send_is_given_the_text_as_it_is(sent: Callable[[], list[list[str]]]) -> None:
    notifier = make_notifier(QIcon(), lambda: None)
    notifier.notify("2 images are ready", HOSTILE)
    notifier.close()
    (call,) = sent()
    assert call[:1] == ["--app-name=diffstudio"] and call[-3:-1] == ["--", "2 images are ready"]
    assert call[-1].startswith("-&lt;img src=") and "&amp;" in call[-1] and "<" not in call[-1]
    assert notifier.works and notifier.description == "Shown by notify-send."


@linux
def test_without_a_service_the_settings_say_so(qtbot: QtBot) -> None:
    notifier = CommandNotifier("false", notify_send_arguments)
    assert notifier.works
    notifier.notify("a", "b")
    notifier._sent[0].wait(10)
    assert not notifier.works and notifier.description.startswith("This desktop has no notification service")
    missing = CommandNotifier("no-such-program-here", notify_send_arguments)
    missing.notify("a", "b")
    assert not missing.works and missing.description.startswith("no-such-program-here does not start")
    slow = CommandNotifier("sleep", lambda title, text: ["60"])
    slow.notify("a", "b")
    slow.close()
    assert slow._sent == []
    dialog = SettingsDialog(Settings(), "", notifications=notifier.description)
    qtbot.addWidget(dialog)
    assert any("no notification service" in each.text() for each in dialog.findChildren(QLabel))


@linux
@pytest.mark.skipif(not (shutil.which("gdbus") and shutil.which("dbus-run-session")), reason="needs GLib and D-Bus")
def test_gdbus_makes_a_well_formed_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a bus without the service the call is refused for that reason alone, and not for its arguments."""
    import subprocess

    command = ["dbus-run-session", "--", "gdbus", *gdbus_arguments("title", HOSTILE)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode != 0 and "ServiceUnknown" in answer.stderr, answer.stderr


def test_the_tray_shows_a_message_and_a_click_comes_back(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    came_back: list[bool] = []
    shown: list[tuple[str, str]] = []
    monkeypatch.setattr(
        QSystemTrayIcon, "showMessage", lambda tray, title, text, icon, milliseconds: shown.append((title, text))
    )
    monkeypatch.setattr(QSystemTrayIcon, "show", lambda tray: None)  # there is no tray in the tests
    notifier = TrayNotifier(icons.application_icon(), lambda: came_back.append(True))
    notifier.notify("2 images are ready", "a cat")
    assert shown == [("2 images are ready", "a cat")]
    notifier._tray.messageClicked.emit()
    assert came_back == [True] and not notifier._tray.isVisible()
    notifier.close()


def test_the_notifier_of_each_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/gdbus" if name == "gdbus" else None)
    monkeypatch.setattr(sys, "platform", "linux")
    assert isinstance(make_notifier(QIcon(), lambda: None), CommandNotifier)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(QSystemTrayIcon, "isSystemTrayAvailable", lambda: True)
    assert isinstance(make_notifier(QIcon(), lambda: None), TrayNotifier)
    monkeypatch.setattr(QSystemTrayIcon, "isSystemTrayAvailable", lambda: False)
    nothing = make_notifier(QIcon(), lambda: None)
    nothing.notify("a", "b")
    nothing.close()
    assert isinstance(nothing, NoNotifier) and not nothing.works


# When


@dataclass
class Recorder:
    """A notifier that keeps what it is given."""

    shown: list[tuple[str, str]]
    works: bool = True
    description: str = ""

    def notify(self, title: str, text: str) -> None:
        self.shown.append((title, text))

    def close(self) -> None:
        """Nothing to do."""


class Bench:
    """The controller over a job controller whose worker is a stand-in."""

    def __init__(self) -> None:
        self.notifier, self.settings = Recorder([]), Settings()
        self.jobs = JobController(Tasks(), make_sleep_inhibitor())
        self.jobs.worker = Mock(running=Mock(return_value=None))
        self.controller = NotificationController(self.jobs, self.notifier, lambda: self.settings)

    def end(self, *events: object, waiting: bool = False) -> list[tuple[str, str]]:
        """Let these events arrive, and the queue be read; returns what was shown since."""
        self.notifier.shown.clear()
        for event in events:
            self.controller.handle_event(event)  # type: ignore[arg-type]
        self.jobs.nothing_starts = not waiting
        self.jobs.queue_shown.emit()
        return list(self.notifier.shown)


@pytest.fixture
def bench(qtbot: QtBot) -> Bench:
    bench = Bench()
    qtbot.addWidget(bench.jobs.room)
    return bench


def job(number: int, prompt: str, images: int) -> list[object]:
    saved = [ImageSaved(number, index, Path("a.png"), picture(1)) for index in range(images)]
    return [Started(number, GenerateRequest(prompt, count=max(1, images))), *saved, Finished(number, 1.0)]


def test_one_notification_at_the_end_of_the_queue(bench: Bench) -> None:
    assert QApplication.activeWindow() is None, "no window of the program is in front"
    assert bench.end(*job(1, "a cat", 3), waiting=True) == []
    assert bench.end(*job(2, "a dog", 1)) == [("4 images are ready", "a dog")]
    assert bench.end(*job(3, "a fox", 1)) == [("1 image is ready", "a fox")]
    failed = [Started(4, GenerateRequest("x")), Failed(4, OutOfMemory("There was not enough memory"))]
    assert bench.end(*failed) == [("1 job failed", "There was not enough memory")]
    assert bench.end(*job(5, "a", 1), *failed) == [("1 image is ready, 1 job failed", "There was not enough memory")]
    assert bench.end(Started(6, GenerateRequest("x")), Cancelled(6)) == [], "the person ended it"
    assert bench.end() == [], "the queue was only read"


def test_nothing_is_shown_while_the_window_is_in_front_or_when_switched_off(qtbot: QtBot, bench: Bench) -> None:
    bench.settings = replace(bench.settings, notifications=False)
    assert bench.end(*job(1, "a", 1)) == []
    bench.settings = Settings()
    window = QWidget()
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    window.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window)
    assert bench.end(*job(2, "a", 1)) == []
    window.close()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is None)
    assert bench.end(*job(3, "b", 1)) == [("1 image is ready", "b")], "what was seen is not told again"


def test_the_end_of_a_training_run(bench: Bench) -> None:
    def run(name: str, status: Status) -> Mock:
        alive = status is Status.TRAINING
        summary = Mock(status=status, alive=alive, verdict="" if alive else "It has learnt.")
        summary.name, summary.run.path = name, Path(name)
        return summary

    bench.controller.runs_updated(
        [run("faces", Status.TRAINING), run("old", Status.FINISHED), run("b", Status.TRAINING)]
    )
    bench.controller.runs_updated(
        [run("faces", Status.FINISHED), run("old", Status.FINISHED), run("b", Status.STOPPED)]
    )
    bench.controller.runs_updated([run("faces", Status.FINISHED)])
    assert bench.notifier.shown == [("Training finished", "faces. It has learnt.")]


def test_the_setting(qtbot: QtBot) -> None:
    dialog = SettingsDialog(Settings(), "")
    qtbot.addWidget(dialog)
    assert dialog.notifications.isChecked()
    with qtbot.waitSignal(dialog.changed) as changed:
        dialog.notifications.click()
    assert changed.args is not None and changed.args[0].notifications is False
    assert Settings().to_json()["notifications"] is True


@linux
def test_text_that_no_argument_can_hold_is_cleaned(sent: Callable[[], list[list[str]]]) -> None:
    notifier = make_notifier(QIcon(), lambda: None)
    notifier.notify("an image\0 is ready", "half a pair \ud83d")
    notifier.close()
    (call,) = sent()
    assert call[-2:] == ["an image  is ready", "half a pair ?"] and notifier.works


@linux
def test_arguments_that_cannot_be_passed_are_reported() -> None:
    notifier = CommandNotifier("true", lambda title, text: ["\0"])
    notifier.notify("a", "b")
    assert not notifier.works and "true does not start: embedded null byte" in notifier.description
