"""ModelsRoom: what is in the folders, what each checkpoint is, and a way to make pictures with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QImage, QKeyEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import QAbstractItemView, QFrame, QHBoxLayout, QListView, QStackedWidget, QVBoxLayout, QWidget

from diffstudio import paths
from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.sidecars import NO_SIDECAR, Sidecar
from diffstudio.models.tools.spec import ToolResult
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.library.annotations import Annotation, Annotations
from diffstudio.studio.library.weight_requests import Tool
from diffstudio.ui.gallery.top_bar import Message
from diffstudio.ui.models import model_info
from diffstudio.ui.models.background_lookups import BackgroundLookups
from diffstudio.ui.models.details import CheckpointDetails, goes_into_prompt
from diffstudio.ui.models.filter_bar import FilterBar
from diffstudio.ui.models.item_model import CheckpointDelegate, CheckpointsModel, Entry, Problem
from diffstudio.ui.models.tool_runner import ToolRunner
from diffstudio.ui.widgets import image_actions
from diffstudio.ui.widgets.confirm_dialog import confirm
from diffstudio.ui.widgets.controls import EmptyState, ProgressLine, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.drag_and_drop import DropOverlay, DroppedKind, dropped_paths
from diffstudio.ui.widgets.formatting import human_bytes
from diffstudio.ui.widgets.helpers import describe

LIST_WIDTH = 340


class _List(QListView):
    """The checkpoints; Enter uses one, Delete asks to delete it."""

    used = Signal()
    delete_requested = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            self.used.emit()
        elif event.key() == Qt.Key.Key_Delete and self.currentIndex().isValid():
            self.delete_requested.emit()
        else:
            super().keyPressEvent(event)


class ModelsRoom(QWidget):
    """Shows what it is given; a `gallery` lends a picture to checkpoints that carry none. What is made here goes to `home`."""

    generate_requested = Signal(object)  # Checkpoint
    use_in_prompt_requested = Signal(
        object
    )  # Checkpoint, a LoRA or a textual inversion: into the prompt of the Generate room
    trigger_words_requested = Signal(str)  # words that a file was trained to know: the same
    rescan_requested = Signal()
    delete_requested = Signal(object)  # Checkpoint or Problem: a person has confirmed that its `path` may go
    import_requested = Signal(object)  # list[Path]: files that were dropped here
    folder_opened = Signal(object)  # Path of a folder that was shown in the file manager

    def __init__(
        self,
        gallery: Gallery | None = None,
        annotations: Annotations | None = None,
        home: Callable[[], Path] = paths.checkpoints,
    ) -> None:
        super().__init__()
        self._annotations = annotations if annotations is not None else Annotations()
        self.setObjectName("background")
        self._lookups, self.tool_runner = BackgroundLookups(gallery), ToolRunner(home, self)
        self._beside: dict[Path, Sidecar] = {}
        self._left_out: dict[str, int] = {}  # what pruning the chosen one would leave out
        self._awaited: tuple[Path, str] | None = None  # a file that was made and is to be chosen, and what to say then
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
        self.rescan_button = SecondaryButton("", "arrows-clockwise", "Rescan the model folders", name="Rescan")
        self.progress = ProgressLine("Scanning the model folders")
        self.progress.set_fraction(None)
        self.filter = FilterBar()
        self._nothing_fits = EmptyState("magnifying-glass", "No matches", "No model matches the search.", "Show all")
        self._drop_hint = DropOverlay("Drop to add this to your models", self)
        self.setAcceptDrops(True)
        self._scanned = False  # until then nothing can be said about what is there
        self.message = Message()
        self.details = CheckpointDetails()
        self.empty = EmptyState(
            "cube",
            "No models yet",
            "Models you train appear here, and those in the folders chosen in Settings, which may be "
            "another program's. Drop a file here to import it.",
            "Rescan",
        )
        self._lay_out()
        self.list.selectionModel().currentChanged.connect(self._show_chosen)
        self.list.used.connect(self._use)
        self.list.doubleClicked.connect(lambda _: self._use())
        self.list.delete_requested.connect(self._ask_to_delete)
        self.rescan_button.clicked.connect(self._rescan)
        self.empty.clicked.connect(self._rescan)
        self.filter.changed.connect(self._filter)
        self._nothing_fits.clicked.connect(self.filter.clear)
        self.details.use_requested.connect(self._use)
        self.details.trigger_word_requested.connect(self._word)
        self.details.tool_requested.connect(self._open_tool)
        self.details.star_requested.connect(self._star)
        self.details.taken_for.kept.connect(self._taken_for)
        self.details.taken_for.failed.connect(lambda sentence: self.message.show_message("bad", sentence))
        self.details.notes.changed.connect(self._note)
        for keys, act in (("Ctrl+F", self._focus_search), ("Ctrl+D", self._star)):
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(act)
        self.details.folder_requested.connect(self._show_in_folder)
        self.details.delete_requested.connect(self._ask_to_delete)
        self._lookups.seen.connect(self._seen)
        self._lookups.hashed.connect(self._hash_found)
        self._lookups.tools_found.connect(self._tools_found)
        self._lookups.made_with.connect(self._made_with)
        self.tool_runner.made.connect(self._made)
        self.tool_runner.failed.connect(lambda sentence: self.message.show_message("bad", sentence))
        self.tool_runner.stopped.connect(
            lambda name: self.message.show_message("info", f"{name} was cancelled. No files were left behind.")
        )
        self._show_page()

    # What others call

    def set_checkpoints(
        self, checkpoints: Sequence[Checkpoint], problems: Sequence[tuple[Path, DiffstudioError]] = ()
    ) -> None:
        """Show what a scan found; what was chosen stays chosen."""
        before, self._scanned = self.chosen(), True
        self.progress.hide()
        self.rescan_button.setEnabled(True)
        entries: list[Entry] = [*checkpoints, *(Problem(path, error) for path, error in problems)]
        self._read_stars(entries)
        self.model.set_entries(entries)
        self.filter.show_kinds_of(entries)
        count = len(checkpoints)
        bad = f" · {len(problems):,} cannot be used" if problems else ""
        self.heading.set_right(f"{count:,}{bad}" if count or problems else "")
        self._choose_again(before)
        self._lookups.look_at(checkpoints)
        if self._awaited is not None and self.choose(self._awaited[0]):
            self.message.show_message("good", self._awaited[1])
            self._awaited = None

    def choose(self, path: Path) -> bool:
        """Choose the checkpoint at that path, whatever the filter hides; False when it is not here."""
        if self.model.row_of(path) is None:
            self.filter.clear()
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
        self.message.show_message("bad", str(problem))

    def show_import_progress(self, name: str, fraction: float | None) -> None:
        """How much of a file that was dropped is copied; None when it has ended."""
        self.progress.setVisible(fraction is not None)
        self.progress.set_fraction(fraction)
        self.progress.setToolTip(f"Copying {name}")

    def show_imported(self, path: Path) -> None:
        if self.choose(path):
            self.message.show_message("good", f"{path.name} was copied to {path.parent}.")

    def shut_down(self) -> None:
        """Keep what was written, and wait for what is done beside the window."""
        self.details.notes.keep()
        self.tool_runner.close()
        self._lookups.close()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if dropped_paths(event.mimeData(), DroppedKind.MODEL):
            event.acceptProposedAction()
            self._drop_hint.appear()
        else:
            event.ignore()  # a picture is the window's

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self._drop_hint.hide()

    def dropEvent(self, event: QDropEvent) -> None:
        self._drop_hint.hide()
        if files := dropped_paths(event.mimeData(), DroppedKind.MODEL):
            event.acceptProposedAction()
            self.import_requested.emit(files)

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
        column.addWidget(self.filter)
        self._lists = QStackedWidget()
        self._lists.addWidget(self.list)
        self._lists.addWidget(self._nothing_fits)
        column.addWidget(self._lists, 1)
        everything = QWidget()
        row = QHBoxLayout(everything)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(side, 2)
        beside = QVBoxLayout()  # which keeps its place while there is nothing to show in it
        beside.addWidget(self.details)
        row.addLayout(beside, 3)
        self._pages = QStackedWidget()
        self._pages.addWidget(everything)
        self._pages.addWidget(self.empty)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(self._pages, 1)
        whole.addWidget(self.tool_runner.bar)
        whole.addWidget(self.message)
        self.setTabOrder(self.list, self.rescan_button)

    def _show_page(self) -> None:
        self._pages.setCurrentIndex(0 if self.model.everything() or not self._scanned else 1)
        self._lists.setCurrentIndex(1 if self.model.everything() and not self.model.rowCount() else 0)

    def _show_chosen(self, *_: object) -> None:
        self.details.notes.keep()  # of the one that was shown until now
        entry = self.chosen()
        self._show_entry(entry)
        if entry is not None:
            self.details.notes.offer_tags(self._annotations.tags())
            self.details.show_said(self._annotations.of(entry.path))
            self._lookups.hash(entry.path)
        if isinstance(entry, Checkpoint):
            self._lookups.choose(entry, self._checkpoints())

    def _show_entry(self, entry: Entry | None) -> None:
        picture = self.model.picture(entry) if entry is not None else QImage()
        self.details.show_entry(
            entry, picture, self._beside.get(entry.path, NO_SIDECAR) if entry is not None else NO_SIDECAR
        )

    def _checkpoints(self) -> list[Checkpoint]:
        return [entry for entry in self.model.everything() if isinstance(entry, Checkpoint)]

    # Looking for some

    def _filter(self) -> None:
        before = self.chosen()
        wanted = self.filter.wanted()
        self.model.set_filter(
            lambda entry: wanted.fits(entry, self._annotations.of(entry.path), self._beside.get(entry.path, NO_SIDECAR))
        )
        self._choose_again(before)

    def _choose_again(self, before: Entry | None) -> None:
        """After the list changed: what was chosen, if it is there still, else the first."""
        row = self.model.row_of(before.path) if before is not None else None
        if self.model.rowCount():
            self.list.setCurrentIndex(self.model.index(row or 0))
        self._show_page()
        self._show_chosen()

    def _focus_search(self) -> None:
        self.filter.search.setFocus()
        self.filter.search.selectAll()

    # What a person says about them

    def _read_stars(self, entries: Sequence[Entry]) -> None:
        self.model.set_starred(frozenset(entry.path for entry in entries if self._annotations.of(entry.path).favourite))

    def _star(self) -> None:
        entry = self.chosen()
        if entry is not None:
            self.details.notes.set_starred(not self._annotations.of(entry.path).favourite)

    def _note(self, said: Annotation) -> None:
        entry = self.details.entry()
        if entry is None:
            return
        try:
            self._annotations.put(entry.path, said)
        except StorageProblem as problem:
            self.message.show_message("bad", str(problem))
        self.details.show_said(self._annotations.of(entry.path))
        self._read_stars(self.model.everything())

    # What was found out beside the window

    def _seen(self, path: Path, picture: QImage, beside: Sidecar) -> None:
        if not picture.isNull():
            self.model.set_picture(path, picture)
        if beside != NO_SIDECAR:
            self._beside[path] = beside
        entry = self.chosen()
        if entry is not None and entry.path == path:
            self._show_entry(entry)

    def _hash_found(self, path: Path, sha256: str) -> None:
        entry = self.chosen()
        if entry is not None and entry.path == path:
            self.details.show_hash(sha256)

    def _tools_found(self, path: Path, tools: Sequence[Tool], left_out: dict[str, int]) -> None:
        entry = self.chosen()
        if entry is not None and entry.path == path:
            self._left_out = left_out
            self.details.show_tools(tools)

    def _made_with(self, path: Path, pictures: Sequence[tuple[QImage, str]]) -> None:
        entry = self.chosen()
        if entry is not None and entry.path == path:
            self.details.show_made_with(pictures)

    # Using one, and making others of it

    def _use(self) -> None:
        """Make pictures with it, or put it into the prompt, as it is made for."""
        entry = self.chosen()
        if not isinstance(entry, Checkpoint):
            return
        if goes_into_prompt(entry):
            self.use_in_prompt_requested.emit(entry)
        elif model_info.usable(entry):
            self.generate_requested.emit(entry)

    def _word(self, word: str) -> None:
        self.trigger_words_requested.emit(word)
        self.message.show_message("good", f"“{word}” was added to the prompt.")

    def _open_tool(self, tool: Tool) -> None:
        entry = self.chosen()
        if isinstance(entry, Checkpoint):
            self.tool_runner.open(tool, entry, self._checkpoints(), self._left_out)

    def _made(self, made: ToolResult) -> None:
        """Shown once a scan has found it."""
        self._awaited = (
            made.path,
            " ".join(
                (f"{made.path.name} was saved ({human_bytes(made.size_bytes)}) in {made.path.parent}.", *made.notes)
            ),
        )
        self.rescan_requested.emit()

    def _rescan(self) -> None:
        self.message.hide()
        self.progress.show()
        self.rescan_button.setEnabled(False)
        self.rescan_requested.emit()

    def _taken_for(self, sentence: str) -> None:
        self._rescan()
        self.message.show_message("good", sentence)

    def _show_in_folder(self) -> None:
        entry = self.chosen()
        if entry is None:
            return
        if image_actions.show_in_folder(entry.path):
            self.folder_opened.emit(entry.path.parent)
        else:
            self.message.show_message("warn", f"No file manager could be opened. The file is {entry.path}.")

    def _ask_to_delete(self) -> None:
        entry = self.chosen()
        if entry is None or self.details.delete.isHidden():
            return
        confirm(
            self,
            "Delete",
            f"Move {entry.path.name} to the system's trash?",
            "Images made with it stay, but cannot be reproduced without it.",
            lambda: self.delete_requested.emit(entry),
        )
