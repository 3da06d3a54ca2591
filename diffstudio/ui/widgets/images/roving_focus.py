"""RovingFocus: a grid of images is one stop of the Tab key; the arrow keys, Home and End go from image to image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PySide6.QtCore import QEvent, QObject, QPointF, QRectF, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QScrollArea, QWidget

_SIDES = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}
_ROWS = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}
_MODIFIERS = Qt.KeyboardModifier.KeypadModifier  # that of the arrow keys on some keyboards


def reached(key: int, cells: Sequence[QRectF], at: int) -> int | None:
    """Where a key leads from cell `at` of a grid that is read in rows; `at` itself at an edge, None for other keys."""
    if key == Qt.Key.Key_Home:
        return 0
    if key == Qt.Key.Key_End:
        return len(cells) - 1
    if (side := _SIDES.get(Qt.Key(key))) is not None:
        return min(max(at + side, 0), len(cells) - 1)
    if (way := _ROWS.get(Qt.Key(key))) is None:
        return None
    here, height = cells[at].center(), cells[at].height() / 2
    beyond = [
        (abs(there.y() - here.y()) // max(1.0, height), abs(there.x() - here.x()), index)
        for index, there in enumerate(cell.center() for cell in cells)
        if way * (there.y() - here.y()) > height
    ]
    return min(beyond)[2] if beyond else at


class RovingFocus(QObject):
    """Tab comes to the image of `grid` that had the focus last, the first at the beginning; keys lead to the others.

    `after` is what Tab comes from: the last control before the images, if there is one in `grid`.
    """

    def __init__(self, grid: QWidget, after: QWidget | None = None) -> None:
        super().__init__(grid)
        self._grid, self._after = grid, after
        self._images: list[QWidget] = []
        self._stop: QWidget | None = None  # the image that Tab comes to

    def set_images(self, images: Iterable[QWidget]) -> None:
        """Use these, in the order in which they are read; call it before those that are gone are hidden.

        The focus of an image that is gone goes to the one in its place.
        """
        before, self._images = self._images, list(images)
        gone = [image for image in before if image not in self._images]
        place = before.index(self._stop) if self._stop in before else 0
        focused = any(image.hasFocus() for image in gone)
        for image in gone:
            image.removeEventFilter(self)
        for image in self._images:
            if image not in before:
                image.installEventFilter(self)
        if not self._images:
            self._stop = None
        elif self._stop not in self._images or (place == 0 and not self._images_have_focus()):
            self._stop = self._images[min(place, len(self._images) - 1)]
        ahead = self._after or self._before_grid()
        for image in self._images:
            self._set_policy(image)
            QWidget.setTabOrder(ahead, image)  # Qt puts what is made later behind everything else
            ahead = image
        if focused and self._stop is not None:
            self._show(self._stop)
            self._stop.setFocus(Qt.FocusReason.OtherFocusReason)

    def images(self) -> list[QWidget]:
        return list(self._images)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() is QEvent.Type.FocusIn and watched in self._images and isinstance(watched, QWidget):
            before, self._stop = self._stop, watched
            for image in (before, watched):
                if image in self._images and image is not None:
                    self._set_policy(image)
        elif event.type() is QEvent.Type.KeyPress and isinstance(event, QKeyEvent) and watched in self._images:
            return self._go(event, self._images.index(watched))
        return False

    def _before_grid(self) -> QWidget:
        """The last before the grid that takes the focus: `setTabOrder` does nothing with others."""
        before = self._grid.previousInFocusChain()
        while before is not None and before is not self._grid:
            if before.focusPolicy() is not Qt.FocusPolicy.NoFocus and before not in self._images:
                return before
            before = before.previousInFocusChain()
        return self._grid

    def _images_have_focus(self) -> bool:
        return any(image.hasFocus() for image in self._images)

    def _set_policy(self, image: QWidget) -> None:
        policy = Qt.FocusPolicy.StrongFocus if image is self._stop else Qt.FocusPolicy.ClickFocus
        image.setFocusPolicy(policy)

    def _show(self, image: QWidget) -> None:
        """At once, and not when its layout gets to it: what is not shown cannot have the focus."""
        shown: QWidget | None = image
        while shown is not None and shown is not self._grid:
            shown.show()
            shown = shown.parentWidget()

    def _go(self, event: QKeyEvent, at: int) -> bool:
        if event.modifiers() & ~_MODIFIERS:
            return False
        shown = [image for image in self._images if not image.isHidden()]
        cells = [QRectF(QPointF(image.mapTo(self._grid, image.rect().topLeft())), image.size()) for image in shown]
        to = reached(event.key(), cells, shown.index(self._images[at]))
        if to is None:
            return False
        shown[to].setFocus(Qt.FocusReason.TabFocusReason)
        _scroll_to(shown[to])
        return True


def _scroll_to(widget: QWidget) -> None:
    inside = widget.parentWidget()
    while inside is not None:
        if isinstance(inside, QScrollArea):
            inside.ensureWidgetVisible(widget, 8, 8)
        inside = inside.parentWidget()
