"""How the canvas draws: the places of a grid, resampled images, single pixels, and the note in the corner."""

from __future__ import annotations

import math

from PySide6.QtCore import QRect, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QImage, QPainter, QPainterPath

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.images.image_painting import outline_on_light

GAP = 8  # px between the images of a grid
MAX_SMOOTH_SCALE = 4  # by bicubic resampling; Qt scales further while painting


def grid(count: int, shape: QSize, room: QRectF) -> list[QRectF]:
    """The rectangles of `count` images of this shape, in rows, as large as fits; on whole pixels."""
    columns = max(range(1, count + 1), key=lambda columns: _cell_width(room, shape, count, columns))
    rows = math.ceil(count / columns)
    width = _cell_width(room, shape, count, columns)
    height = width * shape.height() / shape.width()
    left = room.x() + (room.width() - columns * width - (columns - 1) * GAP) / 2
    top = room.y() + (room.height() - rows * height - (rows - 1) * GAP) / 2
    lefts = [round(left + column * (width + GAP)) for column in range(columns)]
    tops = [round(top + row * (height + GAP)) for row in range(rows)]
    return [
        QRectF(lefts[index % columns], tops[index // columns], round(width), round(height)) for index in range(count)
    ]


def _cell_width(room: QRectF, shape: QSize, count: int, columns: int) -> float:
    rows = math.ceil(count / columns)
    across = (room.width() - (columns - 1) * GAP) / columns
    down = (room.height() - (rows - 1) * GAP) / rows
    return max(1.0, min(across, down * shape.width() / shape.height()))


def paint_pixels(painter: QPainter, image: QImage, cell: QRectF, room: QRectF, radius: float = 0.0) -> None:
    """Draw the part of an image at `cell` that is seen in `room`, each of its pixels a square of one colour."""
    painter.save()
    if radius:
        outline = QPainterPath()
        outline.addRoundedRect(cell, radius, radius)
        painter.setClipPath(outline)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
    target, source = _visible_part(cell, image.size(), room)
    painter.drawImage(target, image, source)
    painter.restore()
    if radius:
        outline_on_light(painter, cell, radius)


def _visible_part(cell: QRectF, size: QSize, room: QRectF) -> tuple[QRectF, QRectF]:
    """The part of an image drawn at `cell` that is seen in `room`: where it is drawn, and which of its pixels."""
    across, down = cell.width() / size.width(), cell.height() / size.height()
    seen = cell.intersected(room)
    left, top = math.floor((seen.left() - cell.left()) / across), math.floor((seen.top() - cell.top()) / down)
    right = min(size.width(), math.ceil((seen.right() - cell.left()) / across))
    bottom = min(size.height(), math.ceil((seen.bottom() - cell.top()) / down))
    target = QRectF(
        cell.left() + left * across, cell.top() + top * down, (right - left) * across, (bottom - top) * down
    )
    return target, QRectF(left, top, right - left, bottom - top)


def paint_note(painter: QPainter, note: str, room: QRectF) -> None:
    """Draw a short text in the lower left corner of `room`, in several lines where it is too long for one."""
    font = theme.font(theme.SMALL_PIXELS)
    metrics = QFontMetrics(font)
    flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
    text = metrics.boundingRect(QRect(0, 0, max(40, round(room.width()) - 48), 10_000), flags, note)
    width, height = text.width() + 20, max(26, text.height() + 10)
    pill = QRectF(room.left() + 12, room.bottom() - height - 12, width, height)
    ground = theme.colour("background")
    ground.setAlphaF(0.82)
    painter.setPen(theme.colour("line"))
    painter.setBrush(ground)
    painter.drawRoundedRect(pill, 13, 13)
    painter.setPen(theme.colour("text"))
    painter.setFont(font)
    painter.drawText(pill, flags, note)


def smooth(image: QImage, size: QSize) -> QImage:
    """Resize an image to `size` px.

    Enlarging is bicubic: Qt's bilinear filter shows diamond artefacts from 64 px images.
    """
    if size.width() <= image.width() * 1.2 or size.width() > 4096:
        return image.scaled(size, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation)
    from PIL import Image  # after the first paint of the window

    image = image.convertToFormat(QImage.Format.Format_RGB32)  # what Qt paints fastest; PIL need not know the order
    small = Image.frombuffer(
        "RGBX", (image.width(), image.height()), bytes(image.constBits()), "raw", "RGBX", image.bytesPerLine(), 1
    )
    large = small.resize((max(1, size.width()), max(1, size.height())), Image.Resampling.BICUBIC)
    return QImage(large.tobytes(), large.width, large.height, 4 * large.width, QImage.Format.Format_RGB32).copy()
