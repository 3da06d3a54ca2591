"""Where the focus is can be seen on an image of any colour, and a click draws nothing over a large one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QApplication, QPushButton, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.training.run.events import RunSamples
from diffstudio.ui.gallery.compare_view import ComparePane
from diffstudio.ui.gallery.image_view import ImageView
from diffstudio.ui.generate.canvas.canvas import Canvas
from diffstudio.ui.generate.canvas.filmstrip import Filmstrip
from diffstudio.ui.generate.mask.editor import MaskEditor
from diffstudio.ui.lab.results.before_after import BeforeAfter
from diffstudio.ui.lab.results.grids_view import Sheet
from diffstudio.ui.lab.results.whole_image import WholeImage
from diffstudio.ui.lab.results.word_maps import PlaceImage
from diffstudio.ui.train.run.sample_sheets_view import SampleGrid
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.thumbnail import Thumbnail

pytestmark = pytest.mark.usefixtures("dressed")
TAB, CLICK = Qt.FocusReason.TabFocusReason, Qt.FocusReason.MouseFocusReason


def canvas(image: QImage) -> QWidget:
    canvas = Canvas()
    canvas.show_one(image, Path("a.png"))
    return canvas


def filmstrip(image: QImage) -> QWidget:
    pixels = np.full((64, 64, 3), image.pixelColor(0, 0).getRgb()[:3], np.uint8)
    strip = Filmstrip()
    strip.clear(1)
    strip.set_previews([[pixels]])
    return strip


def image_view(image: QImage) -> QWidget:
    view = ImageView()
    view.set_image(image, image.size(), Path("a.png"), "a")
    return view


def comparison(image: QImage) -> QWidget:
    pane = ComparePane()
    for index in (0, 1):
        pane.set_image(index, image)
    return pane


def mask_editor(image: QImage) -> QWidget:
    editor = MaskEditor()
    editor.set_image(image)
    return editor


def thumbnail(image: QImage) -> QWidget:
    thumbnail = Thumbnail(160, clickable=True)
    thumbnail.set_image(image)
    return thumbnail


def before_after(image: QImage) -> QWidget:
    view = BeforeAfter()
    view.show_images(image, image, image)
    return view


def whole_image(image: QImage) -> QWidget:
    view = WholeImage(200, "Image")
    view.show_target(ImageTarget(image=image))
    return view


def place_image(image: QImage) -> QWidget:
    view = PlaceImage("Image", "")
    view.show_image(ImageTarget(image=image))
    return view


def sheet(image: QImage) -> QWidget:
    view = Sheet()
    view.show_image(ImageTarget(image=image), "Sheet")
    return view


def samples(image: QImage) -> QWidget:
    grid = SampleGrid("Samples")
    grid.show_sheet(RunSamples(step=1, ema="", raw="", columns=2, rows=1, size=64, prompts=("a", "b")), image)
    return grid


LARGE = {"canvas": canvas, "image of the gallery": image_view, "comparison": comparison, "mask editor": mask_editor}
IMAGES: dict[str, Callable[[QImage], QWidget]] = {
    **LARGE,
    "filmstrip": filmstrip,
    "thumbnail": thumbnail,
    "before and after": before_after,
    "image of the Lab": whole_image,
    "words": place_image,
    "sheet": sheet,
    "samples": samples,
}


class Place:
    """An image in one colour, and a button that can have the focus."""

    def __init__(self, qtbot: QtBot, make: Callable[[QImage], QWidget], colour: str) -> None:
        image = QImage(128, 64, QImage.Format.Format_RGB32)
        image.fill(theme.colour(colour) if colour == "accent" else QColor(colour))
        self.widget, self.button = make(image), QPushButton("Elsewhere")
        self.window = window = QWidget()  # kept: qtbot has a weak reference
        column = QVBoxLayout(window)
        column.addWidget(self.widget)
        column.addWidget(self.button)
        qtbot.addWidget(window)
        window.resize(QSize(320, 280))
        window.show()
        window.activateWindow()
        qtbot.waitUntil(window.isActiveWindow)

    def seen(self, focused: QWidget, reason: Qt.FocusReason = TAB) -> NDArray[np.float64]:
        """WCAG 2.2's relative luminance [H,W] of the image with the focus in one of both."""
        focused.setFocus(reason)
        QApplication.processEvents()
        shot = self.widget.grab().toImage().convertToFormat(QImage.Format.Format_RGBX8888)
        pixels = np.frombuffer(shot.constBits(), np.uint8).reshape(shot.height(), -1, 4)[..., :3] / 255
        linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
        found: NDArray[np.float64] = linear @ (0.2126, 0.7152, 0.0722)
        return found


@pytest.mark.parametrize("colour", ["white", "black", "accent", "#777777"])
@pytest.mark.parametrize("name", IMAGES)
def test_the_focus_is_seen_on_an_image_of_any_colour(qtbot: QtBot, name: str, colour: str) -> None:
    """A change of contrast of at least 3 (WCAG 2.2, 2.4.13) around all of the image."""
    place = Place(qtbot, IMAGES[name], colour)
    without, within = place.seen(place.button), place.seen(place.widget)
    high, low = np.maximum(without, within), np.minimum(without, within)
    changed = (high + 0.05) / (low + 0.05) >= 3
    rows, columns = np.nonzero(changed.any(1))[0], np.nonzero(changed.any(0))[0]
    assert len(rows) and len(columns), name
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert min(height, width) > 40 and changed.sum() > 1.5 * (height + width)


@pytest.mark.parametrize("name", LARGE)
def test_a_click_draws_nothing_over_a_large_image(qtbot: QtBot, name: str) -> None:
    place = Place(qtbot, LARGE[name], "white")

    def lower_half(focused: QWidget, reason: Qt.FocusReason = TAB) -> NDArray[np.float64]:
        """Without the zoom bar of the canvas, which comes with any focus."""
        return np.split(place.seen(focused, reason)[: 2 * (place.widget.height() // 2)], 2)[1]

    without = lower_half(place.button)
    assert np.array_equal(lower_half(place.widget, CLICK), without)
    assert np.array_equal(lower_half(place.button), without)
    assert not np.array_equal(lower_half(place.widget, TAB), without)
    qtbot.mouseClick(place.widget, Qt.MouseButton.RightButton)
    assert np.array_equal(lower_half(place.widget, CLICK), without)
