"""Lookups of the Models room in threads: thumbnails, sidecars, hashes, generated images, available tools."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QImage

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.models.files.hashes import cached_sha256, sha256_of
from diffstudio.models.library.sidecars import Sidecar, read_sidecar
from diffstudio.models.tools.prune import prunable_bytes
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.library.weight_requests import Tool, available_tools
from diffstudio.ui.tasks import NewestFirstQueue
from diffstudio.ui.widgets.images import header_thumbnail, read_image

MAX_IMAGES = 6  # generated with the selected model
_IMAGE_SIDE = 256  # px


class BackgroundLookups(QObject):
    """Every result is a signal that carries the path of the model file."""

    preview_loaded = Signal(object, object, object)  # Path, QImage, Sidecar
    hashed = Signal(object, str)  # Path, SHA-256
    tools_found = Signal(
        object, object, object
    )  # Path, tuple[Tool, …], dict[str, int]: bytes that pruning would remove
    images_found = Signal(object, object)  # Path, list[(QImage, str)]: the newest images and their prompts

    def __init__(self, gallery: Gallery | None) -> None:
        super().__init__()
        self._gallery = gallery
        self._previews = NewestFirstQueue("checkpoint-previews", capacity=20_000)
        self._details = NewestFirstQueue("checkpoint-details", capacity=3)
        self._hashes = NewestFirstQueue("checkpoint-hashes", capacity=1)
        self._hashing: Path | None = None
        self._previews.completed.connect(self._preview_read)
        self._details.completed.connect(self._details_found)
        self._hashes.completed.connect(self._hashed)

    def load_previews(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Read the thumbnail and the sidecars of each checkpoint, in this order."""
        for checkpoint in reversed(checkpoints):
            self._previews.submit((checkpoint.path, checkpoint.modified), partial(self._read_preview, checkpoint))

    def look_up_details(self, checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> None:
        """Find the tools and the images of the selected checkpoint."""
        self._details.submit(("tools", checkpoint.path), partial(_tools, checkpoint, tuple(others)))
        if self._gallery is not None:
            self._details.submit(("images", checkpoint.path), partial(self._newest_images, checkpoint))

    def look_up_hash(self, path: Path) -> None:
        """Compute the SHA-256 of the file; a cached one is emitted at once. A new call cancels the one before."""
        self._hashing = None
        if known := cached_sha256(path):
            self.hashed.emit(path, known)
        elif path.is_file():
            self._hashing = path
            self._hashes.submit(path, partial(sha256_of, path, cancelled=lambda: self._hashing != path))

    def close(self) -> None:
        self._hashing = None
        for queue in (self._hashes, self._details, self._previews):
            queue.close()

    # In a thread

    def _read_preview(self, checkpoint: Checkpoint) -> tuple[QImage, Sidecar]:
        """The thumbnail in the header, one next to the file, or the newest image made with the checkpoint."""
        sidecar = read_sidecar(checkpoint.path)
        image = header_thumbnail(checkpoint)
        if image.isNull() and sidecar.image is not None:
            image = read_image(sidecar.image, _IMAGE_SIDE)
        if image.isNull() and self._gallery is not None:
            with suppress(DiffstudioError):  # a deleted image, or unreadable records: then it has no thumbnail
                for newest in self._newest(checkpoint, 1):
                    image = read_image(self._gallery.thumbnail(newest))
        return image, sidecar

    def _newest_images(self, checkpoint: Checkpoint) -> list[tuple[QImage, str]]:
        found: list[tuple[QImage, str]] = []
        for image in self._newest(checkpoint, MAX_IMAGES):
            assert self._gallery is not None
            try:
                request = image.request
                found.append(
                    (read_image(self._gallery.thumbnail(image)), request.prompt if request is not None else "")
                )
            except DiffstudioError:
                continue  # removed meanwhile
        return found

    def _newest(self, checkpoint: Checkpoint, count: int) -> list[GalleryImage]:
        """The newest images made with a checkpoint, or with a LoRA tag in the prompt."""
        if self._gallery is None:
            return []
        if checkpoint.role is Role.LORA:
            return self._gallery.images(0, count, f"<lora:{checkpoint.name}:")
        for name in dict.fromkeys((checkpoint.name, str(checkpoint.path), checkpoint.path.stem)):
            if found := self._gallery.made_with(name, count):
                return found
        return []

    # On the window's thread

    def _preview_read(self, key: object, result: object) -> None:
        match key, result:
            case (Path() as path, _), (QImage() as image, Sidecar() as sidecar):
                self.preview_loaded.emit(path, image, sidecar)

    def _details_found(self, key: object, result: object) -> None:
        match key, result:
            case ("tools", Path() as path), (tuple() as tools, dict() as left_out):
                self.tools_found.emit(path, tools, left_out)
            case ("images", Path() as path), list() as images:
                self.images_found.emit(path, images)

    def _hashed(self, path: object, sha256: object) -> None:
        if isinstance(path, Path) and isinstance(sha256, str):
            self.hashed.emit(path, sha256)


def _tools(checkpoint: Checkpoint, others: tuple[Checkpoint, ...]) -> tuple[tuple[Tool, ...], dict[str, int]]:
    return available_tools(checkpoint, others), prunable_bytes(checkpoint)
