"""The tags of the selected images: chips that search for a tag or remove it, and a field that adds tags."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QStringListModel, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent
from PySide6.QtWidgets import QCompleter, QLineEdit, QVBoxLayout, QWidget

from diffstudio.studio.gallery.sidecar import LONGEST_TAG
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.controls import Chip
from diffstudio.ui.widgets.helpers import describe, limit_length, takes_text_only
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout
from diffstudio.ui.widgets.menus import MenuEntry, build_menu


class TagChip(Chip):
    """A click searches for the tag; Delete, or the menu, removes it from the selected images."""

    remove_requested = Signal()

    def __init__(self, tag: str, *, removable: bool) -> None:
        more = ". Delete removes it from the image" if removable else ""
        super().__init__(tag, checkable=False, tooltip=f"Show images with the tag “{tag}”{more}", icon="tag")
        self.tag, self._removable = tag, removable
        self.setAccessibleName(f"Tag: {tag}")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._removable and event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.remove_requested.emit()
        else:
            super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        why_not = "" if self._removable else "Restore the image first"
        entries: list[MenuEntry | None] = [
            ("Show images with this tag", "magnifying-glass", self.click),
            (actions.REMOVE, "x", self.remove_requested.emit, why_not),
        ]
        build_menu(self, entries, "Tag").popup(event.globalPos())


class TagEditor(QWidget):
    """Emits what the user wants; the tags shown are those that `show_tags` was given."""

    added = Signal(object)  # list[str]
    removed = Signal(str)
    search_requested = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.chips: list[TagChip] = []
        self.field = QLineEdit()
        takes_text_only(self.field)
        self.field.setPlaceholderText("Add tag…")
        limit_length(self.field, 10 * LONGEST_TAG)
        describe(self.field, "Add tag", "Add tags to the selected images, with commas between them (Enter)")
        self._known = QStringListModel(self)
        completer = QCompleter(self._known, self)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        self.field.setCompleter(completer)
        self.field.returnPressed.connect(self._add)
        self._flow = FlowLayout(spacing=4)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(self._flow)
        column.addWidget(self.field)

    def show_tags(self, tags: Sequence[str], *, editable: bool = True) -> None:
        self.field.setVisible(editable)
        if [chip.tag for chip in self.chips] == list(tags):
            return
        for chip in self.chips:
            self._flow.removeWidget(chip)
            chip.hide()
            chip.deleteLater()
        self.chips = [TagChip(tag, removable=editable) for tag in tags]
        for chip in self.chips:
            chip.clicked.connect(lambda _=False, tag=chip.tag: self.search_requested.emit(tag))
            chip.remove_requested.connect(lambda tag=chip.tag: self._remove(tag))
            self._flow.addWidget(chip)

    def set_known(self, tags: Sequence[str]) -> None:
        """Offer these tags while one is typed."""
        self._known.setStringList(list(tags))

    def _add(self) -> None:
        tags = [tag.strip() for tag in self.field.text().split(",") if tag.strip()]
        self.field.clear()
        if tags:
            self.added.emit(tags)

    def _remove(self, tag: str) -> None:
        self.field.setFocus()  # the chip is about to go
        self.removed.emit(tag)
