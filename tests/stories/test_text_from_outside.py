"""Prompts, names and messages come from outside: wherever they are shown, they are text and never HTML.

Qt takes a label, a tooltip or a message box whose first line contains a tag for HTML, and opens the files it names.
"""

from __future__ import annotations

import ast
import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from PySide6 import QtGui
from PySide6.QtCore import QEvent, QPoint, QSize, Qt
from PySide6.QtGui import QAction, QHelpEvent, QImage, QTextDocument
from PySide6.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QComboBox,
    QDialog,
    QLabel,
    QMessageBox,
    QPlainTextEdit,
    QTextEdit,
    QToolTip,
    QWidget,
)
from pytestqt.qtbot import QtBot

import diffstudio.ui
from diffstudio.errors import ImageProblem
from diffstudio.models.detection.types import Layout, Role
from diffstudio.studio.events import Failed, JobId, Started
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.metadata.metadata import ImageSettings
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest
from diffstudio.studio.runs.runs import Runs
from diffstudio.training.run.events import RunFailed, RunSamples, RunStarted
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.gallery.room import GalleryRoom
from diffstudio.ui.generate.image_settings_dialog import ImageSettingsDialog
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.generate.upscale_dialog import UpscaleDialog
from diffstudio.ui.models.room import ModelsRoom
from diffstudio.ui.models.weight_tool_dialogs import ConvertDialog, FuseLoraDialog, MergeDialog
from diffstudio.ui.train.room import TrainRoom
from diffstudio.ui.widgets.banner import Banner
from diffstudio.ui.widgets.dialogs import choose_action, confirm, message_box
from diffstudio.ui.widgets.helpers import ElidedLabel, label, plain_button_text, plain_tooltip, set_tooltip
from diffstudio.ui.widgets.menus import build_menu
from tests.ui.desktop_helpers import quick_recipe
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed", "home")

OPENED = "opened.png"  # in the current folder
HOSTILE = f"<img src={OPENED}> & <b>x<b>"  # a file's name may be this
LINES = f'<img src="{OPENED}">\n<b>x</b>\n<i>  two'


# What the source may not do


HELPERS = {"widgets/helpers.py", "widgets/dialogs.py"}
_GUESSING = {  # classes and functions that take some texts for HTML, and what only these helpers call of them
    "QLabel", "QToolTip", "QErrorMessage", "QProgressDialog", "QInputDialog", "QStaticText", "QTextDocument",
    "QTextBrowser", "QTextEdit", "QWhatsThis", "QMessageBox",
}  # fmt: skip
_METHODS = {
    "setToolTip", "setWhatsThis", "setStatusTip", "setHtml", "insertHtml", "appendHtml", "setMarkdown",
    "setInformativeText", "setDetailedText", "showText",
}  # fmt: skip
_STATIC = {"warning", "question", "information", "critical", "about"}  # of QMessageBox


def _faults(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in _GUESSING:
                yield f"{node.lineno}: {function.id}()"
            if isinstance(function, ast.Attribute):
                owner = function.value.id if isinstance(function.value, ast.Name) else ""
                if function.attr in _METHODS or (owner == "QMessageBox" and function.attr in _STATIC):
                    yield f"{node.lineno}: {function.attr}()"
                text = ast.unparse(node)
                if function.attr == "setItemData" and "ToolTipRole" in text and "plain_tooltip(" not in text:
                    yield f"{node.lineno}: a tooltip of an item"
        elif isinstance(node, ast.match_case) and "ToolTipRole" in ast.unparse(node.pattern):
            returned = node.body[-1]
            if not (isinstance(returned, ast.Return) and ast.unparse(returned).startswith("return plain_tooltip(")):
                yield f"{node.pattern.lineno}: a tooltip of an item"
        elif isinstance(node, ast.ClassDef) and {"QLabel", "QMessageBox"} & {ast.unparse(base) for base in node.bases}:
            if "setTextFormat(Qt.TextFormat.PlainText)" not in ast.unparse(node):
                yield f"{node.lineno}: {node.name} guesses its format"
        elif isinstance(node, ast.Attribute) and node.attr in ("RichText", "AutoText", "MarkdownText"):
            yield f"{node.lineno}: {node.attr}"


def test_every_text_goes_through_the_helpers() -> None:
    folder = Path(diffstudio.ui.__file__).parent
    sources = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}
    assert set(sources) > HELPERS and len(sources) > 80
    assert not [
        f"{name}:{fault}" for name, text in sources.items() if name not in HELPERS for fault in _faults(ast.parse(text))
    ]


