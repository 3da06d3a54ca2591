"""The page Forward process: noise on any image by a slider, and what the schedule says at each time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio import paths
from diffstudio.errors import DiffstudioError
from diffstudio.imaging.reader import flatten
from diffstudio.imaging.thumbnail import read_thumbnail
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.curves.forward import (
    SCHEDULES,
    NoiseLevel,
    Values,
    family_schedule,
    level_at,
    noise_like,
    noisy,
    shown,
    time_at,
)
from diffstudio.studio.curves.models import has_noise_schedule, model_noise
from diffstudio.studio.curves.schedules import ScheduleArrays
from diffstudio.studio.evaluations.views.forward import curves
from diffstudio.ui.lab.page import InteractivePage, InteractiveView
from diffstudio.ui.lab.results.plot_view import PlotView
from diffstudio.ui.lab.results.result_view import HowToRead
from diffstudio.ui.lab.results.whole_images import WholeImages
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.dialogs import choose_image
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, label, scroll_area
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, dropped_image
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

TITLE = "Forward process"
SHOWS = "What a model is trained to undo: any image with as much noise as the slider says, by the noise schedule of any model."
LARGEST = 256  # px of an image
PARTS = {"clean": "x_0: image", "state": "x_t: noisy image", "noise": "Noise"}
HOW = (
    "x_t = alpha x_0 + sigma noise: alpha says how much of the image is left, sigma how much noise there is, and SNR is the "
    "square of their ratio. Schedules with other times and scales can be compared by log-SNR: at the same value they are "
    "equally hard to undo. x_t is shown divided by (alpha² + sigma²)^½, noise from -3 to 3 deviations."
)
_WIDEST = 900  # px of the page at 100%: three images at their largest
_FIRST = 0.3  # share of the slider at first
_CELL = 128  # px of the first image on the sheet of the starter


class ForwardView(InteractiveView):
    """Image, noise and schedule; nothing here needs a network."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks = Tasks("forward-process")
        self._reading: asyncio.Task[None] | None = None
        self._checkpoints: dict[str, Checkpoint] = {}
        self._schedule: ScheduleArrays = family_schedule(SCHEDULES[0][0])
        self._seed = 0
        self.clean, self.noise = _first_image(), np.zeros(0, np.float32)
        self.level = NoiseLevel(0, 1, 0)
        self.schedule = LabelledComboBox(
            "Noise schedule", (), "Of a family of models, or of a checkpoint in your library"
        )
        self.slider = LabelledSlider(
            "Noise", 0, 100, 100 * _FIRST, step=0.1, decimals=1, suffix="%",
            tooltip="The time t as a share of its largest: 0% is the image, 100% noise",
        )  # fmt: skip
        self.choose = SecondaryButton("Image…", "image", "Choose an image, or drop one here")
        self.again = SecondaryButton("New noise", "dice-five", "Draw other noise")
        self.figures = label("", wrap=True)
        self.row = WholeImages(PARTS)
        self.images = self.row.images
        self.plot, self.how = PlotView(), HowToRead()
        self.how.show_sentences([HOW])
        self._lay_out()
        self.schedule.value_changed.connect(lambda _: self._choose_schedule())
        self.slider.value_changed.connect(lambda _: self._draw())
        self.again.clicked.connect(self.draw_noise)
        self.choose.clicked.connect(lambda: choose_image(self, TITLE, pictures_folder(), self.open))
        self.plot.message.connect(self.message)
        self.row.menu_requested.connect(self.menu_requested)
        self.setFocusProxy(self.slider)
        self.offer([])
        self._show_image()

    def offer(self, checkpoints: Sequence[Checkpoint]) -> None:
        self._checkpoints = {str(one.path): one for one in checkpoints if has_noise_schedule(one)}
        families = [(key, title) for key, title, _ in SCHEDULES]
        before = self.path_now(self.schedule.value(), {*self._checkpoints, *(key for key, _ in families)})
        self.schedule.set_choices([*families, *((path, one.name) for path, one in self._checkpoints.items())])
        if before is not None:
            self.schedule.set_value(before)
        if before is not None and self.schedule.value() != before:  # the checkpoint is gone
            self._choose_schedule()

    def drop_text(self, items: Sequence[DroppedItem]) -> str:
        return "Drop to add noise to this image" if dropped_image(items) is not None else ""

    def take(self, items: Sequence[DroppedItem]) -> None:
        item = dropped_image(items)
        if item is not None and item.path is not None:
            self.open(item.path)

    def open(self, path: Path) -> None:
        """Read an image and show it with the noise that is chosen."""
        if self._reading is not None:
            self._reading.cancel()  # the image that was opened last is shown
        self._reading = self._tasks.start(self._read(path))

    def draw_noise(self) -> None:
        self._seed += 1
        self._show_image()

    def shut_down(self) -> None:
        self._tasks.close()

    async def _read(self, path: Path) -> None:
        try:
            self.clean = await self._tasks.to_thread(lambda: _values(flatten(read_thumbnail(path, LARGEST))))
        except DiffstudioError as error:
            self.message.emit("bad", str(error))
            return
        self._show_image()

    def _choose_schedule(self) -> None:
        chosen = self.schedule.value()
        try:
            found = self._checkpoints.get(chosen)
            self._schedule = model_noise(found).schedule if found is not None else family_schedule(chosen)
        except DiffstudioError as error:
            self.message.emit("bad", str(error))
            self.schedule.set_value(SCHEDULES[0][0])
            self._schedule = family_schedule(SCHEDULES[0][0])
        self._draw()

    def _show_image(self) -> None:
        self.noise = noise_like(self.clean, self._seed)
        whole = NoiseLevel(0, 1, 0)
        self._show("clean", shown(self.clean, whole))
        self._show("noise", shown(self.noise / np.float32(3), whole))
        self._draw()

    def _draw(self) -> None:
        """Everything that follows the slider."""
        self.level = level_at(self._schedule, time_at(self._schedule, self.slider.value() / 100))
        self._show("state", shown(noisy(self.clean, self.noise, self.level), self.level))
        self.figures.setText(self.level.text())
        self.plot.show_figures(curves(self._schedule, self.level))

    def _show(self, part: str, pixels: np.typing.NDArray[np.uint8]) -> None:
        self.images[part].show_target(ImageTarget(None, numpy_to_qimage(pixels)))

    def _lay_out(self) -> None:
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(24, 20, 24 - SCROLL_BAR_WIDTH, 16)
        column.setSpacing(12)
        column.addWidget(label(TITLE, pixels=18, bold=True))
        column.addWidget(label(SHOWS, "dim", wrap=True))
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.schedule, 1)
        for button in (self.choose, self.again):
            top.addWidget(button, 0, Qt.AlignmentFlag.AlignBottom)
        column.addLayout(top)
        column.addWidget(self.slider)
        column.addWidget(self.figures)
        column.addWidget(self.row)
        column.addWidget(self.how)
        column.addWidget(self.plot)
        column.addStretch(1)
        sides = column.contentsMargins().left() + column.contentsMargins().right()
        contents.setMaximumWidth(theme.scaled(_WIDEST) + sides)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(scroll_area(contents))


def _first_image() -> Values:
    """The first of the starter's own images; grey where its sheet cannot be read."""
    try:
        with Image.open(paths.resources() / "starter" / "sheet.png") as sheet:
            return _values(sheet.convert("RGB").crop((0, 0, _CELL, _CELL)))
    except OSError:
        return np.zeros((_CELL, _CELL, 3), np.float32)


def _values(image: Image.Image) -> Values:
    return np.asarray(image, np.float32) / np.float32(127.5) - 1


PAGE = InteractivePage("forward-process", TITLE, "cloud-fog", SHOWS, ForwardView)
