"""PlotView: paints a figure in the colours of the theme, and saves it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from diffstudio.errors import listed
from diffstudio.studio.evaluations.plots.figure import HEIGHT, WIDTH, Area, Dot, HeatMap, Line, Mark, Plot, Text, marks
from diffstudio.studio.evaluations.plots.files import COLOURS
from diffstudio.studio.number_text import formatted
from diffstudio.ui.lab.results.saving import SaveButton, files_of_figure
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.inputs.combo_box import ComboBox

_NARROWEST, _WIDEST = 240, round(1.4 * WIDTH)  # px


class PlotView(QWidget):
    """Shows one of several figures, chosen in a drop-down above it."""

    message = Signal(str, str)  # kind, text

    def __init__(self, what: str = "plot") -> None:
        super().__init__()
        self._figures: tuple[Plot, ...] = ()
        self.choice = ComboBox("Plot", (), "What the plot shows")
        self.choice.setMaximumWidth(theme.scaled(_WIDEST) - 36)
        self.save = SaveButton(what)
        self.canvas = PlotCanvas()
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.choice, 1)
        top.addWidget(self.save)
        top.addStretch(0)  # in a wide room, where the drop-down is as wide as the plot
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(self.canvas)
        self.choice.chosen.connect(lambda _: self._draw())
        self.save.message.connect(self.message)

    def show_figures(self, figures: Sequence[Plot]) -> None:
        self._figures = tuple(figures)
        self.choice.set_choices([(place, figure.title) for place, figure in enumerate(figures)])
        self.setVisible(bool(figures))
        self._draw()

    def _draw(self) -> None:
        place = self.choice.value()
        figure = self._figures[place] if place is not None else None
        self.canvas.set_figure(figure)
        self.save.set_files(files_of_figure(figure) if figure is not None else ())


class PlotCanvas(QWidget):
    """Paints the marks of a figure, scaled to the widget's width."""

    def __init__(self) -> None:
        super().__init__()
        self._marks: list[Mark] = []
        self._plain = "dim"  # the role of plain text
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setMinimumWidth(_NARROWEST)
        self.setMaximumWidth(theme.scaled(_WIDEST))
        describe(self, "Plot", " ")

    def set_figure(self, figure: Plot | None) -> None:
        self._marks = marks(figure) if figure is not None else []
        self._plain = "text" if isinstance(figure, HeatMap) else "dim"  # numbers on coloured cells need the contrast
        self.setAccessibleDescription(_in_words(figure) if figure is not None else "")
        describe(self, figure.title if figure is not None else "Plot", " ")
        self.update()

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        return round(min(width, self.maximumWidth()) * HEIGHT / WIDTH)

    def sizeHint(self) -> QSize:
        return QSize(_NARROWEST, self.heightForWidth(_NARROWEST))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        scale = self.width() / WIDTH
        painter.scale(scale, scale)
        for mark in self._marks:
            match mark:
                case Text(x, y, text, anchor, strong):
                    self._text(painter, x, y, text, anchor, strong, scale)
                case Line(points, colour, dashed):
                    role = theme.colour("line") if colour is None else _colour(colour)
                    pen = QPen(role, 1 if colour is None else 1.6)
                    pen.setStyle(Qt.PenStyle.DashLine if dashed else Qt.PenStyle.SolidLine)
                    painter.setPen(pen)
                    painter.setBrush(Qt.BrushStyle.NoBrush)
                    painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in points]))
                case Dot(x, y, colour):
                    painter.setPen(Qt.PenStyle.NoPen)
                    painter.setBrush(_colour(colour))
                    painter.drawEllipse(QPointF(x, y), 4, 4)
                case Area(x, y, width, height, share, colour):
                    filled = _colour(colour)
                    filled.setAlphaF(share)
                    painter.fillRect(QRectF(x, y, width, height), filled)

    def _text(self, painter: QPainter, x: float, y: float, text: str, anchor: str, strong: bool, scale: float) -> None:
        font = theme.font(theme.SMALL_PIXELS, bold=strong)
        font.setPixelSize(max(8, round(min(12 / scale * theme.text_factor(), 15))))
        painter.setFont(font)
        painter.setPen(theme.colour("text" if strong else self._plain))
        flags = {"start": Qt.AlignmentFlag.AlignLeft, "middle": Qt.AlignmentFlag.AlignHCenter}
        room = painter.fontMetrics().horizontalAdvance(text) + 4
        left = {"start": x, "middle": x - room / 2}.get(anchor, x - room)
        where = QRectF(left, y - 14, room, 18)
        painter.drawText(
            where, int(flags.get(anchor, Qt.AlignmentFlag.AlignRight) | Qt.AlignmentFlag.AlignVCenter), text
        )


def _colour(number: int) -> QColor:
    return QColor(COLOURS[number % len(COLOURS)])


def _in_words(figure: Plot) -> str:
    """The values of a figure as text, for screen readers; at most twelve."""
    named = isinstance(figure, HeatMap)
    rows = [
        (f"{name}, {where}" if named else where, y) for name, where, _, y, _, _ in figure.rows() if math.isfinite(y)
    ]
    return listed(rows, 12, lambda row: f"{row[0]} {formatted(row[1], '.3g')}")
