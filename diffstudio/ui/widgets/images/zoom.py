"""Which part of an image is shown, and how large: fitted, or zoomed around a point. Geometry only, no widget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, QSize
from PySide6.QtGui import QWheelEvent

SMALL_SIDE = 256  # px: images below it are always shown pixel by pixel


def is_small(size: QSize) -> bool:
    """Whether an image is always shown pixel by pixel, also where it is fitted into a larger place."""
    return max(size.width(), size.height()) < SMALL_SIDE


STEPS = (1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # zoom factors
EVEN_FROM = 4.0  # screen px per image px: from here on, nobody sees that some pixels are one screen px larger
MAX_ZOOM = STEPS[-1]
_WHEEL_STEP = 120  # eighths of a degree


@dataclass(frozen=True, slots=True)
class View:
    """What is zoomed, and where: `area` in widget coordinates, `size` in image px, `ratio` screen px per widget px."""

    area: QRectF
    size: QSize
    ratio: float = 1.0
    pixel_exact: bool = False  # pixels are not blended, so that all of them must be equally large

    def fit(self) -> float:
        """The zoom factor (screen px per image px) at which the whole image is shown as large as possible."""
        fit = self._fills()
        return float(math.floor(fit + 1e-6)) if self.is_uneven() else max(fit, 1e-3)

    def is_uneven(self) -> bool:
        """Whether some pixels would be visibly larger than others if the image filled the area."""
        return self.pixel_exact and 1 <= self._fills() < EVEN_FROM

    def _fills(self) -> float:
        width, height = max(1, self.size.width()), max(1, self.size.height())
        return self.ratio * min(self.area.width() / width, self.area.height() / height)


class Zoom:
    """`factor` is in screen px per image px; None fits the image into the area."""

    def __init__(self) -> None:
        self.factor: float | None = None
        self._centre = QPointF(0.5, 0.5)  # of the view, as a fraction of the image

    def reset(self) -> None:
        self.factor, self._centre = None, QPointF(0.5, 0.5)

    def scale(self, view: View) -> float:
        """The factor, also while fitted."""
        return view.fit() if self.factor is None else self.factor

    def set_factor(self, factor: float | None, view: View, around: QPointF | None = None) -> None:
        """Zoom; the image point under `around` (widget coordinates; None: the centre) stays where it is."""
        if factor is None:
            self.reset()
            return
        before, point = self.rect(view), around if around is not None else view.area.center()
        at = QPointF((point.x() - before.x()) / before.width(), (point.y() - before.y()) / before.height())
        self.factor = min(max(factor, min(view.fit(), 1.0)), max(MAX_ZOOM, view.fit()))
        after, middle = self._drawn_size(view), view.area.center()
        self._centre = QPointF(
            at.x() - (point.x() - middle.x()) / after.x(), at.y() - (point.y() - middle.y()) / after.y()
        )
        self._keep_inside(view)

    def step(self, steps: int, view: View, around: QPointF | None = None) -> None:
        """Zoom in (1) or out (-1) by one of the usual factors; the fitted size is one of them."""
        fit, now = view.fit(), self.scale(view)
        lowest = min(fit, 1.0)
        factors = sorted({fit, *(factor for factor in STEPS if factor >= lowest)})
        for _ in range(abs(steps)):
            others = [each for each in factors if (each > now * 1.001 if steps > 0 else each < now * 0.999)]
            if not others:
                break
            now = others[0] if steps > 0 else others[-1]
        self.set_factor(None if now == fit else now, view, around)

    def pan(self, moved: QPointF, view: View) -> None:
        """Move the image by this many widget px, as far as there is more of it to see."""
        drawn = self._drawn_size(view)
        self._centre -= QPointF(moved.x() / drawn.x(), moved.y() / drawn.y())
        self._keep_inside(view)

    def can_pan(self, view: View) -> bool:
        """Whether the image is larger than the area."""
        drawn = self._drawn_size(view)
        return self.factor is not None and (drawn.x() > view.area.width() + 0.5 or drawn.y() > view.area.height() + 0.5)

    def rect(self, view: View) -> QRectF:
        """Where the whole image is drawn, in widget coordinates; its corner lies on a screen px."""
        drawn, middle = self._drawn_size(view), view.area.center()
        left, top = middle.x() - self._centre.x() * drawn.x(), middle.y() - self._centre.y() * drawn.y()
        return QRectF(_on_pixel(left, view.ratio), _on_pixel(top, view.ratio), drawn.x(), drawn.y())

    def _drawn_size(self, view: View) -> QPointF:
        scale = self.scale(view) / view.ratio
        return QPointF(max(1.0, view.size.width() * scale), max(1.0, view.size.height() * scale))

    def _keep_inside(self, view: View) -> None:
        """No empty border beside an image that is larger than the area; a smaller one is in the middle."""
        drawn = self._drawn_size(view)

        def kept(centre: float, length: float, side: float) -> float:
            half = length / 2 / side
            return 0.5 if half >= 0.5 else min(max(centre, half), 1 - half)

        self._centre = QPointF(
            kept(self._centre.x(), view.area.width(), drawn.x()), kept(self._centre.y(), view.area.height(), drawn.y())
        )


class WheelSteps:
    """Counts whole steps of the wheel: touchpads and fine wheels turn by a fraction of one at a time."""

    def __init__(self) -> None:
        self._rest = 0

    def add(self, event: QWheelEvent) -> int:
        self._rest += event.angleDelta().y()
        steps = int(self._rest / _WHEEL_STEP)
        self._rest -= _WHEEL_STEP * steps
        return steps


def _on_pixel(position: float, ratio: float) -> float:
    return round(position * ratio) / ratio
