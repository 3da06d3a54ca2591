"""The filmstrip: the denoised estimate after each step, browsed with the mouse or the keyboard."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPoint, QRectF, QSize, Qt
from PySide6.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QAbstractSlider, QSizePolicy

from diffstudio.studio.events import Picture
from diffstudio.studio.jobs.preview_history import PreviewHistory
from diffstudio.ui.generate.canvas.painting import smooth
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images.image_painting import mark, rounded
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage

SIDE = 72
GAP = 8
_HINT = "Drag, or use the arrow keys, to browse the steps"


class StepPreviews:
    """The previews of the steps of a job or an image, and the step that is chosen: the newest unless the user went back."""

    def __init__(self, steps: int) -> None:
        self.steps = max(1, steps)
        self.history = PreviewHistory()
        self.chosen = 1

    def put(self, step: int, first: int, previews: Sequence[Picture]) -> None:
        """Add the previews after a step, for images `first` onwards."""
        follows = self.chosen >= len(self.history)
        self.history.put(step, first, previews)
        if follows:
            self.chosen = step

    def replace(self, steps: Sequence[Sequence[Picture]]) -> None:
        """Replace all steps, from step 1 on; an empty entry has no previews."""
        follows = self.chosen >= len(self.history)
        self.history = PreviewHistory()
        for number, previews in enumerate(steps, 1):
            self.history.put(number, 0, previews)
        if follows:
            self.chosen = max(1, len(self.history))


class Filmstrip(QAbstractSlider):
    """A slider over steps 1 .. steps that draws their previews.

    While a job runs, the value follows the newest step unless the user has gone back.
    """

    def __init__(self) -> None:
        super().__init__()
        describe(self, "Denoising steps", _HINT)
        self.setOrientation(Qt.Orientation.Horizontal)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFixedHeight(SIDE)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._previews = StepPreviews(1)
        self._image = 0
        self._thumbnails: dict[tuple[int, int], QImage] = {}
        self.clear(1)

    def clear(self, steps: int) -> None:
        """Show an empty strip for a job of `steps` steps."""
        self.show_steps(StepPreviews(steps))

    def show_steps(self, previews: StepPreviews, image: int = 0) -> None:
        """Show the steps of another job or image, of which `image` is chosen, at the step that was chosen there."""
        self._previews, self._thumbnails, self._image = previews, {}, image
        self.blockSignals(True)
        self.setRange(1, previews.steps)
        self.setPageStep(max(1, previews.steps // 10))
        self.blockSignals(False)
        self._show_chosen()

    def previews(self) -> StepPreviews:
        return self._previews

    def set_step(self, step: int, first: int, previews: Sequence[Picture]) -> None:
        """Add the previews after a step, for images `first` onwards. The value follows if it was at the newest step."""
        self._previews.put(step, first, previews)
        self._thumbnails.pop((step, self._image), None)
        self._show_chosen()

    def set_previews(self, steps: Sequence[Sequence[Picture]]) -> None:
        """Replace all steps with the worker's complete record."""
        self._previews.replace(steps)
        self._thumbnails = {}
        self._show_chosen()

    def _show_chosen(self) -> None:
        self.blockSignals(True)
        self.setValue(self._previews.chosen)
        self.blockSignals(False)
        self.update()

    def last_step(self) -> int:
        """The newest step, or 0."""
        return len(self._previews.history)

    def previews_at(self, step: int) -> tuple[Picture, ...]:
        """The previews after a step, or after the nearest earlier step that was kept."""
        return self._previews.history.at(step)

    def set_image(self, index: int) -> None:
        """Choose which image of the batch the strip shows."""
        if index != self._image:
            self._image = index
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(9 * (SIDE + GAP), SIDE)

    def minimumSizeHint(self) -> QSize:
        return QSize(2 * (SIDE + GAP), SIDE)

    # Thumbnails: as many as fit, each representing a range of steps

    def thumbnails(self) -> list[tuple[int, QRectF]]:
        """(step, rectangle) of the steps shown; the last step is always one of them."""
        steps, room = self.maximum(), max(SIDE, self.width())
        count = max(1, min(steps, (room + GAP) // (SIDE + GAP)))
        gap = (
            min(2.0 * GAP, (room - count * SIDE) / (count - 1)) if 1 < count < steps else GAP
        )  # a full strip fills the room
        shown = [round(1 + (steps - 1) * index / max(1, count - 1)) for index in range(count)] if count > 1 else [steps]
        return [(step, QRectF(index * (SIDE + gap), 0, SIDE, SIDE)) for index, step in enumerate(shown)]

    def _step_at(self, x: float) -> int:
        """Interpolate between the centres of neighbouring thumbnails."""
        thumbnails = self.thumbnails()
        middles = [cell.center().x() for _, cell in thumbnails]
        if x <= middles[0]:
            return self._within(thumbnails[0][0])
        for (step, _), (following, _), left, right in zip(
            thumbnails, thumbnails[1:], middles, middles[1:], strict=False
        ):
            if x <= right:
                return self._within(round(step + (following - step) * (x - left) / (right - left)))
        return self._within(thumbnails[-1][0])

    def _within(self, step: int) -> int:
        return min(max(1, step), max(1, self.last_step()))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        thumbnails, radius = self.thumbnails(), 7.0
        nearest = min((step for step, _ in thumbnails), key=lambda step: abs(step - self.value()))
        for step, cell in thumbnails:
            image = self._thumbnail(step)
            if image is None:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(theme.colour("panel"))
                painter.drawRoundedRect(cell, radius, radius)
                continue
            rounded(painter, image, cell, radius)
            if step == nearest and self.isEnabled():
                mark(painter, cell, radius, focused=self.hasFocus())

    def _thumbnail(self, step: int) -> QImage | None:
        if step > self.last_step():
            return None
        key = (step, self._image)
        if key not in self._thumbnails:
            previews = self.previews_at(step)
            if not previews:
                return None
            image = numpy_to_qimage(previews[min(self._image, len(previews) - 1)])
            side = round(SIDE * self.devicePixelRatioF())
            size = image.size().scaled(side, side, Qt.AspectRatioMode.KeepAspectRatioByExpanding)
            image = smooth(image, size)
            self._thumbnails[key] = image.copy((size.width() - side) // 2, (size.height() - side) // 2, side, side)
        return self._thumbnails[key]

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.update()

    # User input

    def setValue(self, value: int) -> None:
        super().setValue(min(value, max(1, self.last_step())))

    def sliderChange(self, change: QAbstractSlider.SliderChange) -> None:
        super().sliderChange(change)
        if change == QAbstractSlider.SliderChange.SliderValueChange:
            if self.value() > max(1, self.last_step()):  # the keyboard moved beyond the last step
                self.setValue(self.last_step())
            self._previews.chosen = self.value()
            self.setAccessibleDescription(f"Step {self.value()} of {self.maximum()}")
            self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self.last_step():
            self.setSliderDown(True)
            self.setValue(self._step_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self.isSliderDown():
            self.setValue(self._step_at(event.position().x()))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self.setSliderDown(False)

    def center_of(self, step: int) -> QPoint:
        """The centre of the thumbnail nearest to a step."""
        return min(self.thumbnails(), key=lambda thumbnail: abs(thumbnail[0] - step))[1].center().toPoint()
