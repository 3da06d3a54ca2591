"""Sliders, alone and with a name and a number field."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics, QWheelEvent
from PySide6.QtWidgets import QHBoxLayout, QSlider, QVBoxLayout, QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.inputs.events import change_if_focused
from diffstudio.ui.widgets.inputs.marks import mark_name, with_reason
from diffstudio.ui.widgets.inputs.number_fields import DecimalField


class Slider(QSlider):
    """A slider that the mouse wheel moves only when it has the focus."""

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def wheelEvent(self, event: QWheelEvent) -> None:
        change_if_focused(self, super().wheelEvent, event)


def lay_out_slider(whole: QWidget, name: ElidedLabel, field: QWidget, slider: QSlider) -> None:
    """Lay out a name and a field, with the slider below them."""
    name.setBuddy(field)
    column, row = QVBoxLayout(whole), QHBoxLayout()
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(2)
    row.addWidget(name, 1)
    row.addWidget(field)
    column.addLayout(row)
    column.addWidget(slider)


class LabelledSlider(QWidget):
    """A name, a number field, and a slider below. `value_changed` carries an int when `decimals` is 0.

    `zero` is shown in place of the minimum.
    """

    value_changed = Signal(object)

    def __init__(
        self,
        text: str,
        minimum: float,
        maximum: float,
        value: float,
        *,
        step: float = 1,
        decimals: int = 0,
        suffix: str = "",
        tooltip: str = "",
        zero: str = "",
    ) -> None:
        super().__init__()
        self._decimals, self._scale = decimals, 1 / step
        self._text, self._tooltip = text, tooltip
        self._label = ElidedLabel(text)
        self._box = DecimalField()
        self._box.setProperty("bare", True)
        self._box.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._box.setDecimals(decimals)
        self._box.setSingleStep(step)
        self._box.setSuffix(suffix)
        self._box.setSpecialValueText(zero)
        self._box.setKeyboardTracking(False)
        self._box.setFont(theme.font(bold=True))
        self._slider = Slider()
        for part in (self._box, self._slider):
            describe(part, text, tooltip)
        describe(self, text, tooltip)
        lay_out_slider(self, self._label, self._box, self._slider)
        self.set_range(minimum, maximum)
        self.set_value(value)
        self._slider.valueChanged.connect(self._slid)
        self._box.valueChanged.connect(self._typed)

    def value(self) -> int | float:
        value = self._box.value()
        return round(value) if self._decimals == 0 else round(value, self._decimals)

    def set_value(self, value: float) -> None:
        """Set the value without emitting `value_changed`."""
        for part, shown in ((self._box, value), (self._slider, round(value * self._scale))):
            part.blockSignals(True)
            part.setValue(shown)  # type: ignore[arg-type]
            part.blockSignals(False)
        self._slider.update()

    def set_mark(self, why: str) -> None:
        """Mark the name with a dot, which the tooltip explains; an empty text for no mark."""
        mark_name(self._label, self._text, why)
        for part in (self, self._box, self._slider):
            describe(part, self._text, with_reason(self._tooltip or self._text, why))

    def set_range(self, minimum: float, maximum: float) -> None:
        for part in (self._box, self._slider):
            part.blockSignals(True)
        self._box.setRange(minimum, maximum)
        self._slider.setRange(round(minimum * self._scale), round(maximum * self._scale))
        self._slider.setPageStep(max(1, round((maximum - minimum) * self._scale / 10)))
        for part in (self._box, self._slider):
            part.blockSignals(False)
        self.fit_text()

    def fit_text(self) -> None:
        """Make the number field as wide as its longest value."""
        maximum, minimum = self._box.maximum(), self._box.minimum()
        metrics = QFontMetrics(self._box.font())
        texts = (self._box.textFromValue(maximum), self._box.textFromValue(minimum))
        shown = (*(text + self._box.suffix() for text in texts), self._box.specialValueText())
        self._box.setFixedWidth(max(map(metrics.horizontalAdvance, shown)) + 16)

    def _slid(self, position: int) -> None:
        self._box.blockSignals(True)
        self._box.setValue(position / self._scale)
        self._box.blockSignals(False)
        self.value_changed.emit(self.value())

    def _typed(self, value: float) -> None:
        self._slider.blockSignals(True)
        self._slider.setValue(round(value * self._scale))
        self._slider.blockSignals(False)
        self._slider.update()
        self.value_changed.emit(self.value())
