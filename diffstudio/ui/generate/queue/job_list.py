"""The queue as a list: what runs, what waits, and what can be done with all of it.

Rows do not move under the pointer: while it is over the list, a job that starts or ends keeps its row, and new ones are
added below. What a person does in the list shows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QImage, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QApplication, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.studio.events import JobId
from diffstudio.studio.jobs.job_records import PendingJobs, QueuedJob
from diffstudio.ui.generate.queue.job_card import JobCard, RunningCard
from diffstudio.ui.generate.queue.process_cards import ProcessCards
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import describe, label

MAX_CARDS = 50  # the heading counts every job


class JobList(QWidget):
    """Shows the queue, and emits what the user asks for. `holds` says whether the pointer is over anything below it."""

    move_requested = Signal(object, object)  # JobId, by how many places; negative is up
    remove_requested = Signal(object)  # JobId
    open_requested = Signal(object)  # QueuedJob
    edit_requested = Signal(object)  # JobId
    duplicate_requested = Signal(object)  # JobId
    clear_requested = Signal()
    undo_requested = Signal()  # of what was removed last
    pause_requested = Signal(bool)  # of the queue as a whole
    live_view_requested = Signal()  # show the running job again
    train_room_requested = Signal()
    lab_job_requested = Signal(int)  # its index among those shown

    def __init__(self, holds: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        describe(self, "Queue", " ")
        self._holds = holds
        self._pending = PendingJobs([], 0)
        self._wanted = {"running": False, "training": False}  # cards to show when rows may move
        self._removed: set[JobId] = set()  # by the user
        self._images: dict[JobId, QImage] = {}
        self._edited: JobId | None = None
        self._by_user = True  # the next change was asked for here, so that rows may move
        self._rows: list[JobCard] = []
        self.heading = SectionLabel("Queue")
        self.undo = SecondaryButton("", "arrow-counter-clockwise", actions.BRING_BACK, role="dim")
        self.clear = SecondaryButton("", "trash", actions.CLEAR_QUEUE, role="dim")
        self.pause = SecondaryButton("", "pause", actions.PAUSE_QUEUE, role="dim")
        self.running = RunningCard("Generating", "Show the running job")
        self.training = RunningCard("Training", "Show the training run")
        self._further = ProcessCards("Training", "Show the training runs")  # runs that wait for the one in `training`
        self._lab = ProcessCards("Lab job", "Show this job in the Lab")
        self.empty = label(
            "The queue is empty. Press Generate while a job runs to queue another.",
            "dim",
            pixels=theme.SMALL_PIXELS,
            wrap=True,
        )
        self.paused = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        self.unreadable = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        self._lay_out()
        self._connect()
        self._apply()

    @property
    def cards(self) -> list[JobCard]:
        """Those of waiting jobs, in order."""
        return [row for row in self._rows if not row.gone]

    # Updates

    def set_pending(self, pending: PendingJobs) -> None:
        """Show the first waiting jobs in order, how many there are, and what cannot be run."""
        self._pending = pending
        self._apply()

    def show_running(self, shown: bool) -> None:
        self._wanted["running"] = shown
        self._apply()

    def show_further_training(self, runs: Sequence[tuple[str, str, float | None]]) -> None:
        """Show the title, the state and the fraction done of further training runs, which wait."""
        self._further.show_processes(runs)

    def show_lab_jobs(self, jobs: Sequence[tuple[str, str, float | None]]) -> None:
        """Show the title, state and completed fraction of the Lab jobs that are running or waiting."""
        self._lab.show_processes(jobs)
        self._apply()

    @property
    def further_training(self) -> list[RunningCard]:
        return self._further.cards

    @property
    def lab_jobs(self) -> list[RunningCard]:
        return self._lab.cards

    def show_training(self, shown: bool) -> None:
        self._wanted["training"] = shown
        self._apply()

    def set_image(self, job: JobId, image: QImage) -> None:
        """The thumbnail of a waiting job."""
        self._images[job] = image
        for row in self._rows:
            if row.queued.job == job:
                row.set_image(image)

    def set_edited(self, job: JobId | None) -> None:
        """Mark the job whose settings are in the panel."""
        self._edited, self._by_user = job, True
        self._apply()

    def set_undo(self, what: str) -> None:
        """What can be brought back, in words; an empty text for nothing."""
        self.undo.setEnabled(bool(what))
        describe(self.undo, actions.BRING_BACK, f"{actions.BRING_BACK}: {what}" if what else actions.NOTHING_REMOVED)

    def forget_images(self) -> None:
        """The thumbnails may have changed: ask for them again."""
        self._images.clear()

    def jobs_without_image(self) -> list[QueuedJob]:
        return [card.queued for card in self.cards if card.queued.job not in self._images]

    def _apply(self) -> None:
        over_rows, below = self.underMouse(), self._holds()
        held = (over_rows or below) and not self._by_user
        self._by_user = False
        self._show_rows(held, grows=not below or over_rows)
        self._show_texts(held)
        if not held or over_rows:  # it is below the rows
            self.unreadable.setVisible(bool(self.unreadable.text()))

    def _show_rows(self, held: bool, *, grows: bool) -> None:
        jobs = self._pending.jobs[:MAX_CARDS]
        focused = self._focused_place()
        known = {row.queued.job: row for row in self._rows}
        waiting = {queued.job for queued in jobs}
        if held and not grows:
            jobs = [queued for queued in jobs if queued.job in known]
        cards = [known.get(queued.job) or self._make_card(queued) for queued in jobs]
        places = {queued.job: place for place, queued in enumerate(self._pending.jobs)}
        for queued, card in zip(jobs, cards, strict=True):
            place = places[queued.job]
            card.show_job(queued, place, place == self._pending.count - 1, edited=queued.job == self._edited)
        rows, left = [], iter(cards)
        if held:
            for row in self._rows:
                if row.queued.job in waiting:
                    rows.append(next(left))
                else:
                    row.show_gone(actions.REMOVED if row.queued.job in self._removed else actions.STARTED)
                    rows.append(row)
        rows += left
        if rows != self._rows:
            self._arrange(rows)
        self._keep_focus(focused)
        self._images = {job: image for job, image in self._images.items() if job in waiting}

    def _arrange(self, rows: list[JobCard]) -> None:
        for row in self._rows:
            self._jobs.removeWidget(row)
            if row not in rows:
                row.hide()
                row.deleteLater()
        before: QWidget = self.training
        for row in rows:
            self._jobs.addWidget(row)
            row.show()
            for part in (row, *row.buttons()):
                QWidget.setTabOrder(before, part)
                before = part
        self._rows = rows

    def _focused_place(self) -> tuple[JobCard, int] | None:
        """The row with the focus, and its place."""
        focus = QApplication.focusWidget()
        for place, row in enumerate(self._rows):
            if focus is not None and (focus is row or row.isAncestorOf(focus)):
                return row, place
        return None

    def _keep_focus(self, focused: tuple[JobCard, int] | None) -> None:
        """Leave the focus in the list when its row goes, and in its row when the button that had it is disabled."""
        if focused is None:
            return
        row, place = focused
        focus = QApplication.focusWidget()
        if row not in self._rows:
            near = self._rows[min(place, len(self._rows) - 1)] if self._rows else self.pause
            near.setFocus()
        elif focus is None or not row.isAncestorOf(focus):
            row.setFocus()

    def _show_texts(self, held: bool) -> None:
        pending = self._pending
        self.heading.set_right(f"{pending.count:,} waiting" if pending.count else "")
        self.clear.setEnabled(pending.count > 0)
        self.pause.set_icon("play" if pending.paused else "pause", "warn" if pending.paused else "dim")
        describe(
            self.pause,
            actions.RESUME_QUEUE if pending.paused else actions.PAUSE_QUEUE,
            actions.RESUME_QUEUE_TIP if pending.paused else actions.PAUSE_QUEUE_TIP,
        )
        self.paused.setMinimumHeight(self.paused.height() if held else 0)  # its text may be shorter now
        self.paused.setText(_paused_text(pending.paused))
        self.unreadable.setText(_not_run(pending))
        busy = any(self._wanted.values()) or bool(self._rows) or bool(self._lab.cards)
        for part, shown in (
            (self.running, self._wanted["running"]),
            (self.training, self._wanted["training"]),
            (self.paused, pending.paused),
            (self.empty, not busy and not pending.paused),
        ):
            if not held:
                part.setVisible(shown)

    def pointer_left(self) -> None:
        """The rows may move again."""
        self._removed.clear()
        self._by_user = True
        self._apply()

    # User input

    def _asked(self, emit: Callable[[], None]) -> None:
        """Pass on what the user asked for; its result is shown at once."""
        self._by_user = True
        emit()

    def _remove(self, job: JobId) -> None:
        self._removed.add(job)
        self.remove_requested.emit(job)

    def _move(self, job: JobId, places: int) -> None:
        self._asked(lambda: self.move_requested.emit(job, places))

    def _go_to_neighbour(self, card: JobCard, step: int) -> None:
        place = self._rows.index(card) + step
        if 0 <= place < len(self._rows):
            self._rows[place].setFocus()

    def event(self, event: QEvent) -> bool:
        """Ctrl+Z brings back what was removed while the focus is in the list; elsewhere it undoes settings."""
        if (
            isinstance(event, QKeyEvent)
            and event.type() == QEvent.Type.ShortcutOverride
            and event.matches(QKeySequence.StandardKey.Undo)
        ):
            event.accept()
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Z and event.matches(QKeySequence.StandardKey.Undo):
            self.undo.click()
        else:
            super().keyPressEvent(event)

    # Construction

    def _make_card(self, queued: QueuedJob) -> JobCard:
        card, job = JobCard(queued), queued.job
        card.move_requested.connect(lambda places: self._move(job, places))
        card.remove_requested.connect(lambda: self._remove(job))
        card.open_requested.connect(lambda: self.open_requested.emit(card.queued))
        card.edit_requested.connect(lambda: self.edit_requested.emit(job))
        card.duplicate_requested.connect(lambda: self._asked(lambda: self.duplicate_requested.emit(job)))
        card.neighbour_requested.connect(lambda step: self._go_to_neighbour(card, step))
        if (image := self._images.get(job)) is not None:
            card.set_image(image)
        return card

    def _connect(self) -> None:
        self.running.clicked.connect(self.live_view_requested)
        self.training.clicked.connect(self.train_room_requested)
        self._further.clicked.connect(lambda _: self.train_room_requested.emit())
        self._lab.clicked.connect(self.lab_job_requested)
        self.clear.clicked.connect(lambda: self._asked(self.clear_requested.emit))
        self.undo.clicked.connect(lambda: self._asked(self.undo_requested.emit))
        self.pause.clicked.connect(lambda: self._asked(lambda: self.pause_requested.emit(not self._pending.paused)))
        self.set_undo("")

    def _lay_out(self) -> None:
        heading = QHBoxLayout()
        heading.setSpacing(0)
        heading.addWidget(self.heading, 1)
        heading.addSpacing(4)
        for button in (self.undo, self.clear, self.pause):
            button.setFixedSize(24, 24)
            heading.addWidget(button)
        self._jobs = QVBoxLayout()
        self._jobs.setSpacing(8)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(heading)
        for part in (self.empty, self.paused, self.running, self.training):
            column.addWidget(part)
        column.addWidget(self._further)
        column.addWidget(self._lab)
        column.addLayout(self._jobs)
        column.addWidget(self.unreadable)
        self.running.hide()
        self.training.hide()


def _paused_text(paused: bool) -> str:
    """Shown while the queue is paused, and until the pointer has left the list."""
    return (
        f"The queue is paused: no job starts until you press {actions.RESUME_QUEUE}."
        if paused
        else "The queue has resumed."
    )


def _not_run(pending: PendingJobs) -> str:
    """What waits in the queue and is neither listed nor run; empty when there is nothing."""
    sentences = []
    if pending.unreadable:
        jobs = "1 queued job" if pending.unreadable == 1 else f"{pending.unreadable:,} queued jobs"
        sentences.append(f"{jobs} cannot be read by this version.")
    if pending.other_kinds:
        kinds = ", ".join(f"{count:,} × {kind[:40]}" for kind, count in pending.other_kinds)
        sentences.append(f"Jobs that this version cannot run: {kinds}.")
    return f"{' '.join(sentences)} Nothing was deleted." if sentences else ""
