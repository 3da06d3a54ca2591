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

from diffstudio.errors import RunProblem, UnexpectedValue, why_unreadable
from diffstudio.studio.evaluations.results.stored import START_AGAIN

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
                        raise UnexpectedValue("its arrays are larger than any that the program writes")
                with archive.open(f"{name}.npy") as file:
                    found.append(np.lib.format.read_array(file, allow_pickle=False))
    except _DAMAGES as error:
        raise RunProblem(f"The arrays in {path} cannot be read", _why(error), START_AGAIN) from error
    return found


def _why(error: Exception) -> str:
    """The clause for an array that could not be read; what the formats' own readers say is kept."""
    if isinstance(error, OSError | UnexpectedValue) or not error.args:
        return why_unreadable(error)
    return str(error.args[0])[:200]


def _size(file: IO[bytes]) -> int:
    """The bytes of an array, by its header."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read:
        raise UnexpectedValue(f"version {version} of the .npy format is unknown")
    shape, _, dtype = read[version](file)
    if dtype.kind not in "biuf" or min(shape, default=0) < 0:
        raise UnexpectedValue(f"an array of {dtype} with shape {shape}")
    return prod(shape) * dtype.itemsize
