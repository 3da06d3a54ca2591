"""The training time: a slider with roughly exponential steps, and a field that reads `1 h 30 min`."""

from __future__ import annotations

import re

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics, QValidator
from PySide6.QtWidgets import QWidget

from diffstudio.studio.runs.form_state import LONGEST_MINUTES
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.inputs.number_fields import DecimalField
from diffstudio.ui.widgets.inputs.sliders import Slider, lay_out_slider

_PARTS = re.compile(
    r"^\s*(?:(?P<h>\d+(?:[.,]\d+)?)\s*h[a-z]*)?\s*(?:(?P<m>\d+(?:[.,]\d+)?)\s*(?:m[a-z]*)?)?\s*$", re.IGNORECASE
)


def minutes_text(minutes: float) -> str:
    """90 -> `1 h 30 min`."""
    whole = max(1, round(minutes))
    hours, minutes_left = divmod(whole, 60)
    return " ".join([f"{hours} h"] * (hours > 0) + [f"{minutes_left} min"] * (minutes_left > 0 or hours == 0))


def parse_minutes(text: str) -> float | None:
    """`1 h 30 min`, `1.5h`, `90`, `90 min` -> 90; None if it is not a duration."""
    match = _PARTS.match(text)
    if match is None or (match["h"] is None and match["m"] is None):
        return None
    hours, minutes = (float((part or "0").replace(",", ".")) for part in (match["h"], match["m"]))
    total = 60 * hours + minutes
    return min(total, LONGEST_MINUTES) if total > 0 else None


class DurationField(DecimalField):
    def textFromValue(self, value: float) -> str:
        return minutes_text(value)

    def valueFromText(self, text: str) -> float:
        return parse_minutes(text) or self.value()

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        valid = parse_minutes(text) is not None
        return (QValidator.State.Acceptable if valid else QValidator.State.Intermediate), text, position

    def stepBy(self, steps: int) -> None:
        self.setValue(self.value() + steps * (1 if self.value() < 10 else 5 if self.value() < 60 else 15))


class DurationSlider(QWidget):
    """A slider and a field for minutes. `value_changed` carries minutes (float) on input."""

    value_changed = Signal(object)

    def __init__(self, text: str, notches: tuple[int, ...], minutes: float, tooltip: str = "") -> None:
        super().__init__()
        self._notches = notches
        self.field, self.slider = DurationField(), Slider()
        self.field.setProperty("bare", True)
        self.field.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.field.setKeyboardTracking(False)
        self.field.setRange(1, LONGEST_MINUTES)
        self.field.setFont(theme.font(bold=True))
        self.fit_text()
        self.slider.setRange(0, len(notches) - 1)
        self.slider.setPageStep(3)
        for part in (self, self.field, self.slider):
            describe(part, text, tooltip)
        lay_out_slider(self, ElidedLabel(text), self.field, self.slider)
        self.set_value(minutes)
        self.field.valueChanged.connect(self._field_changed)
        self.slider.valueChanged.connect(self._slider_moved)

    def fit_text(self) -> None:
        """Make the field as wide as its longest value."""
        self.field.setFixedWidth(QFontMetrics(self.field.font()).horizontalAdvance("48 h 45 min") + 16)

    def value(self) -> float:
        return self.field.value()

    def set_value(self, minutes: float) -> None:
        """Set the value without emitting `value_changed`."""
        self.field.blockSignals(True)
        self.field.setValue(minutes)
        self.field.blockSignals(False)
        self._move_slider()

    def _move_slider(self) -> None:
        nearest = min(range(len(self._notches)), key=lambda index: abs(self._notches[index] - self.value()))
        self.slider.blockSignals(True)
        self.slider.setValue(nearest)
        self.slider.blockSignals(False)
        self.slider.setAccessibleDescription(self.field.text())

    def _field_changed(self, minutes: float) -> None:
        self._move_slider()
        self.value_changed.emit(minutes)

    def _slider_moved(self, notch: int) -> None:
        self.set_value(self._notches[notch])
        self.value_changed.emit(self.value())
