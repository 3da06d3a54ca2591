"""Small folders of images, and how tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffstudio.imaging.exact_files import ExactValues, write_png
from diffstudio.models.output_format import OutputFormat, ValueType
from diffstudio.studio.evaluations.folders.notes import notes_on_compared
from diffstudio.studio.evaluations.folders.reading import read_generated, read_real
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.metadata.full_range import pixels_text
from tests.studio.evaluations.small_models import RECIPE


def no_progress(what: str, done: int, total: int) -> None:
    """Nothing is shown."""


def go_on() -> None:
    """Nothing ends it."""


def read(folder: Path) -> RealFolder:
    return read_real(folder, RECIPE.data, no_progress, go_on)


def smooth_images(folder: Path, count: int, seed: int, mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> Path:
    """Images of large coloured areas, which JPEG hardly changes."""
    rng, channels = np.random.default_rng(seed), len(mode)
    folder.mkdir(parents=True)
    for number in range(count):
        small = rng.integers(0, 256, (5, 5, channels), dtype=np.uint8)
        image = Image.fromarray(small[..., 0] if channels == 1 else small, mode)
        image.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def write_deep(folder: Path, values: NDArray[Any], *, here: bool = False) -> Path:
    """Grey images [N,H,W] of these values: whole numbers in PNG files, as generated here or not, and floats in TIFF."""
    folder.mkdir(parents=True)
    said = pixels_text(OutputFormat(1, False, ValueType.UINT16)) if here else PngInfo()
    for number, one in enumerate(values):
        if one.dtype == np.float32:
            tifffile.imwrite(folder / f"{number:03d}.tif", one)
        else:
            with (folder / f"{number:03d}.png").open("wb") as file:
                write_png(
                    file, Image.new("L", (1, 1)), said, ExactValues(one[..., None].astype(np.uint16), as_png=True)
                )
    return folder


def notes_of(folder: Path, real: RealFolder) -> list[str]:
    return notes_on_compared(read_generated(folder, real, no_progress, go_on), real, no_progress, go_on)
