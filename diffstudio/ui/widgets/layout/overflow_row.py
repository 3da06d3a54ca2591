"""OverflowRow: buttons in one row or a few; those that do not fit are in the menu of a last button."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QPoint, QSize
from PySide6.QtGui import QResizeEvent, QTextDocumentFragment
from PySide6.QtWidgets import QMenu, QPushButton, QWidget

from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.helpers import leave_focus
from diffstudio.ui.widgets.menus import add_entry


class OverflowRow(QWidget):
    """Later buttons move into the menu first; the first button never does.

    A button is shown or hidden by `offer`, not by its own setVisible.
    """

    def __init__(self, buttons: Sequence[QPushButton], more: QPushButton, rows: int = 1, spacing: int = 8) -> None:
        """`more` opens the menu."""
        super().__init__()
        self._offered = dict.fromkeys(buttons, True)
        self._most_rows, self._spacing = rows, spacing
        self.more = more
        for button in (*buttons, self.more):
            button.setParent(self)
        self.more.clicked.connect(self.open_menu)
        self._arrange()

    def offer(self, button: QPushButton, offered: bool) -> None:
        """Whether the button can be pressed now: in the row, or in the menu where there is no room."""
        if self._offered[button] != offered:
            self._offered[button] = offered
            self._arrange()

    def set_most_rows(self, rows: int) -> None:
        if rows != self._most_rows:
            self._most_rows = rows
            self._arrange()

    def open_menu(self) -> QMenu:
        """The buttons that are not shown, as a menu."""
        menu = QMenu(self)
        menu.setAccessibleName(actions.MORE)
        menu.setToolTipsVisible(True)
        menu.aboutToHide.connect(menu.deleteLater)
        for button in self._in_menu():
            about = QTextDocumentFragment.fromHtml(button.toolTip()).toPlainText()
            action = add_entry(menu, button.text() or button.accessibleName(), button.icon(), about)
            action.setEnabled(button.isEnabled())
            action.triggered.connect(button.click)
        menu.popup(self.more.mapToGlobal(QPoint(0, self.more.height())))
        return menu

    def sizeHint(self) -> QSize:
        return QSize(sum(self._width(button) + self._spacing for button in self._buttons()), self.height())

    def minimumSizeHint(self) -> QSize:
        return QSize(self._width(self.more), self.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def event(self, event: QEvent) -> bool:
        if event.type() is QEvent.Type.LayoutRequest:  # a text or the font changed
            self._arrange()
        return super().event(event)

    def _buttons(self) -> list[QPushButton]:
        return [button for button, offered in self._offered.items() if offered]

    def _in_menu(self) -> list[QPushButton]:
        return [button for button in self._buttons() if button.isHidden()]

    def _width(self, button: QPushButton) -> int:
        return min(
            button.sizeHint().expandedTo(button.minimumSize()).boundedTo(button.maximumSize()).width(), self.width()
        )

    def _rows(self, buttons: Sequence[QPushButton]) -> list[list[QPushButton]]:
        rows: list[list[QPushButton]] = []
        used = 0
        for button in buttons:
            width = self._width(button)
            if not rows or used + width > self.width():
                rows.append([])
                used = 0
            rows[-1].append(button)
            used += width + self._spacing
        return rows

    def _fitting(self) -> list[list[QPushButton]]:
        """The rows of the buttons that are shown: as many as fit, and the one with the menu if any is left out."""
        offered = self._buttons()
        for count in range(len(offered), 0, -1):
            rows = self._rows([*offered[:count], *((self.more,) if count < len(offered) else ())])
            if len(rows) <= self._most_rows:
                return rows
        return [[*offered[:1], *((self.more,) if len(offered) > 1 else ())]]

    def _arrange(self) -> None:
        rows = self._fitting()
        shown = {button for row in rows for button in row}
        for button in sorted((*self._offered, self.more), key=lambda one: one not in shown):  # shown ones first
            if button not in shown and not button.isHidden():
                leave_focus(button, self.more if self.more in shown else None)
            button.setVisible(button in shown)
        y = 0
        for row in rows:
            height = max((button.sizeHint().boundedTo(button.maximumSize()).height() for button in row), default=0)
            widths = [self._width(button) for button in row]
            too_much = sum(widths) + self._spacing * (len(row) - 1) - self.width()
            if row and too_much > 0:  # its text is elided
                widths[0] = max(0, widths[0] - too_much)
            x = 0
            for button, width in zip(row, widths, strict=True):
                own = button.sizeHint().boundedTo(button.maximumSize()).height()
                button.setGeometry(x, y + (height - own) // 2, width, own)
                x += width + self._spacing
            y += height + self._spacing
        self.setFixedHeight(max(0, y - self._spacing))
