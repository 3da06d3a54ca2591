"""Reads the arrays of an .npz file that is not trusted: never pickles, and never more than a given size. No torch."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from diffstudio.errors import RunProblem

_DAMAGES = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    MemoryError,
    RuntimeError,  # encrypted, or compressed by an unknown method
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(path: Path, names: Sequence[str], most_bytes: int) -> list[NDArray[Any]]:
    """The arrays of these names. RunProblem if one is missing, damaged or not of numbers, or if they are too large.

    The size in each header is checked before memory is reserved for it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            left, found = most_bytes, []
            for name in names:
                with archive.open(f"{name}.npy") as file:
                    left -= _size(file)
                    if left < 0:
                        raise ValueError("its arrays are larger than any that the program writes")
                with archive.open(f"{name}.npy") as file:
                    found.append(np.lib.format.read_array(file, allow_pickle=False))
    except _DAMAGES as error:
        raise RunProblem(
            f"The arrays in {path} cannot be read",
            str(error.args[-1] if isinstance(error, OSError) else error.args[0])
            if error.args
            else type(error).__name__,
            "Start the job again",
        ) from error
    return found


def _size(file: IO[bytes]) -> int:
    """The bytes of an array, by its header."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read:
        raise ValueError(f"version {version} of the .npy format is unknown")
    shape, _, dtype = read[version](file)
    if dtype.kind not in "biuf" or min(shape, default=0) < 0:
        raise ValueError(f"an array of {dtype} with shape {shape}")
    return prod(shape) * dtype.itemsize
