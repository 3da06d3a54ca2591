"""Changes images of the gallery: stars, notes, tags, to the trash and back. Every room does it through these functions.

Images are changed one by one, in a thread. The first one that cannot be changed ends it: what was changed before is
returned together with the problem. `report` is told how many of how many are done, if there are many.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TypeAlias, TypeVar

from diffstudio.errors import DiffstudioError
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.ui.tasks import Tasks

Change: TypeAlias = Callable[[Gallery, GalleryImage], DiffstudioError | None]  # returns what is only half done
Report: TypeAlias = Callable[[int, int], object]
_T = TypeVar("_T")
_R = TypeVar("_R")
MANY = 50  # images; fewer are done at once
SLICE = 0.1  # s


def _unreported(done: int, count: int) -> None:
    """Where nobody is told how far it is."""


async def change(
    tasks: Tasks, gallery: Gallery, images: Sequence[GalleryImage], change_one: Change, report: Report = _unreported
) -> tuple[list[GalleryImage], DiffstudioError | None]:
    """Change records; returns the new ones."""
    half_done: list[DiffstudioError] = []

    def work(image: GalleryImage) -> list[GalleryImage]:
        if (problem := change_one(gallery, image)) is not None:
            half_done.append(problem)
        return [record] if (record := gallery.get(image.id)) is not None else []

    renewed, error = await in_turn(tasks, images, work, report)
    return renewed, error or (half_done[-1] if half_done else None)


async def star(
    tasks: Tasks, gallery: Gallery, images: Sequence[GalleryImage], starred: bool
) -> tuple[list[GalleryImage], DiffstudioError | None]:
    """Star images, or remove their stars; returns the new records."""
    return await change(tasks, gallery, images, lambda gallery, image: gallery.star(image.id, starred))


async def delete(
    tasks: Tasks, gallery: Gallery, images: Sequence[GalleryImage], report: Report = _unreported
) -> tuple[list[int], DiffstudioError | None]:
    """Move images to the gallery's trash; returns the ids of those that left the gallery."""
    return await in_turn(tasks, images, lambda image: gallery.delete([image.id]), report)


async def restore(
    tasks: Tasks, gallery: Gallery, image_ids: Sequence[int], report: Report = _unreported
) -> tuple[list[GalleryImage], DiffstudioError | None]:
    """Move images from the trash back to where they were; returns the records of those whose files are there."""

    def work(image_id: int) -> list[GalleryImage]:
        return [image for one in gallery.undo([image_id]) if (image := gallery.get(one)) is not None]

    return await in_turn(tasks, image_ids, work, report)


async def in_turn(
    tasks: Tasks, items: Sequence[_T], work_on: Callable[[_T], Iterable[_R]], report: Report = _unreported
) -> tuple[list[_R], DiffstudioError | None]:
    """What `work_on` returns for each item, up to one that fails, and its error. Ends early when it is cancelled.

    The thread is given back between slices of the work, so that other changes need not wait for all of it.
    """
    cancelled = threading.Event()
    results: list[_R] = []
    many = len(items) >= MANY

    def work(first: int) -> tuple[int, DiffstudioError | None]:
        """One slice; returns how many of all items are done."""
        ends = time.monotonic() + SLICE
        for done in range(first, len(items)):
            if cancelled.is_set() or (done > first and time.monotonic() >= ends):
                return done, None
            try:
                results.extend(work_on(items[done]))
            except DiffstudioError as error:
                return done, error
        return len(items), None

    done, error = 0, None
    try:
        with tasks.lengthy() if many else nullcontext():
            while done < len(items) and error is None:
                if many:
                    report(done, len(items))
                done, error = await tasks.to_thread(work, done)
    except asyncio.CancelledError:
        cancelled.set()
        raise
    return results, error
