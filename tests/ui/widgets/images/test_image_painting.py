"""Images painted with rounded corners."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QRect, QRectF, Qt
from PySide6.QtGui import QImage, QPainter
from PySide6.QtWidgets import QApplication

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.images.image_painting import rounded


@pytest.mark.parametrize("name", ["dark", "light"])
def test_nothing_is_drawn_outside_the_clip_of_the_painter(
    dressed: QApplication, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(theme, "name", lambda: name)
    image, canvas = QImage(8, 8, QImage.Format.Format_RGB32), QImage(40, 40, QImage.Format.Format_RGB32)
    image.fill(Qt.GlobalColor.red)
    canvas.fill(Qt.GlobalColor.black)
    painter = QPainter(canvas)
    painter.setClipRect(QRect(0, 20, 40, 20))
    rounded(painter, image, QRectF(4, 4, 32, 32), 6)
    painter.fillRect(QRect(0, 0, 40, 10), Qt.GlobalColor.green)  # the caller's next, under the same clip
    painter.end()
    above = {canvas.pixelColor(x, y).rgb() for x in range(40) for y in range(20)}
    assert above == {canvas.pixelColor(0, 0).rgb()} and canvas.pixelColor(0, 0) == Qt.GlobalColor.black
    assert canvas.pixelColor(20, 30) == Qt.GlobalColor.red and canvas.pixelColor(4, 35) != Qt.GlobalColor.red
