"""Buttons, chips, cards, headings and progress bars that every room uses; controls that hold a value are in `inputs`.

Each one sets its accessible name and tooltip, works from the keyboard, and elides or wraps text that does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QRect, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetrics,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QShowEvent,
    QTextDocumentFragment,
)
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QVBoxLayout,
    QWidget,
)

from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.activation import PRESSING, click_on_enter
from diffstudio.ui.widgets.helpers import (
    SCROLL_BAR_WIDTH,
    ElidedLabel,
    describe,
    label,
    plain_button_text,
    scroll_area,
    set_style_property,
    show_tooltip,
)
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout


class SectionLabel(QWidget):
    """The heading of a section, with an optional note at its right end."""

    def __init__(self, text: str, right: str = "") -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._left = ElidedLabel(text.upper(), "dim", pixels=theme.TINY_PIXELS)
        self._left.setFont(theme.font(theme.TINY_PIXELS, bold=True, spaced=True))
        self._left.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._left.setAccessibleName(text)
        self._right = ElidedLabel(right, "dim", pixels=theme.SMALL_PIXELS)
        self._right.setAlignment(Qt.AlignmentFlag.AlignRight)
        row.addWidget(self._left)
        row.addWidget(self._right, 1)

    def set_right(self, text: str) -> None:
        self._right.setText(text)

    def set_text(self, text: str) -> None:
        self._left.setText(text.upper())
        self._left.setAccessibleName(text)


class PrimaryButton(QPushButton):
    """The main button of a room or dialog, with its shortcut beside its text."""

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

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.setDefault(True)  # now that its dialog is known; otherwise Enter presses the first button there

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
        painter.drawText(
            room,
            int(Qt.AlignmentFlag.AlignVCenter),
            metrics.elidedText(self.text(), Qt.TextElideMode.ElideRight, room.width()),
        )
        if hint_width:
            ink.setAlphaF(0.72)
            painter.setPen(ink)
            painter.setFont(small)
            painter.drawText(
                QRect(left + width + 12, 0, hint_width + 2, self.height()),
                int(Qt.AlignmentFlag.AlignVCenter),
                self._hint,
            )


class ElidedButton(QPushButton):
    """A button that elides its text if there is not enough space."""

    narrowest = 72  # px at 100%, with its elided text

    def minimumSizeHint(self) -> QSize:
        whole = super().minimumSizeHint()
        return QSize(min(whole.width(), theme.scaled(self.narrowest)), whole.height())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, option = QStylePainter(self), QStyleOptionButton()
        self.initStyleOption(option)
        if option.text and (short := self.sizeHint().width() - self.width()) > 0:
            room = self.fontMetrics().horizontalAdvance(option.text) - short
            option.text = self.fontMetrics().elidedText(option.text, Qt.TextElideMode.ElideRight, room)
        painter.drawControl(QStyle.ControlElement.CE_PushButton, option)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not click_on_enter(self, event):
            super().keyPressEvent(event)

    def event(self, event: QEvent) -> bool:
        """The tooltip begins with the text where that is elided."""
        if (
            event.type() is QEvent.Type.ToolTip
            and isinstance(event, QHelpEvent)
            and self.text()
            and self.sizeHint().width() > self.width()
        ):
            about = QTextDocumentFragment.fromHtml(self.toolTip()).toPlainText()
            text = self.text().replace("&&", "&")
            show_tooltip(event.globalPos(), ": ".join(dict.fromkeys(filter(None, (text, about)))), self)
            return True
        return super().event(event)


class SecondaryButton(ElidedButton):
    """A secondary button: an icon, a text, or both. Without a text it has no frame. A text without room is elided."""

    def __init__(self, text: str, icon: str = "", tooltip: str = "", *, name: str = "", role: str = "text") -> None:
        super().__init__(text)
        describe(self, name or text or tooltip, tooltip)
        self.setIconSize(QSize(20 if text else 16, 16))  # with air between icon and text
        if icon:
            self.set_icon(icon, role)
        if not text:
            self.setFlat(True)
            self.setFixedSize(28, 28)

    def set_icon(self, icon: str, role: str = "text") -> None:
        self.setIcon(icons.icon(icon, role))


class Chip(ElidedButton):
    """A small rounded button; its text is elided when it is longer than its row."""

    narrowest = 64

    def __init__(self, text: str, checkable: bool = True, tooltip: str = "", icon: str = "") -> None:
        super().__init__(plain_button_text(text))
        self.setCheckable(checkable)
        self.setAutoDefault(False)  # so that Enter still presses the main button of a dialog
        self.setIconSize(QSize(14, 14))
        self.setFont(theme.font(theme.SMALL_PIXELS))
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        if icon:
            self.setIcon(icons.icon(icon, "dim", on="accent"))
        describe(self, text, tooltip)


class Card(QFrame):
    """A raised surface. `interactive` lets it be clicked or activated with Enter or Space."""

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
        set_style_property(self, "chosen", chosen)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        inside = self.rect().contains(event.position().toPoint())
        if self._interactive and inside and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit()
        else:
            super().mouseReleaseEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._interactive and event.key() in PRESSING:
            self.clicked.emit()
        else:
            super().keyPressEvent(event)


class ProgressLine(QWidget):
    """A thin progress bar; `set_fraction(None)` makes it indeterminate."""

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


_LONGEST_EXAMPLE = 24  # characters on the button of an example


class EmptyState(QWidget):
    """Explains an empty room, with the one button that fills it, and examples to begin with. Focus goes to the button."""

    clicked = Signal()
    example_chosen = Signal(str)

    def __init__(self, icon: str, title: str, text: str, button_text: str | None = None) -> None:
        super().__init__()
        self._icon = icon
        self._icon_label = label()
        self._icon_label.setFixedHeight(48)
        self.title, self.text = label(title, pixels=16, bold=True, wrap=True), label(text, "dim", wrap=True)
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(24, 24, 24 - SCROLL_BAR_WIDTH, 24)
        column.setSpacing(8)
        column.addStretch(1)
        for part in (self._icon_label, self.title, self.text):
            part.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            part.setMaximumWidth(460)
            row = QHBoxLayout()
            row.addStretch(1)
            row.addWidget(part, 20)
            row.addStretch(1)
            column.addLayout(row)
        self.button = PrimaryButton(button_text or "")
        describe(self.button, button_text or title)  # hidden without a text, but it has a name all the same
        self.button.clicked.connect(self.clicked)
        self._example_row = FlowLayout(centred=True)
        self.example_buttons: list[SecondaryButton] = []
        column.addLayout(self._example_row)
        column.addSpacing(8)
        column.addWidget(self.button, 0, Qt.AlignmentFlag.AlignHCenter)
        self.button.setVisible(bool(button_text))  # after it has a parent, or it would briefly be a window
        self.setFocusProxy(self.button)
        column.addStretch(1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(scroll_area(contents))
        self._draw()

    def set_content(self, icon: str, title: str, text: str, button_text: str = "") -> None:
        """Show another icon and text; without `button_text` there is no button."""
        self._icon = icon
        self.title.setText(title)
        self.text.setText(text)
        self.button.setText(button_text)
        describe(self.button, button_text)
        self.button.setVisible(bool(button_text))
        self._draw()

    def set_examples(self, examples: Sequence[str]) -> None:
        """Offer these texts as buttons in rows; `example_chosen` carries the one that is clicked."""
        if [button.accessibleName() for button in self.example_buttons] == [f"Example: {text}" for text in examples]:
            return
        for button in self.example_buttons:
            self._example_row.removeWidget(button)
            button.hide()
            button.deleteLater()
        self.example_buttons = []
        for text in examples:
            shown = text if len(text) <= _LONGEST_EXAMPLE else f"{text[: _LONGEST_EXAMPLE - 1]}…"
            button = SecondaryButton(
                shown.replace("&", "&&"), tooltip="Put this into the prompt", name=f"Example: {text}"
            )
            button.clicked.connect(lambda _=False, text=text: self.example_chosen.emit(text))
            self._example_row.addWidget(button)
            self.example_buttons.append(button)

    def _draw(self) -> None:
        self._icon_label.setPixmap(icons.pixmap(self._icon, 40, "faint"))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._draw()
