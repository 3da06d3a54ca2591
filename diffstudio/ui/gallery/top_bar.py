"""The bar above the gallery: search, filter, count, trash and rescan."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QWidget

from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import label
from diffstudio.ui.widgets.inputs import Chip, SearchField


class TopBar(QWidget):
    """Search field, Starred filter, image count, trash and rescan. Emits `changed` when the filter changes."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.search = SearchField("Search prompts…", "Words in the prompt or the checkpoint's name (Ctrl+F)")
        self.search.setMaximumWidth(360)
        self.starred = Chip(actions.STARRED, tooltip="Show starred images only", icon="star")
        self.count_label = label("", "dim")
        self.trash = SecondaryButton("", "trash", "Images in the gallery's trash", name="Trash")
        self.rescan_button = SecondaryButton(
            "", "arrows-clockwise", "Rescan the folder for images added or removed by other programs", name="Rescan"
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(20, 12, 16, 4)
        row.setSpacing(8)
        row.addWidget(self.search, 4)
        row.addWidget(self.starred)
        row.addStretch(1)
        for part in (self.count_label, self.trash, self.rescan_button):
            row.addWidget(part)
        self.search.searched.connect(self.changed)
        self.starred.clicked.connect(self.search.search_now)

    def clear(self) -> None:
        """Show no filter. `changed` is not emitted."""
        self.search.clear()
        self.starred.setChecked(False)
