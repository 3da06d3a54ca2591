"""The controls every room is built from.

Each sets its accessible name and its tooltip, can be reached and worked by keyboard, elides or wraps what is too long,
and reports what a person did by a signal that does not fire when the program sets the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QEvent, QRect, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetrics,
    QIcon,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QShowEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QVBoxLayout,
    QWidget,
)

from diffstudio.ui import assets, theme
from diffstudio.ui.pictures import (  # noqa: F401 - rooms take their pictures and their words from here
    FlowLayout,
    Thumb,
    human_bytes,
    human_count,
    human_duration,
    numpy_to_qimage,
    rounded,
)


def describe(widget: QWidget, name: str, tooltip: str = "") -> None:
    """Give a widget its accessible name and its tooltip (the name where there is nothing more to say)."""
    widget.setAccessibleName(name)
    widget.setToolTip(tooltip or name)


def restyle(widget: QWidget, property_name: str, value: Any) -> None:
    """Set a property the style sheet looks at, and have it look again."""
    if widget.property(property_name) == value:
        return
    widget.setProperty(property_name, value)
    widget.style().unpolish(widget)
    widget.style().polish(widget)
    widget.update()


def label(text: str = "", tone: str = "", *, pixels: int = theme.FONT_PIXELS, bold: bool = False,
          wrap: bool = False) -> QLabel:
    """A text in one of the tones dim, faint, good, warn, bad, accent (or the plain one)."""
    result = QLabel(text)
    result.setTextFormat(Qt.TextFormat.PlainText)
    result.setProperty("tone", tone)
    result.setFont(theme.font(pixels, bold=bold))
    result.setWordWrap(wrap)
    return result


class Elided(QLabel):
    """One line that ends in an ellipsis where it does not fit; the whole text is its tooltip then."""

    def __init__(self, text: str = "", tone: str = "", *, pixels: int = theme.FONT_PIXELS, bold: bool = False,
                 mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight) -> None:
        super().__init__()
        self._mode = mode
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("tone", tone)
        self.setFont(theme.font(pixels, bold=bold))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setText(text)

    def setText(self, text: str) -> None:
        super().setText(" ".join(text.split()))
        self.updateGeometry()

    def minimumSizeHint(self) -> QSize:
        return QSize(24, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        metrics = QFontMetrics(self.font())
        return QSize(min(metrics.horizontalAdvance(self.text()), 4000) + 2, metrics.height() + 2)

    def shown_text(self) -> str:
        return QFontMetrics(self.font()).elidedText(self.text(), self._mode, self.contentsRect().width())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        shown = self.shown_text()
        if (tip := self.text() if shown != self.text() else "") != self.toolTip():
            self.setToolTip(tip)
        painter.drawText(self.contentsRect(), int(self.alignment() | Qt.AlignmentFlag.AlignVCenter), shown)


class SectionLabel(QWidget):
    """The heading of a part of a column, with something small at its right end."""

    def __init__(self, text: str, right: str = "") -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._left = label(text.upper(), "dim", pixels=theme.TINY_PIXELS)
        self._left.setFont(theme.font(theme.TINY_PIXELS, bold=True, spaced=True))
        self._left.setAccessibleName(text)
        self._right = Elided(right, "dim", pixels=theme.SMALL_PIXELS)
        self._right.setAlignment(Qt.AlignmentFlag.AlignRight)
        row.addWidget(self._left)
        row.addWidget(self._right, 1)

    def set_right(self, text: str) -> None:
        self._right.setText(text)

    def set_text(self, text: str) -> None:
        self._left.setText(text.upper())
        self._left.setAccessibleName(text)


class _Slider(QSlider):
    """A slider that a scroll over it does not move unless it has been chosen."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class LabelledSlider(QWidget):
    """A name, a value to type into, and a slider below. `value_changed` carries an int where `decimals` is 0."""

    value_changed = Signal(object)

    def __init__(self, text: str, minimum: float, maximum: float, value: float, *, step: float = 1, decimals: int = 0,
                 suffix: str = "", tooltip: str = "") -> None:
        super().__init__()
        self._decimals, self._scale = decimals, 1 / step
        self._label = Elided(text)
        self._box = QDoubleSpinBox()
        self._box.setProperty("bare", True)
        self._box.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._box.setDecimals(decimals)
        self._box.setSingleStep(step)
        self._box.setSuffix(suffix)
        self._box.setKeyboardTracking(False)
        self._box.setFont(theme.font(bold=True))
        self._slider = _Slider(Qt.Orientation.Horizontal)
        self._slider.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        for part in (self._box, self._slider):
            describe(part, text, tooltip)
        describe(self, text, tooltip)
        self._label.setBuddy(self._box)
        column, row = QVBoxLayout(self), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        row.addWidget(self._label, 1)
        row.addWidget(self._box)
        column.addLayout(row)
        column.addWidget(self._slider)
        self.set_range(minimum, maximum)
        self.set_value(value)
        self._slider.valueChanged.connect(self._slid)
        self._box.valueChanged.connect(self._typed)

    def value(self) -> int | float:
        value = self._box.value()
        return round(value) if self._decimals == 0 else round(value, self._decimals)

    def set_value(self, value: float) -> None:
        """Without telling anybody."""
        for part, shown in ((self._box, value), (self._slider, round(value * self._scale))):
            part.blockSignals(True)
            part.setValue(shown)  # type: ignore[arg-type]
            part.blockSignals(False)
        self._slider.update()

    def set_range(self, minimum: float, maximum: float) -> None:
        for part in (self._box, self._slider):
            part.blockSignals(True)
        self._box.setRange(minimum, maximum)
        self._slider.setRange(round(minimum * self._scale), round(maximum * self._scale))
        self._slider.setPageStep(max(1, round((maximum - minimum) * self._scale / 10)))
        for part in (self._box, self._slider):
            part.blockSignals(False)
        metrics = QFontMetrics(self._box.font())
        texts = (self._box.textFromValue(maximum), self._box.textFromValue(minimum))
        self._box.setFixedWidth(max(metrics.horizontalAdvance(text + self._box.suffix()) for text in texts) + 16)

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


