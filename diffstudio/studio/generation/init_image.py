"""The pictures a person gives: one to start from or to paint on, and a mask of what is painted anew.

No torch is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from diffstudio.errors import BadRequest
from diffstudio.imaging.masks import GREY, Box, Mask, feather_mask, fill_from_surroundings, masked_region
from diffstudio.imaging.reader import WHITE, read_rgb
from diffstudio.studio.events import Picture
from diffstudio.studio.requests import LARGEST_SIDE, FillName, GenerateRequest, ResizeName


@dataclass(frozen=True, slots=True)
class InitImage:
    """What the model starts from, and how what it makes goes back into the picture that was given."""

    init: Picture  # [H,W,3] at the size to be made
    mask: Mask | None  # [H,W], for the model
    whole: Picture  # [h,w,3]: what is painted on; `init` where all of it is made anew
    share: NDArray[np.float32] | None  # [h,w] in [0,1]: how much of what is made shows; 0 keeps `whole` to the bit
    box: Box  # of `whole`: the part that is made

    def composed(self, made: Picture) -> Picture:
        """`made` [H,W,3] in its place: inside the mask, mixed where it is soft, and nothing of it where it is 0."""
        if self.share is None:
            return made
        left, top, right, bottom = self.box
        if made.shape[:2] != (bottom - top, right - left):
            made = np.array(Image.fromarray(made).resize((right - left, bottom - top), Image.Resampling.LANCZOS))
        share = self.share[top:bottom, left:right, None]
        before = self.whole[top:bottom, left:right]
        mixed = np.rint(share * made + (1.0 - share) * before).astype(np.uint8)
        whole = self.whole.copy()
        whole[top:bottom, left:right] = np.where(share == 0, before, mixed)
        return whole


def load_init_image(request: GenerateRequest, width: int, height: int) -> InitImage | None:
    """What the request gives, for a picture of width × height px to be made; None when it gives nothing.

    ImageProblem when a file is no whole picture, BadRequest for a mask that paints nothing or a frame that is too
    large.
    """
    if request.init is None:
        return None
    picture = read_rgb(request.init)
    if request.mask is None and not any(request.outpaint):
        whole = np.array(fitted(picture, (width, height), request.resize))
        return InitImage(whole, None, whole, None, (0, 0, width, height))
    mask = _read_mask(request.mask, picture.size) if request.mask is not None else Image.new("L", picture.size, 0)
    if any(request.outpaint):
        picture, mask = _extended(picture, mask, request)
    if not request.masked_only:
        picture, mask = (fitted(part, (width, height), request.resize) for part in (picture, mask))
    painted = np.array(mask)
    if not painted.any():
        raise BadRequest(
            "The mask is black everywhere", "black is kept and white is painted anew", "Paint some of it white"
        )
    whole = np.array(picture)
    box = (
        masked_region(painted, request.padding, width / height)
        if request.masked_only
        else (0, 0, picture.width, picture.height)
    )
    filled = Image.fromarray(_filled(whole, painted, request.fill, request.seed))
    init = np.array(filled.crop(box).resize((width, height), Image.Resampling.LANCZOS))
    small = np.array(mask.crop(box).resize((width, height), Image.Resampling.BILINEAR))
    return InitImage(init, small, whole, feather_mask(painted, request.feather), box)


def canvas_size(request: GenerateRequest) -> tuple[int, int] | None:
    """Width and height in px of the given picture with what is to be painted around it; None when nothing is.

    ImageProblem when it is no picture, BadRequest when that is more than can be made.
    """
    if request.init is None or not any(request.outpaint):
        return None
    left, top, right, bottom = request.outpaint
    width, height = read_rgb(request.init).size
    size = (width + left + right, height + top + bottom)
    if max(size) > LARGEST_SIDE:
        raise BadRequest(
            f"The picture would be {size[0]} × {size[1]}", f"a side has at most {LARGEST_SIDE} px", "Add less to it"
        )
    return size


def _read_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """Of any size: it is stretched over the picture. Where it is transparent nothing was painted."""
    mask = read_rgb(path, (0, 0, 0)).convert("L")
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def fitted(picture: Image.Image, size: tuple[int, int], way: ResizeName) -> Image.Image:
    """At that width and height, brought there in that way; a picture that has them already is itself."""
    if picture.size == size:
        return picture
    match way:
        case ResizeName.CROP:
            return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
        case ResizeName.PAD:
            ground = 0 if picture.mode == "L" else WHITE
            return ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color=ground)
        case ResizeName.STRETCH:
            return picture.resize(size, Image.Resampling.LANCZOS)


def _extended(picture: Image.Image, mask: Image.Image, request: GenerateRequest) -> tuple[Image.Image, Image.Image]:
    """With room around it that continues its edges; the mask takes in that room, and `feather` px of the picture beside
    it.
    """
    canvas_size(request)
    left, top, right, bottom = request.outpaint
    whole = Image.fromarray(np.pad(np.array(picture), ((top, bottom), (left, right), (0, 0)), mode="edge"))
    keep = [side and request.feather for side in (left, top, right, bottom)]
    inner = (left + keep[0], top + keep[1], left + picture.width - keep[2], top + picture.height - keep[3])
    painted = Image.new("L", whole.size, 255)
    if inner[0] < inner[2] and inner[1] < inner[3]:
        painted.paste(mask.crop((inner[0] - left, inner[1] - top, inner[2] - left, inner[3] - top)), inner[:2])
    return whole, painted


def _filled(picture: Picture, mask: Mask, fill: FillName, seed: int) -> Picture:
    """The picture with something else under the mask: what painting begins from when it does not begin from noise
    alone.
    """
    match fill:
        case FillName.ORIGINAL:
            return picture
        case FillName.NOTHING:
            under: Picture = np.full_like(picture, GREY)
        case FillName.NOISE:
            under = np.random.default_rng(seed).integers(0, 256, picture.shape, dtype=np.uint8)
        case FillName.SURROUNDINGS:
            under = fill_from_surroundings(picture, mask)
    return np.where(mask[..., None] > 0, under, picture)
