"""ProcessCards: separate processes shown with the queue, such as waiting training runs and Lab jobs."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio.ui.generate.queue.job_card import RunningCard


class ProcessCards(QWidget):
    """A column with a card for each process; hidden if there are none."""

    clicked = Signal(int)  # the index of the card

    def __init__(self, name: str, tooltip: str) -> None:
        super().__init__()
        self._name, self._tooltip = name, tooltip
        self.cards: list[RunningCard] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(8)
        self.hide()

    def show_processes(self, processes: Sequence[tuple[str, str, float | None]]) -> None:
        """Show the title, state and completed fraction of each process."""
        while len(self.cards) > len(processes):
            card = self.cards.pop()
            self._column.removeWidget(card)
            card.hide()
            card.deleteLater()
        while len(self.cards) < len(processes):
            card, place = RunningCard(self._name, self._tooltip), len(self.cards)
            card.clicked.connect(lambda place=place: self.clicked.emit(place))
            self.cards.append(card)
            self._column.addWidget(card)
            card.show()
        for card, process in zip(self.cards, processes, strict=True):
            card.set_progress(*process)
        self.setVisible(bool(processes))
