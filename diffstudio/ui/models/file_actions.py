"""What can be done with the file of the selected model: show it, rename it, trash it, go to the run it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QMenu, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.library.model_files import own_path, run_of, sidecars_of, why_not_renamed
from diffstudio.ui.models.item_model import Entry
from diffstudio.ui.models.rename_dialog import RenameDialog
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.dialogs import confirm
from diffstudio.ui.widgets.images import copy_and_drag
from diffstudio.ui.widgets.menus import MenuEntry, build_menu

RENAME, GO_TO_RUN, USE_IN_PROMPT = "Rename…", "Show training run", "Use in prompt"
# Finds what uses a model, and calls the function with that, each as a sentence.
FindUses = Callable[[Entry, Callable[[Sequence[str]], None]], None]


def can_rename(entry: Entry | None) -> bool:
    return isinstance(entry, Checkpoint) and not why_not_renamed(entry)


def can_trash(entry: Entry | None) -> bool:
    """What comes with the program stays."""
    return entry is not None and not (isinstance(entry, Checkpoint) and entry.is_included)


def nothing_known(entry: Entry, show: Callable[[Sequence[str]], None]) -> None:
    """The default of `find_uses`: no job or run is known."""
    show(())


class FileActions(QObject):
    """Asks before anything changes. `find_uses` finds what the trash dialog says about a model."""

    rename_requested = Signal(object, str)  # Checkpoint, its new name
    delete_requested = Signal(object)  # Checkpoint or Problem, confirmed by the user
    run_requested = Signal(object)  # Path of a run's folder
    folder_opened = Signal(object)  # Path
    message = Signal(str, str)  # kind and text of a banner

    def __init__(self, chosen: Callable[[], Entry | None], find_uses: FindUses, parent: QWidget) -> None:
        super().__init__(parent)
        self._chosen, self._find_uses, self._parent_widget = chosen, find_uses, parent
        self._finding_uses = False

    def rename(self) -> RenameDialog | None:
        """Ask for a new name; None, with a message, when the model keeps its name."""
        entry = self._chosen()
        if not isinstance(entry, Checkpoint):
            return None
        if why := why_not_renamed(entry):
            self.message.emit("info", why)
            return None
        dialog = RenameDialog(entry, self._parent_widget)
        dialog.rename_requested.connect(lambda name: self.rename_requested.emit(entry, name))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        return dialog

    def show_in_folder(self) -> None:
        entry = self._chosen()
        if entry is None:
            return
        if copy_and_drag.show_in_folder(entry.path):
            self.folder_opened.emit(entry.path.parent)
        else:
            self.message.emit("warn", copy_and_drag.not_shown(entry.path))

    def ask_to_trash(self) -> None:
        """Open the question, once it is known what uses the model; a message where the model stays."""
        entry = self._chosen()
        if entry is not None and not can_trash(entry):
            self.message.emit("info", "It comes with the program and cannot be deleted.")
        elif entry is not None and not self._finding_uses:
            self._finding_uses = True
            self._find_uses(entry, lambda uses: self._ask_to_trash(entry, uses))

    def _ask_to_trash(self, entry: Entry, uses: Sequence[str]) -> None:
        self._finding_uses = False
        own, sidecars = own_path(entry.path), [path.name for path in sidecars_of(entry.path)]
        sentences = [*uses, "Images made with it stay, but cannot be reproduced without it."]
        if own.is_dir():
            sentences.insert(0, "The folder is moved with everything in it.")
        if sidecars:
            sentences.insert(0, f"These files are moved with it: {', '.join(sidecars)}.")
        confirm(
            self._parent_widget,
            actions.DELETE,
            f"Move {own.name} to the trash?",
            "\n".join(sentences),
            lambda: self.delete_requested.emit(entry),
        )

    def go_to_run(self) -> None:
        entry = self._chosen()
        if entry is not None and (run := run_of(entry.path)) is not None:
            self.run_requested.emit(run)

    def menu(self, use: tuple[str, Callable[[], object]] | None, star: Callable[[], object], is_starred: bool) -> QMenu:
        """The context menu of the selected model. `use` is its main action, if it has one."""
        entry = self._chosen()
        entries: list[MenuEntry | None] = []
        if use is not None:
            entries += [(use[0], "sparkle", use[1]), None]
        entries.append((actions.REMOVE_STAR if is_starred else actions.STAR, "star", star))
        if can_rename(entry):
            entries.append((RENAME, "pencil-simple", self.rename))
        entries.append((actions.SHOW_IN_FOLDER, "folder-open", self.show_in_folder))
        if entry is not None and run_of(entry.path) is not None:
            entries.append((GO_TO_RUN, "chart-line-up", self.go_to_run))
        if can_trash(entry):
            entries += [None, (actions.DELETE, "trash", self.ask_to_trash)]
        return build_menu(self._parent_widget, entries, "Model")
