"""Builds context menus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMenu, QWidget

from diffstudio.ui.widgets import actions, icons

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
            menu.addAction(icons.icon(icon, "dim"), text).triggered.connect(lambda _=False, do=do: do())
    return menu
