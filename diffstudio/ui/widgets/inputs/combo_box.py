"""Drop-downs, alone and with a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import QEvent, QRect, Qt, Signal
from PySide6.QtGui import QHelpEvent, QKeyEvent, QKeySequence, QPaintEvent, QTextDocumentFragment, QWheelEvent
from PySide6.QtWidgets import QComboBox, QStyle, QStyleOptionComboBox, QStylePainter, QVBoxLayout, QWidget

from diffstudio.ui.widgets import icons
from diffstudio.ui.widgets.activation import activates
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, plain_tooltip, set_tooltip, show_tooltip
from diffstudio.ui.widgets.inputs.events import change_if_focused
from diffstudio.ui.widgets.inputs.marks import mark_name, with_reason

_Standard = QKeySequence.StandardKey
_MOVES = (
    _Standard.MoveToPreviousLine,
    _Standard.MoveToNextLine,
    _Standard.MoveToPreviousPage,
    _Standard.MoveToNextPage,
    _Standard.MoveToStartOfLine,
    _Standard.MoveToEndOfLine,
)


class ComboBox(QComboBox):
    """A drop-down of (value, text) choices. `chosen` carries the value that the user chooses.

    A text that does not fit is shortened, and shown whole in the list and in the tooltip.
    """

    chosen = Signal(object)

    def __init__(
        self, name: str, choices: Sequence[tuple[Any, str]] = (), tooltip: str = "", *, acts: bool = False
    ) -> None:
        """`acts`: a choice is carried out at once, so that keys open the list instead of choosing the next one."""
        super().__init__()
        self._tooltip, self._acts = tooltip or name, acts
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
        set_tooltip(self, with_reason(self._tooltip, why))

    def shown_text(self) -> str:
        """The current text as it is painted."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        part = QStyle.SubControl.SC_ComboBoxEditField
        room = self.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, part, self).width() - 4
        text, metrics = option.currentText or self.placeholderText(), self.fontMetrics()
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

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if activates(self, event) or (self._acts and any(map(event.matches, _MOVES))):
            self.showPopup()
        elif self._acts and event.text().isprintable() and event.text().strip():
            event.ignore()  # a letter would choose the first that begins with it
        else:
            super().keyPressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        change_if_focused(self, super().wheelEvent, event)

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
        mark_name(self._label, self._text, why)
        for part in (self, self.combo):
            describe(part, self._text, with_reason(self._tooltip or self._text, why))

    def set_choices(self, choices: Sequence[tuple[Any, str]]) -> None:
        self.combo.set_choices(choices)