@pytest.mark.parametrize(
    "source",
    [
        "QLabel(name)",
        "button.setToolTip(name)",
        "QToolTip.showText(at, name)",
        "QMessageBox.warning(self, 'title', name)",
        "combo.setItemData(0, name, Qt.ItemDataRole.ToolTipRole)",
        "match role:\n    case Qt.ItemDataRole.ToolTipRole:\n        return name",
        "class Title(QLabel):\n    pass",
        "box.setTextFormat(Qt.TextFormat.RichText)",
    ],
)
def test_a_text_that_qt_would_guess_about_is_found_in_the_source(source: str) -> None:
    assert list(_faults(ast.parse(source)))


# The helpers


@pytest.mark.parametrize(
    "text", [HOSTILE, LINES, "&lt;b&gt; is kept", "a < b > c", "<!doctype x", "1 < 2", "plain\n <b>"]
)
def test_a_tooltip_shows_the_characters_it_was_given(text: str) -> None:
    assert shown(plain_tooltip(text)) == text


def test_a_tooltip_without_markup_stays_as_it_is() -> None:
    assert plain_tooltip("Steps: 20 & more\n<b>below") == "Steps: 20 & more\n<b>below"


# Everything that the window shows


def shown(tip: str) -> str:
    """The characters that Qt shows of a tooltip or of a label that may guess."""
    if not QtGui.Qt.mightBeRichText(tip):
        return tip
    document = QTextDocument()
    document.setHtml(tip)
    return document.toPlainText()