class Combo(QComboBox):
    """A drop-down of (value, text) choices. `chosen` carries the value when a person chooses."""

    chosen = Signal(object)

    def __init__(self, name: str, choices: Sequence[tuple[Any, str]] = (), tooltip: str = "") -> None:
        super().__init__()
        describe(self, name, tooltip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(4)
        self.setMaxVisibleItems(14)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._values: list[Any] = []
        self.set_choices(choices)
        self.activated.connect(lambda index: self.chosen.emit(self._values[index]))

    def set_choices(self, choices: Sequence[tuple[Any, str]]) -> None:
        """New choices; the old value stays where it is still among them."""
        before = self.value()
        self._values = [value for value, _ in choices]
        self.clear()
        for index, (_, text) in enumerate(choices):
            self.addItem(text)
            self.setItemData(index, text, Qt.ItemDataRole.ToolTipRole)
        self.set_value(before)

    def value(self) -> Any:
        index = self.currentIndex()
        return self._values[index] if 0 <= index < len(self._values) else None

    def set_value(self, value: Any) -> bool:
        """True when it is one of the choices; otherwise the first stays chosen."""
        found = value in self._values
        self.setCurrentIndex(self._values.index(value) if found else (0 if self._values else -1))
        return found

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        painter = QPainter(self)
        mode = QIcon.Mode.Normal if self.isEnabled() else QIcon.Mode.Disabled
        rect = QRect(self.width() - 24, (self.height() - 12) // 2, 12, 12)
        assets.icon("caret-down-fill", "dim").paint(painter, rect, mode=mode)


class LabelledCombo(QWidget):
    """A name above a drop-down."""

    value_changed = Signal(object)

    def __init__(self, text: str, choices: Sequence[tuple[Any, str]] = (), tooltip: str = "") -> None:
        super().__init__()
        self.combo = Combo(text, choices, tooltip)
        describe(self, text, tooltip)
        self._label = Elided(text)
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

    def set_choices(self, choices: Sequence[tuple[Any, str]]) -> None:
        self.combo.set_choices(choices)


class PrimaryButton(QPushButton):
    """The one button of a room, with its shortcut beside its text."""

    def __init__(self, text: str, shortcut_hint: str = "", tooltip: str = "") -> None:
        super().__init__(text)
        self._hint = shortcut_hint
        self.setMinimumHeight(36)
        self.setFont(theme.font(bold=True))
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        describe(self, text, tooltip or (f"{text} ({shortcut_hint})" if shortcut_hint else text))

    def setText(self, text: str) -> None:
        super().setText(text)
        self.setAccessibleName(text)

    def sizeHint(self) -> QSize:
        hint = super().sizeHint()
        extra = QFontMetrics(theme.font(theme.SMALL_PIXELS)).horizontalAdvance(self._hint) + 12 if self._hint else 0
        return QSize(hint.width() + extra, max(36, hint.height()))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QStylePainter(self)
        option = QStyleOptionButton()
        self.initStyleOption(option)
        option.text = ""
        painter.drawControl(QStyle.ControlElement.CE_PushButton, option)
        ink = theme.colour("on_strong" if self.isEnabled() else "faint")
        small, metrics = theme.font(theme.SMALL_PIXELS), QFontMetrics(self.font())
        width = metrics.horizontalAdvance(self.text())
        hint_width = QFontMetrics(small).horizontalAdvance(self._hint) if self._hint else 0
        if width + hint_width + 44 > self.width():
            hint_width = 0
        left = (self.width() - width - (hint_width + 12 if hint_width else 0)) // 2
        painter.setPen(ink)
        painter.setFont(self.font())
        room = QRect(max(left, 8), 0, min(width + 2, self.width() - 16), self.height())
        painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter),
                         metrics.elidedText(self.text(), Qt.TextElideMode.ElideRight, room.width()))
        if hint_width:
            ink.setAlphaF(0.72)
            painter.setPen(ink)
            painter.setFont(small)
            painter.drawText(QRect(left + width + 12, 0, hint_width + 2, self.height()),
                             int(Qt.AlignmentFlag.AlignVCenter), self._hint)


