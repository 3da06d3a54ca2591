"""Builds context menus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QIcon
from PySide6.QtWidgets import QMenu, QWidget

from diffstudio.ui.widgets import actions, icons
from diffstudio.ui.widgets.helpers import plain_button_text, set_tooltip

_Do = Callable[[], object]
MenuEntry = tuple[str, str, _Do] | tuple[str, str, _Do, str]  # text, icon, what to do, why it is disabled


def entry(text: str, do: _Do, why_not: str = "") -> MenuEntry:
    """An entry for one of the actions that several rooms share, with its icon; `why_not` disables it and says why."""
    return text, actions.ICONS[text], do, why_not


def build_menu(parent: QWidget, entries: Sequence[MenuEntry | None], name: str = "") -> QMenu:
    """A menu that is deleted when it closes; None is a separator."""
    menu = QMenu(parent)
    menu.setAccessibleName(name)
    menu.setToolTipsVisible(True)
    menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    for each in entries:
        if each is None:
            menu.addSeparator()
        else:
            why_not = each[3] if len(each) == 4 else ""
            action = add_entry(menu, each[0], icons.icon(each[1], "dim"), why_not)
            action.setEnabled(not why_not)
            action.triggered.connect(lambda _=False, do=each[2]: do())
    return menu


def add_entry(menu: QMenu, text: str, icon: QIcon | None = None, tooltip: str = "") -> QAction:
    """Add an entry that shows exactly this text. Its tooltip is seen in a menu that shows tooltips."""
    action = menu.addAction(icon or QIcon(), plain_button_text(text))
    set_tooltip(action, tooltip or text)  # without one, Qt makes one of the text and may take it for HTML
    return action
