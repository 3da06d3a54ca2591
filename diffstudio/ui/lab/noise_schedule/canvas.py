"""ScheduleCanvas: the curve of a noise schedule with points to drag, and what stands on its axis of time."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QPointF, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from diffstudio.errors import BadRequest
from diffstudio.studio.curves.curve import NoiseCurve
from diffstudio.studio.curves.editing import added, added_after, moved, removed
from diffstudio.studio.evaluations.views.noise_schedule import ScheduleView
from diffstudio.studio.number_text import formatted
from diffstudio.ui.lab.noise_schedule.axes import Axes, axes_of, range_of
from diffstudio.ui.lab.noise_schedule.drawing import draw
from diffstudio.ui.widgets import shortcuts, theme
from diffstudio.ui.widgets.helpers import describe

REACH = 10  # px from a point at which it can be grabbed
_STEP, _FINE = 0.25, 0.05  # log-SNR
LEAST_WIDTH = 220  # px
_TIME_STEP, _FINE_TIME = 0.01, 0.002
_MOST_UNDONE = 200
_MARGIN = 76  # px for the labels at the left
_HINT = (
    "Drag points; double-click to add one, right-click to remove one. Left and Right choose a point, Up and Down move "
    "it, with Ctrl Left and Right move it in time, Shift makes small steps, Insert adds and Delete removes one"
)


class ScheduleCanvas(QWidget):
    """Shows a ScheduleView and edits its curve. Whoever hears `changed` computes the next view and shows it."""

    changed = Signal(object)  # NoiseCurve
    chosen = Signal(int)  # the index of the chosen point
    pointed = Signal(object)  # the time u under the pointer; None when it has left
    refused = Signal(str)  # why a point cannot be added or removed

    def __init__(self, curve: NoiseCurve) -> None:
        super().__init__()
        self._curve, self._view = curve, None  # type: tuple[NoiseCurve, ScheduleView | None]
        self._index = 0
        self._dragged = False
        self._limits = range_of(curve.points[-1][1], curve.points[0][1])
        self._undone: list[NoiseCurve] = []  # earlier curves, the newest last
        describe(self, "Noise schedule", _HINT)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(theme.scaled(LEAST_WIDTH), theme.scaled(200))
        self._say_point()
        shortcuts.bind(shortcuts.UNDO_CURVE, self, self.undo)

    def sizeHint(self) -> QSize:
        return QSize(theme.scaled(520), theme.scaled(340))

    # Contents

    def curve(self) -> NoiseCurve:
        return self._curve

    def set_curve(self, curve: NoiseCurve, *, undoable: bool = True) -> None:
        """Take another curve, as a preset; `changed` is emitted."""
        if curve != self._curve:
            self._apply(curve, min(self._index, len(curve.points) - 1), undoable=undoable)

    def show_view(self, view: ScheduleView) -> None:
        self._view = view
        self.update()

    def view(self) -> ScheduleView | None:
        return self._view

    def index(self) -> int:
        """The chosen point."""
        return self._index

    def choose(self, index: int) -> None:
        self._index = min(max(index, 0), len(self._curve.points) - 1)
        self._say_point()
        self.chosen.emit(self._index)
        self.update()

    def can_undo(self) -> bool:
        return bool(self._undone)

    def undo(self) -> None:
        if self._undone:
            curve = self._undone.pop()
            self._apply(curve, min(self._index, len(curve.points) - 1), undoable=False)

    def add_point(self) -> None:
        self._try(lambda: added_after(self._curve, self._index))

    def remove_point(self) -> None:
        self._try(lambda: (removed(self._curve, self._index), self._index - 1))

    def axes(self) -> Axes:
        view = self._view
        rows = len(view.steps) if view is not None else 0
        losses = view is not None and view.losses is not None
        height = self.fontMetrics().height()
        return axes_of((self.width(), self.height()), rows, losses, self._limits, height, theme.scaled(_MARGIN))

    # Changes

    def _try(self, change: Callable[[], tuple[NoiseCurve, int]]) -> None:
        try:
            curve, index = change()
        except BadRequest as problem:
            self.refused.emit(str(problem))
        else:
            self._apply(curve, index)

    def _apply(self, curve: NoiseCurve, index: int, *, undoable: bool = True) -> None:
        if undoable:
            self._undone = [*self._undone[1 - _MOST_UNDONE :], self._curve]
        self._curve, self._index = curve, index
        if not self._dragged:  # while a point is dragged, the axis stays under the pointer
            self._limits = range_of(curve.points[-1][1], curve.points[0][1])
        self._say_point()
        self.changed.emit(curve)
        self.chosen.emit(index)
        self.update()

    def _move(self, u: float, log_snr: float, *, undoable: bool = True) -> None:
        curve = moved(self._curve, self._index, u, log_snr)
        if curve != self._curve:
            self._apply(curve, self._index, undoable=undoable)

    def _say_point(self) -> None:
        u, log_snr = self._curve.points[self._index]
        count = len(self._curve.points)
        self.setAccessibleDescription(
            f"Point {self._index + 1} of {count}: time {u:.3g}, log-SNR {formatted(log_snr, '.3g')}. {_HINT}"
        )

    # Mouse and keys

    def _near(self, place: QPointF) -> int | None:
        axes = self.axes()
        apart = [(axes.at(*point) - place).manhattanLength() for point in self._curve.points]
        nearest = min(range(len(apart)), key=apart.__getitem__)
        return nearest if apart[nearest] <= REACH * 1.5 else None

    def mousePressEvent(self, event: QMouseEvent) -> None:
        index = self._near(event.position())
        if index is None:
            return
        self.choose(index)
        if event.button() == Qt.MouseButton.RightButton:
            self.remove_point()
        elif event.button() == Qt.MouseButton.LeftButton:
            self._dragged = True
            self._undone = [*self._undone[1 - _MOST_UNDONE :], self._curve]  # one step back for the whole drag

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        axes, place = self.axes(), event.position()
        if self._dragged:
            self._move(axes.time(place.x()), axes.log_snr(place.y()), undoable=False)
        near = self._dragged or self._near(place) is not None
        self.setCursor(Qt.CursorShape.SizeAllCursor if near else Qt.CursorShape.ArrowCursor)
        self.pointed.emit(min(max(axes.time(place.x()), 0.0), 1.0))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if not self._dragged:
            return
        self._dragged = False
        if self._undone and self._undone[-1] == self._curve:  # it was only chosen
            self._undone.pop()
        self._limits = range_of(self._curve.points[-1][1], self._curve.points[0][1])
        self.chosen.emit(self._index)
        self.update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self._near(event.position()) is None:
            self._try(lambda: added(self._curve, self.axes().time(event.position().x())))

    def leaveEvent(self, event: QEvent) -> None:
        self.pointed.emit(None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        fine = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        u, log_snr = self._curve.points[self._index]
        step, time_step = (_FINE, _FINE_TIME) if fine else (_STEP, _TIME_STEP)
        match Qt.Key(event.key()):
            case Qt.Key.Key_Up | Qt.Key.Key_Down as key:
                self._move(u, log_snr + (step if key == Qt.Key.Key_Up else -step))
            case Qt.Key.Key_Left | Qt.Key.Key_Right as key if control:
                self._move(u + (time_step if key == Qt.Key.Key_Right else -time_step), log_snr)
            case Qt.Key.Key_Left:
                self.choose(self._index - 1)
            case Qt.Key.Key_Right:
                self.choose(self._index + 1)
            case Qt.Key.Key_Home:
                self.choose(0)
            case Qt.Key.Key_End:
                self.choose(len(self._curve.points) - 1)
            case Qt.Key.Key_Insert | Qt.Key.Key_Plus:
                self.add_point()
            case Qt.Key.Key_Delete | Qt.Key.Key_Backspace:
                self.remove_point()
            case _:
                super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(theme.font(theme.TINY_PIXELS))
        if self._view is not None:
            draw(painter, self.axes(), self._view, self._index, focused=self.hasFocus())
