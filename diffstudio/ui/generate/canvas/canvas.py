"""The canvas: one image, fitted or zoomed, or a grid of a request's images."""

from __future__ import annotations

from functools import reduce

from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QEnterEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QApplication, QSizePolicy, QWidget

from diffstudio.ui.generate.canvas.contents import CanvasContents, CanvasImage
from diffstudio.ui.generate.canvas.painting import MAX_SMOOTH_SCALE, grid, paint_note, paint_pixels, smooth
from diffstudio.ui.generate.canvas.zoom_bar import ZoomBar
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images import copy_and_drag
from diffstudio.ui.widgets.images.image_painting import fitted, mark, rounded
from diffstudio.ui.widgets.images.keyboard_focus import KeyboardFocus
from diffstudio.ui.widgets.images.zoom import MAX_ZOOM, View, WheelSteps, Zoom

PAN_STEP = 48  # px for each press of an arrow key
_ARROWS = {Qt.Key.Key_Left: (-1, 0), Qt.Key.Key_Right: (1, 0), Qt.Key.Key_Up: (0, -1), Qt.Key.Key_Down: (0, 1)}


class Canvas(CanvasContents):
    """Click an image of a grid to show it alone; click again or press Escape to show the grid. Arrow keys select.

    An image that is alone is zoomed with the wheel, the keys + - 0 1 and the bar, and panned by dragging or with the
    arrow keys. Zoom factors are in screen px per image px.
    """

    context_menu_requested = Signal(object)  # QPoint, global
    selected = Signal()
    alone_changed = Signal()
    full_image_requested = Signal(object)  # Path of the image that is alone; answer with set_full_image
    full_screen_requested = Signal()
    closed = Signal()  # Escape, where there is nothing else to leave

    def __init__(self) -> None:
        super().__init__()
        describe(
            self,
            "Image",
            "Right-click for actions, drag the image into another program, zoom with the wheel or + and -",
        )
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(160, 120)
        self._click_or_drag = copy_and_drag.ClickOrDrag()
        self._zoom, self._panned_from = Zoom(), QPointF()
        self._panning = self._pointed_at = False
        self._wheel = WheelSteps()
        self._keyboard_focus = KeyboardFocus(self)
        self.zoom_bar = ZoomBar(self)
        self.zoom_bar.zoom.stepped.connect(lambda steps: self.zoom_by(steps))
        self.zoom_bar.zoom.toggled.connect(lambda: self.set_zoom(1.0 if self.is_fitted() else None))
        self.zoom_bar.full_screen_requested.connect(self.full_screen_requested)
        self.zoom_bar.hide()
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        app.focusChanged.connect(self._focus_changed)

    # Layout

    def cells(self) -> list[tuple[int, QRectF]]:
        """(index, rectangle) of every cell that is drawn."""
        images = self._displayed()
        room = QRectF(self.rect())
        if not images or room.isEmpty():
            return []
        if self.is_alone():
            index, view = min(self._chosen, len(images) - 1), self._view()
            if self.is_fitted() and (overlay := self.init_overlay()) is not None:
                return [(index, overlay.place(room))]
            fills = self.is_fitted() and not view.is_uneven()
            return [(index, fitted(view.size, room) if fills else self._zoom.rect(view))]
        return list(enumerate(grid(len(images), self._size_of(images[0]), room)))

    def _at(self, point: QPoint) -> int | None:
        return next((index for index, cell in self.cells() if cell.contains(point)), None)

    # Zoom

    def _view(self) -> View:
        index = min(self._chosen, len(self._displayed()) - 1)
        small = self._is_small(index)
        return View(QRectF(self.rect()), self._full_size(index), self.devicePixelRatioF(), pixel_exact=small)

    def begin(self, count: int, shape: QSize) -> None:
        self._zoom.reset()
        super().begin(count, shape)

    def can_zoom(self) -> bool:
        return bool(self._displayed()) and self.is_alone() and not self.image().isNull()

    def zoom(self) -> float:
        """Screen px per image px; 1 without an image that is alone."""
        return self._zoom.scale(self._view()) if self.can_zoom() else 1.0

    def is_fitted(self) -> bool:
        return self._zoom.factor is None

    def set_zoom(self, factor: float | None, around: QPointF | None = None) -> None:
        """Show the selected image alone at a zoom factor; None fits it. The point under `around` stays in place."""
        if not self.image().isNull():
            self._set_alone(True)
            self._zoom.set_factor(factor, self._view(), around)
            self._changed()

    def zoom_by(self, steps: int, around: QPointF | None = None) -> None:
        """Zoom the selected image in (1) or out (-1)."""
        if not self.image().isNull():
            self._set_alone(True)
            self._zoom.step(steps, self._view(), around)
            self._changed()

    def can_pan(self) -> bool:
        return self.can_zoom() and self._zoom.can_pan(self._view())

    def _pan(self, moved: QPointF) -> None:
        self._zoom.pan(moved, self._view())
        self.update()

    def offer_channels(self, count: int) -> None:
        """Offer each of the channels of the array that is shown."""
        self.zoom_bar.offer_channels(count)
        self._place_bar()

    def show_full_screen(self, on: bool) -> None:
        """Whether the canvas fills the screen; double click and the bar then leave it."""
        self.zoom_bar.show_full_screen(on)

    def _changed(self) -> None:
        """Other contents, or another zoom: repaint, and show the bar as it applies."""
        self.update()
        self._show_bar()
        if not self.can_zoom():
            return
        view = self._view()
        scale = self._zoom.scale(view)
        lowest, highest = min(view.fit(), 1.0), max(view.fit(), MAX_ZOOM)
        self.zoom_bar.zoom.show_zoom(
            scale, fits=self.is_fitted(), can_zoom_in=scale < highest, can_zoom_out=scale > lowest * 1.001
        )
        self._place_bar()
        shown = self._images[self._chosen] if self._chosen < len(self._images) else CanvasImage()
        if self._scrubbed is None and shown.path is not None and not (shown.full or shown.requested):
            shown.requested = True
            self.full_image_requested.emit(shown.path)

    def _show_bar(self) -> None:
        """While the pointer or the focus is here, or the image is zoomed; otherwise nothing covers the image."""
        focus = QApplication.focusWidget()
        used = self._pointed_at or not self.is_fitted() or (focus is not None and self._contains(focus))
        fits = self.width() > self.zoom_bar.sizeHint().width() + 16
        self.zoom_bar.setVisible(self.can_zoom() and used and fits)

    def _contains(self, widget: QWidget) -> bool:
        return widget is self or self.isAncestorOf(widget)

    def _focus_changed(self, before: QWidget | None, now: QWidget | None) -> None:
        if any(widget is not None and self._contains(widget) for widget in (before, now)):
            self._show_bar()

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self._pointed_at = True
        self._show_bar()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._pointed_at = False
        self._show_bar()

    def _place_bar(self) -> None:
        size = self.zoom_bar.sizeHint()
        self.zoom_bar.setGeometry(self.width() - size.width() - 8, 8, size.width(), size.height())

    # Painting

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        images, cells, overlay = self._displayed(), self.cells(), self.init_overlay()
        for index, cell in cells:
            shown = images[index]
            square = overlay is not None or not self.is_fitted()
            radius = 0.0 if square else 12.0 if cell.width() > 240 else float(theme.RADIUS)
            if shown.image.isNull():
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(theme.colour("panel"))
                painter.drawRoundedRect(cell, radius, radius)
                continue
            if overlay is not None:
                overlay.paint_below(painter, cell)
            self._paint_image(painter, index, cell, radius)
            if overlay is not None:
                overlay.paint_above(painter, cell)
            if index == self._chosen and self._keyboard_focus.shown:
                mark(painter, cell.intersected(QRectF(self.rect())), radius)
            elif len(cells) > 1 and index == self._chosen:  # the one whose seed and steps are shown
                painter.setPen(QPen(theme.colour("accent" if self.hasFocus() else "faint"), 2))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRoundedRect(cell.adjusted(1, 1, -1, -1), radius, radius)
        if self._note and cells:
            whole = reduce(QRectF.united, (cell for _, cell in cells))
            paint_note(painter, self._note, whole.intersected(QRectF(self.rect())))

    def _paint_image(self, painter: QPainter, index: int, cell: QRectF, radius: float) -> None:
        """As it is: pixel by pixel where it is small or zoomed to 100% or more, and otherwise resampled."""
        shown = self._displayed()[index]
        if self._is_small(index) or self._shows_pixels(shown):
            paint_pixels(painter, shown.image, cell, QRectF(self.rect()), radius)
            return
        ratio = self.devicePixelRatioF()
        target_size = QSize(round(cell.width() * ratio), round(cell.height() * ratio))
        if shown.scaled_for != target_size:
            large = shown.image.size() * MAX_SMOOTH_SCALE
            shown.scaled = smooth(shown.image, target_size if large.width() > target_size.width() else large)
            shown.scaled_for = target_size
        rounded(painter, shown.scaled, cell, radius)

    def _shows_pixels(self, shown: CanvasImage) -> bool:
        """Whether an image is zoomed to 100% or more, and is no preview, whose pixels are not those of the image."""
        return not self.is_fitted() and self.zoom() >= 1 and shown.image.size() == self._view().size

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._changed()

    # User input

    def mousePressEvent(self, event: QMouseEvent) -> None:
        super().mousePressEvent(event)
        middle = event.button() is Qt.MouseButton.MiddleButton
        if self.can_pan() and (middle or event.button() is Qt.MouseButton.LeftButton):
            self._panning, self._panned_from = True, event.position()
            self.setCursor(Qt.CursorShape.ClosedHandCursor)
            return
        index = self._at(event.position().toPoint())
        if index is not None:
            self._choose(index)
            self._click_or_drag.begin(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._panning:
            self._pan(event.position() - self._panned_from)
            self._panned_from = event.position()
        elif self._click_or_drag.becomes_drag(event) and not self.image().isNull():
            copy_and_drag.drag(self, self.image(), self.path())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._panning:
            self._panning = False
            self.unsetCursor()
        elif self._click_or_drag.end() and event.button() == Qt.MouseButton.LeftButton and len(self._images) > 1:
            self._set_alone(not self._alone)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton and not self.image().isNull():
            self._set_alone(True)  # the first click of a grid may have shown it, or hidden it
            self.full_screen_requested.emit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        steps = self._wheel.add(event)
        if steps and self.can_zoom():
            self.zoom_by(steps, event.position())
        event.accept()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        place = event.globalPos()
        if event.reason() == QContextMenuEvent.Reason.Keyboard:
            place = self.mapToGlobal(self.rect().center())
        if not self.image().isNull():
            self.context_menu_requested.emit(place)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.modifiers() & ~(Qt.KeyboardModifier.KeypadModifier | Qt.KeyboardModifier.ShiftModifier):
            super().keyPressEvent(event)
            return
        count = len(self._images)
        match event.key():
            case Qt.Key.Key_Escape if not self.is_fitted():
                self.set_zoom(None)
            case Qt.Key.Key_Escape if self._alone and count > 1:
                self._set_alone(False)
            case Qt.Key.Key_Escape:
                self.closed.emit()
            case Qt.Key.Key_Return | Qt.Key.Key_Enter | Qt.Key.Key_Space if count > 1:
                self._set_alone(not self._alone)
            case Qt.Key.Key_Plus | Qt.Key.Key_Equal:
                self.zoom_by(1)
            case Qt.Key.Key_Minus:
                self.zoom_by(-1)
            case Qt.Key.Key_0:
                self.set_zoom(None)
            case Qt.Key.Key_1:
                self.set_zoom(1.0)
            case Qt.Key.Key_Left | Qt.Key.Key_Up | Qt.Key.Key_Right | Qt.Key.Key_Down:
                self._arrow(Qt.Key(event.key()))
            case _:
                super().keyPressEvent(event)

    def _arrow(self, key: Qt.Key) -> None:
        """Pan an image that is larger than the canvas, or choose another image of the batch."""
        across, down = _ARROWS[key]
        if self.can_pan():
            self._pan(QPointF(-across * PAN_STEP, -down * PAN_STEP))
        elif self._images:
            self._choose((self._chosen + across + down) % len(self._images))

    def _choose(self, index: int) -> None:
        if index != self._chosen:
            self._chosen = index
            self._zoom.reset()
            self.selected.emit()
        self._changed()

    def _set_alone(self, alone: bool) -> None:
        if alone != self._alone:
            self._alone = alone
            self._zoom.reset()
            self.alone_changed.emit()
        self._changed()
