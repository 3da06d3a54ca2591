"""ModelsRoom: what is in the folders, what each checkpoint is, and a way to make pictures with it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage, QKeyEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHBoxLayout,
    QListView,
    QMessageBox,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.gallery import Gallery
from diffstudio.ui import picture_actions
from diffstudio.ui.controls import EmptyState, ProgressLine, QuietButton, SectionLabel, describe
from diffstudio.ui.gallery.bars import Message
from diffstudio.ui.models import facts
from diffstudio.ui.models.details import CheckpointDetails
from diffstudio.ui.models.model import CheckpointDelegate, CheckpointsModel, Problem
from diffstudio.ui.pictures import read_image
from diffstudio.ui.tasks import NewestFirst

LIST_WIDTH = 340


class _List(QListView):
    """The checkpoints; Enter makes pictures with one, Delete asks to delete it."""

    used = Signal()
    delete_wanted = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            self.used.emit()
        elif event.key() == Qt.Key.Key_Delete and self.currentIndex().isValid():
            self.delete_wanted.emit()
        else:
            super().keyPressEvent(event)


class ModelsRoom(QWidget):
    """Shows what it is given; a `gallery` lends a picture to checkpoints that carry none."""

    generate_requested = Signal(object)   # Checkpoint
    rescan_requested = Signal()
    delete_requested = Signal(object)     # Checkpoint or Problem: a person has confirmed that its `path` may go
    folder_opened = Signal(object)        # Path of a folder that was shown in the file manager

    def __init__(self, gallery: Gallery | None = None) -> None:
        super().__init__()
        self.setObjectName("background")
        self._gallery = gallery
        self._pictures = NewestFirst("checkpoint-pictures")
        self._dialog: QMessageBox | None = None
        self.model = CheckpointsModel()
        self.list = _List()
        describe(self.list, "Checkpoints", "")
        self.list.setToolTip("")
        self.list.setModel(self.model)
        self.list.setItemDelegate(CheckpointDelegate(self.list))
        self.list.setUniformItemSizes(True)
        self.list.setMouseTracking(True)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.heading = SectionLabel("Models")
        self.rescan_button = QuietButton("", "arrows-clockwise", "Look through the model folders again",
                                         name="Look again")
        self.progress = ProgressLine("Looking through the model folders")
        self.progress.set_fraction(None)
        self._scanned = False                 # until then nothing can be said about what is there
        self.message = Message()
        self.details = CheckpointDetails()
        self.empty = EmptyState(
            "cube", "No models yet", "Models you train appear here, and .safetensors files made with this program that "
            "lie in the model folders chosen in Settings.", "Look again")
        self._lay_out()
        self.list.selectionModel().currentChanged.connect(self._show_chosen)
        self.list.used.connect(self._generate)
        self.list.doubleClicked.connect(lambda _: self._generate())
        self.list.delete_wanted.connect(self._ask_to_delete)
        self.rescan_button.clicked.connect(self._rescan)
        self.empty.clicked.connect(self._rescan)
        self.details.generate_wanted.connect(self._generate)
        self.details.folder_wanted.connect(self._show_in_folder)
        self.details.delete_wanted.connect(self._ask_to_delete)
        self._pictures.answered.connect(self._picture_found)
        self._show_page()

    # What others call

    def set_checkpoints(self, checkpoints: Sequence[Checkpoint],
                        problems: Sequence[tuple[Path, DiffstudioError]] = ()) -> None:
        """Show what a scan found; what was chosen stays chosen."""
        before, self._scanned = self.chosen(), True
        self.progress.hide()
        self.rescan_button.setEnabled(True)
        self.model.set_entries([*checkpoints, *(Problem(path, error) for path, error in problems)])
        count = len(checkpoints)
        bad = f" · {len(problems):,} cannot be used" if problems else ""
        self.heading.set_right(f"{count:,}{bad}" if count or problems else "")
        row = self.model.row_of(before.path) if before is not None else None
        if self.model.rowCount():
            self.list.setCurrentIndex(self.model.index(row or 0))
        self._show_page()
        self._show_chosen()
        for checkpoint in checkpoints:
            self._pictures.ask((checkpoint.path, checkpoint.modified), partial(self._picture, checkpoint))

    def choose(self, path: Path) -> bool:
        """Choose the checkpoint at that path; False when it is not shown."""
        row = self.model.row_of(path)
        if row is not None:
            self.list.setCurrentIndex(self.model.index(row))
            self.list.scrollTo(self.model.index(row))
        return row is not None

    def chosen(self) -> Checkpoint | Problem | None:
        return self.model.entry(self.list.currentIndex())

    def fail(self, problem: DiffstudioError) -> None:
        """Say in the room what went wrong with what it asked for."""
        self.progress.hide()
        self.rescan_button.setEnabled(True)
        self.message.say("bad", str(problem))

    def shut_down(self) -> None:
        """Wait for what is done beside the window."""
        self._pictures.close()

    # Inside

    def _lay_out(self) -> None:
        side = QFrame()
        side.setObjectName("panel")
        side.setProperty("side", "left")
        side.setMinimumWidth(200)
        side.setMaximumWidth(LIST_WIDTH)
        bar = QHBoxLayout()
        bar.addWidget(self.heading, 1)
        bar.addWidget(self.rescan_button)
        column = QVBoxLayout(side)
        column.setContentsMargins(16, 12, 8, 8)
        column.setSpacing(8)
        column.addLayout(bar)
        column.addWidget(self.progress)
        column.addWidget(self.list, 1)
        everything = QWidget()
        row = QHBoxLayout(everything)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(side, 2)
        row.addWidget(self.details, 3)
        self._pages = QStackedWidget()
        self._pages.addWidget(everything)
        self._pages.addWidget(self.empty)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(self._pages, 1)
        whole.addWidget(self.message)
        self.setTabOrder(self.list, self.rescan_button)

    def _show_page(self) -> None:
        self._pages.setCurrentIndex(0 if self.model.rowCount() or not self._scanned else 1)

    def _show_chosen(self, *_: object) -> None:
        entry = self.chosen()
        self.details.show_entry(entry, self.model.picture(entry) if entry is not None else QImage())

    def _picture(self, checkpoint: Checkpoint) -> QImage:
        """Its own picture, or the newest in the gallery that was made with it. Not on the window's thread."""
        own = facts.thumbnail(checkpoint)
        if not own.isNull() or self._gallery is None:
            return own
        for name in dict.fromkeys((checkpoint.name, str(checkpoint.path))):
            newest = self._gallery.newest_of(name)
            if newest is not None:
                return read_image(self._gallery.thumbnail(newest))
        return own

    def _picture_found(self, key: object, result: object) -> None:
        match key, result:
            case (Path() as path, _), QImage() if not result.isNull():
                self.model.set_picture(path, result)
                entry = self.chosen()
                if entry is not None and entry.path == path:
                    self._show_chosen()

    def _generate(self) -> None:
        entry = self.chosen()
        if isinstance(entry, Checkpoint) and facts.usable(entry):
            self.generate_requested.emit(entry)

    def _rescan(self) -> None:
        self.message.hide()
        self.progress.show()
        self.rescan_button.setEnabled(False)
        self.rescan_requested.emit()

    def _show_in_folder(self) -> None:
        entry = self.chosen()
        if entry is None:
            return
        if picture_actions.show_in_folder(entry.path):
            self.folder_opened.emit(entry.path.parent)
        else:
            self.message.say("warn", f"No file manager could be opened. The file is {entry.path}.")

    def _ask_to_delete(self) -> None:
        entry = self.chosen()
        if entry is None or self.details.delete.isHidden():
            return
        box = QMessageBox(QMessageBox.Icon.NoIcon, "Delete", f"Move {entry.path.name} to the system's trash?",
                          parent=self)
        box.setInformativeText("Pictures made with it stay, but cannot be made again without it.")
        delete = box.addButton("Delete", QMessageBox.ButtonRole.DestructiveRole)
        cancel = box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(cancel)
        box.setEscapeButton(cancel)
        delete.clicked.connect(lambda: self.delete_requested.emit(entry))
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._dialog = box
        box.open()
