"""Sequences of frames among the images of a folder, such as a film saved as images, found by their names. No torch.

Names that differ only in their numbers (`frame_0001.png`, `shot 2 (15).jpg`) are put in the order of those numbers. An
image continues the sequence of the one before it if the two are far more alike than two images of the folder usually are.
The first and the last frame of a sequence can be quite different.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffstudio.plurals import count_of
from diffstudio.training.data.near_duplicates import thumbnails

FEWEST_FRAMES = 4
_FEWEST_SAID = 8  # frames: what is shorter may also be a few images that happen to be alike
MAX_STEP = 16.0  # mean difference of the 8 x 8 thumbnails of a frame and the next, of 255
_USUAL_PAIRS = 0.1  # of all pairs of images, which are at least as alike as a frame and the next must be
_PAIRS = 4096  # drawn to find out how alike the images of the folder are
_NUMBER = re.compile(r"\d{1,18}")

Frames = tuple[int, ...]  # indices of images, in order


def sequences(paths: Sequence[Path], fingerprints: NDArray[np.uint8]) -> list[Frames]:
    """The sequences among images with these paths and fingerprints [N,FINGERPRINT_BYTES]; each image is in at most one."""
    found: list[Frames] = []
    colours = thumbnails(fingerprints)
    limit = -1.0
    for numbered in _numbered(paths):
        if limit < 0:
            limit = _limit(colours)
        order = np.array(numbered)
        steps = np.concatenate([_difference(colours, order[:-1], order[1:]), [np.inf]])
        begin = 0
        for last in np.flatnonzero(steps > limit):
            if last + 1 - begin >= FEWEST_FRAMES:
                found.append(tuple(order[begin : last + 1].tolist()))
            begin = int(last) + 1
    return found


def about_sequences(found: Sequence[Sequence[Path]]) -> Iterator[str]:
    """What a report says of the sequences of a folder: a clause, or nothing without any long ones."""
    found = [sequence for sequence in found if len(sequence) >= _FEWEST_SAID]
    if found:
        images, first = count_of(sum(map(len, found)), "image"), found[0]
        such_as = f"{first[0]} to {first[-1].name}"
        films = "a film" if len(found) == 1 else f"{len(found):,} films"
        example = such_as if len(found) == 1 else f"one is {such_as}"
        yield f"{images} look like the frames of {films}, in order ({example})"


def _numbered(paths: Sequence[Path]) -> list[list[int]]:
    """Indices of images of one folder whose names differ only in their numbers, in the order of these."""
    alike: defaultdict[tuple[str, str], list[tuple[list[int], int]]] = defaultdict(list)
    for index, path in enumerate(paths):
        folder, _, name = path.as_posix().rpartition("/")
        stem = name.rpartition(".")[0] or name
        if numbers := [int(number) for number in _NUMBER.findall(stem)]:
            alike[folder, _NUMBER.sub("0", stem)].append((numbers, index))
    return [[index for _, index in sorted(group)] for group in alike.values() if len(group) >= FEWEST_FRAMES]


def _limit(colours: NDArray[np.uint8]) -> float:
    """How much two neighbouring frames may differ: less than all but a few pairs of the folder's images.

    In a folder that is one film, each frame has two neighbours, which are many of the pairs if there are few frames; and
    where much moves, neighbours are less alike than frames further apart elsewhere.
    """
    count = len(colours)
    chance = np.random.default_rng(0)
    one = chance.integers(0, count, _PAIRS)
    other = (one + chance.integers(1, count, _PAIRS)) % count
    share = max(_USUAL_PAIRS, 6 / count)
    return min(MAX_STEP, float(np.quantile(_difference(colours, one, other), min(1.0, share))))


def _difference(colours: NDArray[np.uint8], one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean difference of thumbnails, of 255."""
    found: NDArray[np.float64] = np.abs(colours[one].astype(np.int16) - colours[other]).mean(axis=1)
    return found
