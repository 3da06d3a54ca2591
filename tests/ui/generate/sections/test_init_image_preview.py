"""What is drawn of the init image: the frame of what is generated, the mask, the margins, what is cropped or padded."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QPoint, QRectF, QSize
from PySide6.QtGui import QColor, QImage
from pytestqt.qtbot import QtBot

from diffstudio.studio.requests.choices import ResizeName
from diffstudio.ui.generate.sections.init_image_preview import InitImagePreview, InitOverlay, fitted_frame, masked_frame
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage

pytestmark = pytest.mark.usefixtures("dressed")
NO_SIDES = (0, 0, 0, 0)


def plain(width: int, height: int, grey: int = 200) -> QImage:
    image = QImage(width, height, QImage.Format.Format_RGB32)
    image.fill(QColor(grey, grey, grey))
    return image


def test_frames_by_resize_mode() -> None:
    def frame(mode: ResizeName, sides: tuple[int, int, int, int] = NO_SIDES) -> QRectF:
        canvas = QSize(200 + sides[0] + sides[2], 100 + sides[1] + sides[3])
        return fitted_frame(canvas, sides, (64, 64), mode)

    assert frame(ResizeName.CROP) == QRectF(50, 0, 100, 100)
    assert frame(ResizeName.PAD) == QRectF(0, -50, 200, 200)
    assert frame(ResizeName.STRETCH) == QRectF(0, 0, 200, 100)
    assert frame(ResizeName.CROP, (100, 0, 0, 0)) == QRectF(0, 0, 100, 100)  # of 300 px the middle 100
    assert frame(ResizeName.STRETCH, (0, 28, 0, 0)) == QRectF(0, -28, 200, 128)


def test_the_frame_around_a_mask() -> None:
    mask = Image.new("L", (512, 512))
    mask.paste(255, (256, 256, 384, 384))
    small = QImage(mask.tobytes(), 512, 512, 512, QImage.Format.Format_Grayscale8).copy()
    image = QSize(1024, 1024)
    assert masked_frame(image, small, NO_SIDES, 0, 32, (512, 512)) == QRectF(480, 480, 320, 320)
    assert masked_frame(image, None, (0, 0, 256, 0), 0, 0, (512, 512)) == QRectF(256, 0, 1024, 1024)
    assert masked_frame(image, None, (0, 0, 256, 0), 64, 0, (512, 2048)) == QRectF(960, 0, 320, 1024)
    black = QImage(8, 8, QImage.Format.Format_Grayscale8)
    black.fill(0)
    assert masked_frame(image, black, NO_SIDES, 0, 32, (512, 512)) == QRectF(0, 0, 1024, 1024)


@pytest.fixture
def preview(qtbot: QtBot) -> InitImagePreview:
    preview = InitImagePreview()
    qtbot.addWidget(preview)
    preview.resize(200, 40)
    preview.set_image(plain(200, 100))
    preview.show()
    qtbot.waitExposed(preview)
    return preview


def at(preview: InitImagePreview, x: int, y: int) -> QColor:
    return preview.grab().toImage().pixelColor(QPoint(x, y))


def test_what_is_cropped_is_darker(preview: InitImagePreview) -> None:
    preview.set_overlay(InitOverlay(QSize(200, 100), QRectF(50, 0, 100, 100)))
    assert preview.height() == 100
    assert at(preview, 100, 50) == QColor(200, 200, 200) and at(preview, 20, 50).lightness() < 100
    assert at(preview, 50, 50) == theme.colour("accent")


def test_padding_is_white_and_margins_are_tinted(preview: InitImagePreview) -> None:
    preview.set_overlay(InitOverlay(QSize(200, 100), QRectF(0, -30, 200, 160)))
    assert preview.height() == 160 and at(preview, 100, 10) == QColor("white")
    assert at(preview, 100, 80) == QColor(200, 200, 200)
    preview.set_overlay(InitOverlay(QSize(200, 100), QRectF(0, 0, 400, 100), (0, 0, 200, 0)))
    assert preview.height() == 50 and at(preview, 50, 25) == QColor(200, 200, 200)
    margin = at(preview, 150, 25)
    assert margin.red() > margin.green() and margin.lightness() < 120


def test_the_mask_is_drawn_over_the_image(preview: InitImagePreview) -> None:
    mask = np.zeros((50, 100, 4), np.uint8)
    mask[:, :50] = (255, 0, 0, 255)
    preview.set_overlay(InitOverlay(QSize(200, 100), QRectF(0, 0, 200, 100), mask=numpy_to_qimage(mask)))
    assert at(preview, 50, 50).red() > at(preview, 50, 50).green() + 50
    assert at(preview, 150, 50) == QColor(200, 200, 200)


def test_an_overlay_that_changes_nothing() -> None:
    assert InitOverlay(QSize(8, 8), QRectF(0, 0, 8, 8)).changes_nothing()
    assert not InitOverlay(QSize(8, 8), QRectF(0, 0, 8, 4)).changes_nothing()
    assert not InitOverlay(QSize(8, 8), QRectF(0, 0, 16, 8), (0, 0, 8, 0)).changes_nothing()
