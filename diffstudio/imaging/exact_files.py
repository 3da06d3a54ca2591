"""Files that hold what an 8-bit PNG cannot: PNG of 16 bits a channel with texts, and TIFF of any channels and values."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffstudio.imaging.arrays import ChannelArray, tiff_channel_count
from diffstudio.imaging.decoding import decoded_file
from diffstudio.imaging.problems import image_errors
from diffstudio.imaging.samples import SamplesProblem
from diffstudio.imaging.value_range import measure, to_bits

EXACT_SUFFIX = ".tif"  # of a TIFF beside the PNG that shows it
_BESIDE = (EXACT_SUFFIX, ".npy")
_BEFORE_CHUNKS = 8 + 25  # bytes: the signature and IHDR


@dataclass(frozen=True, slots=True)
class ExactValues:
    """The values of one image, where 8 bits of grey, RGB or RGBA do not hold them."""

    values: NDArray[Any]  # [H,W,C]
    as_png: bool  # uint16 of grey or RGB, with or without opacity; otherwise a TIFF file beside the PNG holds them


def write_png(file: BinaryIO, image: Image.Image, texts: PngInfo, exact: ExactValues | None) -> None:
    """A PNG with its texts: of 16 bits a channel where the exact values fit into one, else of `image`."""
    if exact is None or not exact.as_png:
        image.save(file, format="PNG", pnginfo=texts)
        return
    import imagecodecs

    values = exact.values[..., 0] if exact.values.shape[2] == 1 else exact.values
    encoded = bytes(imagecodecs.png_encode(np.ascontiguousarray(values, np.uint16)))
    file.write(encoded[:_BEFORE_CHUNKS])
    for kind, data, *_ in texts.chunks:
        file.write(len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big"))
    file.write(encoded[_BEFORE_CHUNKS:])


def files_beside(path: Path) -> list[Path]:
    """The files of the same name that hold the exact values of a PNG."""
    if path.suffix.lower() != ".png":
        return []
    return [file for suffix in _BESIDE if (file := path.with_suffix(suffix)).is_file()]


def channels_beside(path: Path) -> int:
    """How many channels the TIFF beside a PNG has; 0 without one, or if it holds an image. ImageProblem if it is damaged."""
    beside = path.with_suffix(EXACT_SUFFIX)
    if path.suffix == EXACT_SUFFIX or not beside.is_file():
        return 0
    with image_errors(beside), beside.open("rb") as file:
        return tiff_channel_count(file)


def read_channel_beside(path: Path, number: int) -> Image.Image:
    """One channel of the TIFF beside a PNG, from 1, as grey from its lowest to its highest value. ImageProblem."""
    with decoded_file(path.with_suffix(EXACT_SUFFIX)) as decoded:
        if not isinstance(decoded.pixels, ChannelArray) or not 1 <= number <= decoded.pixels.channels:
            raise SamplesProblem(f"it has no channel {number}")
        channel = decoded.pixels.values[..., number - 1]
        depth = measure(channel)
        return Image.fromarray(to_bits(channel, (depth.low, depth.high), 255).astype(np.uint8)).convert("RGB")


def write_tiff(file: BinaryIO, exact: ExactValues) -> None:
    """All channels of the exact values as samples of one page, losslessly compressed."""
    import tifffile

    channels = exact.values.shape[2]
    values = exact.values[..., 0] if channels == 1 else exact.values
    tifffile.imwrite(
        file,
        values,
        photometric="rgb" if channels == 3 else "minisblack",
        planarconfig=None if channels == 1 else "contig",
        compression="zlib",
        predictor=values.dtype.kind == "u",  # many programs do not read the one for floats
        metadata=None,
    )
