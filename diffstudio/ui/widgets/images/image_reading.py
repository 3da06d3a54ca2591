"""Images read for the screen, and converted to Qt's."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PySide6.QtCore import QSize
from PySide6.QtGui import QImage

from diffstudio.errors import ImageProblem
from diffstudio.imaging.limits import NOT_AN_IMAGE
from diffstudio.imaging.reader import read_image as read_any_image
from diffstudio.imaging.reader import read_image_bytes, read_size
from diffstudio.imaging.thumbnail import read_thumbnail
from diffstudio.models.checkpoint import Checkpoint

_LONGEST_HEADER_THUMBNAIL = 1 << 20  # characters of base64
_HEADER_THUMBNAIL_SIDE = 1024  # px; a larger one is reduced


def numpy_to_qimage(pixels: NDArray[np.uint8]) -> QImage:
    """[H,W,3] RGB, [H,W,4] RGBA or [H,W] grey, uint8 -> an image that owns its pixels (Qt only borrows a buffer)."""
    pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    formats = {1: QImage.Format.Format_Grayscale8, 3: QImage.Format.Format_RGB888, 4: QImage.Format.Format_RGBA8888}
    return QImage(pixels.data, width, height, width * channels, formats[channels]).copy()


def read_image(path: Path, largest: int | None = None) -> QImage:
    """Read an image file, scaled down so that no side is over `largest` px; a null image if it cannot be read.

    It is read as for generating and training, so that the same files open, with the same colours.
    """
    try:
        return as_qimage(read_thumbnail(path, largest) if largest else read_any_image(path)[0])
    except ImageProblem:
        return QImage()


def as_qimage(image: Image.Image) -> QImage:
    """An RGB or RGBA image in the format that Qt paints fastest."""
    channels = len(image.mode)
    stored, painted = {
        3: (QImage.Format.Format_RGB888, QImage.Format.Format_RGB32),
        4: (QImage.Format.Format_RGBA8888, QImage.Format.Format_ARGB32_Premultiplied),
    }[channels]
    pixels = image.tobytes()  # borrowed until the conversion has made a copy
    return QImage(pixels, image.width, image.height, channels * image.width, stored).convertToFormat(painted)


def header_thumbnail(checkpoint: Checkpoint) -> QImage:
    """The thumbnail in a checkpoint's header; a null image if it is missing or cannot be read."""
    text = checkpoint.metadata.get("diffstudio.thumbnail") or checkpoint.metadata.get("modelspec.thumbnail", "")
    if not text or len(text) > _LONGEST_HEADER_THUMBNAIL:
        return QImage()
    try:
        data = base64.b64decode(text.strip('"').rpartition(",")[2], validate=False)  # or a data URL
        return as_qimage(read_image_bytes(data, checkpoint.name, at_least=_HEADER_THUMBNAIL_SIDE))
    except (binascii.Error, ValueError, ImageProblem):
        return QImage()


def image_size(path: Path) -> QSize:
    """Width and height in px of an image file after EXIF rotation, from its header; 1 × 1 if it cannot be read."""
    try:
        return QSize(*read_size(path))
    except ImageProblem:
        return QSize(1, 1)


def unreadable_reason(path: Path) -> str:
    """Why `read_image` failed, as a clause; empty when the file is not an image."""
    try:
        read_any_image(path)
    except ImageProblem as problem:
        return "" if problem.why == NOT_AN_IMAGE else problem.why
    return ""


def unreadable(path: Path) -> str:
    """The sentence for an image that `read_image` could not read, with the reason."""
    return f"{path.name} cannot be read: {unreadable_reason(path) or NOT_AN_IMAGE}."


def read_or_reason(path: Path, largest: int) -> tuple[QImage, str]:
    """As `read_image`, with the sentence of `unreadable` beside a null image. Slow: not for the window's thread."""
    image = read_image(path, largest)
    return image, unreadable(path) if image.isNull() else ""
