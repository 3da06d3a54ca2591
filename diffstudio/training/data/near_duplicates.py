"""Duplicates and near-duplicates among the images of a folder, found by perceptual hash. No torch.

The hash is dHash (N. Krawetz 2013, "Kind of Like That"): one bit for each of 8 x 8 positions, set where the image is
darker than at the position to the right. Two images are near-duplicates when at most `MAX_HASH_DISTANCE` bits differ
and their colours agree.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_HASH_DISTANCE = 3  # bits of 64
MAX_COLOUR_DISTANCE = 4.0  # mean difference of the 8 x 8 thumbnails, of 255
_MIN_DIFFERENCE = 3  # grey levels, so that JPEG noise does not set bits in flat areas
_MAX_COMPARISONS = 64  # per image and quarter of its hash


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Hashes of one image."""

    digest: bytes  # of the pixels at 32 px: equal for duplicates
    dhash: int  # 64 bits
    colours: bytes  # 8 x 8 thumbnail, RGB, 192 bytes


def fingerprint(image: Image.Image) -> Fingerprint:
    """Compute the hashes of an RGB or RGBA image; transparent pixels count as middle grey."""
    small = image.resize((32, 32), Image.Resampling.BOX)
    if small.mode == "RGBA":
        grey = Image.new("RGBA", small.size, (128, 128, 128, 255))
        flat = Image.alpha_composite(grey, small).convert("RGB")
    else:
        flat = small
    digest = hashlib.blake2b(small.convert("RGBA").tobytes() + repr(_aspect(image)).encode(), digest_size=16).digest()
    light = np.asarray(flat.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(light[:, 1:] - light[:, :-1] > _MIN_DIFFERENCE)
    colours = flat.resize((8, 8), Image.Resampling.BOX).tobytes()
    return Fingerprint(digest, int.from_bytes(bits.tobytes(), "big"), colours)


def near_duplicates(fingerprints: Sequence[Fingerprint]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Pairs (first, later) of duplicates, and of near-duplicates. Each image is the later one of at most one pair."""
    first_of: dict[bytes, int] = {}
    same: list[tuple[int, int]] = []
    near: list[tuple[int, int]] = []
    # If at most three bits differ, at least one of the four 16-bit quarters is equal: only those are compared.
    quarters: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for index, one in enumerate(fingerprints):
        if one.digest in first_of:
            same.append((first_of[one.digest], index))
            continue
        first_of[one.digest] = index
        keys = [(place, one.dhash >> (16 * place) & 0xFFFF) for place in range(4)]
        match = _first_near_duplicate(
            fingerprints, one, sorted({other for key in keys for other in quarters[key][:_MAX_COMPARISONS]})
        )
        if match is not None:
            near.append((match, index))
        for key in keys:
            quarters[key].append(index)
    return same, near


def _first_near_duplicate(
    fingerprints: Sequence[Fingerprint], one: Fingerprint, candidates: Sequence[int]
) -> int | None:
    alike = [other for other in candidates if (one.dhash ^ fingerprints[other].dhash).bit_count() <= MAX_HASH_DISTANCE]
    if not alike:
        return None
    colours = np.frombuffer(b"".join(fingerprints[other].colours for other in alike), np.uint8).reshape(len(alike), -1)
    differences = np.abs(colours.astype(np.int16) - np.frombuffer(one.colours, np.uint8)).mean(axis=1)
    near = np.flatnonzero(differences <= MAX_COLOUR_DISTANCE)
    return alike[near[0]] if len(near) else None


def _aspect(image: Image.Image) -> int:
    """Part of the digest, so that a stretched copy of an image is not a duplicate."""
    return round(64 * image.width / image.height)