class Walk:
    """Goes over the labels, tooltips, actions, items and boxes in a widget; notes what is not shown as it is."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.seen = 0  # texts that contain markup

    def over(self, place: QWidget) -> None:
        for widget in (place, *place.findChildren(QWidget)):
            self._tooltip(widget.toolTip(), widget)
            assert not widget.whatsThis() and not widget.statusTip()
            if isinstance(widget, QLabel):
                self._label(widget)
            if isinstance(widget, QTextEdit):
                self._plain(widget.document().toPlainText())
            model = widget.model() if isinstance(widget, QAbstractItemView | QComboBox) else None
            for row in range(model.rowCount() if model is not None else 0):
                assert model is not None
                index = model.index(row, 0)
                self._plain(str(index.data(Qt.ItemDataRole.DisplayRole) or ""))
                self._tooltip(str(index.data(Qt.ItemDataRole.ToolTipRole) or ""), widget)
        for action in place.findChildren(QAction):
            self._tooltip(action.toolTip(), action)

    def _label(self, widget: QLabel) -> None:
        self._plain(widget.text())
        guessed = widget.textFormat() == Qt.TextFormat.AutoText and QtGui.Qt.mightBeRichText(widget.text())
        if guessed or widget.textFormat() in (Qt.TextFormat.RichText, Qt.TextFormat.MarkdownText):
            self.wrong.append(f"label {widget.text()!r}")

    def _plain(self, text: str) -> None:
        self.seen += "<" in text

    def _tooltip(self, tip: str, of: object) -> None:
        self._plain(tip)
        if QtGui.Qt.mightBeRichText(tip) and plain_tooltip(shown(tip)) != tip:
            self.wrong.append(f"tooltip {tip!r} of {of}")


@pytest.fixture
def opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Counts how often the image that the hostile names refer to is opened; 0 where the system cannot count."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save(OPENED)
    if sys.platform != "linux":
        yield lambda: 0
        return
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    assert handle >= 0 and libc.inotify_add_watch(handle, OPENED.encode(), 0x20) >= 0  # IN_OPEN

    def count() -> int:
        try:
            return len(os.read(handle, 65536)) // 16
        except BlockingIOError:
            return 0

    yield count
    os.close(handle)


@pytest.mark.skipif(sys.platform != "linux", reason="counts opens with inotify")
def test_qt_opens_the_image_in_a_text_that_it_takes_for_html(opens: Callable[[], int]) -> None:
    document = QTextDocument()
    document.setHtml(HOSTILE)
    document.size()
    assert opens() > 0, "else the walk below proves nothing"


TAGS = {"ss_tag_frequency": json.dumps({"a": {HOSTILE: 9, "cat": 2}}), "modelspec.trigger_phrase": HOSTILE}
MODELS = [
    checkpoint(HOSTILE, title=HOSTILE, family="sd1", layout=Layout.ORIGINAL, metadata={}),
    checkpoint(f"{HOSTILE} 2", title=HOSTILE, family="sd1", metadata={"modelspec.description": LINES}),
    checkpoint(f"{HOSTILE} lora", title=HOSTILE, family="sd1", role=Role.LORA, metadata=TAGS),
    checkpoint(f"{HOSTILE} net", family="sd1", role=Role.CONTROLNET, metadata={}),
    checkpoint(f"{HOSTILE} vae", family="sd1", role=Role.VAE, metadata={}),
    checkpoint(f"{HOSTILE} up", family="unknown", role=Role.UPSCALER, metadata={}),
    checkpoint(f"{HOSTILE} ti", family="sd1", role=Role.EMBEDDING, metadata={}),
]


@pytest.fixture
def show(qtbot: QtBot) -> Callable[[QWidget], QWidget]:
    def show_it(widget: QWidget) -> QWidget:
        widget.resize(1280, 800)
        widget.show()
        qtbot.waitExposed(widget)
        widget.grab()
        return widget

    return show_it


def walk_and_count(walk: Walk, opens: Callable[[], int], *widgets: QWidget) -> None:
    before = walk.seen
    for widget in widgets:
        walk.over(widget)
    assert walk.seen > before, "nothing of it contains a text from outside"
    assert not walk.wrong
    assert opens() == 0


def test_the_generate_room(
    qtbot: QtBot, show: Callable[[QWidget], QWidget], opens: Callable[[], int], tmp_path: Path
) -> None:
    room = GenerateRoom()
    qtbot.addWidget(room)
    panel = room.panel
    Image.new("RGB", (64, 48), "red").save(tmp_path / f"{HOSTILE}.png")
    opens()
    room.set_checkpoints(MODELS)
    panel.choose(MODELS[0])
    panel.prompt.set_history([LINES, HOSTILE])
    panel.prompt.set_text(f"{HOSTILE} <lora:{MODELS[2].name}:1> <lora:missing <b>x:1>")
    assert panel.init_image.set_image(tmp_path / f"{HOSTILE}.png")
    assert panel.controlnets.add_image(tmp_path / f"{HOSTILE}.png")
    show(room)
    job = JobId(1)
    room.handle_event(Started(job, GenerateRequest(HOSTILE, negative=LINES)))
    room.handle_event(Failed(job, ImageProblem(HOSTILE, LINES, HOSTILE)))
    room.set_device_status(HOSTILE)
    room.set_training(HOSTILE, LINES, 0.5)
    room.grab()
    picker, menu, history = panel.loras.open_picker(), panel.checkpoint.menu(), panel.prompt.history_menu(panel)
    walk_and_count(Walk(), opens, room, picker, menu, history)
    tips = [action.toolTip() for action in menu.actions() if HOSTILE in shown(action.toolTip())]
    assert tips and menu.actions()[0].text().startswith(plain_button_text(HOSTILE)[:20])
    QApplication.sendEvent(
        panel.checkpoint, QHelpEvent(QEvent.Type.ToolTip, QPoint(3, 3), panel.checkpoint.mapToGlobal(QPoint(3, 3)))
    )
    tip_label = next(widget for widget in QApplication.topLevelWidgets() if widget.inherits("QTipLabel"))
    assert isinstance(tip_label, QLabel) and HOSTILE in shown(tip_label.text())
    tip_label.grab()
    assert opens() == 0
    QToolTip.hideText()
    picker.close()


def test_the_gallery(
    qtbot: QtBot, show: Callable[[QWidget], QWidget], opens: Callable[[], int], tmp_path: Path
) -> None:
    gallery = Gallery(tmp_path / "images", tmp_path / "gallery.sqlite")
    request = GenerateRequest(HOSTILE, negative=LINES, checkpoint=HOSTILE)
    added = gallery.add(Image.new("RGB", (32, 32)), request, extra={"model": HOSTILE})
    gallery.set_note(added.id, LINES)
    room = GalleryRoom(gallery)
    qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
    show(room)
    room.open_image(added.path)
    texts = [*room.details.findChildren(QTextEdit), *room.details.findChildren(QPlainTextEdit)]
    qtbot.waitUntil(lambda: any(HOSTILE in one.toPlainText() for one in texts))
    room._show_error(ImageProblem(HOSTILE, LINES))
    room.grab()
    box = room._trash.ask_to_purge([added])
    walk_and_count(Walk(), opens, room, box)
    box.close()
    gallery.close()


def test_the_models_room(qtbot: QtBot, show: Callable[[QWidget], QWidget], opens: Callable[[], int]) -> None:
    room = ModelsRoom()
    qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
    room.set_checkpoints(MODELS, [(Path(f"/models/{HOSTILE}.ckpt"), ImageProblem(HOSTILE, LINES))])
    show(room)
    room.show_import_progress(HOSTILE, 0.5)
    room.message.show_message("bad", LINES)
    walk = Walk()
    for model in MODELS:
        assert room.choose(model.path)
        room.grab()
        walk_and_count(walk, opens, room)


def test_the_train_room(
    qtbot: QtBot, show: Callable[[QWidget], QWidget], opens: Callable[[], int], tmp_path: Path
) -> None:
    runs = Runs(tmp_path / "runs")
    images = tmp_path / HOSTILE
    images.mkdir()
    run = RunFolder.create(runs.folder / HOSTILE, quick_recipe(), images)
    Image.new("RGB", (32, 16)).save(run.path / "samples" / "1.png")
    run.append(RunStarted(0, 10, 1, 1000, 8, 1, "cpu", "float32", 1, LINES))
    run.append(RunSamples(1, "samples/1.png", "samples/1.png", 2, 1, 16, (HOSTILE, LINES)))
    run.append(RunFailed(1, LINES))
    room = TrainRoom(runs)
    qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
    show(room)
    qtbot.waitUntil(lambda: any(HOSTILE in one.text() for one in room.findChildren(QLabel)))
    room._show_message("bad", LINES)
    room.run_actions.confirm_removal(runs.list()[0])
    room.grab()
    walk_and_count(Walk(), opens, room)


def test_the_dialogs(
    qtbot: QtBot, show: Callable[[QWidget], QWidget], opens: Callable[[], int], tmp_path: Path
) -> None:
    image = QImage(64, 48, QImage.Format.Format_RGB32)
    image.fill(0)
    request = UpscaleRequest(tmp_path / f"{HOSTILE}.png", prompt=LINES, checkpoint=HOSTILE)
    settings = ImageSettings(GenerateRequest(LINES, negative=HOSTILE, checkpoint=HOSTILE), HOSTILE, (HOSTILE, LINES))
    dialogs: list[QDialog] = [
        ConvertDialog(MODELS[0], tmp_path / HOSTILE),
        MergeDialog(MODELS[0], tmp_path / HOSTILE, MODELS),
        FuseLoraDialog(MODELS[0], tmp_path / HOSTILE, MODELS),
        UpscaleDialog(request, image, QSize(64, 48), MODELS, HOSTILE, sampled=True),
        ImageSettingsDialog(tmp_path / f"{HOSTILE}.png", image, settings),
    ]
    for dialog in dialogs:
        qtbot.addWidget(dialog)
        show(dialog)
        walk_and_count(Walk(), opens, dialog)


def test_message_boxes_and_menus(qtbot: QtBot, show: Callable[[QWidget], QWidget], opens: Callable[[], int]) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    boxes = [
        confirm(parent, HOSTILE, HOSTILE, LINES, lambda: None),
        choose_action(parent, HOSTILE, LINES, HOSTILE, {"a & b": lambda: None, HOSTILE: lambda: None}),
        message_box(QMessageBox.Icon.Critical, HOSTILE, LINES),
    ]
    for box in boxes:
        box.grab()
        walk_and_count(Walk(), opens, box)
        box.close()
    menu = build_menu(parent, [(HOSTILE, "copy", lambda: None)])
    assert menu.actions()[0].text() == HOSTILE.replace("&", "&&")


def test_labels_and_banners(qtbot: QtBot, show: Callable[[QWidget], QWidget], opens: Callable[[], int]) -> None:
    narrow, banner, button = ElidedLabel(HOSTILE * 9), Banner("bad", LINES, HOSTILE), label(HOSTILE)
    set_tooltip(button, HOSTILE)
    for widget in (narrow, banner, button):
        qtbot.addWidget(widget)
        show(widget)
        widget.resize(60, 60)
        widget.grab()
        walk_and_count(Walk(), opens, widget)
    assert shown(narrow.toolTip()) == HOSTILE * 9
