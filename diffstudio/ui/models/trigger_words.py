"""Words that a file was trained to know, as chips: a click puts one into the prompt, the menu copies it."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QContextMenuEvent, QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QMenu, QVBoxLayout, QWidget

from diffstudio.ui.widgets import icons
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.flow_layout import FlowLayout
from diffstudio.ui.widgets.inputs import Chip

LONGEST_SHOWN = 48  # characters of a chip; all of them are put into the prompt
FEW, MANY = 12, 60  # chips at first, and after asking for more


class TriggerWordChip(Chip):
    """One word, or a few: Enter, Space and a click say that it is wanted; the menu copies it."""

    wanted = Signal(str)

    def __init__(self, word: str, times: int = 0) -> None:
        shown = word if len(word) <= LONGEST_SHOWN else f"{word[: LONGEST_SHOWN - 1]}…"
        trained = f" {times:,} of its training images have it." if times else ""
        super().__init__(shown.replace("&", "&&"), checkable=False, tooltip=f"Add “{word}” to the prompt.{trained}")
        self.word = word
        self.setAccessibleName(f"Add {word} to the prompt")
        self.clicked.connect(lambda: self.wanted.emit(self.word))

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for text, icon, act in (
            ("Add to the prompt", "plus", lambda: self.wanted.emit(self.word)),
            ("Copy", "copy", lambda: QGuiApplication.clipboard().setText(self.word)),
        ):
            action = QAction(icons.icon(icon, "dim"), text, menu)
            action.triggered.connect(act)
            menu.addAction(action)
        menu.popup(event.globalPos())


class TriggerWordChips(QWidget):
    """A heading, the chips, and a way to copy them all. Hidden while there are none."""

    wanted = Signal(str)

    def __init__(self, title: str, copies: str) -> None:
        super().__init__()
        self._words: list[tuple[str, int]] = []
        self.chips: list[TriggerWordChip] = []
        self.copy = SecondaryButton("", "copy", copies, name=copies)
        self.more = SecondaryButton("More", "", "Show more")
        self.more.clicked.connect(lambda: self._fill(MANY))
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
        """Each with how many of the pictures it was trained on have it; 0 where that is not known."""
        if list(words) != self._words:
            self._words = list(words)
            self._fill(FEW)
        self.setVisible(bool(words))

    def words(self) -> list[str]:
        return [word for word, _ in self._words]

    def _fill(self, most: int) -> None:
        for chip in self.chips:
            self._flow.removeWidget(chip)
            chip.hide()
            chip.deleteLater()
        self.chips = [TriggerWordChip(word, times) for word, times in self._words[:most]]
        for chip in self.chips:
            chip.wanted.connect(self.wanted)
            self._flow.addWidget(chip)
            chip.show()
        self.more.setVisible(most < min(MANY, len(self._words)))
