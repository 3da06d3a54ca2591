"""The initial image and mask of a request, for img2img, inpainting and outpainting. No torch is imported here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from diffstudio.errors import BadRequest, CheckpointDamaged, RunProblem
from diffstudio.imaging.exact_files import EXACT_SUFFIX
from diffstudio.imaging.levels import PixelForm, load_levels
from diffstudio.imaging.masks import GREY, Box, Mask, feather_mask, fill_from_surroundings, masked_region
from diffstudio.imaging.reader import NO_RANGES, WHITE, flatten, load_image, read_rgb, read_size
from diffstudio.imaging.value_range import Range, SampleType
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.output_format import PLAIN, OutputFormat
from diffstudio.studio.events import Picture
from diffstudio.studio.metadata.full_range import was_generated
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.choices import FillName, ResizeName
from diffstudio.studio.requests.limits import LARGEST_SIDE, too_large
from diffstudio.training.recipe.recipe import ranges_of_recipe

Fractions: TypeAlias = NDArray[np.float64]  # values from 0 to 1


@dataclass(frozen=True, slots=True)
class InitImage:
    """The image that sampling starts from, and how the result is composited into the original."""

    init: Picture  # [H,W,3], at the size that is generated
    mask: Mask | None  # [H,W], for the model
    whole: Picture  # [h,w,3]: the image that is inpainted; `init` without a mask
    share: NDArray[np.float32] | None  # [h,w] in [0,1]: opacity of the result; 0 keeps `whole` to the bit
    box: Box  # the part of `whole` that is generated
    exact: Fractions | None = None  # [h,w,C]: `whole` in the model's channels, where RGB of 8 bits does not hold them
    exact_init: Fractions | None = None  # [H,W,C]: likewise `init`

    def composed(self, made: Picture) -> Picture:
        """Composite the result `made` [H,W,3] into `whole`, by the feathered mask."""
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

    def composed_exactly(self, made: Fractions) -> Fractions:
        """The same for values [H,W,C] from 0 to 1 in the model's channels: outside of the mask they are the original's."""
        assert self.exact is not None and self.share is not None
        left, top, right, bottom = self.box
        made = _by_channel(made, lambda plane: fitted(plane, (right - left, bottom - top), ResizeName.STRETCH))
        share = self.share[top:bottom, left:right, None]
        before = self.exact[top:bottom, left:right]
        whole = self.exact.copy()
        whole[top:bottom, left:right] = np.where(share == 0, before, (share * made + (1.0 - share) * before).clip(0, 1))
        return whole


def load_init_image(
    request: GenerateRequest,
    width: int,
    height: int,
    ranges: Mapping[SampleType, Range] = NO_RANGES,
    output: OutputFormat = PLAIN,
) -> InitImage | None:
    """Load the initial image and mask of a request for a result of width × height px; None without an initial image.

    `ranges` are those of the checkpoint's training images, for an initial image of more than 8 bits a channel; `output`
    is what it generates.
    ImageProblem for an unreadable or truncated file and for arrays of other channels than the model's, BadRequest for an
    empty mask or a canvas that is too large.
    """
    if request.init is None:
        return None
    exact = None if output.is_grey_or_rgb_of_8_bits else _exact(request, (width, height), ranges, output)
    ranges = NO_RANGES if was_generated(request.init) else ranges
    image = flatten(load_image(request.init, ranges=ranges).image)
    if request.mask is None and not any(request.outpaint):
        whole = np.array(fitted(image, (width, height), request.resize))
        return InitImage(whole, None, whole, None, (0, 0, width, height), exact_init=exact)
    mask = _read_mask(request.mask, image.size) if request.mask is not None else Image.new("L", image.size, 0)
    if any(request.outpaint):
        image, mask = _extended(image, mask, request)
    if not request.masked_only:
        image, mask = (fitted(one, (width, height), request.resize) for one in (image, mask))
    painted = np.array(mask)
    if not painted.any():
        raise BadRequest(
            "The mask is black everywhere", "black is kept and white is inpainted", "Paint some of it white"
        )
    whole = np.array(image)
    box = (
        masked_region(painted, request.padding, width / height)
        if request.masked_only
        else (0, 0, image.width, image.height)
    )
    filled = Image.fromarray(_filled(whole, painted, request.fill, request.seed))
    init = np.array(filled.crop(box).resize((width, height), Image.Resampling.LANCZOS))
    small = np.array(mask.crop(box).resize((width, height), Image.Resampling.BILINEAR))
    exact_init = None
    if exact is not None:
        under = _filled_exactly(exact, painted, request.fill, request.seed, output.colours)
        size = (width, height)
        exact_init = _by_channel(under, lambda plane: plane.crop(box).resize(size, Image.Resampling.LANCZOS)).clip(0, 1)
    return InitImage(init, small, whole, feather_mask(painted, request.feather), box, exact, exact_init)


def _exact(
    request: GenerateRequest, size: tuple[int, int], ranges: Mapping[SampleType, Range], output: OutputFormat
) -> Fractions:
    """The image in the model's channels [h,w,C] from 0 to 1: with a mask and `masked_only` at its own size, else at `size`.

    Of an image that was generated here the TIFF beside it is read, if it has one. ImageProblem.
    """
    assert request.init is not None
    path = request.init
    if was_generated(path):
        beside = path.with_suffix(EXACT_SUFFIX)
        path, ranges = (beside, ranges) if beside.is_file() else (path, NO_RANGES)
    limits = () if output.is_image else output.limits or ((0.0, float(output.values.largest)),) * output.channels
    loaded = load_levels(path, PixelForm(output.channels, 16, output.alpha, ranges, limits))
    values = loaded.values.astype(np.float64) / 65535
    opacity = np.ones(values.shape[:2]) if loaded.alpha is None else loaded.alpha / 65535
    if output.alpha:
        values = np.concatenate([values, opacity[..., None]], axis=2)
    else:
        values = values * opacity[..., None] + (1 - opacity[..., None])  # on white, as `flatten`
    left, top, right, bottom = request.outpaint
    values = np.pad(values, ((top, bottom), (left, right), (0, 0)), mode="edge")
    if request.masked_only and (request.mask is not None or any(request.outpaint)):
        return values
    return _by_channel(values, lambda plane: fitted(plane, size, request.resize)).clip(0, 1)


def _by_channel(values: Fractions, change: Callable[[Image.Image], Image.Image]) -> Fractions:
    """[h,w,C] with each channel changed as an image of floats; without a copy where nothing is."""
    planes = [Image.fromarray(np.ascontiguousarray(plane, np.float32)) for plane in np.moveaxis(values, 2, 0)]
    changed = [change(plane) for plane in planes]
    if all(one is plane for one, plane in zip(changed, planes, strict=True)):
        return values
    return np.stack([np.asarray(plane, np.float64) for plane in changed], axis=2)


def trained_ranges(checkpoint: Checkpoint | None) -> tuple[dict[SampleType, Range], str]:
    """Which values of 16-bit and float images were black and white when a checkpoint was trained here.

    And a sentence if its recipe, which has them, cannot be read; otherwise empty.
    """
    if checkpoint is None or "diffstudio.recipe" not in checkpoint.metadata:
        return {}, ""
    try:
        return ranges_of_recipe(checkpoint.json("recipe")), ""
    except (CheckpointDamaged, RunProblem):
        return {}, (
            "The recipe in the checkpoint cannot be read: an image of more than 8 bits a channel is read by its own "
            "range of values, not by that of the training images."
        )


def canvas_size(request: GenerateRequest) -> tuple[int, int] | None:
    """Width and height in px of the initial image with its outpainting margins; None without outpainting.

    ImageProblem for an unreadable file, BadRequest when the canvas is too large.
    """
    if request.init is None or not any(request.outpaint):
        return None
    left, top, right, bottom = request.outpaint
    width, height = read_size(request.init)
    size = (width + left + right, height + top + bottom)
    if max(size) > LARGEST_SIDE:
        raise BadRequest(too_large(*size), f"the limit is {LARGEST_SIDE} px a side", "Add smaller margins")
    return size


def _read_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """A mask of any size, stretched to the image. Transparent counts as black."""
    mask = read_rgb(path, (0, 0, 0)).convert("L")
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def fitted(image: Image.Image, size: tuple[int, int], mode: ResizeName) -> Image.Image:
    """Resize an image to width × height by the given resize mode; the image itself if it has that size already."""
    if image.size == size:
        return image
    match mode:
        case ResizeName.CROP:
            return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
        case ResizeName.PAD:
            colour = {"L": 0, "F": 1}.get(image.mode, WHITE)
            return ImageOps.pad(image, size, Image.Resampling.LANCZOS, color=colour)
        case ResizeName.STRETCH:
            return image.resize(size, Image.Resampling.LANCZOS)


@dataclass(frozen=True, slots=True)
class Fit:
    """How `fitted` brings an image to another size; both boxes are (left, top, right, bottom)."""

    kept: tuple[float, float, float, float]  # the part of the image that is used, in its px
    placed: tuple[float, float, float, float]  # where that comes to lie, in px of the result


def fit_of(source: tuple[int, int], size: tuple[int, int], mode: ResizeName) -> Fit:
    """How an image of `source` px (width, height) is fitted to `size` px."""
    whole = (0.0, 0.0, float(source[0]), float(source[1]))
    result = (0.0, 0.0, float(size[0]), float(size[1]))
    scales = size[0] / source[0], size[1] / source[1]
    match mode:
        case ResizeName.CROP:
            return Fit(_centred((size[0] / max(scales), size[1] / max(scales)), source), result)
        case ResizeName.PAD:
            return Fit(whole, _centred((source[0] * min(scales), source[1] * min(scales)), size))
        case ResizeName.STRETCH:
            return Fit(whole, result)


def _centred(inner: tuple[float, float], outer: tuple[int, int]) -> tuple[float, float, float, float]:
    left, top = (outer[0] - inner[0]) / 2, (outer[1] - inner[1]) / 2
    return left, top, left + inner[0], top + inner[1]


def _extended(image: Image.Image, mask: Image.Image, request: GenerateRequest) -> tuple[Image.Image, Image.Image]:
    """Add the outpainting margins to an image and its mask; they are filled by repeating the image's edges."""
    canvas_size(request)
    left, top, right, bottom = request.outpaint
    whole = Image.fromarray(np.pad(np.array(image), ((top, bottom), (left, right), (0, 0)), mode="edge"))
    return whole, outpaint_mask(mask, request.outpaint, request.feather)


