"""Builds context menus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QIcon
from PySide6.QtWidgets import QMenu, QWidget

from diffstudio.ui.widgets import actions, icons
from diffstudio.ui.widgets.helpers import plain_button_text, set_tooltip

MenuEntry = tuple[str, str, Callable[[], object]]  # text, icon, what to do


def entry(text: str, do: Callable[[], object]) -> MenuEntry:
    """An entry for one of the actions that several rooms share, with its icon."""
    return text, actions.ICONS[text], do


def build_menu(parent: QWidget, entries: Sequence[MenuEntry | None], name: str = "") -> QMenu:
    """A menu that is deleted when it closes; None is a separator."""
    menu = QMenu(parent)
    menu.setAccessibleName(name)
    menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    for each in entries:
        if each is None:
            menu.addSeparator()
        else:
            text, icon, do = each
            add_entry(menu, text, icons.icon(icon, "dim")).triggered.connect(lambda _=False, do=do: do())
    return menu


def add_entry(menu: QMenu, text: str, icon: QIcon | None = None, tooltip: str = "") -> QAction:
    """Add an entry that shows exactly this text. Its tooltip is seen in a menu that shows tooltips."""
    action = menu.addAction(icon or QIcon(), plain_button_text(text))
    set_tooltip(action, tooltip or text)  # without one, Qt makes one of the text and may take it for HTML
    return action
