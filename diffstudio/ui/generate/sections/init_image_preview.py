"""The init image as it is used: the frame of what is generated, the mask, the outpaint margins, what is cropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QImage, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from diffstudio.imaging.masks import masked_region
from diffstudio.studio.generation.init_image import fit_of, outpaint_mask
from diffstudio.studio.requests.choices import ResizeName
from diffstudio.ui.generate.mask.editor import Sides
from diffstudio.ui.generate.mask.layer import mask_colour
from diffstudio.ui.generate.mask.result_frame import paint_frame, paint_padding
from diffstudio.ui.widgets import terms, theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images.image_painting import fitted

MOST_HEIGHT = 180  # px
_MASK_SIDE = 256  # px of the copy of a mask that the frame around it is computed from
_MASK_OPACITY = 0.6
_MARGIN_OPACITY = 0.25  # of the tint over the outpaint margins


@dataclass(frozen=True, slots=True)
class InitOverlay:
    """What is drawn around and over an init image. All lengths are in px of that image, from its top left corner."""

    size: QSize  # of the init image
    frame: QRectF  # what is generated
    sides: Sides = (0, 0, 0, 0)  # the outpaint margins
    mask: QImage | None = None  # in one colour, its alpha channel the mask; of any size

    def canvas(self) -> QRectF:
        """The image with its outpaint margins."""
        left, top, right, bottom = self.sides
        return QRectF(-left, -top, self.size.width() + left + right, self.size.height() + top + bottom)

    def bounds(self) -> QRectF:
        """Everything that is drawn."""
        return self.canvas().united(self.frame)

    def changes_nothing(self) -> bool:
        """Whether the whole image is used as it is."""
        return self.mask is None and not any(self.sides) and self.frame == self.canvas()

    def place(self, room: QRectF) -> QRectF:
        """Where in `room` the image is drawn so that everything fits."""
        bounds = self.bounds()
        whole = fitted(bounds.size().toSize(), room)
        scale = whole.width() / bounds.width()
        left, top = whole.x() - scale * bounds.x(), whole.y() - scale * bounds.y()
        return QRectF(left, top, scale * self.size.width(), scale * self.size.height())

    def paint_below(self, painter: QPainter, image: QRectF) -> None:
        """Draw what surrounds the image, which is drawn at `image` afterwards: padding, and the outpaint margins."""
        paint_padding(painter, self._on_screen(self.canvas(), image), self._on_screen(self.frame, image))
        if any(self.sides):
            canvas, tint = self._on_screen(self.canvas(), image), mask_colour()
            tint.setAlphaF(_MARGIN_OPACITY)
            painter.fillRect(canvas, theme.colour("raised"))
            painter.fillRect(canvas, tint)

    def paint_above(self, painter: QPainter, image: QRectF) -> None:
        """Draw the mask and the frame over the image, and dim what is outside of the frame."""
        painter.save()
        painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform)
        if self.mask is not None:
            painter.setOpacity(_MASK_OPACITY)
            painter.drawImage(image, self.mask)
            painter.setOpacity(1.0)
        paint_frame(painter, self._on_screen(self.canvas(), image), self._on_screen(self.frame, image))
        painter.restore()

    def _on_screen(self, box: QRectF, image: QRectF) -> QRectF:
        across, down = image.width() / self.size.width(), image.height() / self.size.height()
        return QRectF(
            image.x() + across * box.x(), image.y() + down * box.y(), across * box.width(), down * box.height()
        )


def fitted_frame(canvas: QSize, sides: Sides, size: tuple[int, int], mode: ResizeName) -> QRectF:
    """The frame of a result of `size` px on an init image that is `canvas` px with its outpaint margins.

    With ResizeName.PAD it is larger than the image.
    """
    fit = fit_of((canvas.width(), canvas.height()), size, mode)
    across = (fit.kept[2] - fit.kept[0]) / (fit.placed[2] - fit.placed[0])  # px of the image in a px of the result
    down = (fit.kept[3] - fit.kept[1]) / (fit.placed[3] - fit.placed[1])
    left, top = fit.kept[0] - fit.placed[0] * across, fit.kept[1] - fit.placed[1] * down
    return QRectF(left - sides[0], top - sides[1], across * size[0], down * size[1])


def masked_frame(
    image: QSize, mask: QImage | None, sides: Sides, feather: int, padding: int, size: tuple[int, int]
) -> QRectF:
    """The frame of what is generated around a mask: by the rules of the request, computed on a small copy.

    `mask` is greyscale, white where masked, of any size.
    """
    small = image.scaled(_MASK_SIDE, _MASK_SIDE, Qt.AspectRatioMode.KeepAspectRatio).expandedTo(QSize(1, 1))
    across, down = image.width() / small.width(), image.height() / small.height()
    left, top, right, bottom = (round(side / scale) for side, scale in zip(sides, (across, down) * 2, strict=True))
    inner = Image.new("L", (small.width(), small.height())) if mask is None else Image.fromarray(_array(mask, small))
    painted = outpaint_mask(inner, (left, top, right, bottom), round(feather / across))
    if not (pixels := np.array(painted)).any():
        return QRectF(0, 0, image.width(), image.height())
    box = masked_region(pixels, round(padding / across), size[0] * down / (size[1] * across))
    return QRectF((box[0] - left) * across, (box[1] - top) * down, (box[2] - box[0]) * across, (box[3] - box[1]) * down)


def _array(mask: QImage, size: QSize) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The values [H,W] of a greyscale image stretched to `size`."""
    grey = mask.scaled(size).convertToFormat(QImage.Format.Format_Grayscale8)
    rows = np.frombuffer(grey.constBits(), np.uint8).reshape(grey.height(), grey.bytesPerLine())
    return rows[:, : grey.width()].copy()


class InitImagePreview(QWidget):
    """Shows the init image as wide as the panel, with what is generated of it."""

    def __init__(self) -> None:
        super().__init__()
        self._image = QImage()
        self._overlay: InitOverlay | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        describe(self, terms.INIT_IMAGE, "The frame shows what is generated, the tint what is masked or added")

    def set_image(self, image: QImage) -> None:
        self._image = image
        self.update()

    def image(self) -> QImage:
        return self._image

    def set_overlay(self, overlay: InitOverlay | None) -> None:
        self._overlay = overlay
        self._update_height()
        self.update()

    def overlay(self) -> InitOverlay | None:
        return self._overlay

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._overlay is None or self._image.isNull():
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        place = self._overlay.place(QRectF(self.rect()))
        self._overlay.paint_below(painter, place)
        painter.drawImage(place, self._image)
        self._overlay.paint_above(painter, place)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._update_height()

    def _update_height(self) -> None:
        if self._overlay is not None:
            bounds = self._overlay.bounds()
            height = round(self.width() * bounds.height() / max(1.0, bounds.width()))
            self.setFixedHeight(max(40, min(MOST_HEIGHT, height)))
