"""The right column: what waits to be made, and what was made last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QImage, QMouseEvent, QResizeEvent
from PySide6.QtWidgets import QApplication, QFrame, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.studio.jobs.queue import QueuedJob
from diffstudio.studio.requests import PictureRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.widgets import image_actions, theme
from diffstudio.ui.widgets.controls import Card, ProgressLine, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label, scroll_area
from diffstudio.ui.widgets.images import Thumbnail

MOST_RECENT = 30
_MOST_JOBS = 50  # cards drawn; the heading counts them all


@dataclass(frozen=True, slots=True)
class RecentPicture:
    """One of the newest pictures, small."""

    path: Path
    image: QImage
    request: PictureRequest | None = None


class JobCard(Card):
    """A job that waits: what it is, and three small buttons."""

    move_wanted = Signal(object)  # -1 up, 1 down
    remove_wanted = Signal()

    def __init__(self, queued: QueuedJob, place: int, last: bool) -> None:
        title = labels.title_of(queued.request)
        super().__init__(
            name=f"Waiting: {title[:80]}", tooltip=f"{title[:400]}\n{labels.settings_line(queued.request)}"
        )
        self.job = queued.job
        times = f" × {queued.request.count}" if queued.request.count > 1 else ""
        self._title, self._times = ElidedLabel(title), label(times)
        self._about = ElidedLabel(
            "next" if place == 0 else labels.settings_line(queued.request), "dim", pixels=theme.SMALL_PIXELS
        )
        self.up = SecondaryButton("", "caret-up", "Earlier", name=f"Move {title[:40]} up", role="dim")
        self.down = SecondaryButton("", "caret-down", "Later", name=f"Move {title[:40]} down", role="dim")
        self.remove = SecondaryButton("", "x", "Take it out of the queue", name=f"Remove {title[:40]}", role="dim")
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
        self.up.clicked.connect(lambda: self.move_wanted.emit(-1))
        self.down.clicked.connect(lambda: self.move_wanted.emit(1))
        self.remove.clicked.connect(self.remove_wanted)


class RunningCard(Card):
    """The job being made, or a training run: a line of progress. A click goes to it."""

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
    """A small picture: click to look at it, drag it out, right-click for more."""

    menu_wanted = Signal(object)

    def __init__(self, picture: RecentPicture, side: int) -> None:
        title = labels.title_of(picture.request) if picture.request else picture.path.name
        about = f"{title[:300]}\n{labels.settings_line(picture.request)}" if picture.request else title
        super().__init__(side, name=title[:120], tooltip=about, clickable=True)
        self.shown = picture
        self.set_image(picture.image)
        self._press = image_actions.ClickOrDrag()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._press.begin(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._press.becomes_drag(event):
            image_actions.drag(self, self.shown.image, self.shown.path)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._press.end():
            super().mouseReleaseEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        keyboard = event.reason() == QContextMenuEvent.Reason.Keyboard
        self.menu_wanted.emit(self.mapToGlobal(self.rect().center()) if keyboard else event.globalPos())


class RightColumn(QFrame):
    """Signals say what a person wants done; nothing is done here."""

    move_wanted = Signal(object, object)  # JobId, -1 or 1
    remove_wanted = Signal(object)  # JobId
    live_wanted = Signal()  # back to the picture being made
    training_wanted = Signal()
    picture_chosen = Signal(object)  # RecentPicture
    menu_wanted = Signal(object, object)  # RecentPicture, QPoint
    gallery_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setProperty("side", "right")
        self.heading = SectionLabel("Queue")
        self.running = RunningCard("Being made", "Show the picture that is being made")
        self.training = RunningCard("Training", "Show the training run")
        self.recent_heading = SectionLabel("Recent")
        self.gallery_button = SecondaryButton("", "squares-four", "All pictures", role="dim")
        self.status = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.cards: list[JobCard] = []
        self.thumbs: list[RecentThumb] = []
        self._empty_queue = label(
            "Nothing waits. Press Generate again while a picture is made, and it takes its turn here.",
            "dim",
            pixels=theme.SMALL_PIXELS,
            wrap=True,
        )
        self._empty_recent = label("Pictures you make appear here.", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self._total = 0
        self._columns = 3
        self._lay_out()
        self.running.hide()
        self.training.hide()
        self.running.clicked.connect(self.live_wanted)
        self.training.clicked.connect(self.training_wanted)
        self.gallery_button.clicked.connect(self.gallery_wanted)

    def set_pending(self, pending: Sequence[QueuedJob]) -> None:
        """The jobs that wait, in their order."""
        focus = QApplication.focusWidget()
        focused = next((card.job for card in self.cards if focus is not None and card.isAncestorOf(focus)), None)
        for card in self.cards:
            self._jobs.removeWidget(card)
            card.hide()
            card.deleteLater()
        self.cards = []
        for place, queued in enumerate(pending[:_MOST_JOBS]):
            card = JobCard(queued, place, place == len(pending) - 1)
            card.move_wanted.connect(lambda way, job=queued.job: self.move_wanted.emit(job, way))
            card.remove_wanted.connect(lambda job=queued.job: self.remove_wanted.emit(job))
            self._jobs.addWidget(card)
            self.cards.append(card)
            if queued.job == focused:
                (card.up if card.up.isEnabled() else card.down).setFocus()
        self.heading.set_right(f"{len(pending):,} waiting" if pending else "")
        self._follow()

    def set_recent(self, pictures: Sequence[RecentPicture], total: int) -> None:
        """The newest first, and how many there are in the gallery."""
        for thumb in self.thumbs:
            thumb.hide()
            thumb.deleteLater()
        self.thumbs = [self._thumb(picture) for picture in pictures[:MOST_RECENT]]
        self._total = total
        self._arrange()

    def add_recent(self, picture: RecentPicture) -> None:
        self.thumbs.insert(0, self._thumb(picture))
        for thumb in self.thumbs[MOST_RECENT:]:
            thumb.hide()
            thumb.deleteLater()
        del self.thumbs[MOST_RECENT:]
        self._total += 1
        self._arrange()

    def show_running(self, shown: bool) -> None:
        self.running.setVisible(shown)
        self._follow()

    def show_training(self, shown: bool) -> None:
        self.training.setVisible(shown)
        self._follow()

    def _follow(self) -> None:
        busy = not self.running.isHidden() or not self.training.isHidden() or bool(self.cards)
        self._empty_queue.setVisible(not busy)

    def _thumb(self, picture: RecentPicture) -> RecentThumb:
        thumb = RecentThumb(picture, 64)
        thumb.clicked.connect(lambda: self.picture_chosen.emit(picture))
        thumb.menu_wanted.connect(lambda place: self.menu_wanted.emit(picture, place))
        return thumb

    def _arrange(self) -> None:
        room = self.width() - 32 - 8
        self._columns = 3 if room >= 160 else 2
        side = max(32, (room - 8 * (self._columns - 1)) // self._columns)
        for index, thumb in enumerate(self.thumbs):
            thumb.set_side(side)
            self._grid.addWidget(thumb, index // self._columns, index % self._columns)
        self._empty_recent.setVisible(not self.thumbs)
        self.recent_heading.set_right(labels.pictures(self._total) if self._total else "")

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def _lay_out(self) -> None:
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(16, 16, 16, 8)
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
        describe(scroll, "Queue and recent pictures", "What waits and what was made last")
