"""Where things are drawn in the editor of a noise schedule: its panels, and how they are scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF

_LEAST = 10.0  # log-SNR: a curve within it is shown from -10 to 10
_TICK = 5.0


@dataclass(frozen=True, slots=True)
class Axes:
    """The panel of the curve, rows of steps below it, and the panel of the loss below these, over one axis of time."""

    curve: QRectF
    rows: QRectF
    loss: QRectF  # empty without losses
    row_height: float
    lowest: float  # log-SNR
    highest: float

    def x(self, u: float) -> float:
        return self.curve.left() + u * self.curve.width()

    def y(self, log_snr: float) -> float:
        share = (self.highest - log_snr) / (self.highest - self.lowest)
        return self.curve.top() + min(max(share, 0.0), 1.0) * self.curve.height()

    def at(self, u: float, log_snr: float) -> QPointF:
        return QPointF(self.x(u), self.y(log_snr))

    def time(self, x: float) -> float:
        return (x - self.curve.left()) / self.curve.width()

    def log_snr(self, y: float) -> float:
        return self.highest - (y - self.curve.top()) / self.curve.height() * (self.highest - self.lowest)

    def row(self, index: int) -> QRectF:
        """The row of one spacing's steps."""
        top = self.rows.top() + index * self.row_height
        return QRectF(self.rows.left(), top, self.rows.width(), self.row_height)

    def ticks(self) -> list[float]:
        """Log-SNRs of the grid."""
        count = round((self.highest - self.lowest) / _TICK)
        return [self.lowest + index * _TICK for index in range(count + 1)]


def range_of(lowest: float, highest: float) -> tuple[float, float]:
    """The range of log-SNR that is shown for a curve between these."""
    return min(-_LEAST, math.floor(lowest / _TICK) * _TICK), max(_LEAST, math.ceil(highest / _TICK) * _TICK)


def axes_of(
    size: tuple[int, int], rows: int, losses: bool, limits: tuple[float, float], text_height: float, label_width: float
) -> Axes:
    """The panels in a widget of `size` px, with a margin of `label_width` px for the labels at the left."""
    width, height = size
    left, right, top = label_width, 12.0, 10.0
    row_height, below = text_height + 2, text_height + 6
    inner = max(width - left - right, 40.0)
    free = max(height - top - rows * row_height - below - 6, 60.0)
    loss = 0.26 * free if losses else 0.0
    gap = 8.0 if losses else 0.0
    curve = QRectF(left, top, inner, free - loss - gap)
    strip = QRectF(left, curve.bottom() + 4, inner, rows * row_height)
    return Axes(curve, strip, QRectF(left, strip.bottom() + gap, inner, loss), row_height, *limits)
