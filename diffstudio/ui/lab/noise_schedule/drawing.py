"""Paints a noise schedule: the curve with its points, the distribution of training, the steps, and the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPen, QPolygonF

from diffstudio.studio.evaluations.views.noise_schedule import LossMarks, ScheduleView
from diffstudio.studio.number_text import formatted
from diffstudio.ui.lab.noise_schedule.axes import Axes
from diffstudio.ui.widgets import theme

_POINT, _STEP = 5.0, 2.5  # px, radii
_OF_DENSITY_1 = 0.16  # of the height of the panel
ROW_COLOURS = ("accent", "good", "warn")  # of the steps of the curve, and of what it is compared with


def draw(painter: QPainter, axes: Axes, view: ScheduleView, chosen: int, *, focused: bool) -> None:
    _grid(painter, axes)
    _density(painter, axes, view)
    _rows(painter, axes, view)
    if view.losses is not None:
        _losses(painter, axes, view.losses)
    _curve(painter, axes, view, chosen, focused)


def _grid(painter: QPainter, axes: Axes) -> None:
    painter.setPen(QPen(theme.colour("line"), 1))
    for log_snr in axes.ticks():
        painter.drawLine(axes.at(0, log_snr), axes.at(1, log_snr))
    bottom = axes.loss.bottom() if axes.loss.height() else axes.rows.bottom()
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        painter.drawLine(QPointF(axes.x(share), axes.curve.top()), QPointF(axes.x(share), bottom))
    painter.setPen(theme.colour("dim"))
    height = axes.row_height
    for log_snr in axes.ticks():
        middle = axes.y(log_snr)
        _label(painter, QRectF(0, middle - height / 2, axes.curve.left() - 6, height), formatted(log_snr, "g"))
    below = QRectF(axes.curve.left(), bottom + 2, axes.curve.width(), height + 2)
    for text, flag in (
        ("0 clean image", Qt.AlignmentFlag.AlignLeft),
        ("time u", Qt.AlignmentFlag.AlignHCenter),
        ("noise 1", Qt.AlignmentFlag.AlignRight),
    ):
        painter.drawText(below, int(flag | Qt.AlignmentFlag.AlignVCenter), text)
    painter.save()
    painter.translate(painter.fontMetrics().height() * 0.9, axes.curve.center().y())
    painter.rotate(-90)
    painter.drawText(QRectF(-60, -height / 2, 120, height), int(Qt.AlignmentFlag.AlignCenter), "log-SNR")
    painter.restore()


def _density(painter: QPainter, axes: Axes, view: ScheduleView) -> None:
    if not len(view.density):
        return
    bottom, height = axes.curve.bottom(), axes.curve.height()
    outline = QPolygonF([QPointF(axes.x(0), bottom)])
    for index, value in enumerate(view.density.tolist()):
        y = bottom - min(_OF_DENSITY_1 * value, 1.0) * height
        outline.append(QPointF(axes.x(float(view.edges[index])), y))
        outline.append(QPointF(axes.x(float(view.edges[index + 1])), y))
    outline.append(QPointF(axes.x(1), bottom))
    fill = QColor(theme.colour("accent"))
    fill.setAlpha(46)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(fill)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)  # its edges are straight
    painter.drawPolygon(outline)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(theme.colour("dim"))
    where = QRectF(axes.curve.left() + 6, bottom - axes.row_height - 2, axes.curve.width() - 12, axes.row_height)
    text = painter.fontMetrics().elidedText(
        f"Training: {view.trained}", Qt.TextElideMode.ElideRight, int(where.width())
    )
    painter.drawText(where, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), text)


def _rows(painter: QPainter, axes: Axes, view: ScheduleView) -> None:
    for index, marks in enumerate(view.steps):
        row = axes.row(index)
        painter.setPen(QPen(theme.colour(ROW_COLOURS[index % len(ROW_COLOURS)]), 1.6))
        for u in marks.u:
            painter.drawLine(QPointF(axes.x(u), row.top() + 2), QPointF(axes.x(u), row.bottom() - 2))
        _label(painter, QRectF(0, row.top(), axes.curve.left() - 6, row.height()), marks.name)


def _losses(painter: QPainter, axes: Axes, marks: LossMarks) -> None:
    losses, panel = marks.losses, axes.loss
    finite = [value for value in (*losses.held_out, *losses.training) if math.isfinite(value)]
    highest = max(finite, default=1.0) * 1.1 or 1.0

    def at(u: float, value: float) -> QPointF:
        return QPointF(axes.x(u), panel.bottom() - min(value / highest, 1.0) * panel.height())

    painter.setPen(QPen(theme.colour("line"), 1))
    painter.drawLine(panel.bottomLeft(), panel.bottomRight())
    for values, name, role, line in ((losses.training, "training", "dim", 1), (losses.held_out, "held-out", "bad", 0)):
        if not values:
            continue
        painter.setPen(QPen(theme.colour(role), 1.6))
        places = [at(u, value) for u, value in zip(marks.u, values, strict=True)]
        painter.drawPolyline(QPolygonF(places))
        painter.setBrush(theme.colour(role))
        for place in places:
            painter.drawEllipse(place, _STEP, _STEP)
        top = panel.top() + line * axes.row_height
        painter.drawText(
            QRectF(panel.left(), top, panel.width() - 4, axes.row_height),
            int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter),
            name,
        )
    painter.setPen(theme.colour("dim"))
    _label(painter, QRectF(0, panel.top() - 4, panel.left() - 6, axes.row_height), f"loss {highest:.2g}")
    _label(painter, QRectF(0, panel.bottom() - axes.row_height, panel.left() - 6, axes.row_height), "0")


def _curve(painter: QPainter, axes: Axes, view: ScheduleView, chosen: int, focused: bool) -> None:
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(theme.colour("text"), 2))
    painter.drawPolyline(
        QPolygonF([axes.at(*place) for place in zip(view.u.tolist(), view.log_snr.tolist(), strict=True)])
    )
    if view.steps:
        _dots(painter, axes, view.steps[0].u, view.steps[0].log_snr)
    for index, (u, log_snr) in enumerate(view.curve.points):
        place, is_chosen = axes.at(u, log_snr), index == chosen
        painter.setPen(QPen(theme.colour("text"), 1.5))
        painter.setBrush(theme.colour("accent" if is_chosen else "raised"))
        painter.drawEllipse(place, _POINT + is_chosen, _POINT + is_chosen)
        if is_chosen and focused:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(theme.colour("accent"), 1.5))
            painter.drawEllipse(place, _POINT + 4, _POINT + 4)


def _dots(painter: QPainter, axes: Axes, times: Sequence[float], values: Sequence[float]) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(theme.colour(ROW_COLOURS[0]))
    for u, log_snr in zip(times, values, strict=True):
        painter.drawEllipse(axes.at(u, log_snr), _STEP, _STEP)


def _label(painter: QPainter, where: QRectF, text: str) -> None:
    """Right-aligned beside the panel, shortened to fit."""
    shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, int(where.width()))
    painter.drawText(where, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), shown)