def outpaint_mask(mask: Image.Image, sides: tuple[int, int, int, int], feather: int) -> Image.Image:
    """The mask of an image extended by `sides` px: it covers them, and `feather` px of the image next to them."""
    left, top, right, bottom = sides
    overlap = [side and feather for side in sides]
    inner = (left + overlap[0], top + overlap[1], left + mask.width - overlap[2], top + mask.height - overlap[3])
    painted = Image.new("L", (left + mask.width + right, top + mask.height + bottom), 255)
    if inner[0] < inner[2] and inner[1] < inner[3]:
        painted.paste(mask.crop((inner[0] - left, inner[1] - top, inner[2] - left, inner[3] - top)), inner[:2])
    return painted


def _filled(image: Picture, mask: Mask, fill: FillName, seed: int) -> Picture:
    """The image with the masked area filled (A1111's masked content), before noise is added."""
    match fill:
        case FillName.ORIGINAL:
            return image
        case FillName.NOTHING:
            under: Picture = np.full_like(image, GREY)
        case FillName.NOISE:
            under = np.random.default_rng(seed).integers(0, 256, image.shape, dtype=np.uint8)
        case FillName.SURROUNDINGS:
            under = fill_from_surroundings(image, mask)
    return np.where(mask[..., None] > 0, under, image)


def _filled_exactly(values: Fractions, mask: Mask, fill: FillName, seed: int, colours: int) -> Fractions:
    """The same for values [h,w,C] from 0 to 1: exact outside of the mask, of 8 bits inside. Opacity stays."""
    if fill is FillName.ORIGINAL:
        return values
    levels = np.rint(values[..., :colours] * 255).astype(np.uint8)
    found = values.copy()
    found[..., :colours][mask > 0] = _filled(levels, mask, fill, seed)[mask > 0] / 255
    return found