class QuietButton(QPushButton):
    """A button that waits its turn: an icon, a text, or both. Without a text it has no frame either."""

    def __init__(self, text: str, icon: str = "", tooltip: str = "", *, name: str = "", role: str = "text") -> None:
        super().__init__(text)
        describe(self, name or text or tooltip, tooltip)
        self.setIconSize(QSize(16, 16))
        if icon:
            self.set_icon(icon, role)
        if not text:
            self.setFlat(True)
            self.setFixedSize(28, 28)

    def set_icon(self, icon: str, role: str = "text") -> None:
        self.setIcon(assets.icon(icon, role))


class Chip(QPushButton):
    """A small rounded choice."""

    def __init__(self, text: str, checkable: bool = True, tooltip: str = "", icon: str = "") -> None:
        super().__init__(text)
        self.setCheckable(checkable)
        self.setIconSize(QSize(14, 14))
        self.setFont(theme.font(theme.SMALL_PIXELS))
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        if icon:
            self.setIcon(assets.icon(icon, "dim", on="accent"))
        describe(self, text, tooltip)


class ChipRow(QWidget):
    """Chips that wrap. `value_changed` carries the value (exclusive) or the tuple of chosen values."""

    value_changed = Signal(object)

    def __init__(self, choices: Sequence[tuple[Any, str]], exclusive: bool = True, tooltips: Sequence[str] = (),
                 name: str = "") -> None:
        super().__init__()
        self._exclusive = exclusive
        self._values = [value for value, _ in choices]
        self._chips = [Chip(text, tooltip=tooltips[index] if index < len(tooltips) else "")
                       for index, (_, text) in enumerate(choices)]
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
        """One value (or None for none of them), or the values that are to be on."""
        wanted = (value,) if self._exclusive else tuple(value)
        self._group.setExclusive(False)
        for each, chip in zip(self._values, self._chips, strict=True):
            chip.setChecked(each in wanted)
        self._group.setExclusive(self._exclusive)

    def chip(self, value: Any) -> Chip:
        return self._chips[self._values.index(value)]


class Check(QCheckBox):
    """A box to tick. The style sheet draws the box, this the tick."""

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self.isChecked():
            option = QStyleOptionButton()
            self.initStyleOption(option)
            box = self.style().subElementRect(QStyle.SubElement.SE_CheckBoxIndicator, option, self)
            assets.icon("check-bold", "on_strong").paint(QPainter(self), box.adjusted(2, 2, -2, -2))


class Card(QFrame):
    """A raised surface. `interactive` makes it a thing to click or to open with Enter or Space."""

    clicked = Signal()

    def __init__(self, interactive: bool = False, name: str = "", tooltip: str = "") -> None:
        super().__init__()
        self._interactive = interactive
        if name:
            describe(self, name, tooltip)
        if interactive:
            self.setProperty("interactive", True)
            self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            self.setCursor(Qt.CursorShape.PointingHandCursor)

    def set_chosen(self, chosen: bool) -> None:
        restyle(self, "chosen", chosen)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        inside = self.rect().contains(event.position().toPoint())
        if self._interactive and inside and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit()
        else:
            super().mouseReleaseEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._interactive and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.clicked.emit()
        else:
            super().keyPressEvent(event)


