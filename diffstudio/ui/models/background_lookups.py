"""Lookups of the Models room in threads: thumbnails, sidecars, hashes, generated images, available tools."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QImage

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.files.hashes import cached_sha256, sha256_of
from diffstudio.models.library.sidecars import Sidecar
from diffstudio.models.tools.prune import prunable_bytes
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.source_files import gaps_of, request_to_reuse
from diffstudio.studio.library.weight_requests import Tool, available_tools
from diffstudio.ui.shell.checkpoint_preview import newest_images, read_preview
from diffstudio.ui.tasks import NewestFirstQueue
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_reading import read_image

MAX_IMAGES = 6  # generated with the selected model
_IMAGE_SIDE = 256  # px


class BackgroundLookups(QObject):
    """Every result is a signal that carries the path of the model file."""

    preview_loaded = Signal(object, object, object)  # Path, QImage, Sidecar
    hashed = Signal(object, str)  # Path, SHA-256
    tools_found = Signal(
        object, object, object
    )  # Path, tuple[Tool, …], dict[str, int]: bytes that pruning would remove
    images_found = Signal(object, object)  # Path, list[ImageTarget]: the newest images

    def __init__(self, gallery: Gallery | None) -> None:
        super().__init__()
        self._gallery = gallery
        self._previews = NewestFirstQueue("checkpoint-previews", capacity=20_000)
        self._details = NewestFirstQueue("checkpoint-details", capacity=3)
        self._hashes = NewestFirstQueue("checkpoint-hashes", capacity=1)
        self._hashing = threading.Event()  # set when the hash is no longer needed
        self._previews.completed.connect(self._preview_read)
        self._details.completed.connect(self._details_found)
        self._hashes.completed.connect(self._hashed)

    def load_previews(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Read the thumbnail and the sidecars of each checkpoint, in this order."""
        for checkpoint in reversed(checkpoints):
            self._previews.submit(
                (checkpoint.path, checkpoint.modified), partial(read_preview, checkpoint, self._gallery, _IMAGE_SIDE)
            )

    def look_up_details(self, checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> None:
        """Find the tools and the images of the selected checkpoint."""
        self._details.submit(("tools", checkpoint.path), partial(_tools, checkpoint, tuple(others)))
        self.look_up_images(checkpoint)

    def look_up_images(self, checkpoint: Checkpoint) -> None:
        """Find the newest images made with a checkpoint."""
        if self._gallery is not None:
            self._details.submit(("images", checkpoint.path), partial(_newest_images, self._gallery, checkpoint))

    def look_up_hash(self, path: Path) -> None:
        """Compute the SHA-256 of the file; a cached one is emitted at once. A new call cancels the one before."""
        self._hashing.set()
        if known := cached_sha256(path):
            self.hashed.emit(path, known)
        elif path.is_file():
            self._hashing = threading.Event()
            self._hashes.submit(path, partial(sha256_of, path, cancelled=self._hashing.is_set))

    def close(self) -> None:
        self._hashing.set()
        for queue in (self._hashes, self._details, self._previews):
            queue.close()

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


# In a thread, which must not be the last to hold a QObject


def _newest_images(gallery: Gallery, checkpoint: Checkpoint) -> list[ImageTarget]:
    found: list[ImageTarget] = []
    for image in newest_images(gallery, checkpoint, MAX_IMAGES):
        try:
            small = read_image(gallery.thumbnail(image))
            found.append(ImageTarget(image.path, small, request_to_reuse(image), gaps=gaps_of(image.path)))
        except DiffstudioError:
            continue  # removed meanwhile
    return found


def _tools(checkpoint: Checkpoint, others: tuple[Checkpoint, ...]) -> tuple[tuple[Tool, ...], dict[str, int]]:
    return available_tools(checkpoint, others), prunable_bytes(checkpoint)
