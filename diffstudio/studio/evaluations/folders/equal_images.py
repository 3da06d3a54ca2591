"""Images with equal pixels, and images that look alike. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.progress import OnProgress, each
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.data.near_duplicates import FINGERPRINT_BYTES, fingerprint, near_duplicates

_USUAL = 0.01  # share of images that may look like real ones, beyond those of the real images that look like each other


def pixels_of(dataset: ImageDataset, numbers: Iterable[int]) -> Iterator[NDArray[np.generic]]:
    """The pixels [H,W,C] of each of these images, one at a time."""
    for number in numbers:
        if dataset.images.ndim == 4:
            yield dataset.images[int(number)]
        else:  # of different sizes, stored in one row
            yield dataset.batch([int(number)])[0].permute(1, 2, 0).numpy()


def digests(
    dataset: ImageDataset,
    numbers: Sequence[int] | NDArray[np.int64],
    name: str,
    report: OnProgress,
    check: Callable[[], None],
) -> list[bytes]:
    """Of each of these images of a folder or part of that `name`."""
    what = f"Looking for equal images in {name}"
    return [digest(image) for image in each(pixels_of(dataset, numbers), len(numbers), what, report, check)]


def digest(image: NDArray[np.generic]) -> bytes:
    """A hash of an image's pixels and size."""
    return hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()


def digests_and_flatness(
    name: str, dataset: ImageDataset, report: OnProgress, check: Callable[[], None]
) -> Iterator[tuple[bytes, bool]]:
    """`digest_and_flatness` of each image of the folder `name`."""
    images = pixels_of(dataset, range(len(dataset)))
    return map(digest_and_flatness, each(images, len(dataset), f"Looking for duplicates in {name}", report, check))


def digest_and_flatness(image: NDArray[np.generic]) -> tuple[bytes, bool]:
    """Of an image [H,W,C]: what only equal images share, and whether it is of a single colour."""
    return digest(image), bool((image == image.reshape(-1, image.shape[-1])[0]).all())


def shared_images(
    name: str, images: ImageDataset, real: RealFolder, report: OnProgress, check: Callable[[], None]
) -> list[tuple[Path, Path]]:
    """The images of the folder `name` with the pixels of a real one, each with that one; both are prepared in the same way."""
    ours, theirs = (
        digests(dataset, range(len(dataset)), of, report, check)
        for dataset, of in ((images, name), (real.dataset, real.report.folder.name))
    )
    known = dict(zip(theirs, real.dataset.paths, strict=True))
    return [(path, known[one]) for path, one in zip(images.paths, ours, strict=True) if one in known]


def alike_images(
    name: str, images: ImageDataset, real: RealFolder, report: OnProgress, check: Callable[[], None]
) -> list[tuple[Path, Path]]:
    """Images that look like a real one, such as the same image in another format, each with that real image.

    None unless they are more than the near-duplicates among the real images themselves let expect, and none for images of
    more than 8 bits or of other channels than grey, RGB and RGBA, which have no fingerprint.
    """
    prints = [
        _fingerprints(dataset, f"Looking for images that are alike in {of}", report, check)
        for dataset, of in ((real.dataset, real.report.folder.name), (images, name))
    ]
    if not len(prints[0]) or not len(prints[1]):
        return []
    known = len(prints[0])
    same, near, _ = near_duplicates(np.concatenate(prints))
    pairs = sorted([*same, *near], key=lambda pair: pair[1])
    usual = sum(later < known for _, later in pairs) / known
    found = [
        (images.paths[later - known], real.dataset.paths[first]) for first, later in pairs if first < known <= later
    ]
    return found if len(found) > (usual + _USUAL) * len(images) else []


def _fingerprints(dataset: ImageDataset, what: str, report: OnProgress, check: Callable[[], None]) -> NDArray[np.uint8]:
    """[N,FINGERPRINT_BYTES], of no images if they are not of a kind that has any."""
    found = []
    for image in each(pixels_of(dataset, range(len(dataset))), len(dataset), what, report, check):
        if image.dtype != np.uint8 or image.shape[-1] not in (1, 3, 4):
            break
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[image.shape[-1]]
        shown = Image.fromarray(image[..., 0] if mode == "L" else image, mode)
        found.append(np.frombuffer(fingerprint(shown if mode == "RGBA" else shown.convert("RGB")), np.uint8))
    return np.stack(found) if found else np.empty((0, FINGERPRINT_BYTES), np.uint8)
