"""What a ControlNet is shown of a picture: its edges, its lines, its opposite, or itself. No torch is imported here.

Each is made as it was when the published ControlNets were trained: Zhang et al. 2023, arXiv 2302.05543, appendix and
code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffstudio.imaging.reader import read_rgb
from diffstudio.studio.events import Picture
from diffstudio.studio.generation.init_image import fitted
from diffstudio.studio.requests import ControlNetUse, PreprocessorName, ResizeName

_TURN = 0.4142135623730950488  # tan 22.5°: up to there a slope counts as level
_LINE = 127  # a line's darkest channel is below
_AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def control_picture(
    use: ControlNetUse,
    size: tuple[int, int],
    way: ResizeName,
    whole: tuple[int, int] | None = None,
    box: tuple[int, int, int, int] | None = None,
) -> Picture:
    """What the network sees, [H,W,3] for `size` width × height: the picture fitted by `way`, then prepared.

    Where only `box` of a picture of `whole` px is made, it is fitted to the whole and that part of it is taken. What
    lies around one that is fitted in is black, which is nothing to all of them. ImageProblem when it is no picture.
    """
    picture = read_rgb(use.image)
    if whole is not None and box is not None:
        picture = fitted(picture, whole, way).crop(box).resize(size, Image.Resampling.LANCZOS)
    elif way is ResizeName.PAD:
        scale = min(size[0] / picture.width, size[1] / picture.height)
        inside = tuple(max(1, min(most, round(scale * side))) for side, most in zip(picture.size, size, strict=True))
        small = Image.fromarray(
            prepare(np.array(picture.resize((inside[0], inside[1]), Image.Resampling.LANCZOS)), use)
        )
        ground = Image.new("RGB", size)
        ground.paste(small, ((size[0] - inside[0]) // 2, (size[1] - inside[1]) // 2))
        return np.array(ground)
    else:
        picture = fitted(picture, size, way)
    return prepare(np.array(picture), use)


def prepare(picture: Picture, use: ControlNetUse) -> Picture:
    """picture [H,W,3] -> what is made of it, of the same shape."""
    match use.prepare:
        case PreprocessorName.AS_GIVEN:
            return picture
        case PreprocessorName.INVERT:
            return 255 - picture
        case PreprocessorName.SCRIBBLE:  # as thick as they were drawn: so they were in training
            return _white(picture.min(axis=2) < _LINE)
        case PreprocessorName.CANNY:
            return _white(edges(picture, use.low, use.high))


def _white(where: NDArray[np.bool_]) -> Picture:
    """White there and black elsewhere, [H,W] -> [H,W,3]."""
    return np.repeat(where[..., None], 3, axis=2).astype(np.uint8) * 255


# ---- edges -----------------------------------------------------------------------------------------------------------


def edges(picture: Picture, low: int, high: int) -> NDArray[np.bool_]:
    """[H,W]: Canny 1986, "A computational approach to edge detection", as OpenCV counts, which ControlNets were trained
    with.

    That is without the blur before it, with Sobel's slopes of the channel that is steepest, and their lengths as |dx| +
    |dy|. Lines are one px wide: a slope counts where none beside it, across the edge, is steeper (section VI:
    non-maximum suppression), above `high`, or above `low` and joined to such a one by others (section VII: hysteresis).
    """
    dx, dy = _slopes(picture)
    steep = np.abs(dx) + np.abs(dy)
    around = np.pad(steep, 1)
    x, y = np.abs(dx), np.abs(dy)
    level, upright = y < _TURN * x, y > (2 + _TURN) * x  # tan 67.5° = 2 + tan 22.5°
    rising = ~level & ~upright & ((dx < 0) == (dy < 0))  # downwards on the screen
    falling = ~level & ~upright & ~rising

    def beside(down: int, right: int) -> NDArray[np.int32]:
        return around[1 + down : around.shape[0] - 1 + down, 1 + right : around.shape[1] - 1 + right]

    ridge = level & (steep > beside(0, -1)) & (steep >= beside(0, 1))
    ridge |= upright & (steep > beside(-1, 0)) & (steep >= beside(1, 0))
    ridge |= rising & (steep > beside(-1, -1)) & (steep > beside(1, 1))
    ridge |= falling & (steep > beside(-1, 1)) & (steep > beside(1, -1))
    return _joined(ridge & (steep > low), ridge & (steep > high))


def _slopes(picture: Picture) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sobel's to the right and downwards, each [H,W], of the channel where they are steepest together."""
    values = np.pad(picture.astype(np.int32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    across = values[:, 2:] - values[:, :-2]
    dx = across[:-2] + 2 * across[1:-1] + across[2:]
    down = values[2:] - values[:-2]
    dy = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    channel = np.argmax(np.abs(dx) + np.abs(dy), axis=2)[..., None]
    return np.take_along_axis(dx, channel, 2)[..., 0], np.take_along_axis(dy, channel, 2)[..., 0]


def _joined(weak: NDArray[np.bool_], strong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those of `weak` that touch `strong`, by a corner or through others of their kind: [H,W] each."""
    width = weak.shape[1] + 2
    left = np.pad(weak & ~strong, 1).ravel()
    found = np.pad(strong, 1)
    flat = found.ravel()
    steps = np.array([down * width + right for down, right in _AROUND])
    front = np.flatnonzero(flat)
    while len(front):
        touched = (front[:, None] + steps).ravel()
        front = np.unique(touched[left[touched]])
        left[front] = False
        flat[front] = True
    return found[1:-1, 1:-1]


# ---- to be looked at -------------------------------------------------------------------------------------------------


def shown_small(use: ControlNetUse, size: tuple[int, int], way: ResizeName, largest: int) -> Picture:
    """What the network sees at `size`, no side over `largest` px: lines one px wide stay as bright as they are."""
    picture = control_picture(use, size, way)
    every = -(-max(picture.shape[:2]) // largest)  # ceiling
    if every == 1:
        return picture
    if use.prepare in (PreprocessorName.AS_GIVEN, PreprocessorName.INVERT):
        small = Image.fromarray(picture)
        small.thumbnail((largest, largest), Image.Resampling.BOX)
        return np.array(small)
    height, width = (side // every for side in picture.shape[:2])
    blocks = picture[: height * every, : width * every].reshape(height, every, width, every, 3)
    return np.ascontiguousarray(blocks.max(axis=(1, 3)))
