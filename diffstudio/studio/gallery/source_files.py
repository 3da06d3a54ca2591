"""Find the files that an image was made from, which its settings hold by name and SHA-256."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.gaps import NO_GAPS, Gaps
from diffstudio.studio.metadata.named_files import NamedFile, find_near, has_lost_files, located
from diffstudio.studio.requests import PictureRequest


def find_sources(request: PictureRequest, gallery: Gallery | None = None) -> PictureRequest:
    """The request with the paths of its named files that are found; see `named_files.needed_files` for the others.

    They are looked for where they were used, among the painted masks, and in the gallery, under any name.
    """
    return located(request, lambda named: find_near(named) or _in_gallery(named, gallery))


def request_to_reuse(image: GalleryImage) -> PictureRequest | None:
    """The request that is recorded for an image. Where that has lost a file, the one in the image, which has its hash."""
    request = image.request
    if request is not None and has_lost_files(request):
        with suppress(DiffstudioError, OSError):
            return metadata.read(image.path).request
    return request


def gaps_of(path: Path) -> Gaps:
    """What the settings in an image file leave open; nothing where they cannot be read."""
    with suppress(DiffstudioError, OSError):
        return metadata.read(path).gaps
    return NO_GAPS


def _in_gallery(named: NamedFile, gallery: Gallery | None) -> Path | None:
    if gallery is None or not named.sha256:
        return None
    statement = "SELECT path FROM images WHERE size_bytes = ? AND trashed IS NULL"
    with suppress(StorageProblem):
        for (path,) in gallery.read(statement, [named.size]):
            if named.is_at(gallery.folders.file(path)):
                return gallery.folders.file(path)
    return None
