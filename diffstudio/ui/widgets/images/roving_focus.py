"""RovingFocus: a grid of images is one stop of the Tab key; the arrow keys, Home and End go from image to image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PySide6.QtCore import QEvent, QObject, QPointF, QRectF, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QScrollArea, QWidget

_COLUMN_STEPS = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}
_ROW_STEPS = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}
_KEYPAD = Qt.KeyboardModifier.KeypadModifier  # that of the arrow keys on some keyboards


def cell_after_key(key: int, cells: Sequence[QRectF], index: int) -> int | None:
    """Where a key leads from a cell of a grid that is read in rows: the same cell at an edge, None for other keys."""
    if key == Qt.Key.Key_Home:
        return 0
    if key == Qt.Key.Key_End:
        return len(cells) - 1
    if (step := _COLUMN_STEPS.get(Qt.Key(key))) is not None:
        return min(max(index + step, 0), len(cells) - 1)
    if (step := _ROW_STEPS.get(Qt.Key(key))) is None:
        return None
    here, half = cells[index].center(), cells[index].height() / 2
    distances = [
        (abs(there.y() - here.y()) // max(1.0, half), abs(there.x() - here.x()), other)
        for other, there in enumerate(cell.center() for cell in cells)
        if step * (there.y() - here.y()) > half
    ]
    return min(distances)[2] if distances else index


class RovingFocus(QObject):
    """Tab comes to the current image of `grid`: the one that had the focus last, or the first. Keys lead to the others.

    `after` is what Tab comes from: the last control before the images, if there is one in `grid`.
    """

    def __init__(self, grid: QWidget, after: QWidget | None = None) -> None:
        super().__init__(grid)
        self._grid, self._after = grid, after
        self._images: list[QWidget] = []
        self._current: QWidget | None = None

    def set_images(self, images: Iterable[QWidget]) -> None:
        """Use these, in the order in which they are read. Call it before those that are gone are hidden.

        The focus of an image that is gone goes to the one in its place.
        """
        before, self._images = self._images, list(images)
        gone = [image for image in before if image not in self._images]
        place = before.index(self._current) if self._current in before else 0
        had_focus = any(image.hasFocus() for image in gone)
        for image in gone:
            image.removeEventFilter(self)
        for image in self._images:
            if image not in before:
                image.installEventFilter(self)
        if not self._images:
            self._current = None
        elif self._current not in self._images or (place == 0 and not any(image.hasFocus() for image in self._images)):
            self._current = self._images[min(place, len(self._images) - 1)]
        previous = self._after or self._last_before_grid()
        for image in self._images:
            self._set_policy(image)
            QWidget.setTabOrder(previous, image)  # Qt puts what is made later behind everything else
            previous = image
        if had_focus and self._current is not None:
            self._show_now(self._current)
            self._current.setFocus(Qt.FocusReason.OtherFocusReason)

    def images(self) -> list[QWidget]:
        return list(self._images)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if not isinstance(watched, QWidget) or watched not in self._images:
            return False
        if event.type() is QEvent.Type.FocusIn:
            before, self._current = self._current, watched
            for image in (before, watched):
                if image is not None and image in self._images:
                    self._set_policy(image)
        elif event.type() is QEvent.Type.KeyPress and isinstance(event, QKeyEvent):
            return self._move_focus(event, watched)
        return False

    def _last_before_grid(self) -> QWidget:
        """The last widget before the grid that takes the focus: `setTabOrder` does nothing with others."""
        before = self._grid.previousInFocusChain()
        while before is not None and before is not self._grid:
            if before.focusPolicy() is not Qt.FocusPolicy.NoFocus and before not in self._images:
                return before
            before = before.previousInFocusChain()
        return self._grid

    def _set_policy(self, image: QWidget) -> None:
        is_current = image is self._current
        image.setFocusPolicy(Qt.FocusPolicy.StrongFocus if is_current else Qt.FocusPolicy.ClickFocus)

    def _show_now(self, image: QWidget) -> None:
        """Show an image that its layout would show later: a hidden one cannot have the focus."""
        shown: QWidget | None = image
        while shown is not None and shown is not self._grid:
            shown.show()
            shown = shown.parentWidget()

    def _move_focus(self, event: QKeyEvent, image: QWidget) -> bool:
        """Whether the key leads from this image to another one, or is one that would."""
        if event.modifiers() & ~_KEYPAD:
            return False
        shown = [each for each in self._images if not each.isHidden()]
        cells = [QRectF(QPointF(each.mapTo(self._grid, each.rect().topLeft())), each.size()) for each in shown]
        index = cell_after_key(event.key(), cells, shown.index(image))
        if index is None:
            return False
        shown[index].setFocus(Qt.FocusReason.TabFocusReason)
        _scroll_to(shown[index])
        return True


def _scroll_to(widget: QWidget) -> None:
    """Scroll all areas around a widget so that it is visible."""
    around = widget.parentWidget()
    while around is not None:
        if isinstance(around, QScrollArea):
            around.ensureWidgetVisible(widget, 8, 8)
        around = around.parentWidget()
