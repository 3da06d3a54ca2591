"""The preview image of a model: from its header, a file next to it, or the newest image made with it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from PySide6.QtGui import QImage

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.models.library.sidecars import Sidecar, read_sidecar
from diffstudio.ui.widgets.images.image_reading import header_thumbnail, read_image

if TYPE_CHECKING:  # imported after the first paint
    from diffstudio.studio.gallery.gallery import Gallery
    from diffstudio.studio.gallery.records import GalleryImage


def read_preview(checkpoint: Checkpoint, gallery: Gallery | None, side: int) -> tuple[QImage, Sidecar]:
    """The preview of a model, at most `side` px a side, or a null image, and the model's sidecar. Reads files."""
    sidecar = read_sidecar(checkpoint.path)
    image = header_thumbnail(checkpoint)
    if image.isNull() and sidecar.image is not None:
        image = read_image(sidecar.image, side)
    if image.isNull() and gallery is not None:
        with suppress(DiffstudioError):  # a deleted image, or unreadable records: then it has no thumbnail
            for newest in newest_images(gallery, checkpoint, 1):
                image = read_image(gallery.thumbnail(newest))
    return image, sidecar


def newest_images(gallery: Gallery, checkpoint: Checkpoint, count: int) -> list[GalleryImage]:
    """The newest images made with a checkpoint, or with a LoRA tag in the prompt."""
    if checkpoint.role is Role.LORA:
        return gallery.images(0, count, f"<lora:{checkpoint.name}:")
    for name in dict.fromkeys((checkpoint.name, str(checkpoint.path), checkpoint.path.stem)):
        if found := gallery.made_with(name, count):
            return found
    return []
