"""DirectionSliders: a slider for each principal direction of a VAE's latents, in standard deviations."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import describe, leave_focus
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

FIRST = 8  # directions that are shown initially
REACH = 3.0  # standard deviations


class DirectionSliders(QWidget):
    """Sliders for the directions with the largest variance; a button shows the others."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._sliders: list[LabelledSlider] = []
        self._count, self._all = 0, False
        self.reset = SecondaryButton("Reset", "arrow-counter-clockwise", "Set all directions back to 0")
        self.more = SecondaryButton("Show all", tooltip="Show the directions with less variance too")
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.reset)
        buttons.addWidget(self.more)
        buttons.addStretch(1)
        self._column = QVBoxLayout()
        self._column.setSpacing(4)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(SectionLabel("Directions"))
        column.addLayout(self._column)
        column.addLayout(buttons)
        describe(self, "Directions", " ")
        self.reset.clicked.connect(self._reset)
        self.more.clicked.connect(self._show_all)
        self.hide()

    def set_count(self, count: int) -> None:
        """Set the number of directions; only the first of them are shown."""
        self._count = count
        shown = count if self._all else min(FIRST, count)
        while len(self._sliders) < shown:
            self._add()
        for place, slider in enumerate(self._sliders):
            slider.setVisible(place < shown)
        leave_focus(self.more, self.reset)
        self.more.setVisible(shown < count)
        self.setVisible(count > 0)

    def amounts(self) -> tuple[tuple[int, float], ...]:
        """Pairs of direction and standard deviations for sliders that are not 0."""
        shown = enumerate(self._sliders[: self._count])
        return tuple((place, float(one.value())) for place, one in shown if one.value())

    def slider(self, place: int) -> LabelledSlider:
        return self._sliders[place]

    def _add(self) -> None:
        number = len(self._sliders) + 1
        slider = LabelledSlider(
            f"Direction {number}",
            -REACH,
            REACH,
            0.0,
            step=0.1,
            decimals=1,
            tooltip="Standard deviations of the training images along this direction; direction 1 has the largest variance",
        )
        slider.value_changed.connect(lambda _: self.changed.emit())
        self._sliders.append(slider)
        self._column.addWidget(slider)

    def _reset(self) -> None:
        for slider in self._sliders:
            slider.set_value(0.0)
        self.changed.emit()

    def _show_all(self) -> None:
        self._all = True
        self.set_count(self._count)
