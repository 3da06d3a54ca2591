"""The right column: the queue, the jobs that failed, and the most recent images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QImage, QResizeEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from diffstudio.studio.jobs.job_records import PendingJobs
from diffstudio.studio.metadata.gaps import NO_GAPS, Gaps
from diffstudio.studio.requests import PictureRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.queue.failed_list import FailedJob, FailedList
from diffstudio.ui.generate.queue.job_card import JobCard, RunningCard
from diffstudio.ui.generate.queue.job_list import JobList
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, PartsLabel, describe, label, scroll_area
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.widgets.images.roving_focus import RovingFocus

MAX_RECENT = 30


@dataclass(frozen=True, slots=True)
class RecentImage:
    """A thumbnail of a recent image."""

    path: Path
    image: QImage
    request: PictureRequest | None = None
    gaps: Gaps = NO_GAPS  # what its settings leave open


class HoverArea(QWidget):
    """The contents of a scroll area that say when the pointer leaves them."""

    left = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("contents")

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.left.emit()


class RecentThumb(ImageThumbnail):
    """A recent image: click to show it, drag it out, right-click for actions."""

    def __init__(self, recent: RecentImage, side: int) -> None:
        title = labels.title_of(recent.request) if recent.request else recent.path.name
        about = (
            f"{title[:300]}\n{labels.settings_line(recent.request, not_held=recent.gaps.fields)}"
            if recent.request
            else title
        )
        target = ImageTarget(recent.path, recent.image, recent.request, gaps=recent.gaps)
        super().__init__(target, side, name=title[:120], tooltip=about, clickable=True)
        self.recent_image = recent


class QueueAndHistory(QFrame):
    """Shows the queue and recent images, and emits what the user asks for."""

    image_selected = Signal(object)  # RecentImage
    context_menu_requested = Signal(object, object)  # RecentImage, QPoint
    gallery_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setProperty("side", "right")
        self._contents = HoverArea()
        self.jobs = JobList(lambda: self._contents.underMouse() and not self.jobs.underMouse())
        self.failed = FailedList()
        self._failed_jobs: Sequence[FailedJob] = ()  # shown once the pointer is not over what they would move
        self.recent_heading = SectionLabel("Recent")
        self.gallery_button = SecondaryButton("", "squares-four", "Open the gallery", role="dim")
        self.status = PartsLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self._late: list[RecentImage] = []  # shown once the pointer is not over the recent images
        self.thumbs: list[RecentThumb] = []
        self.images_added = 0  # to the recent images, since the window was opened
        self._empty_recent = label("Your images appear here.", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self._total = 0
        self._columns = 3
        self._focus = RovingFocus(self._contents, after=self.gallery_button)
        self._lay_out()
        self._contents.left.connect(self._pointer_left)
        self.gallery_button.clicked.connect(self.gallery_requested)

    # The queue

    @property
    def cards(self) -> list[JobCard]:
        """Those of the waiting jobs, in order."""
        return self.jobs.cards

    @property
    def heading(self) -> SectionLabel:
        return self.jobs.heading

    @property
    def running(self) -> RunningCard:
        return self.jobs.running

    @property
    def training(self) -> RunningCard:
        return self.jobs.training

    @property
    def unreadable(self) -> QLabel:
        return self.jobs.unreadable

    def set_pending(self, pending: PendingJobs) -> None:
        self.jobs.set_pending(pending)

    def show_running(self, shown: bool) -> None:
        self.jobs.show_running(shown)

    def show_training(self, shown: bool) -> None:
        self.jobs.show_training(shown)

    def show_failed(self, jobs: Sequence[FailedJob]) -> None:
        """Show the jobs that failed: what the user takes away at once, new ones when the pointer is not over the column."""
        fewer, self._failed_jobs = len(jobs) < len(self._failed_jobs), jobs
        if fewer or not self._contents.underMouse():
            self.failed.show_jobs(jobs, self.jobs.pause)

    def _pointer_left(self) -> None:
        self.jobs.pointer_left()
        self.failed.show_jobs(self._failed_jobs, self.jobs.pause)
        late, self._late = self._late, []
        for recent in late:
            self.add_recent(recent)

    # Recent images

    def set_recent(self, images: Sequence[RecentImage], total: int) -> None:
        """Show the newest images, newest first, and the total of the gallery."""
        before, self.thumbs = self.thumbs, [self._thumbnail(image) for image in images[:MAX_RECENT]]
        self._total = total
        self._replace(before)

    def add_recent(self, recent: RecentImage) -> None:
        """Show a new image first; while the pointer is over the recent images, once it has left them."""
        self.images_added += 1
        if any(thumb.underMouse() for thumb in self.thumbs):
            self._late.append(recent)
            return
        self.thumbs.insert(0, self._thumbnail(recent))
        gone = self.thumbs[MAX_RECENT:]
        del self.thumbs[MAX_RECENT:]
        self._total += 1
        self._replace(gone)

    def _replace(self, gone: Sequence[RecentThumb]) -> None:
        """Show `thumbs`, and not those that are gone."""
        self._arrange()
        self._focus.set_images(self.thumbs)
        for thumb in gone:
            thumb.hide()
            thumb.deleteLater()

    def _thumbnail(self, recent: RecentImage) -> RecentThumb:
        thumb = RecentThumb(recent, 64)
        thumb.clicked.connect(lambda: self.image_selected.emit(recent))
        thumb.menu_requested.connect(lambda _, place: self.context_menu_requested.emit(recent, place))
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
        contents = self._contents
        column = QVBoxLayout(contents)
        column.setContentsMargins(16, 16, 16 - SCROLL_BAR_WIDTH, 8)
        column.setSpacing(8)
        self._grid = QGridLayout()
        self._grid.setSpacing(8)
        self._grid.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        recent = QHBoxLayout()
        recent.setSpacing(4)
        recent.addWidget(self.recent_heading, 1)
        recent.addWidget(self.gallery_button)
        column.addWidget(self.jobs)
        column.addWidget(self.failed)
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
