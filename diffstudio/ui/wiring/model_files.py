"""Makes the Models room; connects model files with the settings, presets, jobs and runs that refer to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.library.model_files import own_path, run_of
from diffstudio.studio.library.references import ModelRenamed, uses_model
from diffstudio.ui.shell.model_library import ModelLibrary
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.wiring.jobs import JobController
from diffstudio.ui.wiring.lab import LabController
from diffstudio.ui.wiring.navigation import Navigation
from diffstudio.ui.wiring.panel_state import PanelStateController
from diffstudio.ui.wiring.preferences import PreferencesController
from diffstudio.ui.wiring.queue import QueueController

if TYPE_CHECKING:  # imported after the first paint
    from diffstudio.studio.gallery.gallery import Gallery
    from diffstudio.studio.worker import Worker
    from diffstudio.ui.models.room import ModelsRoom


class _Entry(Protocol):
    """A model, or a file that cannot be used."""

    @property
    def path(self) -> Path: ...


class ModelFilesController(QObject):
    """Creates the Models room, follows renamed models, and reports what uses a model."""

    folder_added = Signal(object, int)  # Path of a folder, and how many models were found in it

    def __init__(
        self,
        library: ModelLibrary,
        preferences: PreferencesController,
        jobs: JobController,
        panel_state: PanelStateController,
        queue: QueueController,
        lab: LabController,
        tasks: Tasks,
    ) -> None:
        super().__init__()
        self._tasks = tasks
        self._library, self._preferences, self._jobs, self._panel_state = library, preferences, jobs, panel_state
        self._queue, self._lab = queue, lab
        self._room: ModelsRoom | None = None
        self._added: Path | None = None  # a folder that the next scan searches for the first time
        library.renaming.connect(self._follow)
        library.changed.connect(self._count_added)

    def make_room(self, gallery: Gallery | None, navigation: Navigation) -> ModelsRoom:
        """The Models room, connected to the library and to the other rooms."""
        from diffstudio.ui.models.room import ModelsRoom

        library = self._library
        self._room = room = ModelsRoom(
            gallery, output_folder=lambda: library.library.folders[0], find_uses=self.find_uses
        )
        room.generate_requested.connect(navigation.generate_with)
        images = room.image_actions
        images.start_requested.connect(navigation.start_from)
        images.paint_requested.connect(navigation.paint_on)
        images.use_settings_requested.connect(lambda target: navigation.use_settings(target.request, target.gaps))
        images.show_steps_requested.connect(lambda target: navigation.show_image(target.record))
        room.use_in_prompt_requested.connect(navigation.use_lora)
        room.trigger_words_requested.connect(self._jobs.room.panel.add_trigger_words)
        room.rescan_requested.connect(library.rescan)
        room.delete_requested.connect(lambda entry: library.delete(entry.path))  # including unusable files
        room.rename_requested.connect(library.rename)
        room.import_requested.connect(library.import_files)
        room.folder_added.connect(self.add_folder)
        room.run_requested.connect(navigation.show_run)
        library.import_progress.connect(room.show_import_progress)
        library.imported.connect(room.show_imported)
        library.renaming.connect(room.move_annotation)
        library.renamed.connect(room.show_renamed)
        library.trashed.connect(room.show_trashed)
        self.folder_added.connect(room.show_folder_added)
        self.show_checkpoints()
        return room

    def show_checkpoints(self) -> None:
        """Show the models that a scan of the model folders has found."""
        if self._room is not None:
            self._room.set_checkpoints(self._library.checkpoints, self._library.problems)

    def find_uses(self, entry: _Entry, show: Callable[[Sequence[str]], None]) -> None:
        """Find what uses a model, each as a sentence, and call `show` with that. The queue is read in a thread."""
        self._tasks.start(self._find_uses(entry, show))

    async def _find_uses(self, entry: _Entry, show: Callable[[Sequence[str]], None]) -> None:
        waiting = 0
        if isinstance(entry, Checkpoint) and (worker := self._jobs.worker) is not None:
            waiting = await self._tasks.to_thread(_waiting_jobs, worker, entry)
        lab_jobs = await self._lab.jobs_using(entry.path)
        show(self._uses(entry, waiting, lab_jobs))

    def _uses(self, entry: _Entry, count: int, lab_jobs: Sequence[str]) -> Sequence[str]:
        if not isinstance(entry, Checkpoint):
            return []
        found: list[str] = []
        running = self._jobs.room.running_request()
        if running is not None and uses_model(running, entry):
            found.append("The running job uses it.")
        if count:
            found.append(
                "One waiting job uses it, and will fail without it."
                if count == 1
                else f"{count:,} waiting jobs use it, and will fail without it."
            )
        if lab_jobs:
            found.append(f"Lab jobs that use it, and may fail without it: {', '.join(lab_jobs)}.")
        if names := [one.name for one in self._panel_state.presets.presets if uses_model(one.state.request, entry)]:
            found.append(f"Presets with it: {', '.join(names)}.")
        if (run := run_of(entry.path)) is not None:
            found.append(f"It is what the run {run.name} has learnt; the run itself stays in the Train room.")
        return found

    def add_folder(self, folder: Path) -> None:
        """Search a folder for models from now on; `folder_added` follows."""
        settings, self._added = self._preferences.settings, folder
        if folder in settings.folders:
            self._library.rescan()
        else:
            self._preferences.set_settings(replace(settings, model_folders=(*settings.model_folders, folder)))

    def _count_added(self) -> None:
        folder, self._added = self._added, None
        if folder is not None:
            inside = [one for one in self._library.checkpoints if one.path.is_relative_to(folder.absolute())]
            self.folder_added.emit(folder, len(inside))

    def _follow(self, change: ModelRenamed) -> None:
        """Put the new name in place of the old one everywhere."""
        self._panel_state.follow_renamed(change)
        self._jobs.follow_renamed(change)
        self._queue.follow_renamed(change)
        self._lab.follow_renamed(change)
        settings = self._preferences.settings
        old, new = (own_path(path) for path in (change.path, change.new_path))
        folders = tuple(new if folder == old else folder for folder in settings.model_folders)
        if folders != settings.model_folders:
            self._preferences.set_settings(replace(settings, model_folders=folders))


def _waiting_jobs(worker: Worker, model: Checkpoint) -> int:
    """How many waiting jobs use a model. Reads the queue: not for the window's thread."""
    try:
        return sum(uses_model(job.request, model) for job in worker.pending())
    except DiffstudioError:
        return 0  # the queue says itself that it cannot be read
