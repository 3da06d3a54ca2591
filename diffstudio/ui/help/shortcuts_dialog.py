"""The list of all keyboard shortcuts, from the table that defines them."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.ui.widgets import actions, shortcuts, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SectionLabel
from diffstudio.ui.widgets.dialogs import resize_within_screen
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, describe, label, scroll_area


class ShortcutsDialog(QDialog):
    """Grouped by where they work; those of the room that is shown come after those that work everywhere."""

    def __init__(self, room: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(actions.SHORTCUTS)
        self.setMinimumSize(360, 240)
        resize_within_screen(self, 520, 640)
        describe(self, actions.SHORTCUTS, " ")
        self.close_button = PrimaryButton(actions.CLOSE, "", "Close (Escape)")
        self.close_button.clicked.connect(self.accept)
        self.listed: list[tuple[str, str, str]] = []  # place, what it does, keys
        contents = QWidget()
        contents.setObjectName("contents")
        grid = QGridLayout(contents)
        grid.setContentsMargins(24, 16, 24 - SCROLL_BAR_WIDTH, 16)
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(6)
        grid.setColumnStretch(0, 3)
        grid.setColumnStretch(1, 2)
        place = ""
        for shortcut in _ordered(room):
            if shortcut.place != place:
                place = shortcut.place
                heading = SectionLabel(place)
                heading.setContentsMargins(0, 12 if self.listed else 0, 0, 2)
                grid.addWidget(heading, grid.rowCount(), 0, 1, 2)
            row, keys = grid.rowCount(), label(shortcut.text(), "dim", wrap=True)
            keys.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
            keys.setAccessibleName(f"{shortcut.what}: {shortcut.text()}")
            grid.addWidget(label(shortcut.what, wrap=True), row, 0)
            grid.addWidget(keys, row, 1)
            self.listed.append((place, shortcut.what, shortcut.text()))
        grid.setRowStretch(grid.rowCount(), 1)
        self.list = scroll_area(contents)
        self.list.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # arrow and page keys scroll it
        describe(self.list, actions.SHORTCUTS, " ")
        foot = QHBoxLayout()
        foot.setContentsMargins(24, 8, 24, 16)
        note = label("Tab goes through the controls, Shift+Tab back.", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        foot.addWidget(note, 1)
        foot.addWidget(self.close_button)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(self.list, 1)
        whole.addLayout(foot)
        self.list.setFocus()


def _ordered(room: str) -> list[shortcuts.Shortcut]:
    """The table with the place of this room right after those shortcuts that work everywhere."""
    here = [each for each in shortcuts.Place if each == room]
    order = [shortcuts.Place.EVERYWHERE, *here]
    order += [each for each in shortcuts.Place if each not in order]
    listed = [each for each in shortcuts.table() if each.text()]
    return sorted(listed, key=lambda each: order.index(each.place))
