"""Which channels of an array the canvas shows: its TIFF beside the PNG has all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtGui import QImage

from diffstudio.errors import ImageProblem
from diffstudio.imaging.exact_files import channels_beside, read_channel_beside
from diffstudio.ui.generate.canvas.canvas import Canvas
from diffstudio.ui.widgets.images.image_reading import as_qimage, read_image

Background = Callable[[Callable[[], Any], Callable[[Any], None]], None]  # work in a thread, what takes its result


class ChannelPicker:
    """Offers the channels of the image on the canvas, and shows the one that is chosen."""

    def __init__(self, canvas: Canvas, background: Background) -> None:
        self._canvas, self._background = canvas, background
        self._path: Path | None = None
        canvas.zoom_bar.channels.chosen.connect(self._show)

    def follow(self) -> None:
        """Offer the channels of the file that the canvas shows now."""
        path = self._canvas.file()
        if path == self._path:
            return
        self._path = path
        self._canvas.zoom_bar.offer_channels(0)
        if path is not None:
            self._background(partial(_count, path), partial(self._offer, path))

    def _offer(self, path: Path, count: int) -> None:
        if path == self._path and count:
            self._canvas.offer_channels(count)

    def _show(self, number: int) -> None:
        if (path := self._path) is not None:
            self._background(partial(_channel, path, number), partial(self._canvas.set_full_image, path))


def _count(path: Path) -> int:
    try:
        return channels_beside(path)
    except ImageProblem:
        return 0


def _channel(path: Path, number: int) -> QImage:
    try:
        return as_qimage(read_channel_beside(path, number)) if number else read_image(path)
    except ImageProblem:
        return QImage()
