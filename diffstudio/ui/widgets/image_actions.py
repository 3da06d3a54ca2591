"""What can be done with a picture on the screen, wherever it is shown: copy, save, drag, find."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QMimeData, QPoint, QSize, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QDrag, QGuiApplication, QImage, QMouseEvent, QPixmap
from PySide6.QtWidgets import QApplication, QFileDialog, QWidget

from diffstudio.errors import DiffstudioError, StorageProblem

_FILTERS = {".png": "PNG (*.png)", ".jpg": "JPEG (*.jpg)", ".webp": "WebP (*.webp)"}


def mime_data(image: QImage, path: Path | None) -> QMimeData:
    """The pixels for programs that paint, the file (with its settings) for those that take files."""
    data = QMimeData()
    if not image.isNull():
        data.setImageData(image)
    if path is not None:
        data.setUrls([QUrl.fromLocalFile(str(path))])
    return data


def copy(image: QImage, path: Path | None = None) -> None:
    QGuiApplication.clipboard().setMimeData(mime_data(image, path))


def copy_text(text: str) -> None:
    QGuiApplication.clipboard().setText(text)


class ClickOrDrag:
    """A press of the left button, which becomes a click or, moved far enough, a drag."""

    def __init__(self) -> None:
        self._at: QPoint | None = None

    def begin(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self._at = event.position().toPoint()

    def becomes_drag(self, event: QMouseEvent) -> bool:
        """True once, at the move that makes it one."""
        if self._at is None or not event.buttons() & Qt.MouseButton.LeftButton:
            return False
        if (event.position().toPoint() - self._at).manhattanLength() < QApplication.startDragDistance():
            return False
        self._at = None
        return True

    def end(self) -> bool:
        """Whether it was a click."""
        was, self._at = self._at is not None, None
        return was


def drag(source: QWidget, image: QImage, path: Path | None) -> None:
    """Start dragging; returns when it is dropped somewhere or given up."""
    drag = QDrag(source)
    drag.setMimeData(mime_data(image, path))
    small = QPixmap.fromImage(
        image.scaled(QSize(96, 96), Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)
    )
    drag.setPixmap(small)
    drag.setHotSpot(QPoint(small.width() // 2, small.height() // 2))
    drag.exec(Qt.DropAction.CopyAction)


def save_as(
    parent: QWidget, image: QImage, path: Path | None, failed: Callable[[DiffstudioError], None]
) -> QFileDialog:
    """Ask where to, and write there: a copy of the file where there is one, so that its settings travel along."""

    def save(target: Path) -> None:
        try:
            write(image, path, target)
        except DiffstudioError as error:
            failed(error)

    return ask_where_to_save(parent, path or Path("picture.png"), save)


def ask_where_to_save(parent: QWidget, path: Path, save: Callable[[Path], object]) -> QFileDialog:
    """Where a copy of the picture is to go, and as what kind of file: its own first."""
    own = {".jpeg": ".jpg"}.get(path.suffix.lower(), path.suffix.lower())
    kinds = sorted(_FILTERS, key=lambda ending: ending != own)
    dialog = QFileDialog(parent, "Save a copy")
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setNameFilters([_FILTERS[ending] for ending in kinds])
    dialog.setDefaultSuffix(kinds[0].removeprefix("."))
    dialog.selectFile(str(Path.home() / path.name))

    def follow(chosen: str) -> None:
        ending = next(ending for ending, text in _FILTERS.items() if text == chosen)
        dialog.setDefaultSuffix(ending.removeprefix("."))
        dialog.selectFile(path.stem + ending)

    dialog.filterSelected.connect(follow)
    dialog.fileSelected.connect(lambda name: save(Path(name)))
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()
    return dialog


def write(image: QImage, path: Path | None, target: Path) -> None:
    """The picture in `path` with its settings, or the image where it is in no file yet; whole or not at all.

    ImageProblem when it cannot be read or the ending names no kind of picture, StorageProblem when it cannot be written.
    """
    from diffstudio.studio.metadata import metadata

    if path is not None:
        metadata.save_copy(path, target)
        return
    with tempfile.TemporaryDirectory(prefix="diffstudio-") as folder:
        whole = Path(folder) / "picture.png"
        if not image.save(str(whole)):
            raise StorageProblem(
                "The picture could not be saved", "the disk for temporary files is full", "Free some space"
            )
        metadata.save_copy(whole, target)


def show_in_folder(path: Path) -> bool:
    """Open the system's file manager there, with the file chosen where the system can; False where there is none."""
    if sys.platform == "win32":
        subprocess.Popen(["explorer", "/select,", str(path)])
        return True
    if sys.platform == "darwin":
        subprocess.Popen(["open", "-R", str(path)])
        return True
    return open_folder(path.parent)


def open_folder(folder: Path) -> bool:
    """In the system's file manager; False where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    return QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
