"""Saving a picture elsewhere: as it is, or as another kind of file, and never without the settings that made it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QMessageBox, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.errors import DiffstudioError, ImageProblem, StorageProblem
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.widgets.images import copy_and_drag
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage
from tests.ui.samples import picture


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A picture with its settings, as the gallery writes it."""
    path, image = tmp_path / "a.png", Image.fromarray(picture(9, 32))
    image.save(
        path, pnginfo=metadata.write(image, GenerateRequest("red apple", seed=5, steps=9), {"checkpoint": "tiny"})
    )
    return path


def test_a_copy_of_the_same_kind_is_the_same_file(file: Path, tmp_path: Path) -> None:
    copy_and_drag.write(QImage(), file, tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes() == file.read_bytes()
    before = file.read_bytes()
    copy_and_drag.write(QImage(), file, file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(("ending", "kind"), [(".jpg", "JPEG"), (".webp", "WEBP")])
def test_another_kind_of_file_keeps_the_settings(file: Path, tmp_path: Path, ending: str, kind: str) -> None:
    copy_and_drag.write(QImage(), file, tmp_path / f"b{ending}")
    with Image.open(tmp_path / f"b{ending}") as image:
        assert image.format == kind and image.size == (32, 32)
    request = metadata.read(tmp_path / f"b{ending}").request
    assert (request.prompt, request.seed, request.steps) == ("red apple", 5, 9)


def test_an_estimate_that_is_in_no_file_is_written(tmp_path: Path, qapp: QApplication) -> None:
    for ending in ("png", "jpg", "webp"):
        copy_and_drag.write(numpy_to_qimage(picture(9)), None, tmp_path / f"d.{ending}")
        with Image.open(tmp_path / f"d.{ending}") as image:
            assert image.size == (16, 16)


def test_what_cannot_be_written_says_why_and_leaves_nothing(file: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageProblem):
        copy_and_drag.write(QImage(), file, tmp_path / "nowhere" / "e.png")
    with pytest.raises(ImageProblem, match="not a supported image format"):
        copy_and_drag.write(QImage(), file, tmp_path / "e.txt")
    file.rename(tmp_path / "moved.png")
    with pytest.raises(ImageProblem, match="moved or deleted"):
        copy_and_drag.write(QImage(), file, tmp_path / "e.png")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["moved.png"]


def test_the_dialog_saves_where_it_is_told_and_hands_on_what_went_wrong(
    qtbot: QtBot, file: Path, tmp_path: Path
) -> None:
    parent, failures = QWidget(), list[DiffstudioError]()
    qtbot.addWidget(parent)
    dialog = copy_and_drag.save_as(parent, QImage(), file, file.name, failures.append)
    dialog.fileSelected.emit(str(tmp_path / "b.webp"))
    assert (tmp_path / "b.webp").is_file() and not failures
    dialog.fileSelected.emit(str(tmp_path / "nowhere" / "b.webp"))
    assert isinstance(failures[0], StorageProblem)
    dialog.close()


def test_the_dialog_offers_the_pictures_own_kind_first(qtbot: QtBot, tmp_path: Path) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    chosen: list[Path] = []
    dialog = copy_and_drag.ask_where_to_save(parent, "a.jpeg", chosen.append)
    assert dialog.nameFilters()[0] == "JPEG (*.jpg)" and dialog.defaultSuffix() == "jpg"
    dialog.filterSelected.emit("WebP (*.webp)")
    assert dialog.defaultSuffix() == "webp"
    dialog.close()


def test_a_file_that_exists_is_replaced_after_a_question(qtbot: QtBot, tmp_path: Path) -> None:
    parent, chosen = QWidget(), list[Path]()
    qtbot.addWidget(parent)
    target = tmp_path / "<b>a.png"
    target.write_bytes(b"before")
    dialog = copy_and_drag.ask_where_to_save(parent, target.name, chosen.append)
    dialog.fileSelected.emit(str(target))
    box = parent.findChild(QMessageBox)
    assert box is not None and not chosen and "<b>a.png" in box.text()
    assert box.textFormat() is Qt.TextFormat.PlainText
    next(button for button in box.buttons() if button.text() == "Replace").click()
    assert chosen == [target]
    dialog.close()


def test_an_image_that_is_in_no_file_yet_is_saved_as_srgb(tmp_path: Path) -> None:
    shown = numpy_to_qimage(picture(9, 32))
    copy_and_drag.write(shown, None, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert "srgb" in image.info or "icc_profile" in image.info
    assert not shown.colorSpace().isValid()


def test_a_folder_that_cannot_be_made_is_not_opened(tmp_path: Path, qapp: QApplication) -> None:
    (tmp_path / "file").write_text("")
    assert not copy_and_drag.open_folder(tmp_path / "file" / "images")
