"""The Models room: the model files in the folders, their details, and the weight tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QPoint, Signal
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QImage
from PySide6.QtWidgets import QMenu

from diffstudio import paths
from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.sidecars import NO_SIDECAR, Sidecar
from diffstudio.models.tools.spec import ToolResult
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.library.annotations import Annotation, Annotations
from diffstudio.studio.library.references import ModelRenamed
from diffstudio.studio.library.weight_requests import Tool
from diffstudio.ui.models.background_lookups import BackgroundLookups
from diffstudio.ui.models.details import used_in_prompt
from diffstudio.ui.models.file_actions import USE_IN_PROMPT, FileActions, FindUses, nothing_known
from diffstudio.ui.models.item_model import Entry, Problem
from diffstudio.ui.models.layout import ModelsLayout
from diffstudio.ui.widgets import actions, shortcuts
from diffstudio.ui.widgets.formatting import human_bytes
from diffstudio.ui.widgets.helpers import leave_focus, set_tooltip
from diffstudio.ui.widgets.images.image_menu import ImageActions, ImageTarget


class ModelsRoom(ModelsLayout):
    """Shows checkpoints and problems.

    The `gallery` provides a thumbnail for checkpoints without one; the tools and downloads write to `output_folder`;
    `uses` says which jobs use a model.
    """

    generate_requested = Signal(object)  # Checkpoint
    use_in_prompt_requested = Signal(object)  # Checkpoint: a LoRA or an embedding
    trigger_words_requested = Signal(str)  # to add to the prompt
    rescan_requested = Signal()
    delete_requested = Signal(object)  # Checkpoint or Problem, confirmed by the user
    rename_requested = Signal(object, str)  # Checkpoint, its new name
    run_requested = Signal(object)  # Path of a training run's folder
    import_requested = Signal(object)  # list[Path]: dropped or chosen files
    folder_added = Signal(object)  # Path of a folder to search for models
    folder_opened = Signal(object)  # Path

    def __init__(
        self,
        gallery: Gallery | None = None,
        annotations: Annotations | None = None,
        output_folder: Callable[[], Path] = paths.checkpoints,
        find_uses: FindUses = nothing_known,
    ) -> None:
        super().__init__(output_folder)
        self._annotations = annotations if annotations is not None else Annotations()
        self._lookups, self.file_actions = BackgroundLookups(gallery), FileActions(self.chosen, find_uses, self)
        self.image_actions = ImageActions(self)
        self.image_actions.offers_steps = True
        self._sidecars: dict[Path, Sidecar] = {}
        self._removed_bytes: dict[str, int] = {}  # what pruning the selected one would remove
        self._new_file: tuple[Path, str] | None = None  # to select after the rescan, and the message to show then
        self._connect()
        self._make_shortcuts()
        self._show_page()
        if self._annotations.problem:
            self.message.show_message("warn", self._annotations.problem)

    def _connect(self) -> None:
        self.list.selectionModel().currentChanged.connect(self._show_chosen)
        self.list.used.connect(self._use)
        self.list.menu_requested.connect(self.open_menu)
        self.rescan_button.clicked.connect(self._rescan)
        self.add_button.clicked.connect(lambda: self.adder.show_menu(self.add_button))
        self.empty.clicked.connect(lambda: self.adder.show_menu(self.empty.button))
        self.filter.changed.connect(self._filter)
        self._no_matches.clicked.connect(self.filter.clear)
        details, lookups, tools = self.details, self._lookups, self.tool_runner
        details.use_requested.connect(self._use)
        details.menu_requested.connect(self.image_actions.open_menu)
        self.image_actions.message.connect(self.message.show_message)
        details.trigger_word_requested.connect(self._use_trigger_word)
        details.tool_requested.connect(self._open_tool)
        details.star_requested.connect(self._star)
        details.type_override.saved.connect(self._type_overridden)
        details.type_override.failed.connect(self._show_failure)
        details.notes.changed.connect(self._save_annotation)
        self._connect_files()
        lookups.preview_loaded.connect(self._preview_loaded)
        lookups.hashed.connect(self._hash_found)
        lookups.tools_found.connect(self._tools_found)
        lookups.images_found.connect(self._show_images)
        tools.finished.connect(self._tool_finished)
        tools.failed.connect(self._show_failure)
        tools.cancelled.connect(
            lambda name: self.message.show_message("info", f"{name} was cancelled. No files were left behind.")
        )

        self.step_fitter.message.connect(self.message.show_message)
        self.step_fitter.fitted.connect(self.rescan_requested)  # the header may have changed

    def _connect_files(self) -> None:
        files, adder, details = self.file_actions, self.adder, self.details
        self.list.delete_requested.connect(files.ask_to_trash)
        details.delete_requested.connect(files.ask_to_trash)
        details.rename_requested.connect(files.rename)
        details.folder_requested.connect(files.show_in_folder)
        details.run_requested.connect(files.go_to_run)
        files.delete_requested.connect(self.delete_requested)
        files.rename_requested.connect(self.rename_requested)
        files.run_requested.connect(self.run_requested)
        files.folder_opened.connect(self.folder_opened)
        files.message.connect(self.message.show_message)
        adder.files_chosen.connect(self.import_requested)
        adder.folder_chosen.connect(self.folder_added)
        adder.fetched.connect(self._fetched)
        adder.message.connect(self.message.show_message)
        adder.downloads.show_unfinished()

    def _make_shortcuts(self) -> None:
        adder, files = self.adder, self.file_actions
        for shortcut, act in (
            (shortcuts.SEARCH_MODELS, self._focus_search),
            (shortcuts.STAR_MODEL, self._star),
            (shortcuts.ADD_MODEL_FILES, adder.ask_for_files),
            (shortcuts.ADD_MODEL_FOLDER, adder.ask_for_folder),
            (shortcuts.ADD_MODEL_LINK, adder.ask_for_link),
            (shortcuts.PASTE_MODELS, adder.paste),
            (shortcuts.RENAME_MODEL, files.rename),
            (shortcuts.RESCAN_MODELS, self._rescan),
        ):
            shortcuts.bind(shortcut, self, act)

    # Called by the window

    def set_checkpoints(
        self, checkpoints: Sequence[Checkpoint], problems: Sequence[tuple[Path, DiffstudioError]] = ()
    ) -> None:
        """Show the result of a scan; the selection is kept."""
        before, self._scanned = self.chosen(), True
        self.progress.hide()
        self.rescan_button.setEnabled(True)
        entries: list[Entry] = [*checkpoints, *(Problem(path, error) for path, error in problems)]
        self._read_stars(entries)
        self.model.set_entries(entries)
        self.filter.offer_types_of(entries)
        count = len(checkpoints)
        bad = f" · {len(problems):,} unusable" if problems else ""
        self.heading.set_right(f"{count:,}{bad}" if count or problems else "")
        self._restore_selection(before)
        self._lookups.load_previews(checkpoints)
        if self._new_file is not None and self.choose(self._new_file[0]):
            self.message.show_message("good", self._new_file[1])
            self._new_file = None

    def choose(self, path: Path) -> bool:
        """Select the checkpoint at that path, clearing the filter if it hides it; False if it is not listed."""
        if self.model.row_of(path) is None:
            self.filter.clear()
        row = self.model.row_of(path)
        if row is not None:
            self.list.setCurrentIndex(self.model.index(row))
            self.list.scrollTo(self.model.index(row))
        return row is not None

    def chosen(self) -> Checkpoint | Problem | None:
        return self.model.entry(self.list.currentIndex())

    def show_import_progress(self, name: str, fraction: float | None) -> None:
        """Show the progress of copying an imported file, 0 to 1; None hides it."""
        self.progress.setVisible(fraction is not None)
        self.progress.set_fraction(fraction)
        set_tooltip(self.progress, f"Copying {name}")

    def show_imported(self, path: Path) -> None:
        self.choose(path)  # unless it is a tokenizer, which is not listed
        if path in paths.included_checkpoints():
            self.message.show_message("info", f"{path.name} comes with the program, and was not copied.")
        else:
            self.message.show_message("good", f"{path.name} was copied to {path.parent}.")

    def show_renamed(self, change: ModelRenamed) -> None:
        """Select a model that was renamed, once it is listed."""
        if self.choose(change.new_path):
            self.message.show_message("good", f"{change.path.name} is now {change.new_path.name}.")

    def move_annotation(self, change: ModelRenamed) -> None:
        """Keep the notes of a model that is being renamed."""
        self.details.notes.save()
        try:
            self._annotations.moved(change.path, change.new_path)
        except StorageProblem as problem:
            self._show_failure(str(problem))

    def show_trashed(self, path: Path, sidecars: int) -> None:
        files = {0: "was", 1: "and the file beside it were"}.get(sidecars, f"and {sidecars} files beside it were")
        self.message.show_message("good", f"{path.name} {files} moved to the trash.")

    def show_folder_added(self, folder: Path, count: int) -> None:
        """Show how many models there are in a folder that is searched from now on."""
        found = "One model was" if count == 1 else f"{count:,} models were"
        self.message.show_message(
            "good" if count else "warn", f"{found} found in {paths.short(folder)}, which stays in the settings."
        )

    def shut_down(self) -> None:
        """Save the notes and stop the threads."""
        self.details.notes.save()
        self.adder.downloads.close()
        self.tool_runner.close()
        self.step_fitter.close()
        self._lookups.close()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if self.adder.accepts(event.mimeData()):
            event.acceptProposedAction()
            self._drop_hint.appear()
        else:
            event.ignore()  # the window handles images

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self._drop_hint.hide()

    def dropEvent(self, event: QDropEvent) -> None:
        self._drop_hint.hide()
        if self.adder.accepts(event.mimeData()):
            event.acceptProposedAction()
            self.adder.add(event.mimeData())

    # The selected model

    def _show_chosen(self, *_: object) -> None:
        self.details.notes.save()  # of the previous entry
        before, entry = self.details.entry(), self.chosen()
        self._show_entry(entry)
        if entry is not None:
            self.details.notes.offer_tags(self._annotations.tags())
            same = before is not None and before.path == entry.path
            show = self.details.show_saved if same else self.details.show_annotation
            show(self._annotations.of(entry.path))
            self._lookups.look_up_hash(entry.path)
        if isinstance(entry, Checkpoint):
            self._lookups.look_up_details(entry, self._checkpoints())

    def _show_entry(self, entry: Entry | None) -> None:
        image = self.model.thumbnail(entry) if entry is not None else QImage()
        self.details.show_entry(
            entry, image, self._sidecars.get(entry.path, NO_SIDECAR) if entry is not None else NO_SIDECAR
        )

    def _checkpoints(self) -> list[Checkpoint]:
        return [entry for entry in self.model.all_entries() if isinstance(entry, Checkpoint)]

    # Filter

    def _filter(self) -> None:
        before = self.chosen()
        model_filter = self.filter.model_filter()
        self.model.set_filter(
            lambda entry: model_filter.matches(
                entry, self._annotations.of(entry.path), self._sidecars.get(entry.path, NO_SIDECAR)
            )
        )
        self._restore_selection(before)

    def _restore_selection(self, before: Entry | None) -> None:
        """Select the same entry after the list changed, or else the first."""
        row = self.model.row_of(before.path) if before is not None else None
        if self.model.rowCount():
            self.list.setCurrentIndex(self.model.index(row or 0))
        self._show_page()
        self._show_chosen()

    def _focus_search(self) -> None:
        self.filter.search.setFocus()
        self.filter.search.selectAll()

    # Stars and notes

    def _read_stars(self, entries: Sequence[Entry]) -> None:
        self.model.set_starred(frozenset(entry.path for entry in entries if self._annotations.of(entry.path).favourite))

    def _star(self) -> None:
        entry = self.chosen()
        if entry is not None:
            self.details.notes.set_starred(not self._annotations.of(entry.path).favourite)

    def _save_annotation(self, annotation: Annotation) -> None:
        entry = self.details.entry()
        if entry is None:
            return
        try:
            self._annotations.put(entry.path, annotation)
        except StorageProblem as problem:
            self.message.show_message("bad", str(problem))
        self.details.show_saved(self._annotations.of(entry.path))
        self._read_stars(self.model.all_entries())

    # Results of the lookups

    def _preview_loaded(self, path: Path, image: QImage, sidecar: Sidecar) -> None:
        if not image.isNull():
            self.model.set_thumbnail(path, image)
        if sidecar != NO_SIDECAR:
            self._sidecars[path] = sidecar
        entry = self.chosen()
        if entry is not None and entry.path == path:
            self._show_entry(entry)

    def _hash_found(self, path: Path, sha256: str) -> None:
        entry = self.chosen()
        if entry is not None and entry.path == path:
            self.details.show_hash(sha256)

    def _tools_found(self, path: Path, tools: Sequence[Tool], removed_bytes: dict[str, int]) -> None:
        entry = self.chosen()
        if entry is not None and entry.path == path:
            self._removed_bytes = removed_bytes
            self.details.show_tools(tools)

    def refresh_images(self) -> None:
        """Show the newest images of the chosen model again after some were deleted or restored."""
        if isinstance(chosen := self.chosen(), Checkpoint):
            self._lookups.look_up_images(chosen)

    def _show_images(self, path: Path, images: Sequence[ImageTarget]) -> None:
        entry = self.chosen()
        if entry is not None and entry.path == path:
            self.details.show_images(images)

    # Actions

    def _use(self) -> None:
        """Generate with the selected checkpoint, or use it in the prompt if it is a LoRA or an embedding."""
        entry = self.chosen()
        if not isinstance(entry, Checkpoint):
            return
        if used_in_prompt(entry):
            self.use_in_prompt_requested.emit(entry)
        elif entry.can_generate:
            self.generate_requested.emit(entry)

    def _use_trigger_word(self, word: str) -> None:
        self.trigger_words_requested.emit(word)
        self.message.show_message("good", f"“{word}” was added to the prompt.")

    def _open_tool(self, tool: Tool) -> None:
        entry = self.chosen()
        if isinstance(entry, Checkpoint) and tool is Tool.FIT_STEPS:
            self.step_fitter.open(entry)
        elif isinstance(entry, Checkpoint):
            self.tool_runner.open(tool, entry, self._checkpoints(), self._removed_bytes)

    def _tool_finished(self, result: ToolResult) -> None:
        """Rescan, then select the new file and show the message."""
        self._new_file = (
            result.path,
            " ".join(
                (
                    f"{result.path.name} was saved ({human_bytes(result.size_bytes)}) in {result.path.parent}.",
                    *result.notes,
                )
            ),
        )
        self.rescan_requested.emit()

    def _rescan(self) -> None:
        self.message.hide()
        self.progress.show()
        leave_focus(self.rescan_button, self.list)
        self.rescan_button.setEnabled(False)
        self.rescan_requested.emit()

    def _fetched(self, path: Path) -> None:
        """Rescan, then select the downloaded model."""
        self._new_file = path, f"{path.name} was downloaded to {path.parent}."
        self.rescan_requested.emit()

    def open_menu(self, at: QPoint) -> QMenu:
        """Open the menu of the selected model."""
        entry = self.chosen()
        checkpoint = entry if isinstance(entry, Checkpoint) else None
        use = None
        if used_in_prompt(checkpoint):
            use = USE_IN_PROMPT, self._use
        elif checkpoint is not None and checkpoint.can_generate:
            use = actions.GENERATE_WITH_THIS, self._use
        starred = entry is not None and self._annotations.of(entry.path).favourite
        menu = self.file_actions.menu(use, self._star, starred)
        menu.popup(at)
        return menu

    def _type_overridden(self, sentence: str) -> None:
        self._rescan()
        self.message.show_message("good", sentence)

    def _show_failure(self, text: str) -> None:
        self.message.show_message("bad", text)
