"""From one room to another: what a person asks for in one is shown in the room that does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtGui import QImage

from diffstudio import paths
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.metadata.gaps import NO_GAPS, Gaps
from diffstudio.studio.metadata.named_files import needed_files
from diffstudio.studio.requests import GenerateRequest, PictureRequest
from diffstudio.ui.generate.queue_and_history import RecentImage
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.shell.model_library import ModelLibrary
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.window import MainWindow

if TYPE_CHECKING:  # imported after the first paint
    from diffstudio.studio.gallery.gallery import Gallery
    from diffstudio.studio.gallery.records import GalleryImage

GENERATE, GALLERY, MODELS, TRAIN, LAB = "Generate", "Gallery", "Models", "Train", "Lab"


class Navigation:
    """Shows a room and hands it what was chosen in another one."""

    def __init__(
        self,
        window: MainWindow,
        generate_room: GenerateRoom,
        model_library: ModelLibrary,
        tasks: Tasks,
        gallery: Callable[[], Gallery | None],
    ) -> None:
        self._window, self._generate_room, self._model_library = window, generate_room, model_library
        self._tasks, self._gallery = tasks, gallery

    def use_settings(self, request: PictureRequest, gaps: Gaps = NO_GAPS) -> None:
        """Put an image's settings into the Generate room, without what the image leaves open."""
        if isinstance(request, GenerateRequest):
            self._window.show_room(GENERATE)
        if needed_files(request):
            self._tasks.start(self._use_settings(request, gaps))
        else:
            self._generate_room.use_settings(request, gaps)

    async def _use_settings(self, request: PictureRequest, gaps: Gaps) -> None:
        """As `use_settings`, for a request whose files are known by name and hash."""
        from diffstudio.studio.gallery.source_files import find_sources

        found = await self._tasks.to_thread(find_sources, request, self._gallery())
        self._generate_room.use_settings(found, gaps)

    def start_from(self, path: Path) -> None:
        """Show the Generate room with this image to start from (img2img)."""
        self._window.show_room(GENERATE)
        self._generate_room.start_from(path)

    def paint_on(self, path: Path) -> None:
        """Show the Generate room with this image to start from, and open the mask editor on it."""
        self._window.show_room(GENERATE)
        self._generate_room.paint_on(path)

    def compare(self, paths: Sequence[Path]) -> None:
        """Compare images in the gallery."""
        room: Any = self._window.show_room(GALLERY)
        room.compare(paths)

    def show_image(self, image: GalleryImage) -> None:
        """Show an image of the gallery in the Generate room, with its steps where they are kept."""
        self._tasks.start(self._show_image(image))

    async def _show_image(self, image: GalleryImage) -> None:
        from diffstudio.studio.gallery.source_files import find_sources, gaps_of, request_to_reuse

        gallery = self._gallery()

        def read() -> tuple[PictureRequest | None, Gaps]:
            request = request_to_reuse(image)
            return find_sources(request, gallery) if request is not None else None, gaps_of(image.path)

        request, gaps = await self._tasks.to_thread(read)
        self._window.show_room(GENERATE)
        self._generate_room.show_image(RecentImage(image.path, QImage(), request, gaps))

    def generate_with(self, checkpoint: Checkpoint) -> None:
        self._window.show_room(GENERATE)
        self._generate_room.choose_checkpoint(checkpoint)

    def use_lora(self, model: Checkpoint) -> None:
        """Show the Generate room with a LoRA, or an embedding, in its prompt."""
        self._window.show_room(GENERATE)
        self._generate_room.panel.use_lora(model)
        self._generate_room.panel.prompt.setFocus()

    def generate_with_file(self, path: Path) -> None:
        """Choose the newest checkpoint of a training run, which may be newer than the last scan."""
        self._tasks.start(self._generate_with_file(path))

    async def _generate_with_file(self, path: Path) -> None:
        checkpoint = await self._model_library.find(path)
        if checkpoint is None:
            self._window.show_message("warn", f"There is no checkpoint at {paths.short(path)} yet.")
        else:
            self.generate_with(checkpoint)

    def show_run(self, folder: Path) -> None:
        """Show the Train room with the run in this folder."""
        room: Any = self._window.show_room(TRAIN)
        room.select(folder)

    def inspect_training_folder(self, folder: Path) -> None:
        """Show the Train room with a folder that was dropped on the window."""
        room: Any = self._window.show_room(TRAIN)
        room.inspect(folder)
