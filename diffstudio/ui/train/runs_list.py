"""The right column: all runs with their status, and whether the selected run is learning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from diffstudio.studio.runs.history import HistoryView
from diffstudio.studio.runs.runs import RunSummary
from diffstudio.training.run.events import Outcome
from diffstudio.training.run.run_folder import RunFolder, Status
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run.learning_card import LearningCard
from diffstudio.ui.train.run.view import finished_kind
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import Card, ProgressLine, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, PartsLabel, describe, label, set_style_property
from diffstudio.ui.widgets.layout.side_column import scrolled_column

LIST_WIDTHS = 216, 260  # px, in a narrow window and in a wide one


def status_text(summary: RunSummary) -> str:
    """`training · 68%`, `finished · learned little`."""
    percent = f"{100 * summary.fraction:.0f}%"
    match summary.status:
        case Status.STARTING:
            done = summary.prepared
            return "starting" if done is None or done >= 1 else f"preparing · {100 * done:.0f}%"
        case Status.TRAINING if summary.compared is not None:
            return f"comparing · {percent}"
        case Status.FINISHED if summary.outcome in (Outcome.COPYING, Outcome.COLLAPSED):
            return f"finished · {summary.outcome}"
        case Status.FINISHED:
            return "finished" if summary.learned is not False else "finished · learned little"
        case Status.FAILED:
            return "failed"
        case Status.WAITING:
            return f"waiting · {percent}"
        case other:
            return f"{other} · {percent}"


def status_tone(summary: RunSummary) -> str:
    match summary.status:
        case Status.FAILED:
            return "bad"
        case Status.INTERRUPTED:
            return "warn"
        case Status.FINISHED:
            return finished_kind(summary)
        case _:
            return "dim"


class RunCard(Card):
    """A run's name, status and progress."""

    arrow_pressed = Signal(int)  # 1: to the next card, -1: to the previous one

    def __init__(self, summary: RunSummary) -> None:
        super().__init__(interactive=True)
        self._name = ElidedLabel("", bold=False)
        self._status = PartsLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self._line = ProgressLine()
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 10)
        column.setSpacing(3)
        for part in (self._name, self._status, self._line):
            part.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            column.addWidget(part)
        self.show_summary(summary)

    def show_summary(self, summary: RunSummary) -> None:
        self._name.setText(summary.name)
        self._status.setText(status_text(summary))
        set_style_property(self._status, "tone", status_tone(summary))
        self._line.setVisible(summary.alive)
        self._line.set_fraction(summary.fraction)
        describe(
            self,
            f"{summary.name}, {status_text(summary)}",
            f"{summary.name}: {summary.verdict or status_text(summary)}",
        )

    def status(self) -> str:
        return self._status.text()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1}.get(Qt.Key(event.key()))
        if step is None:
            super().keyPressEvent(event)
        else:
            self.arrow_pressed.emit(step)


class RunsList(QWidget):
    """The cards of all runs, whether the selected one is learning, and the New run button."""

    run_selected = Signal(object)  # Path of a run's folder
    new_run_requested = Signal()
    disk_requested = Signal()

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._cards: dict[Path, RunCard] = {}
        self._selected: Path | None = None
        self._heading = SectionLabel("Runs", "0")
        self.new_run = SecondaryButton(
            "New run", "plus", "Train on another folder, or again with other settings (Ctrl+N)"
        )
        self.empty_note = label(
            "No runs yet. The first one appears here as soon as it is started.",
            "dim",
            pixels=theme.SMALL_PIXELS,
            wrap=True,
        )
        self.learning = LearningCard(tasks)
        self._column = scrolled_column(self)
        self._column.setSpacing(8)
        self._area = self.findChildren(QScrollArea)[0]
        self._column.addWidget(self._heading)
        self._column.addWidget(self.empty_note)
        self._column.addWidget(self.learning)
        self._column.addStretch(1)
        bottom = QHBoxLayout()
        bottom.setContentsMargins(16, 8, 16, 16)
        self.disk = SecondaryButton(
            "", "hard-drive", "Show the disk space of runs and prepared images", name="Disk space"
        )
        bottom.addWidget(self.new_run, 1)
        bottom.addWidget(self.disk)
        layout = self.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.addLayout(bottom)
        self.new_run.clicked.connect(self.new_run_requested)
        self.disk.clicked.connect(self.disk_requested)
        self.show_runs(())

    def cards(self) -> dict[Path, RunCard]:
        """The cards by run folder, in display order."""
        return dict(self._cards)

    def show_runs(self, summaries: Sequence[RunSummary]) -> None:
        order = [summary.run.path for summary in summaries]
        for removed in [path for path in self._cards if path not in set(order)]:
            card = self._cards.pop(removed)
            self._column.removeWidget(card)
            card.deleteLater()
        for summary in summaries:
            path = summary.run.path
            if path in self._cards:
                self._cards[path].show_summary(summary)
            else:
                card = self._cards[path] = RunCard(summary)
                card.clicked.connect(lambda path=path: self.run_selected.emit(path))
                card.arrow_pressed.connect(lambda step, path=path: self._move_focus(path, step))
                card.set_chosen(path == self._selected)
        if list(self._cards) != order or self._column.count() != len(order) + 4:
            self._cards = {path: self._cards[path] for path in order}
            self._column.removeWidget(self.learning)
            for position, card in enumerate(self._cards.values()):
                self._column.insertWidget(2 + position, card)
                card.show()
            self._place_learning()
        self._heading.set_right(f"{len(order):,}")
        self.empty_note.setVisible(not order)
        self.new_run.setVisible(bool(order))

    def set_chosen(self, path: Path | None) -> None:
        self._selected = path
        for each, card in self._cards.items():
            card.set_chosen(each == path)
        before = self._top_of(path)
        self._column.removeWidget(self.learning)
        self._place_learning()
        QTimer.singleShot(0, self, lambda: self._keep_in_place(path, before))

    def _place_learning(self) -> None:
        """Below the card of the selected run, which it is about."""
        chosen = self._cards.get(self._selected) if self._selected is not None else None
        place = self._column.indexOf(chosen) + 1 if chosen is not None else self._column.count() - 1
        self._column.insertWidget(place, self.learning)

    def _top_of(self, path: Path | None) -> int:
        card = self._cards.get(path) if path is not None else None
        return card.mapTo(self._area.viewport(), QPoint()).y() if card is not None else 0

    def _keep_in_place(self, path: Path | None, top: int) -> None:
        """Scroll so that a card stays `top` px below the top, which is below the pointer that chose it."""
        self._column.activate()
        bar = self._area.verticalScrollBar()
        bar.setValue(bar.value() + self._top_of(path) - top)

    def focused_run(self) -> Path | None:
        """The run whose card has the keyboard focus."""
        return next((path for path, card in self._cards.items() if card.hasFocus()), None)

    def _move_focus(self, path: Path, step: int) -> None:
        paths = list(self._cards)
        self._cards[paths[min(max(paths.index(path) + step, 0), len(paths) - 1)]].setFocus()

    def show_learning(
        self, history: HistoryView | None, run: RunFolder | None = None, folder: Path | None = None
    ) -> None:
        """Show whether a run is learning; `folder` holds its training images. None hides it."""
        self.learning.show_history(history, run, folder)
