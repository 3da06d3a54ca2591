"""FilmView: the frames of a process, one step at a time, moved by a slider, by keys, or by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent, QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.ui.lab.results.whole_images import WholeImages
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.inputs.sliders import Slider
from diffstudio.ui.widgets.wrapping_text import WrappingText

_STEP_MS, _END_MS = 250, 1500
_KEYS = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Home: -(10**6), Qt.Key.Key_End: 10**6}


@dataclass(frozen=True, slots=True)
class ReadFrame:
    """The images of one step by the names of the parts, null where one cannot be read, and what is said about it."""

    targets: Mapping[str, ImageTarget]
    title: str
    text: str


class FilmView(QWidget):
    """Images side by side that change together. Left, Right, Home and End move through the steps, Space plays them."""

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, parts: Mapping[str, str]) -> None:
        """`parts` are the names of the images of a step, and their titles."""
        super().__init__()
        self._frames: Sequence[ReadFrame] = ()
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # Tab reaches the controls in it
        describe(self, "Film", "Left and Right move through the steps, Home and End to the ends, Space plays")
        self.row = WholeImages(parts)
        self.images = self.row.images
        self._parts = dict(parts)
        self.row.menu_requested.connect(self.menu_requested)
        self.play = SecondaryButton("", "play", "Play the steps (Space)", name="Play")
        self.slider = Slider()
        describe(self.slider, "Step", "The step to show")
        self.about = WrappingText("", "dim")
        self.about.setAccessibleName("Values of the step")
        controls = QHBoxLayout()
        controls.setSpacing(8)
        controls.addWidget(self.play)
        controls.addWidget(self.slider, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(controls)
        column.addWidget(self.about)
        column.addWidget(self.row)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._advance)
        self.play.clicked.connect(self.toggle)
        self.slider.valueChanged.connect(lambda _: self._draw())

    def show_frames(self, frames: Sequence[ReadFrame]) -> None:
        """The last one is shown first: the finished image."""
        self._stop()
        self._frames = frames
        self.slider.blockSignals(True)
        self.slider.setRange(0, max(0, len(frames) - 1))
        self.slider.setValue(len(frames) - 1)
        self.slider.blockSignals(False)
        self.setVisible(bool(frames))
        self._draw()

    def step(self) -> int:
        """Of the frame that is shown, from 0."""
        return self.slider.value()

    def go(self, steps: int) -> None:
        self.slider.setValue(self.slider.value() + steps)

    def is_playing(self) -> bool:
        return self._timer.isActive()

    def toggle(self) -> None:
        """Play from the start, or from where it stands; or stop."""
        if self.is_playing():
            self._stop()
            return
        if self.step() == self.slider.maximum():
            self.slider.setValue(0)
        self._timer.start(_STEP_MS)
        self._show_button("pause", "Pause")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        if key in _KEYS:
            self.go(_KEYS[key])
        elif key == Qt.Key.Key_Space:
            self.toggle()
        else:
            super().keyPressEvent(event)

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._stop()

    def _advance(self) -> None:
        at_end = self.step() == self.slider.maximum()
        self.slider.setValue(0 if at_end else self.step() + 1)
        self._timer.start(_END_MS if self.step() == self.slider.maximum() else _STEP_MS)

    def _stop(self) -> None:
        self._timer.stop()
        self._show_button("play", "Play")

    def _show_button(self, icon: str, name: str) -> None:
        self.play.set_icon(icon)
        self.play.setAccessibleName(name)

    def _draw(self) -> None:
        if not self._frames:
            return
        frame = self._frames[self.step()]
        for part, image in self.images.items():
            image.show_target(frame.targets.get(part, ImageTarget()))
            image.setAccessibleName(f"{self._parts[part]}, {frame.title}")
        self.about.set_text(f"{frame.title}: {frame.text}" if frame.text else frame.title)
