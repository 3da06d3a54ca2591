"""The jobs that failed, below the queue: each with its reason, until it is tried again or dismissed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QApplication, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from diffstudio.studio.requests import PictureRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.shell.downloads import button_text
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.controls import Card, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.wrapping_text import WrappingText

MAX_CARDS = 50  # the heading counts every job


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that failed, and why."""

    key: int
    request: PictureRequest
    reason: str
    missing: tuple[str, ...] = ()  # components that can be downloaded

    def action(self) -> str:
        """The text of the button."""
        return f"{button_text(self.missing)}…" if self.missing else actions.TRY_AGAIN


class FailedCard(Card):
    """One failed job, with its reason."""

    def __init__(self, job: FailedJob) -> None:
        super().__init__()
        self.job = job
        title = labels.title_of(job.request)
        about = f"{title[:400]}\n{labels.settings_line(job.request)}"
        describe(self, f"Failed: {title[:80]}", about)
        self.reason = WrappingText(job.reason, "dim")
        self.reason.setAccessibleName(f"Why {title[:40]} failed")
        self.act = SecondaryButton(job.action(), "download-simple" if job.missing else "arrow-counter-clockwise")
        self.act.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)  # cut in a narrow column
        describe(self.act, f"{job.action()}: {title[:40]}", f"{job.action()}: {title[:80]}")
        self.dismiss = SecondaryButton("", "x", f"Dismiss {title[:40]}", role="dim")
        self.dismiss.setFixedSize(22, 22)
        heading, foot, column = QHBoxLayout(), QHBoxLayout(), QVBoxLayout(self)
        column.setContentsMargins(10, 6, 4, 8)
        column.setSpacing(4)
        heading.addWidget(ElidedLabel(title), 1)
        heading.addWidget(self.dismiss)
        foot.addWidget(self.act)
        foot.addStretch(1)
        column.addLayout(heading)
        column.addWidget(self.reason)
        column.addLayout(foot)


class FailedList(QWidget):
    """Hidden while no job has failed."""

    act_requested = Signal(int)  # the key of a FailedJob
    dismiss_requested = Signal(int)
    act_on_all_requested = Signal()
    dismiss_all_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        describe(self, "Failed jobs", " ")
        self.cards: list[FailedCard] = []
        self.heading = SectionLabel("Failed")
        self.again = SecondaryButton("", "arrow-counter-clockwise", "Try all failed jobs again", role="dim")
        self.dismiss_all = SecondaryButton("", "trash", "Dismiss all failed jobs", role="dim")
        heading = QHBoxLayout()
        heading.setSpacing(0)
        heading.addWidget(self.heading, 1)
        heading.addSpacing(4)
        for button in (self.again, self.dismiss_all):
            button.setFixedSize(24, 24)
            heading.addWidget(button)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 8, 0, 0)
        self._column.setSpacing(8)
        self._column.addLayout(heading)
        self.again.clicked.connect(self.act_on_all_requested)
        self.dismiss_all.clicked.connect(self.dismiss_all_requested)
        self.hide()

    def show_jobs(self, jobs: Sequence[FailedJob], focus_after: QWidget) -> None:
        """Show the jobs in this order; `focus_after` gets the focus of a card that goes when none is left."""
        place, known = self._focused_place(), {card.job.key: card for card in self.cards if card.job in jobs}
        cards = [known.get(job.key) or self._make_card(job) for job in jobs[:MAX_CARDS]]
        for card in self.cards:
            self._column.removeWidget(card)
            if card not in cards:
                card.hide()
                card.deleteLater()
        for card in cards:
            self._column.addWidget(card)
            card.show()
        self.cards = cards
        self.heading.set_right(f"{len(jobs):,}")
        self.again.setEnabled(any(not job.missing for job in jobs))
        self.setVisible(bool(jobs))
        if place is not None and (not jobs or self._focused_place() is None):
            (cards[min(place, len(cards) - 1)].act if cards else focus_after).setFocus()

    def _focused_place(self) -> int | None:
        """The place of the card that has the focus; 0 for the heading."""
        focus = QApplication.focusWidget()
        if focus is None or not self.isAncestorOf(focus):
            return None
        return next((place for place, card in enumerate(self.cards) if card.isAncestorOf(focus)), 0)

    def _make_card(self, job: FailedJob) -> FailedCard:
        card = FailedCard(job)
        card.act.clicked.connect(lambda: self.act_requested.emit(job.key))
        card.dismiss.clicked.connect(lambda: self.dismiss_requested.emit(job.key))
        return card
