"""Changes images of the gallery: stars, notes, tags, to the trash and back. Every room does it through these functions.

Images are changed one by one, in a thread. The first one that cannot be changed ends it: what was changed before is
returned together with the problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from diffstudio.errors import DiffstudioError
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.ui.tasks import Tasks

Change: TypeAlias = Callable[[Gallery, GalleryImage], DiffstudioError | None]  # returns what is only half done


async def change(
    tasks: Tasks, gallery: Gallery, images: Sequence[GalleryImage], change_one: Change
) -> tuple[list[GalleryImage], DiffstudioError | None]:
    """Change records; returns the new ones."""

    def work() -> tuple[list[GalleryImage], DiffstudioError | None]:
        renewed: list[GalleryImage] = []
        problem: DiffstudioError | None = None
        for image in images:
            try:
                problem = change_one(gallery, image) or problem
                if (record := gallery.get(image.id)) is not None:
                    renewed.append(record)
            except DiffstudioError as error:
                return renewed, error
        return renewed, problem

    return await tasks.to_thread(work)


async def star(
    tasks: Tasks, gallery: Gallery, images: Sequence[GalleryImage], starred: bool
) -> tuple[list[GalleryImage], DiffstudioError | None]:
    """Star images, or remove their stars; returns the new records."""
    return await change(tasks, gallery, images, lambda gallery, image: gallery.star(image.id, starred))


async def delete(
    tasks: Tasks, gallery: Gallery, images: Sequence[GalleryImage]
) -> tuple[list[int], DiffstudioError | None]:
    """Move images to the gallery's trash; returns the ids of those that left the gallery."""
    deleted: list[int] = []
    try:
        for image in images:
            deleted += await tasks.to_thread(gallery.delete, [image.id])
    except DiffstudioError as error:
        return deleted, error
    return deleted, None


async def restore(
    tasks: Tasks, gallery: Gallery, image_ids: Sequence[int]
) -> tuple[list[GalleryImage], DiffstudioError | None]:
    """Move images from the trash back to where they were; returns the records of those whose files are there."""
    images: list[GalleryImage] = []

    def work() -> DiffstudioError | None:
        for each in image_ids:
            try:
                restored = gallery.undo([each])
            except DiffstudioError as error:
                return error
            images.extend(image for one in restored if (image := gallery.get(one)) is not None)
        return None

    problem = await tasks.to_thread(work)
    return images, problem
