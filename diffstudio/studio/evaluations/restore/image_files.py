"""Image files as they are restored: grey or RGB values, with their opacity and depth kept for the result. No torch."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffstudio.atomic import make_folder, write_bytes
from diffstudio.errors import MOVED_OR_DELETED, BadRequest, FolderProblem, ImageProblem
from diffstudio.imaging.exact_files import ExactValues, write_png
from diffstudio.imaging.formats import looks_like_an_image
from diffstudio.imaging.levels import PixelForm, is_grey, load_levels
from diffstudio.imaging.reader import NO_RANGES, load_image
from diffstudio.imaging.value_range import Depth, Range, SampleType, range_among, range_of_file
from diffstudio.plurals import count_of
from diffstudio.studio.metadata.full_range import was_generated
from diffstudio.training.data.captions.caption_files import same_name

Values = NDArray[np.float32]  # [H,W,C] in [-1,1], C 1 for grey or 3
FULL: Range = (0.0, 65535.0)


@dataclass(frozen=True, slots=True)
class RestorableImage:
    """One image: its colours on white, and what the result keeps of the file."""

    path: Path
    name: str  # of the files of the result
    values: Values
    alpha: NDArray[Any] | None  # [H,W] uint8 or uint16; None where every pixel is opaque
    bits: int  # 8 or 16
    levels: Range = FULL  # of 16 bits: those that black and white are saved as
    notes: tuple[str, ...] = ()  # what of the file the result does not keep, one clause each

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.values.shape[1], self.values.shape[0]

    @property
    def is_grey(self) -> bool:
        return bool(self.values.shape[2] == 1)


def image_files(place: Path) -> list[Path]:
    """The image at this path, or those of the folder, without its subfolders. ImageProblem, FolderProblem."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise ImageProblem(f"There is no image and no folder at {place}", remedy=MOVED_OR_DELETED)
    found = sorted(path for path in place.iterdir() if path.is_file() and looks_like_an_image(path))
    if not found:
        raise FolderProblem(f"There are no images in {place}", "subfolders are not searched", "Name another folder")
    return found


def subfolders_with_images(place: Path) -> list[str]:
    """The subfolders of a folder that have images, at any depth: they are not restored. None for a file."""
    if not place.is_dir():
        return []
    folders = sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [path.name for path in folders if _has_images(path)]


def _has_images(folder: Path) -> bool:
    return any(looks_like_an_image(path) for path in folder.rglob("*") if path.is_file())


