"""ProcessCards: what runs in processes of its own beside the queue: training runs that wait, and jobs of the Lab."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio.ui.generate.queue.job_card import RunningCard


class ProcessCards(QWidget):
    """A card for each process, in a column; hidden without any."""

    clicked = Signal(int)  # the place of the card

    def __init__(self, name: str, tooltip: str) -> None:
        super().__init__()
        self._name, self._tooltip = name, tooltip
        self.cards: list[RunningCard] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(8)
        self.hide()

    def show_processes(self, processes: Sequence[tuple[str, str, float | None]]) -> None:
        """Show the title, the state and the fraction done of each."""
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
