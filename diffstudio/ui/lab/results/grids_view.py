"""GridsView: sheets of images, one chosen in a drop-down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QPoint, QPointF, QRect, QRectF, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QImage, QKeyEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio.studio.evaluations.views.comparison import Grid
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.activation import PRESSING
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images.drag_source import DragSource, whole
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_painting import mark
from diffstudio.ui.widgets.images.image_reading import read_image
from diffstudio.ui.widgets.inputs.combo_box import ComboBox

WIDTH, HEIGHT = 520, 320  # px, at most
_LINE = 24  # px, without an image
_UNREADABLE = "The image cannot be read"


@dataclass(frozen=True, slots=True)
class ReadGrid:
    grid: Grid
    image: QImage  # null when it cannot be read


def read_grids(grids: Sequence[Grid]) -> list[ReadGrid]:
    """Read the sheets. It reads files, so do not call it in the window's thread."""
    return [ReadGrid(grid, read_image(grid.path, 2 * WIDTH)) for grid in grids]


class Sheet(QWidget):
    """A whole image, as large as space permits, with the usual image menu."""

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self) -> None:
        super().__init__()
        self.target = ImageTarget()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumWidth(80)
        self.setMaximumWidth(WIDTH)
        describe(self, "Sheet of images", " ")
        DragSource(self, lambda _: whole(self.target))

    def show_image(self, target: ImageTarget, name: str) -> None:
        self.target = target
        self.setAccessibleName(name)
        self._fit_height()
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_height()

    def _fit_height(self) -> None:
        size = self.target.image.size().scaled(self.width(), HEIGHT, Qt.AspectRatioMode.KeepAspectRatio)
        self.setFixedHeight(max(size.height(), theme.scaled(_LINE)))

    def paintEvent(self, event: QPaintEvent) -> None:
        image, painter = self.target.image, QPainter(self)
        if image.isNull():
            painter.setPen(theme.colour("dim"))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, _UNREADABLE)
            return
        size = image.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        smaller = size.width() < image.width()  # enlarged pixels stay sharp
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, smaller)
        painter.drawImage(QRect(QPoint(0, 0), size), image)
        if self.hasFocus():
            mark(painter, QRectF(QPointF(0, 0), size.toSizeF()))

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        keyboard = event.reason() == QContextMenuEvent.Reason.Keyboard
        self.menu_requested.emit(self.target, self.mapToGlobal(self.rect().center()) if keyboard else event.globalPos())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in PRESSING and whole(self.target) is not None:
            self.menu_requested.emit(self.target, self.mapToGlobal(self.rect().center()))
        else:
            super().keyPressEvent(event)


class GridsView(QWidget):
    """The sheet of the chosen model, or of real images."""

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self) -> None:
        super().__init__()
        self._grids: list[ReadGrid] = []
        self.choice = ComboBox("Images of", (), "The model whose images are shown")
        self.sheet = Sheet()
        self.sheet.menu_requested.connect(self.menu_requested)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(SectionLabel("Samples"))
        column.addWidget(self.choice)
        column.addWidget(self.sheet)
        self.choice.chosen.connect(lambda _: self._draw())

    def show_grids(self, grids: Sequence[ReadGrid]) -> None:
        self._grids = list(grids)
        self.choice.set_choices([(place, one.grid.title) for place, one in enumerate(grids)])
        self.setVisible(bool(grids))
        self._draw()

    def _draw(self) -> None:
        place = self.choice.value()
        if place is not None:
            one = self._grids[place]
            self.sheet.show_image(ImageTarget(one.grid.path, one.image), f"Sheet of images: {one.grid.title}")
