"""KeyboardFocus: whether a large image shows that it has the focus."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QFocusEvent
from PySide6.QtWidgets import QWidget

_BY_KEY = (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason)


class KeyboardFocus(QObject):
    """A click on an image must not draw over it; Tab must show where it went. `shown` while the focus came by Tab."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self._widget = widget
        self.shown = False
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.FocusIn, QEvent.Type.FocusOut) and isinstance(event, QFocusEvent):
            back = event.reason() in (Qt.FocusReason.ActiveWindowFocusReason, Qt.FocusReason.PopupFocusReason)
            if not back:  # a menu or another window was open: as before
                self.shown = event.gotFocus() and event.reason() in _BY_KEY
            self._widget.update()
        elif event.type() is QEvent.Type.MouseButtonPress and self.shown:
            self.shown = False
            self._widget.update()
        return False
