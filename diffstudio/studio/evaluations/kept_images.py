"""Generated images kept in a scratch file until the ones to show are chosen. No torch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffstudio.atomic import make_folder, write_bytes
from diffstudio.storage_errors import storage_errors

FOLDER = "images"  # in the folder of the result


class KeptImages:
    """Images of one size, appended batch by batch to a file, and read back one at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.uint8)

    def add(self, batch: NDArray[Any]) -> None:
        """Append images [B,H,W,C]. StorageProblem."""
        self._shape, self._dtype = batch.shape[1:], batch.dtype
        with storage_errors(f"{self._file} cannot be written", self._file), self._file.open("ab") as file:
            file.write(np.ascontiguousarray(batch).tobytes())

    def __getitem__(self, index: int) -> NDArray[Any]:
        """Image number `index` [H,W,C]."""
        size = int(np.prod(self._shape))
        offset = index * size * self._dtype.itemsize
        return np.fromfile(self._file, self._dtype, size, offset=offset).reshape(self._shape)


def save_image(pixels: NDArray[Any], folder: Path, name: str) -> str:
    """Write an image [H,W,C] (8 or 16 bits, or floats in [-1,1]) as an 8-bit PNG; returns its path below `folder`.

    With two channels only the first is written, with more than four the first three. StorageProblem.
    """
    if pixels.dtype.kind == "f":
        pixels = ((pixels.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    elif pixels.dtype == np.uint16:
        pixels = (pixels.astype(np.float32) / 257).round().astype(np.uint8)
    channels = pixels.shape[2]
    kept = channels if channels in (1, 3, 4) else 1 if channels == 2 else 3
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if kept == 1 else np.ascontiguousarray(pixels[..., :kept])).save(file, "PNG")
    make_folder(folder / FOLDER)
    write_bytes(folder / FOLDER / f"{name}.png", file.getvalue())
    return f"{FOLDER}/{name}.png"


def closest(ratios: NDArray[Any], count: int) -> Sequence[int]:
    """The indices of the `count` smallest ratios in ascending order."""
    return [int(index) for index in np.argsort(ratios, kind="stable")[:count]]