def names_of(files: Sequence[Path]) -> list[str]:
    """A name for the result of each file: its own, with a number where another file has it. PNG files come first, because
    their results have their whole names."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for number in sorted(range(len(files)), key=lambda number: files[number].suffix.lower() != ".png"):
        if (key := same_name(files[number].stem)) not in taken:
            names[number] = files[number].stem
            taken.add(key)
    for number, file in enumerate(files):
        if number not in names:
            free = (f"{file.stem}-{count}" for count in itertools.count(2))
            names[number] = next(name for name in free if same_name(name) not in taken)
            taken.add(same_name(names[number]))
    return [names[number] for number in range(len(files))]


def read_restorable(
    path: Path, name: str, ranges: Mapping[SampleType, Range] = NO_RANGES, limits: Range | None = None
) -> RestorableImage:
    """Read an image: RGB with equal channels counts as grey, transparency is laid on white. ImageProblem.

    `ranges` are those of the images that a checkpoint was trained on, and `limits` what its black and white mean.
    """
    loaded = load_image(path)
    if loaded.channels:
        raise ImageProblem(
            f"{path.name} cannot be restored",
            f"it is an array of {count_of(len(loaded.channels), 'channel')}, not an image",
            "Name images of one or three channels",
        )
    form, levels, about = PixelForm(3, 8), FULL, list(loaded.notes)
    if loaded.depth is not None:
        used, notes = _range_of(path, loaded.depth, ranges, limits)
        form = PixelForm(3, 16, ranges={loaded.depth.sample_type: used})
        levels = used if _keeps_units(loaded.depth) else FULL
        loaded = load_image(path, ranges=form.ranges)
        about += notes
    form = replace(form, channels=1 if is_grey(loaded.image) else 3)
    found = load_levels(path, form)
    values = found.values.astype(np.float32) / np.float32(form.largest / 2) - 1
    alpha = found.alpha
    if alpha is not None:
        opacity = (alpha.astype(np.float32) / form.largest)[..., None]
        values = values * opacity + (1 - opacity)
    return RestorableImage(path, name, values, alpha, form.bits, levels, tuple(about))


def _keeps_units(depth: Depth) -> bool:
    """Whether a PNG of 16 bits holds the values as they are in the file."""
    return depth.sample_type is SampleType.UINT16


def _range_of(
    path: Path, depth: Depth, ranges: Mapping[SampleType, Range], limits: Range | None
) -> tuple[Range, list[str]]:
    """Which values of a file of more than 8 bits are black and white, and clauses on what becomes of the others."""
    own, known = range_of_file(depth), ranges.get(depth.sample_type)
    notes = []
    if _keeps_units(depth) and known not in (None, FULL) and was_generated(path):
        used = FULL
        notes.append("it was generated here, so that 65535 is its white, not that of the training images")
    else:
        used = range_among(depth.sample_type, (depth.low, depth.high), own, ranges, limits)
        if known is not None and used != known:
            values = f"its values are beyond {_text(known)}, the range of the training images"
            notes.append(f"{values}, so that {_text(used)} was taken for black to white")
    low, high = used
    cut = "values beyond that range are clipped" if depth.low < low or depth.high > high else ""
    if not _keeps_units(depth):
        saved = f"its {depth.sample_type.description} are saved as a 16-bit PNG: {low:g} becomes 0 and {high:g} becomes 65535"
        notes.append(f"{saved}, and {cut}" if cut else saved)
    elif cut:
        notes.append(f"{_text(used)} is taken for black to white, and {cut}")
    return used, notes


def _text(used: Range) -> str:
    return f"{used[0]:g} to {used[1]:g}"


def unknown_pixels(picture: RestorableImage, mask: Path | None) -> NDArray[np.bool_]:
    """Which pixels [H,W] are to be filled: where the mask is white, or without one where the image is transparent.

    BadRequest for a mask of another size, and where nothing or everything would be filled.
    """
    if mask is not None:
        image = load_image(mask).image
        if image.size != picture.size:
            raise BadRequest(
                f"The mask {mask.name} has {image.width} × {image.height} px",
                f"{picture.path.name} has {picture.size[0]} × {picture.size[1]} px",
                "Name a mask of the same size",
            )
        unknown = np.asarray(image.convert("L")) > 127
    elif picture.alpha is not None:
        unknown = picture.alpha < (128 if picture.alpha.dtype == np.uint8 else 32768)
    else:
        unknown = np.zeros(picture.values.shape[:2], np.bool_)
    if not unknown.any():
        why = "its mask has no white pixels" if mask is not None else "no pixel is transparent, and no mask was given"
        raise BadRequest(
            f"There is nothing to fill in {picture.path.name}",
            why,
            "Give a mask that is white where the image is to be filled",
        )
    if unknown.all():
        raise BadRequest(f"All of {picture.path.name} would be filled", "nothing of it is known", "Give another mask")
    return unknown


def encoded(values: Values, bits: int, alpha: NDArray[Any] | None, limits: Range = FULL) -> bytes:
    """Values [H,W,C] on white as a PNG of 8 or 16 bits, with the colours that have this opacity where there is one.

    `limits` are the levels of black and white of 16 bits.
    """
    kind = np.uint8 if bits == 8 else np.uint16
    largest = np.iinfo(kind).max
    colours = (values.astype(np.float64) + 1) / 2
    if alpha is not None:
        opacity = (alpha.astype(np.float64) / largest)[..., None]
        colours = np.divide(colours - (1 - opacity), opacity, out=np.zeros_like(colours), where=opacity > 0)
    low, high = limits if bits == 16 else (0, largest)
    levels = np.rint(low + colours.clip(0, 1) * (high - low)).astype(kind)
    if alpha is not None:
        levels = np.concatenate([levels, alpha.astype(kind)[..., None]], axis=2)
    file = io.BytesIO()
    if bits == 16:
        exact = ExactValues(np.ascontiguousarray(levels), as_png=True)
        write_png(file, Image.new("L", (1, 1)), PngInfo(), exact)
    else:
        shown = levels[..., 0] if levels.shape[2] == 1 else np.ascontiguousarray(levels)
        Image.fromarray(shown).save(file, "PNG")
    return file.getvalue()


def enlarged_alpha(alpha: NDArray[Any] | None, factor: int) -> NDArray[Any] | None:
    """Opacity [H,W] enlarged by bicubic interpolation."""
    if alpha is None:
        return None
    largest = np.iinfo(alpha.dtype).max
    image = Image.fromarray(alpha.astype(np.float32))
    larger = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    levels: NDArray[Any] = np.rint(np.asarray(larger).clip(0, largest)).astype(alpha.dtype)
    return levels


def write_image(folder: Path, part: str, name: str, content: bytes) -> str:
    """Write a PNG into a subfolder of the result; returns its path below `folder`. StorageProblem."""
    make_folder(folder / part)
    write_bytes(folder / part / f"{name}.png", content)
    return f"{part}/{name}.png"
