"""Controls that hold a value: sliders, drop-downs, rows of chips, check boxes, fields.

Each emits a signal when the user changes the value, but not when the program sets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PySide6.QtCore import QEvent, QRect, Qt, QTimer, Signal
from PySide6.QtGui import (
    QFontMetrics,
    QHelpEvent,
    QKeyEvent,
    QKeySequence,
    QPainter,
    QPaintEvent,
    QTextDocumentFragment,
    QWheelEvent,
)
from PySide6.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLineEdit,
    QSlider,
    QSpinBox,
    QStyle,
    QStyleOptionButton,
    QStyleOptionComboBox,
    QStylePainter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.controls import Chip
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, plain_tooltip, set_tooltip, show_tooltip
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout

SEARCH_DELAY_MS = 150


def _scroll_if_chosen(control: QWidget, scroll: Callable[[QWheelEvent], None], event: QWheelEvent) -> None:
    """Scroll the column instead of changing a control that has no focus."""
    if control.hasFocus():
        scroll(event)
    else:
        event.ignore()


def _leaves_undo_to_the_room(text: QLineEdit, event: QEvent) -> bool:
    """Whether this is the shortcut of undo or redo, in a field with no typing to undo: then it changes the settings."""
    if event.type() is not QEvent.Type.ShortcutOverride or not isinstance(event, QKeyEvent):
        return False
    undo, redo = QKeySequence.StandardKey.Undo, QKeySequence.StandardKey.Redo
    mine = (event.matches(undo) and text.isUndoAvailable()) or (event.matches(redo) and text.isRedoAvailable())
    if mine or not (event.matches(undo) or event.matches(redo)):
        return False
    event.ignore()
    return True


class Slider(QSlider):
    """A slider that the mouse wheel moves only when it has the focus."""

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def wheelEvent(self, event: QWheelEvent) -> None:
        _scroll_if_chosen(self, super().wheelEvent, event)


class DecimalField(QDoubleSpinBox):
    """A number field that the mouse wheel changes only when it has the focus."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def event(self, event: QEvent) -> bool:
        if _leaves_undo_to_the_room(self.lineEdit(), event):
            return False
        return super().event(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        _scroll_if_chosen(self, super().wheelEvent, event)


class IntegerField(QSpinBox):
    """A field for whole numbers that the mouse wheel changes only when it has the focus."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def event(self, event: QEvent) -> bool:
        if _leaves_undo_to_the_room(self.lineEdit(), event):
            return False
        return super().event(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        _scroll_if_chosen(self, super().wheelEvent, event)


def _mark(name: ElidedLabel, text: str, why: str) -> None:
    name.setText(f"{text} •" if why else text)
    name.setAccessibleDescription(why)


def _with_reason(tooltip: str, why: str) -> str:
    return f"{tooltip}. {why}" if why else tooltip


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
        _mark(self._label, self._text, why)
        for part in (self, self._box, self._slider):
            describe(part, self._text, _with_reason(self._tooltip or self._text, why))

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


class ComboBox(QComboBox):
    """A drop-down of (value, text) choices. `chosen` carries the value that the user chooses.

    A text that does not fit is shortened, and shown whole in the list and in the tooltip.
    """

    chosen = Signal(object)

    def __init__(self, name: str, choices: Sequence[tuple[Any, str]] = (), tooltip: str = "") -> None:
        super().__init__()
        self._tooltip = tooltip or name
        self._short: Mapping[str, str] = {}
        describe(self, name, tooltip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(4)
        self.setMaxVisibleItems(14)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._values: list[Any] = []
        self.set_choices(choices)
        self.activated.connect(lambda index: self.chosen.emit(self._values[index]))

    def set_choices(self, choices: Sequence[tuple[Any, str]]) -> None:
        """Replace the choices; the current value stays selected if it is among them."""
        before = self.value()
        self._values = [value for value, _ in choices]
        self.clear()
        for index, (_, text) in enumerate(choices):
            self.addItem(text)
            self.setItemData(index, plain_tooltip(text), Qt.ItemDataRole.ToolTipRole)
        self.set_value(before)

    def value(self) -> Any:
        index = self.currentIndex()
        return self._values[index] if 0 <= index < len(self._values) else None

    def set_value(self, value: Any) -> bool:
        """Select a value; False, with the first choice selected, when it is not among the choices."""
        found = value in self._values
        self.setCurrentIndex(self._values.index(value) if found else (0 if self._values else -1))
        return found

    def set_short_texts(self, short: Mapping[str, str]) -> None:
        """What is shown in place of some texts where they do not fit."""
        self._short = short
        self.update()

    def set_unavailable(self, why: str) -> None:
        """Disable the drop-down and say why, in a sentence, in its tooltip; an empty text enables it."""
        self.setEnabled(not why)
        self.setAccessibleDescription(why)
        set_tooltip(self, _with_reason(self._tooltip, why))

    def shown_text(self) -> str:
        """The current text as it is painted."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        part = QStyle.SubControl.SC_ComboBoxEditField
        room = self.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, part, self).width() - 4
        text, metrics = option.currentText, self.fontMetrics()
        if metrics.horizontalAdvance(text) > room:
            text = self._short.get(text, text)
        return metrics.elidedText(text, Qt.TextElideMode.ElideRight, room)

    def event(self, event: QEvent) -> bool:
        if not isinstance(event, QHelpEvent) or event.type() is not QEvent.Type.ToolTip:
            return super().event(event)
        if self.shown_text() == self.currentText():
            return super().event(event)
        about = QTextDocumentFragment.fromHtml(self.toolTip()).toPlainText()
        show_tooltip(event.globalPos(), f"{self.currentText()}. {about}", self)
        return True

    def wheelEvent(self, event: QWheelEvent) -> None:
        _scroll_if_chosen(self, super().wheelEvent, event)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QStylePainter(self)
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        option.currentText = self.shown_text()
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        if self.isEnabled():  # without it, it looks like the text that it is
            rect = QRect(self.width() - 24, (self.height() - 12) // 2, 12, 12)
            icons.icon("caret-down-fill", "dim").paint(painter, rect)


class LabelledComboBox(QWidget):
    """A name above a drop-down."""

    value_changed = Signal(object)

    def __init__(self, text: str, choices: Sequence[tuple[Any, str]] = (), tooltip: str = "") -> None:
        super().__init__()
        self.combo = ComboBox(text, choices, tooltip)
        self._text, self._tooltip = text, tooltip
        describe(self, text, tooltip)
        self._label = ElidedLabel(text)
        self._label.setBuddy(self.combo)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self._label)
        column.addWidget(self.combo)
        self.combo.chosen.connect(self.value_changed)

    def value(self) -> Any:
        return self.combo.value()

    def set_value(self, value: Any) -> bool:
        return self.combo.set_value(value)

    def set_mark(self, why: str) -> None:
        """Mark the name with a dot, which the tooltip explains; an empty text for no mark."""
        _mark(self._label, self._text, why)
        for part in (self, self.combo):
            describe(part, self._text, _with_reason(self._tooltip or self._text, why))

    def set_choices(self, choices: Sequence[tuple[Any, str]]) -> None:
        self.combo.set_choices(choices)


