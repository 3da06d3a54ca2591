"""Kinds of defects that no detector is weighted on: round holes, stains, blurred and warped regions, noise, cracks.

Each is drawn into a normal image [C,H,W] in [-1,1]. They show whether what was learned from `evaluation.anomalies.defects`
holds for other kinds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from diffstudio.evaluation.anomalies.defects import Image as Pixels
from diffstudio.evaluation.anomalies.defects import Mask

_LEAST_CHANGE, _FEWEST, _TRIES = 0.1, 4, 12  # of a pixel; pixels; draws


def with_other_defect(image: Pixels, kind: str, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """The image with a defect of this kind, and the mask of changed pixels."""
    for _ in range(_TRIES):
        changed = np.clip(OTHER_KINDS[kind](image, rng), -1, 1).astype(np.float32)
        mask = np.abs(changed - image).max(axis=0) > _LEAST_CHANGE
        if mask.sum() >= _FEWEST:
            break
    return changed, mask


def _ellipse(image: Pixels, rng: np.random.Generator) -> Pixels:
    """[H,W]: below 1 inside."""
    _, height, width = image.shape
    rows, columns = np.mgrid[:height, :width]
    y, x = rng.uniform(0.25, 0.75, 2) * (height, width)
    radii = np.maximum(2, rng.uniform(0.08, 0.18, 2) * (height, width))
    return ((rows - y) / radii[0]) ** 2 + ((columns - x) / radii[1]) ** 2


def _hole(image: Pixels, rng: np.random.Generator) -> Pixels:
    border = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)
    return np.where(_ellipse(image, rng) < 1, np.median(border, axis=1)[:, None, None], image)


def _stain(image: Pixels, rng: np.random.Generator) -> Pixels:
    opacity = 0.8 * np.exp(-_ellipse(image, rng))[None]
    return image * (1 - opacity) + opacity * rng.uniform(-1, 0, len(image))[:, None, None]


def _blurred(image: Pixels, rng: np.random.Generator) -> Pixels:
    inside = _ellipse(image, rng) < 1.5
    channels = [Image.fromarray(((one + 1) * 127.5).clip(0, 255).astype(np.uint8)) for one in image]
    blurred = [np.asarray(one.filter(ImageFilter.GaussianBlur(2.5)), np.float32) / 127.5 - 1 for one in channels]
    return np.where(inside, np.stack(blurred), image)


def _warped(image: Pixels, rng: np.random.Generator) -> Pixels:
    _, height, width = image.shape
    rows, columns = np.mgrid[:height, :width].astype(float)
    y, x = rng.uniform(0.3, 0.7, 2) * (height, width)
    distance, radius = np.hypot(rows - y, columns - x), rng.uniform(0.15, 0.25) * height
    shift = np.where(distance < radius, (1 - distance / radius) ** 2, 0) * rng.uniform(0.08, 0.14) * height
    angle = rng.uniform(0, 2 * np.pi)
    from_rows = np.clip(rows + shift * np.sin(angle), 0, height - 1).round().astype(int)
    return image[:, from_rows, np.clip(columns + shift * np.cos(angle), 0, width - 1).round().astype(int)]


def _noisy(image: Pixels, rng: np.random.Generator) -> Pixels:
    return np.where(_ellipse(image, rng) < 1, image + 0.4 * rng.normal(size=image.shape), image)


def _crack(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A crooked dark line."""
    _, height, width = image.shape
    changed, colour = image.copy(), rng.uniform(-1, -0.4)
    y, x = rng.uniform(0.3, 0.7, 2) * (height, width)
    angle = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(15, 35))):
        angle += 0.5 * rng.normal()
        y, x = y + np.sin(angle), x + np.cos(angle)
        if 0 <= y < height and 0 <= x < width:
            changed[:, int(y), int(x)] = colour
    return changed


OTHER_KINDS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "hole": _hole,
    "stain": _stain,
    "blurred": _blurred,
    "warped": _warped,
    "noise": _noisy,
    "crack": _crack,
}
