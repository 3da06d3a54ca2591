"""Opening the gallery and the queue, in a thread: checking a large or damaged database takes seconds. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffstudio import paths
from diffstudio.errors import DiffstudioError

if TYPE_CHECKING:  # imported in the thread
    from diffstudio.studio.gallery.gallery import Gallery
    from diffstudio.studio.jobs.queue import Queue


@dataclass(slots=True)
class Storage:
    """What could be opened, and why the rest could not."""

    gallery: Gallery | None = None
    queue: Queue | None = None
    problem: DiffstudioError | None = None

    def close(self) -> None:
        if self.queue is not None:
            self.queue.close()
        if self.gallery is not None:
            self.gallery.close()


def open_storage(images: Path, gallery: Gallery | None) -> Storage:
    """Open the gallery of a folder, unless it is open already, and the queue. May be called in any thread."""
    from diffstudio.studio.gallery.gallery import Gallery
    from diffstudio.studio.jobs.queue import Queue

    storage = Storage(gallery)
    try:
        storage.gallery = gallery or Gallery(images, paths.data() / "gallery.sqlite")
        storage.queue = Queue(paths.data() / "queue.sqlite")
    except DiffstudioError as error:
        storage.problem = error
    return storage
