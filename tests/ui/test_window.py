"""The window around the rooms, the settings, the single instance, staying awake, and what nobody caught."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, QSize, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QLabel, QScrollArea, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.errors import StorageProblem
from diffstudio.studio.metadata.gaps import Gaps
from diffstudio.studio.metadata.metadata import ImageSettings
from diffstudio.studio.requests import ControlNetUse, GenerateRequest
from diffstudio.studio.settings import Settings, Theme
from diffstudio.ui.generate.image_settings_dialog import ImageSettingsDialog
from diffstudio.ui.settings_dialog import SettingsDialog
from diffstudio.ui.shell import single_instance
from diffstudio.ui.shell.exception_hooks import ExceptionHooks
from diffstudio.ui.shell.single_instance import Claim, SingleInstance, name_for
from diffstudio.ui.shell.sleep_inhibitor import _InhibitorProcess, make_sleep_inhibitor
from diffstudio.ui.widgets import dialogs
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage
from diffstudio.ui.window import MainWindow, RoomEntry, smallest_on
from tests.ui.samples import picture

pytestmark = pytest.mark.usefixtures("dressed")


@pytest.fixture
def window(qtbot: QtBot) -> MainWindow:
    window = MainWindow()
    qtbot.addWidget(window)
    for name in ("First", "Second"):
        window.add_room(RoomEntry(name, "cube", f"The {name} room", lambda name=name: QLabel(name)))
    window.show_room("First")
    window.show()
    qtbot.waitExposed(window)
    return window


def test_a_room_is_made_when_it_is_first_shown(qtbot: QtBot, window: MainWindow) -> None:
    assert not window.has_made("Second")
    qtbot.keyClick(window, Qt.Key.Key_2, Qt.KeyboardModifier.ControlModifier)
    assert window.current_room() == "Second"
    room = window.room("Second")
    qtbot.keyClick(window, Qt.Key.Key_1, Qt.KeyboardModifier.ControlModifier)
    assert window.current_room() == "First"
    assert window.show_room("Second") is room


def test_it_comes_back_where_it_was(qtbot: QtBot, window: MainWindow) -> None:
    window.resize(window.minimumWidth(), 655)  # the offscreen screen is 800 px wide
    window.close()
    again = MainWindow()
    qtbot.addWidget(again)
    assert (again.width(), again.height()) == (window.minimumWidth(), 655)


def test_the_window_fits_on_a_small_screen() -> None:
    assert smallest_on(QSize(1920, 1040)) == QSize(880, 470)
    assert smallest_on(QSize(911, 512)) == QSize(880, 456)  # 1366 x 768 at 150%
    assert smallest_on(QSize(640, 480)) == QSize(860, 440)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[General]\ngeometry=@ByteArray(\\0\\1nonsense)\n", "not used: size of the window."),
        (b"[General]\ngeometry=large\n[columns]\ntrain\\runs=wide\n", "not used: width of runs, size of the window."),
        (b"[General]\nformat=9\n", "(it has format 9"),
        (b"no settings\n\xff\xfe", "(it is not a file of settings), so they are the usual ones. The old file is kept"),
    ],
)
def test_what_cannot_be_read_of_the_sizes_is_said(qtbot: QtBot, home: Path, content: bytes, said: str) -> None:
    (home / "window.ini").write_bytes(content)
    window = MainWindow()
    qtbot.addWidget(window)
    assert window.width() >= window.minimumWidth() and window.height() >= 440
    window.show()
    assert window.banner.isVisible() and said in window.banner.text() and "sizes of the window" in window.banner.text()
    window.close()
    again = MainWindow()
    qtbot.addWidget(again)
    assert again.problem == "" and not again.banner.isVisibleTo(again)


def test_a_size_of_another_screen_is_not_used_and_not_called_unreadable(
    qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = MainWindow()
    qtbot.addWidget(window)
    window.show()
    window.close()
    monkeypatch.setattr(MainWindow, "restoreGeometry", lambda self, geometry: False)  # Qt declines it
    again = MainWindow()
    qtbot.addWidget(again)
    assert again.problem == "" and again.width() >= again.minimumWidth()


def drop(window: MainWindow, *paths: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    window.dropEvent(
        QDropEvent(
            QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        )
    )


def test_a_picture_or_a_folder_can_be_dropped(qtbot: QtBot, window: MainWindow, tmp_path: Path) -> None:
    with qtbot.waitSignal(window.image_dropped) as dropped:
        drop(window, tmp_path / "notes.txt", tmp_path / "A.PNG")
    assert dropped.args == [tmp_path / "A.PNG"]
    assert window.banner.text() == "Not opened: notes.txt is neither an image nor a model file."
    with qtbot.waitSignal(window.folder_dropped) as dropped:
        drop(window, tmp_path)
    assert dropped.args == [tmp_path] and not window.banner.isVisible()


def test_what_is_not_opened_stays_said_after_what_became_of_the_rest(
    qtbot: QtBot, window: MainWindow, tmp_path: Path
) -> None:
    window.show()
    window.image_dropped.connect(lambda path: window.show_message("info", f"{path.name} holds no settings."))
    with qtbot.waitSignal(window.image_dropped):
        drop(window, tmp_path / "notes.txt", tmp_path / "a.png")
    said = "Not opened: notes.txt is neither an image nor a model file."
    assert window.banner.text() == f"a.png holds no settings. {said}"
    window.show_message("info", "Something else.")
    assert window.banner.text() == "Something else."
    drop(window, tmp_path / "notes.txt")
    qtbot.waitUntil(lambda: window.banner.text() == said)
    window.show_message("bad", "The disk is full.")
    assert window.banner.text() == f"The disk is full. {said}" and window.banner._kind == "bad"


def test_what_is_dropped_and_not_opened_is_named(qtbot: QtBot, window: MainWindow, tmp_path: Path) -> None:
    with qtbot.waitSignal(window.image_dropped) as dropped:
        drop(window, tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.safetensors")
    assert dropped.args == [tmp_path / "a.png"]
    assert "b.png: one image or folder at a time" in window.banner.text() and "c.safetensors" in window.banner.text()
    with qtbot.waitSignal(window.models_dropped) as dropped:
        drop(window, tmp_path / "c.safetensors", tmp_path / "d.ckpt")
    assert dropped.args == [[tmp_path / "c.safetensors", tmp_path / "d.ckpt"]] and not window.banner.isVisible()
    with qtbot.assertNotEmitted(window.image_dropped, wait=50):
        drop(window, *(tmp_path / f"{number}.txt" for number in range(5)))
    assert "0.txt is neither" in window.banner.text() and window.banner.text().endswith("; and 2 more.")


def test_a_drag_is_taken_to_say_why_it_cannot_be_used(window: MainWindow, tmp_path: Path) -> None:
    def accepts(data: QMimeData) -> bool:
        event = QDragEnterEvent(
            QPoint(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        )
        event.ignore()
        window.dragEnterEvent(event)
        return event.isAccepted()

    of_a_browser, text = QMimeData(), QMimeData()
    of_a_browser.setUrls([QUrl("https://example.org/cat.png")])
    text.setText("a cat")
    assert accepts(of_a_browser) and not accepts(text)


def test_a_message_that_is_dismissed_leaves_the_focus_in_the_room(qtbot: QtBot, window: MainWindow) -> None:
    window.activateWindow()
    window.show_message("warn", "Something is missing.")
    window.banner.close_button.setFocus()
    qtbot.waitUntil(window.banner.close_button.hasFocus)
    qtbot.keyClick(window.banner.close_button, Qt.Key.Key_Space)
    focus = QApplication.focusWidget()
    assert focus is window.stack or (focus is not None and window.stack.isAncestorOf(focus))


def test_settings_change_at_once(qtbot: QtBot, tmp_path: Path) -> None:
    dialog = SettingsDialog(Settings(model_folders=(tmp_path / "a",)), "nothing to tell")
    qtbot.addWidget(dialog)
    emitted: list[Settings] = []
    dialog.changed.connect(emitted.append)
    dialog.theme.chip(Theme.LIGHT).click()
    dialog.previews.click()
    dialog._add(tmp_path / "b")
    assert (emitted[-1].theme, emitted[-1].previews) == (Theme.LIGHT, False)
    assert emitted[-1].model_folders == (tmp_path / "a", tmp_path / "b")
    dialog.folders.setCurrentRow(0)
    assert not dialog.remove_folder.isEnabled()  # the program's own folder
    dialog.folders.setCurrentRow(1)
    dialog.remove_folder.click()
    assert emitted[-1].model_folders == (tmp_path / "b",)
    assert len(emitted) == 4


def test_settings_scroll_only_where_the_screen_is_too_small(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    for height, scrolls in ((1080, False), (470, True)):
        monkeypatch.setattr(dialogs, "available_size", lambda widget, height=height: QSize(1920, height))
        dialog = SettingsDialog(Settings(), "nothing to tell")
        qtbot.addWidget(dialog)
        dialog.show()
        area = dialog.findChild(QScrollArea)
        assert area is not None
        qtbot.waitUntil(lambda area=area, scrolls=scrolls: (area.verticalScrollBar().maximum() > 0) is scrolls)
        assert dialog.height() <= height and dialog.done_button.mapTo(dialog, QPoint()).y() < dialog.height()


def test_a_dropped_pictures_settings_can_be_used(qtbot: QtBot) -> None:
    request = GenerateRequest(
        "a castle",
        negative="blurry",
        seed=9,
        vae="soft",
        enlarge=2,
        controls=(ControlNetUse("sd15_canny", Path("lines.png"), scale=0.8),),
    )
    dialog = ImageSettingsDialog(
        Path("x.png"), numpy_to_qimage(picture(3)), ImageSettings(request, "AUTOMATIC1111", ("the LoRA “cats”",))
    )
    qtbot.addWidget(dialog)
    texts = [label.text() for label in dialog.findChildren(QLabel)]
    assert any("cats" in text for text in texts) and any("AUTOMATIC1111" in text for text in texts)
    values = {value for _, value in dialog.facts.facts()}
    assert {"lines.png, sd15_canny at 0.8", "soft", "2× with Lanczos, denoising strength 0.3"} <= values
    with qtbot.waitSignal(dialog.use_requested) as used:
        dialog.use_button.click()
    assert used.args == [request, Gaps(not_imported=("the LoRA “cats”",))]


def test_the_second_one_hands_over_to_the_first(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever TMPDIR says in either, and in processes of their own."""
    first, other = SingleInstance(tmp_path), SingleInstance(tmp_path / "other")
    assert name_for(tmp_path) != name_for(tmp_path / "other")
    assert first.claim() is Claim.FIRST and other.claim() is Claim.FIRST
    assert first.listen() and first.holder_pid() == os.getpid()
    other.close()
    (tmp_path / "elsewhere").mkdir()
    code = (
        "import pathlib; from PySide6.QtCore import QCoreApplication; "
        "from diffstudio.ui.shell.single_instance import Claim, SingleInstance; "
        f"app = QCoreApplication([]); assert SingleInstance(pathlib.Path({str(tmp_path)!r})).claim() is Claim.ACTIVATED"
    )
    with qtbot.waitSignal(first.activation_requested, timeout=30_000):
        second = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"TMPDIR": str(tmp_path / "elsewhere")},
        )
    assert second.wait(30) == 0
    first.close()
    again = SingleInstance(tmp_path)
    assert again.claim() is Claim.FIRST and again.holder_pid() is None
    again.close()


