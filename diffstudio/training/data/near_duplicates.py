"""Duplicates and near-duplicates among the images of a folder, found by perceptual hash. No torch.

The hash is dHash (N. Krawetz 2013, "Kind of Like That"): one bit for each of 8 x 8 positions, set where the image is
darker than at the position to the right. Two images are near-duplicates when at most `MAX_HASH_DISTANCE` bits differ
and their colours agree. Time grows with N log N: of many images with much the same hash, each is compared with
`MAX_NEIGHBOURS` whose hash and brightness are next to its own.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffstudio.evaluation.connected_groups import join

MAX_HASH_DISTANCE = 3  # bits of 64
MAX_COLOUR_DISTANCE = 4.0  # mean difference of the 8 x 8 thumbnails, of 255
MAX_NEIGHBOURS = 32
_MIN_DIFFERENCE = 3  # grey levels, so that JPEG noise does not set bits in flat areas
_DIGEST, _DHASH = 16, 8  # bytes
FINGERPRINT_BYTES = _DIGEST + _DHASH + 192
_CHUNK = 1 << 16  # pairs compared at a time

Pairs = list[tuple[int, int]]


def fingerprint(image: Image.Image) -> bytes:
    """FINGERPRINT_BYTES of an RGB or RGBA image; transparent pixels count as middle grey.

    A digest of the pixels at 32 px, equal for duplicates; the hash of 64 bits; and a thumbnail of 8 x 8 px, RGB.
    """
    small = image.resize((32, 32), Image.Resampling.BOX)
    if small.mode == "RGBA":
        grey = Image.new("RGBA", small.size, (128, 128, 128, 255))
        flat = Image.alpha_composite(grey, small).convert("RGB")
    else:
        flat = small
    pixels = small.convert("RGBA").tobytes() + repr(_aspect(image)).encode()
    digest = hashlib.blake2b(pixels, digest_size=_DIGEST).digest()
    light = np.asarray(flat.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(light[:, 1:] - light[:, :-1] > _MIN_DIFFERENCE)
    colours = flat.resize((8, 8), Image.Resampling.BOX).tobytes()
    return digest + bits.tobytes() + colours


class Alike(NamedTuple):
    """Pairs of images (first, later). Each image is the later one of at most one pair."""

    same: Pairs  # duplicates
    near: Pairs  # near-duplicates
    joined: Pairs  # not alike themselves, but through others: single linkage


def near_duplicates(fingerprints: NDArray[np.uint8]) -> Alike:
    """The duplicates and near-duplicates among fingerprints [N,FINGERPRINT_BYTES]."""
    first = _first_with_same_digest(fingerprints)
    index = np.arange(len(fingerprints))
    same = [(int(first[later]), int(later)) for later in np.flatnonzero(first < index)]
    unique = np.flatnonzero(first == index)
    if same:
        fingerprints = fingerprints[unique]
    own = np.arange(len(unique))
    near, groups = _first_alike(fingerprints) if len(unique) > 1 else (own, own)
    alike = np.flatnonzero(near < own)
    apart = np.flatnonzero((near == own) & (groups < own))
    return Alike(
        same,
        [(int(unique[near[later]]), int(unique[later])) for later in alike],
        [(int(unique[groups[later]]), int(unique[later])) for later in apart],
    )


def thumbnails(fingerprints: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The thumbnails [N,192] in fingerprints."""
    return fingerprints[:, _DIGEST + _DHASH :]


def _first_with_same_digest(fingerprints: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[N]: the first image with the digest of each; its own index for the first."""
    halves = np.ascontiguousarray(fingerprints[:, :_DIGEST]).view(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable, so the first of equals comes first
    ordered = halves[order]
    starts = np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)][: len(order)]
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[np.flatnonzero(starts)[np.cumsum(starts) - 1]] if len(order) else order
    return first


def _first_alike(fingerprints: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[N]: the first image that each is a near-duplicate of; [N]: the first that it is joined to by near-duplicates.

    Its own index without one.
    """
    hashes = np.ascontiguousarray(fingerprints[:, _DIGEST : _DIGEST + _DHASH]).view(">u8")[:, 0].astype(np.uint64)
    colours = thumbnails(fingerprints)
    brightness = colours.sum(axis=1, dtype=np.uint32)
    first, groups = np.arange(len(hashes)), np.arange(len(hashes))
    # If at most three bits differ, at least one of the four 16-bit quarters is equal: only those are compared.
    quarters = [(hashes >> np.uint64(16 * place)) & np.uint64(0xFFFF) for place in range(4)]
    for place, quarter in enumerate(quarters):
        order = np.lexsort((brightness, hashes, quarter))
        for shift in range(1, MAX_NEIGHBOURS + 1):
            one, other = order[:-shift], order[shift:]
            equal = quarter[one] == quarter[other]
            if not equal.any():
                break
            close = equal & (np.bitwise_count(hashes[one] ^ hashes[other]) <= MAX_HASH_DISTANCE)
            for earlier in quarters[:place]:  # compared already
                close &= earlier[one] != earlier[other]
            one, other = one[close], other[close]
            agree = _colours_agree(colours, one, other)
            one, other = np.minimum(one, other)[agree], np.maximum(one, other)[agree]
            np.minimum.at(first, other, one)
            join(groups, one, other)
    return first, groups


def _colours_agree(colours: NDArray[np.uint8], one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
    agree = np.empty(len(one), dtype=np.bool_)
    for start in range(0, len(one), _CHUNK):
        part = slice(start, start + _CHUNK)
        difference = colours[one[part]].astype(np.int16) - colours[other[part]]
        agree[part] = np.abs(difference).mean(axis=1) <= MAX_COLOUR_DISTANCE
    return agree


def _aspect(image: Image.Image) -> int:
    """Part of the digest, so that a stretched copy of an image is not a duplicate."""
    return round(64 * image.width / image.height)
