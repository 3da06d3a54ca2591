"""The right column: the queue and the most recent images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QImage, QMouseEvent, QResizeEvent
from PySide6.QtWidgets import QApplication, QFrame, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.studio.jobs.job_records import PendingJobs, QueuedJob
from diffstudio.studio.requests import PictureRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.widgets import image_actions, theme
from diffstudio.ui.widgets.controls import Card, ProgressLine, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, ElidedLabel, describe, label, scroll_area
from diffstudio.ui.widgets.images import Thumbnail

MAX_RECENT = 30
MAX_CARDS = 50  # the heading counts every job


@dataclass(frozen=True, slots=True)
class RecentImage:
    """A thumbnail of a recent image."""

    path: Path
    image: QImage
    request: PictureRequest | None = None


class JobCard(Card):
    """A waiting job, with buttons to move and remove it."""

    move_requested = Signal(object)  # -1 up, 1 down
    remove_requested = Signal()

    def __init__(self, queued: QueuedJob, place: int, last: bool) -> None:
        title = labels.title_of(queued.request)
        super().__init__(
            name=f"Waiting: {title[:80]}", tooltip=f"{title[:400]}\n{labels.settings_line(queued.request)}"
        )
        self.queued = queued
        times = f" × {queued.request.count}" if queued.request.count > 1 else ""
        self._title, self._times = ElidedLabel(title), label(times)
        self._about = ElidedLabel(
            "Next" if place == 0 else labels.settings_line(queued.request), "dim", pixels=theme.SMALL_PIXELS
        )
        self.up = SecondaryButton("", "caret-up", "Move up", name=f"Move {title[:40]} up", role="dim")
        self.down = SecondaryButton("", "caret-down", "Move down", name=f"Move {title[:40]} down", role="dim")
        self.remove = SecondaryButton("", "x", "Remove from the queue", name=f"Remove {title[:40]}", role="dim")
        for button in (self.up, self.down, self.remove):
            button.setFixedSize(22, 22)
        self.up.setEnabled(place > 0)
        self.down.setEnabled(not last)
        row, texts, heading = QHBoxLayout(self), QVBoxLayout(), QHBoxLayout()
        row.setContentsMargins(10, 8, 6, 8)
        row.setSpacing(0)
        texts.setSpacing(2)
        heading.setSpacing(0)
        heading.addWidget(self._title, 1)
        heading.addWidget(self._times)
        texts.addLayout(heading)
        texts.addWidget(self._about)
        row.addLayout(texts, 1)
        row.addSpacing(4)
        for button in (self.up, self.down, self.remove):
            row.addWidget(button)
        self.up.clicked.connect(lambda: self.move_requested.emit(-1))
        self.down.clicked.connect(lambda: self.move_requested.emit(1))
        self.remove.clicked.connect(self.remove_requested)


class RunningCard(Card):
    """The running job, or a training run, with its progress. A click shows it."""

    def __init__(self, name: str, tooltip: str) -> None:
        super().__init__(interactive=True, name=name, tooltip=tooltip)
        self._title = ElidedLabel("")
        self._about = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.progress = ProgressLine(name)
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 8, 10, 8)
        column.setSpacing(2)
        column.addWidget(self._title)
        column.addWidget(self._about)
        column.addSpacing(4)
        column.addWidget(self.progress)

    def set_progress(self, title: str, about: str, fraction: float | None) -> None:
        self._title.setText(title)
        self._about.setText(about)
        self.progress.set_fraction(fraction)


class RecentThumb(Thumbnail):
    """A recent image: click to show it, drag it out, right-click for actions."""

    context_menu_requested = Signal(object)

    def __init__(self, recent: RecentImage, side: int) -> None:
        title = labels.title_of(recent.request) if recent.request else recent.path.name
        about = f"{title[:300]}\n{labels.settings_line(recent.request)}" if recent.request else title
        super().__init__(side, name=title[:120], tooltip=about, clickable=True)
        self.recent_image = recent
        self.set_image(recent.image)
        self._click_or_drag = image_actions.ClickOrDrag()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._click_or_drag.begin(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._click_or_drag.becomes_drag(event):
            image_actions.drag(self, self.recent_image.image, self.recent_image.path)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._click_or_drag.end():
            super().mouseReleaseEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        keyboard = event.reason() == QContextMenuEvent.Reason.Keyboard
        self.context_menu_requested.emit(self.mapToGlobal(self.rect().center()) if keyboard else event.globalPos())


class QueueAndHistory(QFrame):
    """Shows the queue and recent images, and emits what the user asks for."""

    move_requested = Signal(object, object)  # JobId, -1 or 1
    remove_requested = Signal(object)  # JobId
    live_view_requested = Signal()  # show the running job again
    train_room_requested = Signal()
    image_selected = Signal(object)  # RecentImage
    context_menu_requested = Signal(object, object)  # RecentImage, QPoint
    gallery_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setProperty("side", "right")
        self.heading = SectionLabel("Queue")
        self.running = RunningCard("Generating", "Show the running job")
        self.training = RunningCard("Training", "Show the training run")
        self.recent_heading = SectionLabel("Recent")
        self.gallery_button = SecondaryButton("", "squares-four", "Open the gallery", role="dim")
        self.status = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.cards: list[JobCard] = []
        self.thumbs: list[RecentThumb] = []
        self._empty_queue = label(
            "The queue is empty. Press Generate while a job runs to queue another.",
            "dim",
            pixels=theme.SMALL_PIXELS,
            wrap=True,
        )
        self.unreadable = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        self.unreadable.hide()
        self._empty_recent = label("Your images appear here.", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self._total = self._waiting = 0
        self._columns = 3
        self._lay_out()
        self.running.hide()
        self.training.hide()
        self.running.clicked.connect(self.live_view_requested)
        self.training.clicked.connect(self.train_room_requested)
        self.gallery_button.clicked.connect(self.gallery_requested)

    def set_pending(self, pending: PendingJobs) -> None:
        """Show the first waiting jobs in order, how many there are, and how many cannot be read."""
        self.unreadable.setVisible(pending.unreadable > 0)
        self.unreadable.setText(
            f"{pending.unreadable:,} queued job{'s' if pending.unreadable > 1 else ''} cannot be read by this version. "
            "Nothing was deleted."
        )
        jobs = pending.jobs[:MAX_CARDS]
        if [card.queued for card in self.cards] == jobs and pending.count == self._waiting:
            return
        self._waiting = pending.count
        focus = QApplication.focusWidget()
        focused = next((card.queued.job for card in self.cards if focus is not None and card.isAncestorOf(focus)), None)
        for card in self.cards:
            self._jobs.removeWidget(card)
            card.hide()
            card.deleteLater()
        self.cards = []
        for place, queued in enumerate(jobs):
            card = JobCard(queued, place, place == pending.count - 1)
            card.move_requested.connect(lambda offset, job=queued.job: self.move_requested.emit(job, offset))
            card.remove_requested.connect(lambda job=queued.job: self.remove_requested.emit(job))
            self._jobs.addWidget(card)
            self.cards.append(card)
            if queued.job == focused:
                (card.up if card.up.isEnabled() else card.down).setFocus()
        self.heading.set_right(f"{pending.count:,} waiting" if pending.count else "")
        self._update_state()

    def set_recent(self, images: Sequence[RecentImage], total: int) -> None:
        """Show the newest images, newest first, and the total of the gallery."""
        for thumb in self.thumbs:
            thumb.hide()
            thumb.deleteLater()
        self.thumbs = [self._thumbnail(image) for image in images[:MAX_RECENT]]
        self._total = total
        self._arrange()

    def add_recent(self, recent: RecentImage) -> None:
        self.thumbs.insert(0, self._thumbnail(recent))
        for thumb in self.thumbs[MAX_RECENT:]:
            thumb.hide()
            thumb.deleteLater()
        del self.thumbs[MAX_RECENT:]
        self._total += 1
        self._arrange()

    def show_running(self, shown: bool) -> None:
        self.running.setVisible(shown)
        self._update_state()

    def show_training(self, shown: bool) -> None:
        self.training.setVisible(shown)
        self._update_state()

    def _update_state(self) -> None:
        busy = not self.running.isHidden() or not self.training.isHidden() or bool(self.cards)
        self._empty_queue.setVisible(not busy)

    def _thumbnail(self, recent: RecentImage) -> RecentThumb:
        thumb = RecentThumb(recent, 64)
        thumb.clicked.connect(lambda: self.image_selected.emit(recent))
        thumb.context_menu_requested.connect(lambda place: self.context_menu_requested.emit(recent, place))
        return thumb

    def _arrange(self) -> None:
        room = self.width() - 32
        self._columns = 3 if room >= 160 else 2
        side = max(32, (room - 8 * (self._columns - 1)) // self._columns)
        for index, thumb in enumerate(self.thumbs):
            thumb.set_side(side)
            self._grid.addWidget(thumb, index // self._columns, index % self._columns)
        self._empty_recent.setVisible(not self.thumbs)
        self.recent_heading.set_right(labels.image_count(self._total) if self._total else "")

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def _lay_out(self) -> None:
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(16, 16, 16 - SCROLL_BAR_WIDTH, 8)
        column.setSpacing(8)
        self._jobs, self._grid = QVBoxLayout(), QGridLayout()
        self._jobs.setSpacing(8)
        self._grid.setSpacing(8)
        self._grid.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        recent = QHBoxLayout()
        recent.setSpacing(4)
        recent.addWidget(self.recent_heading, 1)
        recent.addWidget(self.gallery_button)
        column.addWidget(self.heading)
        column.addWidget(self._empty_queue)
        column.addWidget(self.unreadable)
        column.addWidget(self.running)
        column.addWidget(self.training)
        column.addLayout(self._jobs)
        column.addSpacing(8)
        column.addLayout(recent)
        column.addWidget(self._empty_recent)
        column.addLayout(self._grid)
        column.addStretch(1)
        scroll = scroll_area(contents)
        foot = QVBoxLayout()
        foot.setContentsMargins(16, 8, 16, 16)
        foot.addWidget(self.status)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(scroll, 1)
        whole.addLayout(foot)
        describe(scroll, "Queue and recent images", "Waiting jobs and the newest images")