def test_an_instance_that_does_not_respond_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has not begun to listen, and one that listens but whose event loop hangs, as this thread's does here."""
    monkeypatch.setattr(single_instance, "_ANSWER_MS", 100)
    first, second = SingleInstance(tmp_path), SingleInstance(tmp_path, patience_seconds=0.2)
    assert first.claim() is Claim.FIRST
    for listening in (False, True):
        if listening:
            first.listen()
        began = time.monotonic()
        assert second.claim() is Claim.UNRESPONSIVE and time.monotonic() - began >= 0.2
    first.stop_listening()
    closes = threading.Timer(0.2, first.close)
    patient = SingleInstance(tmp_path, patience_seconds=30)
    closes.start()
    assert patient.claim() is Claim.FIRST and time.monotonic() - began < 20
    closes.join()
    patient.close()


def test_where_no_lock_can_be_had_the_window_opens(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert SingleInstance(tmp_path / "file" / "data").claim() is Claim.FIRST


def test_what_a_crash_left_behind_is_not_in_the_way(qtbot: QtBot, tmp_path: Path) -> None:
    code = (
        "import os, pathlib; from PySide6.QtCore import QCoreApplication; "
        "from diffstudio.ui.shell.single_instance import Claim, SingleInstance; "
        f"app = QCoreApplication([]); one = SingleInstance(pathlib.Path({str(tmp_path)!r})); "
        "assert one.claim() is Claim.FIRST; assert one.listen(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 9
    one = SingleInstance(tmp_path)
    began = time.monotonic()
    assert one.claim() is Claim.FIRST and time.monotonic() - began < 10
    assert one.listen()
    one.close()


def test_staying_awake_ends_with_what_asked_for_it() -> None:
    companion = _InhibitorProcess("cat", ["cat"])
    companion.hold(True)
    process = companion._process
    assert process is not None and process.poll() is None
    companion.hold(True)
    assert companion._process is process
    companion.hold(False)
    assert process.poll() is not None
    missing = _InhibitorProcess("none", ["no-such-program-here"])
    missing.hold(True)
    assert not missing.works and "no-such-program-here" in missing.description
    gives_up = _InhibitorProcess("false", ["false"])
    gives_up.hold(True)
    assert gives_up._process is not None
    gives_up._process.wait(10)
    gives_up.hold(True)
    assert not gives_up.works and gives_up._process is None and "no effect" in gives_up.description
    assert make_sleep_inhibitor().description.endswith(".")


def test_what_nobody_caught_is_told_and_logged(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)  # that of pytest-qt, which would fail the test
    hooks = ExceptionHooks(tmp_path / "log.txt")
    hooks.install()
    try:
        with qtbot.waitSignal(hooks.reported) as emitted:
            try:
                raise ZeroDivisionError("a test's own")
            except ZeroDivisionError as error:
                sys.excepthook(type(error), error, error.__traceback__)
        assert "ZeroDivisionError: a test's own" in emitted.args[0] and "safe" in emitted.args[0]
        with qtbot.waitSignal(hooks.reported) as emitted:
            thread = threading.Thread(
                target=lambda: (_ for _ in ()).throw(StorageProblem("The disk is full")), name="writer"
            )
            thread.start()
            thread.join()
        assert emitted.args == ["The disk is full."]
    finally:
        hooks.remove()
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "Traceback" in log and "Uncaught exception in writer" in log


def test_a_message_can_be_dismissed(qtbot: QtBot, window: MainWindow) -> None:
    window.show_message("warn", "Something to know.")
    assert window.banner.isVisible()
    window.banner.close_button.click()
    assert not window.banner.isVisible() and not window._message_box.isVisible()


def test_settings_and_closing_by_keyboard(qtbot: QtBot, window: MainWindow) -> None:
    with qtbot.waitSignal(window.settings_requested):
        qtbot.keyClick(window, Qt.Key.Key_Comma, Qt.KeyboardModifier.ControlModifier)
    closed: list[bool] = []
    window.closing.connect(lambda: closed.append(True))
    window.close()
    window.close()
    assert closed == [True]


def test_the_rail_has_room_for_its_words(window: MainWindow) -> None:
    window.grab()
    for button in window.rail.findChildren(QWidget):
        if hasattr(button, "text") and button.text():
            assert button.fontMetrics().horizontalAdvance(button.text()) <= button.width() - 4
            assert window.rect().contains(button.mapTo(window, QPoint(0, 0)))
