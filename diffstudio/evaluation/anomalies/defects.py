"""Synthetic defects drawn into normal images [C,H,W] in [-1,1], to compare anomaly detectors. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]  # [C,H,W] in [-1,1]
Mask = NDArray[np.bool_]  # [H,W]
_LEAST_CHANGE = 0.1  # a pixel that changes by less does not count as defective
_TRIES = 12


def with_defect(image: Image, other: Image, kind: str, rng: np.random.Generator) -> tuple[Image, Mask]:
    """The image with a defect of this kind, and the mask of changed pixels. `other` is the normal image to cut from.

    A defect that changes nothing, such as an erased patch of background, is drawn again elsewhere; after several tries it
    is replaced by a blob.
    """
    for number in range(_TRIES):
        draw = _KINDS[kind] if number < _TRIES - 1 else _blob
        changed = np.clip(draw(image, other, rng), -1, 1).astype(np.float32)
        mask = np.abs(changed - image).max(axis=0) > _LEAST_CHANGE
        if mask.any():
            break
    return changed, mask


def defects(images: Sequence[Image], seed: int = 0, first_kind: int = 0) -> tuple[list[Image], list[Mask], list[str]]:
    """Each image with one defect, cycling through all kinds: the images, their masks and the names of the kinds."""
    rng = np.random.default_rng(seed)
    changed, masks, kinds = [], [], []
    for number, image in enumerate(images):
        kind = KINDS[(number + first_kind) % len(KINDS)]
        other = images[(number + 1 + int(rng.integers(max(1, len(images) - 1)))) % len(images)]
        defective, mask = with_defect(image, other, kind, rng)
        changed.append(defective)
        masks.append(mask)
        kinds.append(kind)
    return changed, masks, kinds


def _scratch(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """A thin straight line of one colour."""
    _, height, width = image.shape
    rows, columns = np.mgrid[:height, :width]
    angle, length = rng.uniform(0, np.pi), rng.uniform(0.3, 0.7) * max(height, width)
    y, x = rng.uniform(0.25, 0.75, 2) * (height, width)
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = -(columns - x) * np.sin(angle) + (rows - y) * np.cos(angle)
    inside = (np.abs(along) < length / 2) & (np.abs(across) < max(0.6, 0.02 * max(height, width)))
    return np.where(inside, _colour(image, rng), image)


def _blob(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """An ellipse of one colour."""
    _, height, width = image.shape
    rows, columns = np.mgrid[:height, :width]
    y, x = rng.uniform(0.2, 0.8, 2) * (height, width)
    radii = np.maximum(1.0, rng.uniform(0.06, 0.15, 2) * (height, width))
    inside = ((rows - y) / radii[0]) ** 2 + ((columns - x) / radii[1]) ** 2 < 1
    return np.where(inside, _colour(image, rng), image)


def _pasted(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """A patch of another normal image, pasted at another place."""
    top, left, height, width = _patch(image, rng)
    changed = image.copy()
    from_top, from_left = (
        int(rng.integers(side - part + 1)) for side, part in zip(image.shape[1:], (height, width), strict=True)
    )
    changed[:, top : top + height, left : left + width] = other[
        :, from_top : from_top + height, from_left : from_left + width
    ]
    return changed


def _erased(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """A patch filled with the colour of the image's border."""
    top, left, height, width = _patch(image, rng)
    border = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)  # [C,N]
    changed = image.copy()
    changed[:, top : top + height, left : left + width] = np.median(border, axis=1)[:, None, None]
    return changed


def _colour_shifted(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """A patch whose channels are each shifted by a different value."""
    top, left, height, width = _patch(image, rng)
    shift = rng.uniform(0.3, 0.8, (len(image), 1, 1)) * rng.choice([-1, 1], (len(image), 1, 1))
    changed = image.copy()
    changed[:, top : top + height, left : left + width] += shift.astype(np.float32)
    return changed


def _patch(image: Image, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a patch: 15 to 35% of each side."""
    sides = image.shape[1:]
    height, width = (max(2, round(side * rng.uniform(0.15, 0.35))) for side in sides)
    top, left = (int(rng.integers(side - part + 1)) for side, part in zip(sides, (height, width), strict=True))
    return top, left, height, width


def _colour(image: Image, rng: np.random.Generator) -> Image:
    """A random colour [C,1,1] that differs from the image's main colour."""
    usual = np.median(image, axis=(1, 2))
    colour = rng.uniform(-1, 1, len(image))
    far = np.where(usual > 0, -1.0, 1.0)
    return np.where(np.abs(colour - usual) < 0.5, far, colour).astype(np.float32)[:, None, None]


_KINDS: dict[str, Callable[[Image, Image, np.random.Generator], Image]] = {
    "scratch": _scratch,
    "blob": _blob,
    "cut and paste": _pasted,
    "erased patch": _erased,
    "colour shift": _colour_shifted,
}
KINDS = tuple(_KINDS)
