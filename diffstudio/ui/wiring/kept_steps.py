"""The denoising steps that are kept on the disk: opened with the gallery, limited and cleared in the settings dialog."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from diffstudio import paths
from diffstudio.errors import DiffstudioError
from diffstudio.studio.settings import Settings
from diffstudio.ui.tasks import Tasks

if TYPE_CHECKING:  # imported after the first paint
    from diffstudio.studio.gallery.gallery import Gallery
    from diffstudio.studio.jobs.step_store import StepStore
    from diffstudio.ui.settings_dialog import SettingsDialog


class KeptStepsController(QObject):
    """`failed` carries a sentence, and may be emitted in any thread."""

    failed = Signal(str)
    _usage_read = Signal(object, object)  # images, bytes; a dialog that is gone is not connected any more

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self.store: StepStore | None = None

    def start(self, settings: Settings, gallery: Gallery) -> StepStore:
        """Open the store. What leaves the gallery for good loses its steps too."""
        from diffstudio.studio.jobs.step_store import StepStore

        self.store = StepStore(paths.steps(), settings.kept_steps_bytes)
        self.store.on_problem = self.failed.emit
        gallery.before_removal = partial(_removal_of, self.store)
        return self.store

    def apply(self, before: Settings, settings: Settings) -> None:
        """The settings have changed."""
        if self.store is not None and settings.kept_steps_bytes != before.kept_steps_bytes:
            self.store.set_limit(settings.kept_steps_bytes)

    def serve(self, dialog: SettingsDialog) -> None:
        """Show in the dialog what is used, and clear it when asked to."""
        self._usage_read.connect(dialog.show_steps_usage)
        dialog.clear_steps_requested.connect(lambda: self._tasks.start(self._clear()))
        dialog.changed.connect(lambda _: self._tasks.start(self._read_usage()))
        self._tasks.start(self._read_usage())

    async def _read_usage(self) -> None:
        if (store := self.store) is not None:
            usage = await self._tasks.to_thread(store.settled_usage)
            self._usage_read.emit(usage.images, usage.size_bytes)

    async def _clear(self) -> None:
        if (store := self.store) is None:
            return
        try:
            await self._tasks.to_thread(store.clear)
        except DiffstudioError as error:
            self.failed.emit(str(error))
        await self._read_usage()

    def close(self) -> None:
        """Wait until everything is written."""
        if self.store is not None:
            self.store.close()


def _removal_of(store: StepStore, image: Path) -> Callable[[], object]:
    """What removes the steps of an image: its file names them, so it is read before it is deleted. In any thread."""
    from diffstudio.studio.metadata.image_key import image_key

    key = image_key(image)
    return partial(store.remove, [key] if key is not None else [])
