"""Keep images that are in no file of their own, so that a request can name them: pasted, dropped or cut out."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QBuffer, QIODevice
from PySide6.QtGui import QColorSpace, QImage

from diffstudio.studio.generation.masks import is_pasted, keep_pasted


def name_of(path: Path) -> str:
    """The name of an image as people know it: the files of pasted images are named after their contents."""
    return "Pasted image" if is_pasted(path) else path.name


def keep_image(image: QImage) -> Path:
    """The file of an image, in sRGB; the same image is stored once. StorageProblem when it cannot be written."""
    image = QImage(image)  # what is shown stays as it is
    image.setColorSpace(QColorSpace(QColorSpace.NamedColorSpace.SRgb))  # the file then declares it
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")  # type: ignore[call-overload]
    return keep_pasted(bytes(buffer.data().data()))
