"""SelectionPanel: the images of the chosen points, and those between two samples, made by their checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.studio.evaluations.latents.tasks import InterpolateSeeds
from diffstudio.studio.evaluations.views.image_map import TWO_SAMPLES, ImageMapView
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.ui.lab.live_answers import LiveAnswers
from diffstudio.ui.lab.results.image_row import ImageRow
from diffstudio.ui.tasks import NewestFirstQueue
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import ProgressLine, SecondaryButton
from diffstudio.ui.widgets.helpers import describe, label, set_style_property
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_reading import read_image
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.widgets.images.roving_focus import RovingFocus
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout
from diffstudio.ui.widgets.wrapping_text import WrappingText

SIDE, _SMALL, _TEXT = 144, 88, 200  # px
_HOW = "Click a point, or use the arrow keys, to see its image here. Shift chooses a second one."
_PATIENCE_MS = 300  # before the progress line appears


class SelectionPanel(QWidget):
    menu_requested = Signal(object, object)  # ImageTarget, QPoint
    between_shown = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._view: ImageMapView | None = None
        self._task: InterpolateSeeds | None = None
        self.answers = LiveAnswers("image-map-between", self)
        self._reading = NewestFirstQueue("image-map-chosen")
        self.first, self.second = _Chosen("First image"), _Chosen("Second image")
        self.how = WrappingText(_HOW, "dim")
        self.button = SecondaryButton("Images between", "arrows-left-right", "Interpolate between the two samples")
        self.why = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.line = ProgressLine("Generating the images between")
        self.between = ImageRow("Between the two samples", _SMALL)
        self._patience = QTimer(self, singleShot=True, interval=_PATIENCE_MS)
        self._focus = RovingFocus(self)
        self._lay_out()
        for chosen in (self.first, self.second):
            chosen.thumbnail.menu_requested.connect(self.menu_requested)
        self.between.menu_requested.connect(self.menu_requested)
        self.button.clicked.connect(self._ask)
        self.answers.answered.connect(self._answered)
        self.answers.failed.connect(self._failed)
        self.answers.busy_changed.connect(self._set_busy)
        self._patience.timeout.connect(self.line.show)
        self._reading.completed.connect(self._read)

    def use(self, live: LiveTasks) -> None:
        self.answers.use(live)

    def show_chosen(self, view: ImageMapView, first: int | None, second: int | None) -> None:
        self._view = view
        for chosen, point in ((self.first, first), (self.second, second)):
            chosen.show_point(view, point)
            if point is not None and (file := view.file(point)) is not None:
                self._reading.submit(file, partial(read_image, file, 2 * SIDE))
        self._focus.set_images(each.thumbnail for each in (self.first, self.second) if not each.isHidden())
        self.how.setVisible(first is None)
        self.answers.cancel()
        found = view.between(first, second) if first is not None and second is not None else f"{TWO_SAMPLES}."
        self._task = found if isinstance(found, InterpolateSeeds) else None
        self.button.setEnabled(self._task is not None)
        self._say("" if self._task is not None or first is None else str(found), "dim")
        self.between.show_images(())

    def shut_down(self) -> None:
        self.answers.close()
        self._reading.close()

    def _lay_out(self) -> None:
        images = FlowLayout(spacing=16)
        images.addWidget(self.first)
        images.addWidget(self.second)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self.button)
        row.addWidget(self.why, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.how)
        column.addLayout(images)
        column.addLayout(row)
        column.addWidget(self.line)
        column.addWidget(self.between)
        self.line.hide()
        self.button.setEnabled(False)
        describe(self, "Chosen images", " ")

    def _read(self, file: Path, image: QImage | None) -> None:
        for chosen in (self.first, self.second):
            if chosen.file == file:
                chosen.show_image(image or QImage())

    def _ask(self) -> None:
        if self._task is not None:
            self.answers.ask(self._task)

    def _answered(self, task: InterpolateSeeds, images: Any) -> None:
        last = len(images) - 1
        self.between.show_images([(f"{place / last:.0%}", image) for place, image in enumerate(images)])
        one, other = task.prompts
        self._say(
            f"The noise is interpolated spherically; the prompt changes halfway, from “{one}” to “{other}”."
            if one != other
            else "The noise is interpolated spherically from one seed to the other.",
            "dim",
        )
        self.between_shown.emit()

    def _failed(self, why: str) -> None:
        self._say(why, "bad")

    def _say(self, text: str, tone: str) -> None:
        set_style_property(self.why, "tone", tone)
        self.why.setText(text)

    def _set_busy(self, busy: bool) -> None:
        self.button.setEnabled(not busy and self._task is not None)
        if busy:
            self._patience.start()
        else:
            self._patience.stop()
            self.line.hide()


class _Chosen(QWidget):
    """One image with its part, name and label; hidden without a point."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name, self.file = name, Path()
        self.thumbnail = ImageThumbnail(ImageTarget(), SIDE, name=name)
        self.text = WrappingText("", "text")
        self.text.setFixedWidth(theme.scaled(_TEXT))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.thumbnail)
        row.addWidget(self.text, 1)
        self.hide()

    def show_point(self, view: ImageMapView, point: int | None) -> None:
        self.setVisible(point is not None)
        file = view.file(point) if point is not None else None
        if file != self.file:
            self.thumbnail.set_image(None)
        self.file = file or Path()
        self.thumbnail.target = ImageTarget(file)
        if point is None:
            return
        words = [view.part(point).name, view.name(point), view.label(point)]
        words += [] if file is not None else ["The image was not kept."]
        self.text.set_text("\n".join(filter(None, words)))
        describe(self.thumbnail, f"{self._name}: {view.in_words(point)}")
        self.text.setAccessibleName(self.thumbnail.accessibleName())

    def show_image(self, image: QImage) -> None:
        self.thumbnail.target = ImageTarget(self.file, image)
        self.thumbnail.set_image(image)
        if image.isNull():
            self.text.set_text(f"{self.text.toPlainText()}\nThe image cannot be read.")