class ChipRow(QWidget):
    """Chips in rows that wrap. `value_changed` carries the value (exclusive) or a tuple of the selected values."""

    value_changed = Signal(object)

    def __init__(
        self, choices: Sequence[tuple[Any, str]], exclusive: bool = True, tooltips: Sequence[str] = (), name: str = ""
    ) -> None:
        super().__init__()
        self._exclusive = exclusive
        self._values = [value for value, _ in choices]
        self._chips = [
            Chip(text, tooltip=tooltips[index] if index < len(tooltips) else "")
            for index, (_, text) in enumerate(choices)
        ]
        if name:
            describe(self, name)
        self._group = QButtonGroup(self)
        self._group.setExclusive(exclusive)
        flow = FlowLayout(self)
        for index, chip in enumerate(self._chips):
            flow.addWidget(chip)
            self._group.addButton(chip, index)
        if exclusive and self._chips:
            self._chips[0].setChecked(True)
        self._group.idClicked.connect(lambda _: self.value_changed.emit(self.value()))

    def value(self) -> Any:
        on = tuple(value for value, chip in zip(self._values, self._chips, strict=True) if chip.isChecked())
        return (on[0] if on else None) if self._exclusive else on

    def set_value(self, value: Any) -> None:
        """Select one value (or None), or a sequence of values when not exclusive."""
        selected = (value,) if self._exclusive else tuple(value)
        self._group.setExclusive(False)
        for each, chip in zip(self._values, self._chips, strict=True):
            chip.setChecked(each in selected)
        self._group.setExclusive(self._exclusive)

    def chip(self, value: Any) -> Chip:
        return self._chips[self._values.index(value)]


class CheckBox(QCheckBox):
    """A check box. The style sheet draws the box, this class the tick."""

    def __init__(self, text: str, tooltip: str = "") -> None:
        super().__init__(text)
        describe(self, text, tooltip)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self.isChecked():
            option = QStyleOptionButton()
            self.initStyleOption(option)
            box = self.style().subElementRect(QStyle.SubElement.SE_CheckBoxIndicator, option, self)
            icons.icon("check-bold", "on_strong").paint(QPainter(self), box.adjusted(2, 2, -2, -2))


class SearchField(QLineEdit):
    """A search field. Emits `searched` after a pause in typing, or on Enter."""

    searched = Signal()

    def __init__(self, placeholder: str, tooltip: str) -> None:
        super().__init__()
        self.setPlaceholderText(placeholder)
        self.setClearButtonEnabled(True)
        self.setMaxLength(1000)
        self.setMinimumWidth(80)
        for cross in self.findChildren(QToolButton):  # Qt's own, which appears with the first letter
            describe(cross, "Clear", "Clear the search")
        self.addAction(icons.icon("magnifying-glass", "dim"), QLineEdit.ActionPosition.LeadingPosition).setText(
            "Search"
        )
        describe(self, "Search", tooltip)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SEARCH_DELAY_MS)
        self.textChanged.connect(lambda: self._timer.start())
        self.returnPressed.connect(self.search_now)
        self._timer.timeout.connect(self.searched)

    def search_now(self) -> None:
        self._timer.stop()
        self.searched.emit()
