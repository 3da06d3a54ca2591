"""What can be done with a picture on the screen, wherever it is shown: copy, save, drag, find."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QMimeData, QPoint, QSize, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QDrag, QGuiApplication, QImage, QImageWriter, QPixmap
from PySide6.QtWidgets import QFileDialog, QWidget

from diffstudio.errors import StorageProblem


def mime_of(image: QImage, path: Path | None) -> QMimeData:
    """The pixels for programs that paint, the file (with its settings) for those that take files."""
    data = QMimeData()
    if not image.isNull():
        data.setImageData(image)
    if path is not None:
        data.setUrls([QUrl.fromLocalFile(str(path))])
    return data


def copy(image: QImage, path: Path | None = None) -> None:
    QGuiApplication.clipboard().setMimeData(mime_of(image, path))


def copy_text(text: str) -> None:
    QGuiApplication.clipboard().setText(text)


def drag(source: QWidget, image: QImage, path: Path | None) -> None:
    """Start dragging; returns when it is dropped somewhere or given up."""
    drag = QDrag(source)
    drag.setMimeData(mime_of(image, path))
    small = QPixmap.fromImage(image.scaled(QSize(96, 96), Qt.AspectRatioMode.KeepAspectRatio,
                                           Qt.TransformationMode.SmoothTransformation))
    drag.setPixmap(small)
    drag.setHotSpot(QPoint(small.width() // 2, small.height() // 2))
    drag.exec(Qt.DropAction.CopyAction)


def save_as(parent: QWidget, image: QImage, path: Path | None, failed: Callable[[StorageProblem], None],
            suggestion: str = "picture.png") -> QFileDialog:
    """Ask where to, and write there: the file itself where there is one, so that its settings travel along."""
    kinds = "PNG (*.png);;JPEG (*.jpg);;WebP (*.webp)"
    dialog = QFileDialog(parent, "Save the picture", path.name if path else suggestion, kinds)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix("png")
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

    def chosen(target: str) -> None:
        try:
            write(image, path, Path(target))
        except StorageProblem as error:
            failed(error)

    dialog.fileSelected.connect(chosen)
    dialog.open()
    return dialog


def write(image: QImage, path: Path | None, target: Path) -> None:
    """Beside the target and renamed. StorageProblem when the place cannot be written to."""
    beside = target.with_name(target.name + ".part")
    try:
        if path is not None and path.suffix.lower() == target.suffix.lower():
            if path.exists() and target.exists() and path.samefile(target):
                return
            shutil.copyfile(path, beside)
        else:
            whole = QImage(str(path)) if path is not None else image
            writer = QImageWriter(str(beside), {".jpg": b"jpeg", ".jpeg": b"jpeg", ".webp": b"webp"}.get(
                target.suffix.lower(), b"png"))
            writer.setQuality(95 if target.suffix.lower() != ".png" else -1)
            if not writer.write(whole):
                raise OSError(writer.errorString().lower() or "the place cannot be written to, or the disk is full")
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StorageProblem(f"The picture could not be saved as {target}", error.strerror or str(error),
                             "Choose another place or free some space") from error


def show_in_folder(path: Path) -> None:
    """Open the system's file manager there, with the file chosen where the system can."""
    if sys.platform == "win32":
        subprocess.Popen(["explorer", "/select,", str(path)])
    elif sys.platform == "darwin":
        subprocess.Popen(["open", "-R", str(path)])
    else:
        open_folder(path.parent)


def open_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
