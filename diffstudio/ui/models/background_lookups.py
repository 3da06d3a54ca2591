"""What the Models room finds out beside the window: pictures, what lies beside a file, hashes, which tools can be used."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QImage

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint, Role
from diffstudio.models.files.hashes import cached_sha256, sha256_of
from diffstudio.models.library.sidecars import Sidecar, read_sidecar
from diffstudio.models.tools.prune import prunable_bytes
from diffstudio.studio.gallery.gallery import Gallery, GalleryImage
from diffstudio.studio.library.weight_requests import Tool, offered
from diffstudio.ui.models import model_info
from diffstudio.ui.tasks import NewestFirstQueue
from diffstudio.ui.widgets.images import read_image

MOST_PICTURES = 6  # of those made with the chosen one
_PICTURE_SIDE = 256  # px


class BackgroundLookups(QObject):
    """Answers come as signals, each with the path that was asked about."""

    seen = Signal(object, object, object)  # Path, QImage, Sidecar
    hashed = Signal(object, str)  # Path, SHA-256
    tools_found = Signal(object, object, object)  # Path, tuple[Tool, …], dict[str, int]: what pruning would leave out
    made_with = Signal(object, object)  # Path, list[(QImage, str)]: the newest pictures and their prompts

    def __init__(self, gallery: Gallery | None) -> None:
        super().__init__()
        self._gallery = gallery
        self._looks = NewestFirstQueue("checkpoint-pictures", capacity=20_000)
        self._chosen = NewestFirstQueue("checkpoint-details", capacity=3)
        self._hashes = NewestFirstQueue("checkpoint-hashes", capacity=1)
        self._hashing: Path | None = None
        self._looks.completed.connect(self._seen)
        self._chosen.completed.connect(self._answered)
        self._hashes.completed.connect(self._hashed)

    def look_at(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Every one's picture and what lies beside it, the first of them first."""
        for checkpoint in reversed(checkpoints):
            self._looks.submit((checkpoint.path, checkpoint.modified), partial(self._look, checkpoint))

    def choose(self, checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> None:
        """What is only told of the one that is chosen."""
        self._chosen.submit(("tools", checkpoint.path), partial(_tools, checkpoint, tuple(others)))
        if self._gallery is not None:
            self._chosen.submit(("pictures", checkpoint.path), partial(self._pictures, checkpoint))

    def hash(self, path: Path) -> None:
        """Worked out while nothing else is asked about; `hashed` at once where it is known."""
        self._hashing = None
        if known := cached_sha256(path):
            self.hashed.emit(path, known)
        elif path.is_file():
            self._hashing = path
            self._hashes.submit(path, partial(sha256_of, path, cancelled=lambda: self._hashing != path))

    def close(self) -> None:
        self._hashing = None
        for questions in (self._hashes, self._chosen, self._looks):
            questions.close()

    # ---- in threads --------------------------------------------------------------------------------------------------

    def _look(self, checkpoint: Checkpoint) -> tuple[QImage, Sidecar]:
        """Its own picture, one beside it, or the newest that was made with it."""
        told = read_sidecar(checkpoint.path)
        own = model_info.thumbnail(checkpoint)
        if own.isNull() and told.picture is not None:
            own = read_image(told.picture, _PICTURE_SIDE)
        if own.isNull() and self._gallery is not None:
            for image in self._newest(checkpoint, 1):
                own = read_image(self._gallery.thumbnail(image))
        return own, told

    def _pictures(self, checkpoint: Checkpoint) -> list[tuple[QImage, str]]:
        found: list[tuple[QImage, str]] = []
        for image in self._newest(checkpoint, MOST_PICTURES):
            assert self._gallery is not None
            try:
                request = image.request
                found.append(
                    (read_image(self._gallery.thumbnail(image)), request.prompt if request is not None else "")
                )
            except DiffstudioError:
                continue  # gone since
        return found

    def _newest(self, checkpoint: Checkpoint, most: int) -> list[GalleryImage]:
        """The newest pictures made with a checkpoint, or whose prompts ask for a LoRA."""
        if self._gallery is None:
            return []
        if checkpoint.role is Role.LORA:
            return self._gallery.images(0, most, f"<lora:{checkpoint.name}:")
        for name in dict.fromkeys((checkpoint.name, str(checkpoint.path), checkpoint.path.stem)):
            if found := self._gallery.made_with(name, most):
                return found
        return []

    # ---- on the window's thread --------------------------------------------------------------------------------------

    def _seen(self, key: object, result: object) -> None:
        match key, result:
            case (Path() as path, _), (QImage() as picture, Sidecar() as told):
                self.seen.emit(path, picture, told)

    def _answered(self, key: object, result: object) -> None:
        match key, result:
            case ("tools", Path() as path), (tuple() as tools, dict() as left_out):
                self.tools_found.emit(path, tools, left_out)
            case ("pictures", Path() as path), list() as pictures:
                self.made_with.emit(path, pictures)

    def _hashed(self, path: object, sha256: object) -> None:
        if isinstance(path, Path) and isinstance(sha256, str):
            self.hashed.emit(path, sha256)


def _tools(checkpoint: Checkpoint, others: tuple[Checkpoint, ...]) -> tuple[tuple[Tool, ...], dict[str, int]]:
    return offered(checkpoint, others), prunable_bytes(checkpoint)
