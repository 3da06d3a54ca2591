"""Actions on an image file from any room: show its settings, upscale it, use it for img2img."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal

from diffstudio.errors import DiffstudioError
from diffstudio.imaging.limits import NOT_AN_IMAGE
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.requests import UpscaleRequest
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.images.image_reading import image_size, read_image, unreadable_reason
from diffstudio.ui.window import MainWindow


class ImageController(QObject):
    """Opens the dialogs for an image file. `checkpoints` returns all models and the selected checkpoint."""

    upscale_requested = Signal(object)  # UpscaleRequest
    settings_chosen = Signal(object, object)  # PictureRequest for the Generate room, and Gaps
    start_requested = Signal(object)  # Path of the init image

    def __init__(
        self,
        tasks: Tasks,
        window: MainWindow,
        checkpoints: Callable[[], tuple[Sequence[Checkpoint], Checkpoint | None]],
    ) -> None:
        super().__init__()
        self._tasks, self._window, self._checkpoints = tasks, window, checkpoints

    def open(self, path: Path) -> None:
        """Show the settings of an image; one without settings becomes the init image for img2img."""
        self._tasks.start(self._open(path))

    def upscale(self, path: Path, before: UpscaleRequest | None = None) -> None:
        """Open the Upscale dialog with the settings in `before`, or else those stored in the image."""
        self._tasks.start(self._upscale(path, before))

    def edit_upscale(self, request: UpscaleRequest, save: Callable[[UpscaleRequest | None], None]) -> None:
        """Open the Upscale dialog for a waiting job; `save` gets its new request, or None when it is to stay."""
        self._tasks.start(self._upscale(request.source, request, save))

    async def _upscale(
        self, path: Path, before: UpscaleRequest | None, save: Callable[[UpscaleRequest | None], None] | None = None
    ) -> None:
        from diffstudio.studio.generation.upscaler_lookup import default_upscale_request
        from diffstudio.ui.generate.upscale_dialog import UpscaleDialog

        image = await self._tasks.to_thread(read_image, path, 256)
        if image.isNull():
            reason = await self._tasks.to_thread(unreadable_reason, path) or NOT_AN_IMAGE
            self._window.show_message("warn", f"{path.name} cannot be upscaled: {reason}.")
            if save is not None:
                save(None)
            return
        base = before if before is not None else await self._tasks.to_thread(default_upscale_request, path)
        size = await self._tasks.to_thread(image_size, path)
        models, chosen = self._checkpoints()
        dialog = UpscaleDialog(
            base,
            image,
            size,
            models,
            chosen.name if chosen is not None else "",
            self._window,
            sampled=before is not None and bool(before.checkpoint),
            button_text="Upscale" if save is None else actions.SAVE_TO_QUEUE,
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        if save is None:
            dialog.upscale_requested.connect(self.upscale_requested)
            dialog.image_dropped.connect(dialog.close)
            dialog.image_dropped.connect(self.upscale)
            dialog.accept_drops(partial(self._window.show_message, "warn"))
        else:
            dialog.upscale_requested.connect(save)
            dialog.rejected.connect(partial(save, None))
        dialog.open()

    async def _open(self, path: Path) -> None:
        from diffstudio.studio.metadata import metadata
        from diffstudio.ui.generate.image_settings_dialog import ImageSettingsDialog

        try:
            settings = await self._tasks.to_thread(metadata.read, path)
        except DiffstudioError as error:
            if (await self._tasks.to_thread(read_image, path, 64)).isNull():
                reason = await self._tasks.to_thread(unreadable_reason, path)
                self._window.show_message(
                    "warn", f"{path.name} cannot be opened: {reason}. Choose another image." if reason else str(error)
                )
            else:  # it has no settings: use it as the init image
                self.start_requested.emit(path)
                self._window.show_message("info", f"{error.what}. It is now the init image.")
            return
        except OSError as error:
            self._window.show_message("warn", f"{path.name} could not be read: {error}.")
            return
        thumbnail = await self._tasks.to_thread(read_image, path, 512)
        dialog = ImageSettingsDialog(path, thumbnail, settings, self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.use_requested.connect(self.settings_chosen)
        dialog.start_requested.connect(lambda: self.start_requested.emit(path))
        dialog.upscale_requested.connect(lambda: self.upscale(path))
        dialog.open()
