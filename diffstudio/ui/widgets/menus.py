"""Builds context menus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QIcon
from PySide6.QtWidgets import QMenu, QWidget

from diffstudio.ui.widgets import actions, icons
from diffstudio.ui.widgets.helpers import plain_button_text, set_tooltip


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """`why_not` says why the entry is disabled; empty when it is enabled."""

    text: str
    icon: str
    do: Callable[[], object]
    why_not: str = ""


def entry(text: str, do: Callable[[], object], why_not: str = "") -> MenuEntry:
    """An entry for one of the actions that several rooms share, with its icon."""
    return MenuEntry(text, actions.ICONS[text], do, why_not)


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
            action = add_entry(menu, each.text, icons.icon(each.icon, "dim"), each.why_not)
            action.setEnabled(not each.why_not)
            action.triggered.connect(lambda _=False, do=each.do: do())
    return menu


def add_entry(menu: QMenu, text: str, icon: QIcon | None = None, tooltip: str = "") -> QAction:
    """Add an entry that shows exactly this text. Its tooltip is seen in a menu that shows tooltips."""
    action = menu.addAction(icon or QIcon(), plain_button_text(text))
    set_tooltip(action, tooltip or text)  # without one, Qt makes one of the text and may take it for HTML
    return action
