"""The rows of the queue: a card for each waiting job, and one for what runs."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QImage, QKeyEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QMenu, QVBoxLayout

from diffstudio.studio.jobs.job_records import QueuedJob
from diffstudio.ui.generate import labels
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import Card, ProgressLine, SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel, PartsLabel, describe, label, set_style_property
from diffstudio.ui.widgets.images.thumbnail import Thumbnail
from diffstudio.ui.widgets.menus import build_menu, entry

_THUMB = 36  # px
_BUTTON = 22  # px


class JobCard(Card):
    """A waiting job. A click opens it; its buttons, its menu and keys change its place, edit, duplicate or remove it."""

    move_requested = Signal(object)  # by how many places; negative is up
    remove_requested = Signal()
    open_requested = Signal()
    edit_requested = Signal()
    duplicate_requested = Signal()
    neighbour_requested = Signal(int)  # -1 for the card above, 1 for the one below

    def __init__(self, queued: QueuedJob) -> None:
        super().__init__(interactive=True)
        self.queued = queued
        self.gone = False  # it does not wait any more, and its row only keeps the others where they are
        self._place = 0
        self.thumbnail = Thumbnail(_THUMB, 4, name=actions.CHECKPOINT_IMAGE)
        self.thumbnail.hide()
        self._title, self._times = ElidedLabel(""), label("")
        self._about = PartsLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.up = SecondaryButton("", "caret-up", actions.MOVE_UP, role="dim")
        self.down = SecondaryButton("", "caret-down", actions.MOVE_DOWN, role="dim")
        self.remove = SecondaryButton("", "x", actions.REMOVE_JOB_TIP, role="dim")
        self.more = SecondaryButton("", "dots-three-vertical", actions.MORE, role="dim")
        for button in self.buttons():
            button.setFixedSize(_BUTTON, _BUTTON)
        self._lay_out()
        self.clicked.connect(self.open_requested)
        self.up.clicked.connect(lambda: self.move_requested.emit(-1))
        self.down.clicked.connect(lambda: self.move_requested.emit(1))
        self.remove.clicked.connect(self.remove_requested)
        self.more.clicked.connect(lambda: self.menu().popup(self.more.mapToGlobal(self.more.rect().bottomLeft())))

    def buttons(self) -> tuple[SecondaryButton, ...]:
        return self.up, self.down, self.remove, self.more

    def show_job(self, queued: QueuedJob, place: int, last: bool, *, edited: bool = False) -> None:
        """Show a job and its place in the queue, from 0."""
        self.queued, self._place, self.gone = queued, place, False
        title = labels.title_of(queued.request)
        short = title[:40]
        line = labels.settings_line(queued.request)
        describe(self, f"Waiting: {title[:80]}", f"{title[:400]}\n{line}\n{actions.OPEN_JOB_TIP}")
        for button, name in (
            (self.up, f"Move {short} up"),
            (self.down, f"Move {short} down"),
            (self.remove, f"Remove {short}"),
            (self.more, f"More actions for {short}"),
        ):
            button.setAccessibleName(name)
        self._title.setText(title)
        self._times.setText(f" × {queued.request.count}" if queued.request.count > 1 else "")
        self._about.setText(actions.BEING_EDITED if edited else f"Next · {line}" if place == 0 else line)
        self.set_chosen(edited)
        self._set_dim(False)
        self.up.setEnabled(place > 0)
        self.down.setEnabled(not last)
        self.remove.setEnabled(True)
        self.more.setEnabled(True)

    def show_gone(self, why: str) -> None:
        """Keep the row, without its actions, and say why it does not wait any more."""
        self.gone = True
        self._about.setText(why)
        self.set_chosen(False)
        self._set_dim(True)
        for button in self.buttons():
            button.setEnabled(False)

    def set_image(self, image: QImage) -> None:
        """Show a thumbnail; a null image shows none."""
        self.thumbnail.set_image(image)
        self.thumbnail.setVisible(not image.isNull())

    def title(self) -> str:
        return self._title.text()

    def about(self) -> str:
        return self._about.text()

    def menu(self) -> QMenu:
        """Everything that can be done with this job."""
        entries = [
            entry(actions.OPEN_JOB, self.open_requested.emit),
            entry(actions.EDIT_JOB, self.edit_requested.emit),
            entry(actions.DUPLICATE, self.duplicate_requested.emit),
            None,
            entry(actions.MOVE_TO_FRONT, lambda: self.move_requested.emit(-self._place)) if self._place else None,
            entry(actions.MOVE_UP, self.up.click) if self.up.isEnabled() else None,
            entry(actions.MOVE_DOWN, self.down.click) if self.down.isEnabled() else None,
            None,
            entry(actions.REMOVE_JOB, self.remove_requested.emit),
        ]
        return build_menu(self, entries, f"Actions for {self.title()[:40]}")

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        if not self.gone:
            keyboard = event.reason() == QContextMenuEvent.Reason.Keyboard
            self.menu().popup(self.mapToGlobal(self.rect().center()) if keyboard else event.globalPos())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key, alt = event.key(), event.modifiers() == Qt.KeyboardModifier.AltModifier
        if self.gone and key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space, Qt.Key.Key_Delete):
            return
        if alt and key == Qt.Key.Key_Up:
            self.up.click()
        elif alt and key == Qt.Key.Key_Down:
            self.down.click()
        elif key in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            self.neighbour_requested.emit(1 if key == Qt.Key.Key_Down else -1)
        elif key == Qt.Key.Key_Delete:
            self.remove_requested.emit()
        elif key == Qt.Key.Key_F2:
            self.edit_requested.emit()
        else:
            super().keyPressEvent(event)

    def _set_dim(self, dim: bool) -> None:
        set_style_property(self._title, "tone", "dim" if dim else "")
        self.setCursor(Qt.CursorShape.ArrowCursor if dim else Qt.CursorShape.PointingHandCursor)

    def _lay_out(self) -> None:
        row, texts, heading, grid = QHBoxLayout(self), QVBoxLayout(), QHBoxLayout(), QGridLayout()
        row.setContentsMargins(8, 6, 4, 6)
        row.setSpacing(8)
        texts.setSpacing(2)
        heading.setSpacing(0)
        grid.setSpacing(0)
        heading.addWidget(self._title, 1)
        heading.addWidget(self._times)
        texts.addStretch(1)
        texts.addLayout(heading)
        texts.addWidget(self._about)
        texts.addStretch(1)
        grid.addWidget(self.up, 0, 0)
        grid.addWidget(self.down, 1, 0)
        grid.addWidget(self.remove, 0, 1)
        grid.addWidget(self.more, 1, 1)
        row.addWidget(self.thumbnail)
        row.addLayout(texts, 1)
        row.addLayout(grid)


class RunningCard(Card):
    """The running job, or a training run, with its progress. A click shows it."""

    def __init__(self, name: str, tooltip: str) -> None:
        super().__init__(interactive=True, name=name, tooltip=tooltip)
        self._title = ElidedLabel("")
        self._about = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)  # the end of it is its state
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
