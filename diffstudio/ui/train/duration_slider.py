"""How long to train: a slider whose every notch means about half as long again, and a field that reads `1 h 30 min`."""

from __future__ import annotations

import re

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics, QValidator
from PySide6.QtWidgets import QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.inputs import DecimalField, Slider, lay_out_slider

LONGEST_MINUTES = 60.0 * 24 * 30
_PARTS = re.compile(
    r"^\s*(?:(?P<h>\d+(?:[.,]\d+)?)\s*h[a-z]*)?\s*(?:(?P<m>\d+(?:[.,]\d+)?)\s*(?:m[a-z]*)?)?\s*$", re.IGNORECASE
)


def minutes_text(minutes: float) -> str:
    """90 -> `1 h 30 min`."""
    whole = max(1, round(minutes))
    hours, rest = divmod(whole, 60)
    return " ".join([f"{hours} h"] * (hours > 0) + [f"{rest} min"] * (rest > 0 or hours == 0))


def minutes_of(text: str) -> float | None:
    """`1 h 30 min`, `1.5h`, `90`, `90 min` -> 90; None for what is no time."""
    found = _PARTS.match(text)
    if found is None or (found["h"] is None and found["m"] is None):
        return None
    hours, minutes = (float((part or "0").replace(",", ".")) for part in (found["h"], found["m"]))
    total = 60 * hours + minutes
    return min(total, LONGEST_MINUTES) if total > 0 else None


class _Field(DecimalField):
    def textFromValue(self, value: float) -> str:
        return minutes_text(value)

    def valueFromText(self, text: str) -> float:
        return minutes_of(text) or self.value()

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        fine = minutes_of(text) is not None
        return (QValidator.State.Acceptable if fine else QValidator.State.Intermediate), text, position

    def stepBy(self, steps: int) -> None:
        self.setValue(self.value() + steps * (1 if self.value() < 10 else 5 if self.value() < 60 else 15))


class DurationSlider(QWidget):
    """`value_changed` carries minutes (float) when a person changes it."""

    value_changed = Signal(object)

    def __init__(self, text: str, notches: tuple[int, ...], minutes: float, tooltip: str = "") -> None:
        super().__init__()
        self._notches = notches
        self.field, self.slider = _Field(), Slider()
        self.field.setProperty("bare", True)
        self.field.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.field.setKeyboardTracking(False)
        self.field.setRange(1, LONGEST_MINUTES)
        self.field.setFont(theme.font(bold=True))
        self.field.setFixedWidth(QFontMetrics(self.field.font()).horizontalAdvance("48 h 45 min") + 16)
        self.slider.setRange(0, len(notches) - 1)
        self.slider.setPageStep(3)
        for part in (self, self.field, self.slider):
            describe(part, text, tooltip)
        lay_out_slider(self, ElidedLabel(text), self.field, self.slider)
        self.set_value(minutes)
        self.field.valueChanged.connect(self._typed)
        self.slider.valueChanged.connect(self._slid)

    def value(self) -> float:
        return self.field.value()

    def set_value(self, minutes: float) -> None:
        """Without telling anybody."""
        self.field.blockSignals(True)
        self.field.setValue(minutes)
        self.field.blockSignals(False)
        self._follow()

    def _follow(self) -> None:
        nearest = min(range(len(self._notches)), key=lambda index: abs(self._notches[index] - self.value()))
        self.slider.blockSignals(True)
        self.slider.setValue(nearest)
        self.slider.blockSignals(False)
        self.slider.setAccessibleDescription(self.field.text())

    def _typed(self, minutes: float) -> None:
        self._follow()
        self.value_changed.emit(minutes)

    def _slid(self, notch: int) -> None:
        self.set_value(self._notches[notch])
        self.value_changed.emit(self.value())
