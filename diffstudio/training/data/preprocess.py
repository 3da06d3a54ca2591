"""From an image file to what the network is trained on: its channels, at the size of a square or an aspect bucket."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from diffstudio.errors import ImageProblem, RunProblem
from diffstudio.imaging.levels import Levels, LoadedLevels, PixelForm, load_levels
from diffstudio.imaging.reader import load_image
from diffstudio.training.recipe import DataRecipe

Size = tuple[int, int]  # width and height, px

PAD = "pad"
DECODED_TIMES = 3  # the size that is trained on: as large as images are decoded, at least
_MASK_TOLERANCE = 0.05  # relative difference between the aspect ratios of a mask and its image
_LONGEST_BUCKET = 2.0  # of the longer to the shorter side of a bucket


def background_colour(data: DataRecipe) -> tuple[int, int, int]:
    """The recipe's background as 8-bit red, green and blue. RunProblem when it is not a colour."""
    try:
        return ImageColor.getrgb(data.background)[:3]
    except ValueError:
        raise RunProblem(
            f"recipe.data.background is {data.background!r}",
            "it is not a colour",
            "Write it as #ffffff or as a CSS colour name",
        ) from None


def background_levels(data: DataRecipe) -> tuple[int, ...]:
    """The background as levels of each channel: clear where there is opacity, the lowest value in arrays."""
    form = data.form
    if not form.is_image:
        return (0,) * form.channels
    pixel = Image.new("RGB", (1, 1), background_colour(data))
    levels = tuple(
        level * (form.largest // 255) for level in pixel.convert("L" if form.colours == 1 else "RGB").tobytes()
    )
    return (*levels, 0) if form.alpha else levels


def bucket_sizes(size: int, patch: int) -> tuple[Size, ...]:
    """Sizes of about the area of a square of `size` px, multiples of `patch` px, up to a ratio of 2, by width.

    Aspect ratio bucketing: https://github.com/NovelAI/novelai-aspect-ratio-bucketing.
    """
    sizes = {(size, size)}
    for longer in range(size + patch, 2 * size, patch):
        shorter = max(patch, round(size * size / longer / patch) * patch)
        if longer <= _LONGEST_BUCKET * shorter:
            sizes |= {(longer, shorter), (shorter, longer)}
    return tuple(sorted(sizes))


def size_for(width: int, height: int, data: DataRecipe) -> Size:
    """The size at which an image of width × height px is trained on: a square, or the bucket of the nearest ratio."""
    if not data.bucket_sizes:
        return data.size, data.size
    return min(data.bucket_sizes, key=lambda bucket: abs(np.log(bucket[0] * height / (bucket[1] * width))))


def share_kept(width: int, height: int, size: Size) -> float:
    """The fraction of an image of width × height px that is left when it is cropped to the shape of `size`."""
    ratio = width * size[1] / (height * size[0])
    return min(ratio, 1 / ratio)


def prepare_image(path: Path, data: DataRecipe, size: Size) -> Levels:
    """What the network sees of a file: [H,W,C] of 8 or 16 bits. ImageProblem when it cannot be read in this form."""
    form, at_least = data.form, DECODED_TIMES * max(size)
    if form.channels == 3 and form.bits == 8:
        image = load_image(path, at_least=at_least, ranges=form.ranges).image
        return resize_to(image, size, background_colour(data), data.fit)
    return fit_levels(load_levels(path, form, at_least=at_least), form, size, background_levels(data), data.fit)


def prepare_mask(path: Path, data: DataRecipe, size: Size, image: Size) -> Levels:
    """A mask [H,W,1], cropped and scaled like its image of `image` px, white in the padding. ImageProblem."""
    form = PixelForm(1, data.form.bits)
    loaded = load_levels(path, form, at_least=DECODED_TIMES * max(size))
    height, width = loaded.values.shape[:2]
    if abs(np.log(width * image[1] / (height * image[0]))) > _MASK_TOLERANCE:
        raise ImageProblem(
            f"{path.name} cannot be used",
            f"it is {width:,} × {height:,} px, but its image is {image[0]:,} × {image[1]:,} px",
        )
    return fit_levels(LoadedLevels(loaded.values), form, size, (form.largest,), data.fit)


def training_preview(path: Path, data: DataRecipe, width: int, height: int) -> NDArray[np.uint8]:
    """A file of width × height px as the network is trained on it, to be shown: RGB [h,w,3], opacity on white.

    Of arrays the first three channels, or the first. ImageProblem when it cannot be read in the recipe's form.
    """
    levels = prepare_image(path, data, size_for(width, height, data))
    shown: NDArray[np.uint8] = (
        levels if levels.dtype == np.uint8 else np.rint(levels / np.float32(257)).astype(np.uint8)
    )
    colours = shown[..., :3] if data.form.colours >= 3 else np.repeat(shown[..., :1], 3, axis=2)
    if not data.form.alpha:
        return np.ascontiguousarray(colours)
    opacity = shown[..., -1:] / np.float32(255)
    return np.rint(colours * opacity + 255 * (1 - opacity)).astype(np.uint8)


def resize_to(image: Image.Image, size: Size, background: tuple[int, int, int], fit: str) -> NDArray[np.uint8]:
    """An RGB or RGBA image as uint8 [H,W,3].

    `pad` fits the whole image on the background, all else takes its centre in the shape of `size`. The image is resized
    with premultiplied alpha and composited on the background afterwards, so that transparent pixels leave no dark edges.
    """
    box, inner, left, top = _placement(image.size, size, fit)
    if image.mode == "RGBA":
        image = image.convert("RGBa")
    resized = np.asarray(image.resize(inner, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))
    whole = np.empty((size[1], size[0], 3), dtype=np.uint8)
    whole[:] = background
    if resized.shape[2] == 4:
        opacity = resized[..., 3:].astype(np.float32) / 255
        over = resized[..., :3] + (1 - opacity) * np.array(background, dtype=np.float32)
        resized = np.clip(np.rint(over), 0, 255).astype(np.uint8)
    whole[top : top + inner[1], left : left + inner[0]] = resized
    return whole


def fit_levels(loaded: LoadedLevels, form: PixelForm, size: Size, background: Sequence[int], fit: str) -> Levels:
    """As `resize_to`, for levels of any number of channels; `background` has one level for each: [H,W,C]."""
    values, alpha = loaded.values, loaded.alpha
    box, inner, left, top = _placement((values.shape[1], values.shape[0]), size, fit)

    def resized(plane: NDArray[Any]) -> NDArray[np.float32]:
        image = Image.fromarray(plane.astype(np.float32))
        return np.asarray(image.resize(inner, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))

    whole = np.empty((size[1], size[0], form.channels), dtype=values.dtype)
    whole[:] = background
    inside = whole[top : top + inner[1], left : left + inner[0]]
    opacity = None if alpha is None else (resized(alpha) / form.largest).clip(0, 1)
    for channel in range(form.colours):
        if alpha is None or opacity is None:
            plane = resized(values[..., channel])
        else:
            plane = resized(values[..., channel] * (alpha / np.float32(form.largest)))
            if form.alpha:
                plane = np.divide(plane, opacity, out=np.full_like(plane, background[channel]), where=opacity > 0)
            else:
                plane = plane + (1 - opacity) * background[channel]
        inside[..., channel] = np.rint(plane).clip(0, form.largest)
    if form.alpha:
        inside[..., -1] = form.largest if opacity is None else np.rint(opacity * form.largest)
    return whole


def _placement(source: Size, size: Size, fit: str) -> tuple[tuple[float, float, float, float], Size, int, int]:
    """The part of an image of `source` px that is used, the size it gets, and how far that is from the left and top."""
    width, height = source
    if fit == PAD:
        scale = min(size[0] / width, size[1] / height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        return (0.0, 0.0, width, height), inner, (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    if width * size[1] <= height * size[0]:
        used = float(width), width * size[1] / size[0]
    else:
        used = height * size[0] / size[1], float(height)
    left, top = (width - used[0]) / 2, (height - used[1]) / 2
    return (left, top, left + used[0], top + used[1]), size, 0, 0
