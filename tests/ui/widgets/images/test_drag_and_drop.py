"""One parser for everything that is dropped: every kind of item, in order, and why the others cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QImage
from PySide6.QtWidgets import QApplication, QLineEdit, QPlainTextEdit
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.imaging.formats import IMAGE_SUFFIXES
from diffstudio.models.files.formats import OTHER_SUFFIXES, SUFFIXES
from diffstudio.ui.widgets.helpers import takes_text_only
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DroppedKind, parse_drop, with_files
from diffstudio.ui.widgets.images.image_reading import read_image
from diffstudio.ui.widgets.images.pasted_images import name_of

pytestmark = pytest.mark.usefixtures("qapp")


def urls(*items: Path | str) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(item)) if isinstance(item, Path) else QUrl(item) for item in items])
    return data


def test_every_kind_of_item_in_the_order_of_the_drag(tmp_path: Path) -> None:
    folder = tmp_path / "photos.png"  # a folder, whatever its name
    folder.mkdir()
    image, model, text = tmp_path / "A.PNG", tmp_path / "m.SafeTensors", tmp_path / "notes.txt"
    data = urls(text, model, folder, image, "https://example.org/cat.png")
    assert parse_drop(data) == [
        DroppedItem(DroppedKind.UNUSABLE, text, "notes.txt is neither an image nor a model file"),
        DroppedItem(DroppedKind.MODEL, model),
        DroppedItem(DroppedKind.FOLDER, folder),
        DroppedItem(DroppedKind.IMAGE, image),
        DroppedItem(DroppedKind.UNUSABLE, None, "https://example.org/cat.png is not on this computer"),
    ]


@pytest.mark.parametrize("suffix", sorted({*IMAGE_SUFFIXES, *SUFFIXES, *OTHER_SUFFIXES}))
def test_every_suffix_is_known(tmp_path: Path, suffix: str) -> None:
    kind = DroppedKind.IMAGE if suffix in IMAGE_SUFFIXES else DroppedKind.MODEL
    assert [item.kind for item in parse_drop(urls(tmp_path / f"a{suffix}"))] == [kind]


def test_pixels_are_an_image_that_is_kept_in_a_file_once(qapp: QApplication) -> None:
    data = QMimeData()
    image = QImage(3, 2, QImage.Format.Format_RGB32)
    image.fill(0xFF102030)
    data.setImageData(image)
    items = parse_drop(data)
    assert items == [DroppedItem(DroppedKind.IMAGE)] and parse_drop(QMimeData()) == []
    (kept,) = with_files(items, data)
    (again,) = with_files(items, data)
    assert kept.path is not None and kept.path == again.path and kept.path.parent == paths.data() / "pasted"
    assert read_image(kept.path).pixelColor(1, 1).getRgb() == (16, 32, 48, 255)
    assert name_of(kept.path) == "Pasted image", "its file is named after its contents"
    assert name_of(Path("/pictures/pasted/a.png")) == "a.png"


def test_an_image_dragged_out_of_a_browser_is_its_pixels_and_a_file_manager_means_the_file(
    qapp: QApplication, tmp_path: Path
) -> None:
    for address, expected in (
        ("https://example.org/cat.png", DroppedItem(DroppedKind.IMAGE)),
        (tmp_path / "a.png", DroppedItem(DroppedKind.IMAGE, tmp_path / "a.png")),
    ):
        data = urls(address)
        data.setImageData(QImage(2, 2, QImage.Format.Format_RGB32))
        assert parse_drop(data) == [expected]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("file:///tmp/a%20b.png", [Path("/tmp/a b.png")]),
        ("file:///tmp/a.png\nfile:///tmp/b.png\n", [Path("/tmp/a.png"), Path("/tmp/b.png")]),
        ("see file:///tmp/a.png", []),
        ("/tmp/a.png", []),
        ("a cat", []),
        ("", []),
    ],
)
def test_a_text_of_file_addresses_only_is_those_files(text: str, found: list[Path]) -> None:
    data = QMimeData()
    data.setText(text)
    assert [item.path for item in parse_drop(data) if item.kind is DroppedKind.IMAGE] == found


@pytest.mark.parametrize("make", [QLineEdit, QPlainTextEdit])
def test_a_text_field_takes_text_and_leaves_files_to_the_panel_around_it(
    make: type[QLineEdit | QPlainTextEdit], qtbot: QtBot, tmp_path: Path
) -> None:
    field = make()
    takes_text_only(field)
    qtbot.addWidget(field)
    field.show()
    widget = field.viewport() if isinstance(field, QPlainTextEdit) else field
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    word = QMimeData()
    word.setText("a word")
    for data, accepted in ((word, True), (urls(tmp_path / "a.png"), False)):
        enter = QDragEnterEvent(QPoint(5, 5), copy, data, left, none)
        enter.ignore()
        QApplication.sendEvent(widget, enter)
        assert enter.isAccepted() is accepted
