"""Trigger words and training tags as chips: a click adds one to the prompt, the context menu copies it."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.ui.widgets.controls import Chip, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout
from diffstudio.ui.widgets.menus import build_menu

MAX_SHOWN = 48  # characters on a chip; the whole word goes into the prompt
INITIAL_CHIPS, MAX_CHIPS = 12, 60  # chips shown at first, and after More


class TriggerWordChip(Chip):
    """One trigger word: Enter, Space or a click emits `requested`; the context menu copies it."""

    requested = Signal(str)

    def __init__(self, word: str, count: int = 0) -> None:
        shown = word if len(word) <= MAX_SHOWN else f"{word[: MAX_SHOWN - 1]}…"
        frequency = f" {count:,} of its training images have it." if count else ""
        super().__init__(shown, checkable=False, tooltip=f"Add “{word}” to the prompt.{frequency}")
        self.word = word
        self.setAccessibleName(f"Add {word} to the prompt")
        self.clicked.connect(lambda: self.requested.emit(self.word))

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        entries = (
            ("Add to prompt", "plus", lambda: self.requested.emit(self.word)),
            ("Copy", "copy", lambda: QGuiApplication.clipboard().setText(self.word)),
        )
        build_menu(self, entries).popup(event.globalPos())


class TriggerWordChips(QWidget):
    """A heading, chips, and a button that copies all words. Hidden while empty."""

    requested = Signal(str)

    def __init__(self, title: str, copy_tooltip: str) -> None:
        super().__init__()
        self._words: list[tuple[str, int]] = []
        self.chips: list[TriggerWordChip] = []
        self.copy = SecondaryButton("", "copy", copy_tooltip, name=copy_tooltip)
        self.more = SecondaryButton("More", "", "Show more")
        self.more.clicked.connect(lambda: self._fill(MAX_CHIPS))
        head = QHBoxLayout()
        head.addWidget(SectionLabel(title), 1)
        head.addWidget(self.copy)
        self._holder = QWidget()
        self._flow = FlowLayout(self._holder, spacing=6)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(head)
        column.addWidget(self._holder)
        column.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        self.copy.clicked.connect(
            lambda: QGuiApplication.clipboard().setText(", ".join(word for word, _ in self._words))
        )
        self.hide()

    def show_words(self, words: Sequence[tuple[str, int]]) -> None:
        """Show words, each with its number of training images; 0 if unknown."""
        if list(words) != self._words:
            self._words = list(words)
            self._fill(INITIAL_CHIPS)
        self.setVisible(bool(words))

    def words(self) -> list[str]:
        return [word for word, _ in self._words]

    def _fill(self, limit: int) -> None:
        for chip in self.chips:
            self._flow.removeWidget(chip)
            chip.hide()
            chip.deleteLater()
        self.chips = [TriggerWordChip(word, count) for word, count in self._words[:limit]]
        for chip in self.chips:
            chip.requested.connect(self.requested)
            self._flow.addWidget(chip)
            chip.show()
        self.more.setVisible(limit < min(MAX_CHIPS, len(self._words)))
