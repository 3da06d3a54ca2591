"""Preprocess images for ControlNets: Canny edges, scribbles, inverted, or unchanged. No torch is imported here.

The preprocessors match those that the published ControlNets were trained with: Zhang et al. 2023, arXiv 2302.05543,
appendix and code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffstudio.imaging.masks import Box
from diffstudio.imaging.reader import read_rgb
from diffstudio.studio.events import Picture
from diffstudio.studio.generation.init_image import fitted
from diffstudio.studio.requests import ControlNetUse
from diffstudio.studio.requests.choices import PreprocessorName, ResizeName

_TAN_22_5 = 0.4142135623730950488  # tan 22.5°: a flatter gradient counts as horizontal
_LINE = 127  # a pixel belongs to a line where its darkest channel is below this
_NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def control_image(
    use: ControlNetUse,
    size: tuple[int, int],
    mode: ResizeName,
    whole: tuple[int, int] | None = None,
    box: Box | None = None,
) -> Picture:
    """The control image [H,W,3] for `size` (width, height): resized by `mode`, then preprocessed.

    Where only `box` of an image of `whole` px is generated, the control image is resized to the whole and cropped to
    the box. With ResizeName.PAD the border is black, which means "no condition" to every ControlNet. ImageProblem for
    an unreadable file.
    """
    image = read_rgb(use.image)
    if whole is None or box is None:
        whole, box = size, (0, 0, *size)
    if mode is ResizeName.PAD:
        return _padded(image, use, size, whole, box)
    image = fitted(image, whole, mode)
    if box != (0, 0, *size):
        image = image.crop(box).resize(size, Image.Resampling.LANCZOS)
    return preprocess(np.array(image), use)


def _padded(image: Image.Image, use: ControlNetUse, size: tuple[int, int], whole: tuple[int, int], box: Box) -> Picture:
    """The control image [H,W,3] with a black border: only the image itself is preprocessed, so the border adds no edge.

    The image is centred in `whole`, of which `box` is resized to `size`.
    """
    scale = min(whole[0] / image.width, whole[1] / image.height)
    canvas = Image.new("RGB", size)
    left, right, first, last = _visible(image.width, scale, whole[0], box[0], box[2], size[0])
    top, bottom, upper, lower = _visible(image.height, scale, whole[1], box[1], box[3], size[1])
    if left < right and top < bottom:
        part = image.resize((right - left, bottom - top), Image.Resampling.LANCZOS, (first, upper, last, lower))
        canvas.paste(Image.fromarray(preprocess(np.array(part), use)), (left, top))
    return np.array(canvas)


def _visible(
    side: int, scale: float, whole: int, box_start: int, box_end: int, size: int
) -> tuple[int, int, float, float]:
    """Along one axis: where the image starts and ends in the result, and which part of the image that is, all in px."""
    inside = max(1, min(whole, round(scale * side)))
    offset = (whole - inside) // 2
    start, end = max(offset, box_start), min(offset + inside, box_end)
    if start >= end:
        return 0, 0, 0.0, 0.0
    zoom = size / (box_end - box_start)
    result_start = round(zoom * (start - box_start))
    result_end = max(result_start + 1, round(zoom * (end - box_start)))
    return result_start, result_end, (start - offset) * side / inside, (end - offset) * side / inside


def preprocess(image: Picture, use: ControlNetUse) -> Picture:
    """Apply the preprocessor of `use`: image [H,W,3] -> [H,W,3]."""
    match use.prepare:
        case PreprocessorName.AS_GIVEN:
            return image
        case PreprocessorName.INVERT:
            return 255 - image
        case PreprocessorName.SCRIBBLE:  # the lines keep their thickness, as in training
            return _white(image.min(axis=2) < _LINE)
        case PreprocessorName.CANNY:
            return _white(edges(image, use.low, use.high))


def _white(where: NDArray[np.bool_]) -> Picture:
    """White where True, else black: [H,W] -> [H,W,3]."""
    return np.repeat(where[..., None], 3, axis=2).astype(np.uint8) * 255


# ---- edges -----------------------------------------------------------------------------------------------------------


def edges(image: Picture, low: int, high: int) -> NDArray[np.bool_]:
    """Edges [H,W] of an image [H,W,3]: Canny 1986, "A computational approach to edge detection", as in OpenCV.

    The canny ControlNets were trained with OpenCV's variant: no blur, magnitude |dx| + |dy|, and the Sobel gradients of
    the channel where that is largest. A pixel is an edge if its magnitude is a maximum across the edge (section VI:
    non-maximum suppression) and above `high`, or above `low` and connected to such a pixel (section VII: hysteresis).
    """
    dx, dy = _gradients(image)
    magnitude = np.abs(dx) + np.abs(dy)
    around = np.pad(magnitude, 1)
    x, y = np.abs(dx), np.abs(dy)
    horizontal, vertical = y < _TAN_22_5 * x, y > (2 + _TAN_22_5) * x  # tan 67.5° = 2 + tan 22.5°
    rising = ~horizontal & ~vertical & ((dx < 0) == (dy < 0))  # downwards on the screen
    falling = ~horizontal & ~vertical & ~rising

    def beside(down: int, right: int) -> NDArray[np.int32]:
        return around[1 + down : around.shape[0] - 1 + down, 1 + right : around.shape[1] - 1 + right]

    ridge = horizontal & (magnitude > beside(0, -1)) & (magnitude >= beside(0, 1))
    ridge |= vertical & (magnitude > beside(-1, 0)) & (magnitude >= beside(1, 0))
    ridge |= rising & (magnitude > beside(-1, -1)) & (magnitude > beside(1, 1))
    ridge |= falling & (magnitude > beside(-1, 1)) & (magnitude > beside(1, -1))
    return _joined(ridge & (magnitude > low), ridge & (magnitude > high))


def _gradients(image: Picture) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sobel gradients to the right and downwards, each [H,W], of the channel with the largest |dx| + |dy|."""
    values = np.pad(image.astype(np.int32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    across = values[:, 2:] - values[:, :-2]
    dx = across[:-2] + 2 * across[1:-1] + across[2:]
    down = values[2:] - values[:-2]
    dy = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    channel = np.argmax(np.abs(dx) + np.abs(dy), axis=2)[..., None]
    return np.take_along_axis(dx, channel, 2)[..., 0], np.take_along_axis(dy, channel, 2)[..., 0]


def _joined(weak: NDArray[np.bool_], strong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of `strong`, and those of `weak` connected to them (8-neighbourhood); each [H,W]."""
    width = weak.shape[1] + 2
    left = np.pad(weak & ~strong, 1).ravel()
    found = np.pad(strong, 1)
    flat = found.ravel()
    steps = np.array([down * width + right for down, right in _NEIGHBOURS])
    front = np.flatnonzero(flat)
    while len(front):
        touched = (front[:, None] + steps).ravel()
        front = np.unique(touched[left[touched]])
        left[front] = False
        flat[front] = True
    return found[1:-1, 1:-1]


# ---- previews --------------------------------------------------------------------------------------------------------


def control_preview(use: ControlNetUse, size: tuple[int, int], mode: ResizeName, largest: int) -> Picture:
    """A thumbnail of the control image, no side over `largest` px, in which lines one px wide keep their brightness."""
    image = control_image(use, size, mode)
    every = -(-max(image.shape[:2]) // largest)  # ceiling
    if every == 1:
        return image
    if use.prepare in (PreprocessorName.AS_GIVEN, PreprocessorName.INVERT):
        small = Image.fromarray(image)
        small.thumbnail((largest, largest), Image.Resampling.BOX)
        return np.array(small)
    height, width = (side // every for side in image.shape[:2])
    blocks = image[: height * every, : width * every].reshape(height, every, width, every, 3)
    return np.ascontiguousarray(blocks.max(axis=(1, 3)))
