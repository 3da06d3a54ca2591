"""A grid of images is one stop of the Tab key, and keys go from image to image as they are seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QRectF, Qt
from PySide6.QtWidgets import QGridLayout, QLineEdit, QScrollArea, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.widgets.images.roving_focus import RovingFocus, cell_after_key

SIDE, COLUMNS, COUNT = 40, 3, 8  # the last row has two images
CELLS = [QRectF(50 * (index % COLUMNS), 50 * (index // COLUMNS), SIDE, SIDE) for index in range(COUNT)]


@pytest.mark.parametrize(
    ("key", "at", "to"),
    [
        (Qt.Key.Key_Right, 2, 3),  # on to the next row, as in reading
        (Qt.Key.Key_Left, 3, 2),
        (Qt.Key.Key_Left, 0, 0),
        (Qt.Key.Key_Right, 7, 7),
        (Qt.Key.Key_Down, 1, 4),
        (Qt.Key.Key_Up, 7, 4),
        (Qt.Key.Key_Down, 5, 7),  # nothing is below it: the nearest of the row
        (Qt.Key.Key_Down, 6, 6),
        (Qt.Key.Key_Up, 1, 1),
        (Qt.Key.Key_Home, 5, 0),
        (Qt.Key.Key_End, 1, 7),
        (Qt.Key.Key_A, 1, None),
    ],
)
def test_keys_lead_where_one_looks(key: Qt.Key, at: int, to: int | None) -> None:
    assert cell_after_key(key, CELLS, at) == to


class Page(QWidget):
    """A field, a scrolling grid of thumbnails, and a field."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after, self.inside = QLineEdit(), QLineEdit(), QWidget()
        self.grid = QGridLayout(self.inside)
        self.area = QScrollArea()
        self.area.setWidget(self.inside)
        self.area.setWidgetResizable(True)
        self.area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.focus = RovingFocus(self.inside)
        self.images: list[ImageThumbnail] = []
        column = QVBoxLayout(self)
        for each in (self.before, self.area, self.after):
            column.addWidget(each)
        self.show_images(COUNT)
        self.resize(220, 200)

    def show_images(self, count: int, kept: int = 0) -> None:
        """`count` images, of which the first `kept` are those from before."""
        gone = self.images[kept:]
        new = [ImageThumbnail(ImageTarget(), SIDE, name=f"Image {index}") for index in range(kept, count)]
        self.images = [*self.images[:kept], *new]
        for index, image in enumerate(self.images):
            self.grid.addWidget(image, index // COLUMNS, index % COLUMNS)
        self.focus.set_images(self.images)
        for image in gone:
            image.hide()
            image.deleteLater()


@pytest.fixture
def page(qtbot: QtBot) -> Iterator[Page]:
    page = Page()
    qtbot.addWidget(page)
    page.show()
    page.activateWindow()
    qtbot.waitUntil(page.isActiveWindow)
    yield page


def focused(page: Page) -> QWidget:
    focus = page.focusWidget()
    assert focus is not None
    return focus


def test_tab_passes_a_grid_in_one_step_and_comes_back_to_the_same_image(qtbot: QtBot, page: Page) -> None:
    page.before.setFocus()
    qtbot.keyClick(page.before, Qt.Key.Key_Tab)
    assert focused(page) is page.images[0]
    for key, index in ((Qt.Key.Key_Right, 1), (Qt.Key.Key_Down, 4), (Qt.Key.Key_End, 7)):
        qtbot.keyClick(focused(page), key)
        assert focused(page) is page.images[index]
    assert not page.images[7].visibleRegion().isEmpty(), "it is scrolled into view"
    qtbot.keyClick(focused(page), Qt.Key.Key_Right, Qt.KeyboardModifier.ControlModifier)
    assert focused(page) is page.images[7], "keys of others are left alone"
    qtbot.keyClick(focused(page), Qt.Key.Key_Tab)
    assert focused(page) is page.after
    qtbot.keyClick(page.after, Qt.Key.Key_Backtab)
    assert focused(page) is page.images[7]
    qtbot.mouseClick(page.images[3], Qt.MouseButton.LeftButton)
    page.images[3].setFocus(Qt.FocusReason.MouseFocusReason)
    qtbot.keyClick(page.images[3], Qt.Key.Key_Tab)
    assert focused(page) is page.after


def test_the_focus_stays_in_the_grid_when_its_images_change(qtbot: QtBot, page: Page) -> None:
    page.images[5].setFocus()
    page.show_images(6)
    assert focused(page) is page.images[5] and page.focus.images() == page.images
    page.show_images(2, kept=1)
    assert focused(page) is page.images[1], "the last one, where there are fewer"
    page.show_images(4, kept=2)
    assert focused(page) is page.images[1]
    page.before.setFocus()
    page.show_images(3)
    assert focused(page) is page.before, "it is not taken from others"
    page.show_images(0)
    qtbot.keyClick(page.before, Qt.Key.Key_Tab)
    assert focused(page) is page.after
    page.show_images(2)
    qtbot.waitUntil(page.images[0].isVisible)
    qtbot.keyClick(page.after, Qt.Key.Key_Backtab)
    assert focused(page) is page.images[0]


def test_enter_opens_the_menu_where_a_click_chooses_nothing(qtbot: QtBot, page: Page) -> None:
    first = page.images[0]
    for key in (Qt.Key.Key_Return, Qt.Key.Key_Space):
        with qtbot.waitSignal(first.menu_requested, timeout=1000) as menu:
            qtbot.keyClick(first, key)
        assert menu.args == [first.target, first.mapToGlobal(first.rect().center())]
    chosen = ImageThumbnail(ImageTarget(), SIDE, name="Recent", clickable=True)
    qtbot.addWidget(chosen)
    with qtbot.waitSignal(chosen.clicked, timeout=1000):
        qtbot.keyClick(chosen, Qt.Key.Key_Return)
