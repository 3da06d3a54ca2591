"""Actions on an image shown anywhere: copy, save, drag, show in the file manager."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PySide6.QtCore import QMimeData, QPoint, QSize, Qt, QUrl
from PySide6.QtGui import QColorSpace, QDesktopServices, QDrag, QGuiApplication, QImage, QMouseEvent, QPixmap
from PySide6.QtWidgets import QApplication, QFileDialog, QWidget

from diffstudio import paths
from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.studio.gallery.gallery import IMAGE_NOT_SAVED
from diffstudio.ui.widgets.dialogs import confirm

_FILTERS = {".png": "PNG (*.png)", ".jpg": "JPEG (*.jpg)", ".webp": "WebP (*.webp)"}


def mime_data(image: QImage, path: Path | None) -> QMimeData:
    """Pixels for image editors, and the file (with its settings) for programs that accept files."""
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
    """Finds out whether a press of the left mouse button becomes a click or a drag."""

    def __init__(self) -> None:
        self._at: QPoint | None = None

    def begin(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self._at = event.position().toPoint()

    def becomes_drag(self, event: QMouseEvent) -> bool:
        """True once, for the move that starts the drag."""
        if self._at is None or not event.buttons() & Qt.MouseButton.LeftButton:
            return False
        if (event.position().toPoint() - self._at).manhattanLength() < QApplication.startDragDistance():
            return False
        self._at = None
        return True

    def end(self) -> bool:
        """End the press; True when it was a click."""
        was, self._at = self._at is not None, None
        return was


def drag(source: QWidget, image: QImage, path: Path | None) -> None:
    """Drag an image: its file, or its pixels when it is in none; returns when it is dropped or cancelled."""
    drag = QDrag(source)
    drag.setMimeData(mime_data(image if path is None else QImage(), path))
    small = QPixmap.fromImage(
        image.scaled(QSize(96, 96), Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)
    )
    drag.setPixmap(small)
    drag.setHotSpot(QPoint(small.width() // 2, small.height() // 2))
    drag.exec(Qt.DropAction.CopyAction)


def save_as(
    parent: QWidget,
    image: QImage,
    path: Path | None,
    name: str,
    failed: Callable[[DiffstudioError], None],
    saved: Callable[[Path], object] = lambda target: None,
) -> QFileDialog:
    """Ask for a file name, proposing `name`, and save there: a copy of the file if any, which keeps its settings."""

    def save(target: Path) -> None:
        try:
            write(image, path, target)
        except DiffstudioError as error:
            failed(error)
        else:
            saved(target)

    return ask_where_to_save(parent, name, save)


def ask_where_to_save(parent: QWidget, name: str, save: Callable[[Path], object]) -> QFileDialog:
    """Open the save dialog for a copy of an image; its own file type comes first."""
    path = Path(name)
    own = {".jpeg": ".jpg"}.get(path.suffix.lower(), path.suffix.lower())
    kinds = sorted(_FILTERS, key=lambda ending: ending != own)
    dialog = QFileDialog(parent, "Save a copy")
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setNameFilters([_FILTERS[ending] for ending in kinds])
    dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)  # Qt's own question takes a name for HTML
    dialog.setDefaultSuffix(kinds[0].removeprefix("."))
    dialog.selectFile(str(Path.home() / path))

    def filter_selected(chosen: str) -> None:
        ending = next(ending for ending, text in _FILTERS.items() if text == chosen)
        dialog.setDefaultSuffix(ending.removeprefix("."))
        dialog.selectFile(path.stem + ending)

    dialog.filterSelected.connect(filter_selected)

    dialog.fileSelected.connect(lambda name: save_or_ask(dialog.parentWidget(), Path(name), save))
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()
    return dialog


def save_or_ask(parent: QWidget | None, target: Path, save: Callable[[Path], object]) -> None:
    """Save to `target`; ask first if it exists, because Qt's own question would render a name as HTML."""
    if target.exists():
        where = f"It is already in {target.parent}."
        confirm(parent, "Replace", f"Replace {target.name}?", where, partial(save, target))
    else:
        save(target)


def write(image: QImage, path: Path | None, target: Path) -> None:
    """Save a copy of `path` with its settings, or `image` when it is in no file yet; atomic.

    ImageProblem if it cannot be read or the suffix is not that of an image format, StorageProblem if it cannot be
    written.
    """
    from diffstudio.studio.metadata import metadata

    if path is not None:
        metadata.save_copy(path, target)
        return
    with tempfile.TemporaryDirectory(prefix="diffstudio-") as folder:
        whole = Path(folder) / "image.png"
        image = QImage(image)  # what is shown stays as it is
        image.setColorSpace(QColorSpace(QColorSpace.NamedColorSpace.SRgb))  # the file then declares it
        if not image.save(str(whole)):
            raise StorageProblem(IMAGE_NOT_SAVED, "the disk for temporary files is full", "Free some space")
        metadata.save_copy(whole, target)


def not_shown(path: Path) -> str:
    """The message when `show_in_folder` or `open_folder` failed."""
    return f"No file manager could be opened. The path is {paths.short(path)}."


def show_in_folder(path: Path) -> bool:
    """Show a file in the file manager, selected where the system supports it; False without a file manager."""
    if sys.platform == "win32":
        subprocess.Popen(["explorer", "/select,", str(path)])
        return True
    if sys.platform == "darwin":
        subprocess.Popen(["open", "-R", str(path)])
        return True
    return open_folder(path.parent)


def open_folder(folder: Path) -> bool:
    """Open a folder in the file manager; False without a file manager, or if the folder cannot be created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
