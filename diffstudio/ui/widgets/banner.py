"""Messages in the window: a banner with an optional button, which can be dismissed."""

from __future__ import annotations

import re

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QFontMetrics, QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QFrame, QHBoxLayout, QSizePolicy, QWidget

from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import describe, label, leave_focus, scroll_area, set_style_property, set_tooltip

_BANNER_ICONS = {
    "info": ("info", "accent"),
    "warn": ("warning", "warn"),
    "bad": ("warning-circle", "bad"),
    "good": ("check-circle", "good"),
}


_NARROW_BANNER = 340  # px; in narrower banners the action is below the text
_TALLEST = 0.25  # of the window's height; a longer message scrolls
_LONGEST_MESSAGE = 600  # characters; longer texts are cut, and the tooltip has the whole text
_LONG_NAME = re.compile(r"([^\s/\\]{40})[^\s/\\]{21,}([^\s/\\]{20})")  # no line can be broken within it


class Banner(QFrame):
    """A message in the window, with an optional action button; it can be dismissed.

    When it is dismissed from the keyboard, `focus_after` or its parent gets the focus.
    """

    acted = Signal()
    dismissed = Signal()

    message = ""  # the whole text, which the banner may shorten
    _kind = ""  # Qt sends change events during construction

    def __init__(self, kind: str = "info", text: str = "", action: str = "") -> None:
        super().__init__()
        self.focus_after: QWidget | None = None
        self._icon_label = label()
        self._icon_label.setFixedWidth(20)
        self._text = label("", wrap=True)
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._area = scroll_area(self._text)  # a long message in a small window scrolls
        self._area.setMinimumWidth(80)
        self._area.viewport().installEventFilter(self)
        self.action = SecondaryButton("x", name="Action")
        self.close_button = SecondaryButton("", "x", "Dismiss this message")
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 8, 8, 8)
        row.setSpacing(8)
        row.addWidget(self._icon_label)
        self._body = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._body.addWidget(self._area, 1)
        self._body.addWidget(self.action, 0, Qt.AlignmentFlag.AlignLeft)
        row.addLayout(self._body, 1)
        row.addWidget(self.close_button)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.action.clicked.connect(self.acted)
        self.close_button.clicked.connect(self._dismiss)
        self.show_message(kind, text, action)

    def show_message(self, kind: str, text: str, action: str = "") -> None:
        """Show another message; an empty text hides the banner."""
        self._kind, self.message = kind, text
        set_style_property(self, "kind", kind)
        shown = _LONG_NAME.sub(r"\1…\2", text)
        shown = f"{shown[:_LONGEST_MESSAGE]} …" if len(shown) > _LONGEST_MESSAGE else shown
        self._text.setText(shown)
        set_tooltip(self._text, text if shown != text else "")
        self.setAccessibleName(text[:200])
        self.action.setText(action)
        self.action.setVisible(bool(action))
        if action:
            describe(self.action, action)
        self._draw()
        self.fit_text()
        if not text:
            self.hide()

    def text(self) -> str:
        return self._text.text()

    def fit_text(self) -> None:
        """Fit the height to the message, up to a share of the window."""
        needed = self._text.heightForWidth(max(1, self._area.viewport().width()))
        most = max(3 * QFontMetrics(self._text.font()).lineSpacing(), int(self.window().height() * _TALLEST))
        self._area.setFixedHeight(min(max(needed, self.close_button.height()), most))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() is QEvent.Type.Resize:  # the layout sets the width of the text after that of the banner
            self.fit_text()
        return super().eventFilter(watched, event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        directions = QBoxLayout.Direction
        is_narrow = self.width() < theme.scaled(_NARROW_BANNER)
        self._body.setDirection(directions.TopToBottom if is_narrow else directions.LeftToRight)
        self.fit_text()

    def _dismiss(self) -> None:
        leave_focus(self, self.focus_after or self.parentWidget())
        self.hide()
        self.dismissed.emit()

    def _draw(self) -> None:
        self._icon_label.setPixmap(icons.pixmap(*_BANNER_ICONS[self._kind][:1], 18, _BANNER_ICONS[self._kind][1]))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and self._kind:
            self._draw()


class MessageBanner(QWidget):
    """A banner with margins for the bottom of a room, hidden without a message."""

    def __init__(self) -> None:
        super().__init__()
        self.banner = Banner()
        row = QHBoxLayout(self)
        row.setContentsMargins(20, 4, 20, 12)
        row.addWidget(self.banner)
        self.banner.dismissed.connect(self.hide)
        self.hide()

    def show_message(self, kind: str, text: str, action: str = "") -> None:
        self.banner.focus_after = self.parentWidget()
        self.banner.show_message(kind, text, action)
        self.banner.show()
        self.show()

    def text(self) -> str:
        """The shown message, or an empty text."""
        return "" if self.isHidden() else self.banner.text()