class ProgressLine(QWidget):
    """A thin line; `set_fraction(None)` moves without saying how far."""

    def __init__(self, name: str = "Progress") -> None:
        super().__init__()
        describe(self, name)
        self.setFixedHeight(4)
        self._fraction: float | None = 0.0
        self._phase = 0.0
        self._timer = QTimer(self)
        self._timer.setInterval(33)
        self._timer.timeout.connect(self._advance)

    def set_fraction(self, fraction: float | None) -> None:
        self._fraction = None if fraction is None else min(max(fraction, 0.0), 1.0)
        self.setAccessibleDescription("" if fraction is None else f"{fraction:.0%}")
        self._follow()
        self.update()

    def fraction(self) -> float | None:
        return self._fraction

    def _follow(self) -> None:
        moving = self._fraction is None and self.isVisible()
        if moving != self._timer.isActive():
            self._timer.start() if moving else self._timer.stop()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._follow()

    def hideEvent(self, event: QEvent) -> None:
        self._timer.stop()

    def _advance(self) -> None:
        self._phase = (self._phase + 0.02) % 1.3
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        whole = QRectF(self.rect())
        painter.setBrush(theme.colour("line"))
        painter.drawRoundedRect(whole, 2, 2)
        if self._fraction is None:
            start = (self._phase - 0.3) * whole.width()
            part = QRectF(start, 0, 0.3 * whole.width(), whole.height()).intersected(whole)
        else:
            part = QRectF(0, 0, whole.width() * self._fraction, whole.height())
        if part.width() > 0:
            painter.setBrush(QColor(theme.colour("accent")))
            painter.drawRoundedRect(part, 2, 2)


class EmptyState(QWidget):
    """What goes here, and the one button that brings it."""

    clicked = Signal()

    def __init__(self, icon: str, title: str, text: str, button_text: str | None = None) -> None:
        super().__init__()
        self._icon = icon
        self._picture = QLabel()
        self._picture.setFixedHeight(48)
        self.title, self.text = label(title, pixels=16, bold=True, wrap=True), label(text, "dim", wrap=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 24, 24, 24)
        column.setSpacing(8)
        column.addStretch(1)
        for part in (self._picture, self.title, self.text):
            part.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            part.setMaximumWidth(460)
            row = QHBoxLayout()
            row.addStretch(1)
            row.addWidget(part, 20)
            row.addStretch(1)
            column.addLayout(row)
        self.button = PrimaryButton(button_text or "")
        self.button.clicked.connect(self.clicked)
        self.button.setVisible(bool(button_text))
        column.addSpacing(8)
        column.addWidget(self.button, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(1)
        self._draw()

    def say(self, icon: str, title: str, text: str, button_text: str = "") -> None:
        """Invite to something else; without a button's text there is no button."""
        self._icon = icon
        self.title.setText(title)
        self.text.setText(text)
        self.button.setText(button_text)
        describe(self.button, button_text)
        self.button.setVisible(bool(button_text))
        self._draw()

    def _draw(self) -> None:
        self._picture.setPixmap(assets.pixmap(self._icon, 40, "faint"))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._draw()


_BANNER_ICONS = {"info": ("info", "accent"), "warn": ("warning", "warn"), "bad": ("warning-circle", "bad"),
                 "good": ("check-circle", "good")}


class Banner(QFrame):
    """Something to know, in the window: what, why, what to do, and a button that does it. It can be dismissed."""

    acted = Signal()
    dismissed = Signal()

    def __init__(self, kind: str = "info", text: str = "", action: str = "") -> None:
        super().__init__()
        self._picture = QLabel()
        self._picture.setFixedWidth(20)
        self._text = label("", wrap=True)
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._text.setMinimumWidth(80)
        self.action = QuietButton("x", name="Action")
        self.close_button = QuietButton("", "x", "Dismiss this message")
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 8, 8, 8)
        row.setSpacing(8)
        row.addWidget(self._picture)
        row.addWidget(self._text, 1)
        row.addWidget(self.action)
        row.addWidget(self.close_button)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.action.clicked.connect(self.acted)
        self.close_button.clicked.connect(self._dismiss)
        self.say(kind, text, action)

    def say(self, kind: str, text: str, action: str = "") -> None:
        """Show another message; an empty text hides the banner."""
        self._kind = kind
        restyle(self, "kind", kind)
        self._text.setText(text if len(text) < 600 else text[:600] + " …")
        self.setAccessibleName(text[:200])
        self.action.setText(action)
        self.action.setVisible(bool(action))
        if action:
            describe(self.action, action)
        self._draw()
        if not text:
            self.hide()

    def text(self) -> str:
        return self._text.text()

    def _dismiss(self) -> None:
        self.hide()
        self.dismissed.emit()

    def _draw(self) -> None:
        self._picture.setPixmap(assets.pixmap(*_BANNER_ICONS[self._kind][:1], 18, _BANNER_ICONS[self._kind][1]))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "_kind"):
            self._draw()
