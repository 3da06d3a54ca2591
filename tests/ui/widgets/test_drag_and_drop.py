"""One parser for everything that is dropped: every kind of item, in order, and why the others cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QUrl
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication

from diffstudio.imaging.formats import IMAGE_SUFFIXES
from diffstudio.models.files.formats import OTHER_SUFFIXES, SUFFIXES
from diffstudio.ui.widgets.drag_and_drop import DroppedItem, DroppedKind, dropped_paths, parse_drop

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
    assert dropped_paths(data) == [text, model, folder, image]
    assert dropped_paths(data, DroppedKind.IMAGE, DroppedKind.MODEL) == [model, image]


@pytest.mark.parametrize("suffix", sorted({*IMAGE_SUFFIXES, *SUFFIXES, *OTHER_SUFFIXES}))
def test_every_suffix_is_known(tmp_path: Path, suffix: str) -> None:
    kind = DroppedKind.IMAGE if suffix in IMAGE_SUFFIXES else DroppedKind.MODEL
    assert [item.kind for item in parse_drop(urls(tmp_path / f"a{suffix}"))] == [kind]


def test_pixels_without_a_file_say_what_to_do(qapp: QApplication) -> None:
    data = QMimeData()
    data.setImageData(QImage(2, 2, QImage.Format.Format_RGB32))
    assert parse_drop(data) == [DroppedItem(DroppedKind.UNUSABLE, reason="the image is in no file; save it first")]
    assert dropped_paths(data) == [] and parse_drop(QMimeData()) == []
