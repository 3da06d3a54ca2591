"""Which pictures of a folder are the same, or nearly: told from a small print of each. No torch.

The hash is dHash (N. Krawetz 2013, "Kind of Like That"): one bit for each of 8 x 8 places, whether it is lighter than
its neighbour. Two pictures are near when at most `NEAR_BITS` bits differ and their colours agree.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

NEAR_BITS = 3  # of 64
NEAR_COLOUR = 4.0  # mean difference of the 8 x 8 thumbnails, of 255
_LIGHTER_BY = 3  # grey levels, so that flat areas give the same bits in spite of JPEG's noise
_MOST_COMPARED = 64  # pictures a picture is compared with for one quarter of its bits


@dataclass(frozen=True, slots=True)
class Fingerprint:
    exact: bytes  # of the pixels at 32 px
    bits: int  # dHash, 64 bits
    colours: bytes  # 8 x 8 thumbnail, RGB, 192 bytes


def fingerprint(picture: Image.Image) -> Fingerprint:
    """Of an RGB or RGBA picture; transparency is seen as middle grey."""
    small = picture.resize((32, 32), Image.Resampling.BOX)
    if small.mode == "RGBA":
        grey = Image.new("RGBA", small.size, (128, 128, 128, 255))
        laid = Image.alpha_composite(grey, small).convert("RGB")
    else:
        laid = small
    exact = hashlib.blake2b(small.convert("RGBA").tobytes() + repr(_aspect(picture)).encode(), digest_size=16).digest()
    light = np.asarray(laid.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(light[:, 1:] - light[:, :-1] > _LIGHTER_BY)
    colours = laid.resize((8, 8), Image.Resampling.BOX).tobytes()
    return Fingerprint(exact, int.from_bytes(bits.tobytes(), "big"), colours)


def near_duplicates(prints: Sequence[Fingerprint]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Pairs (first, later) of the same pictures, and of near ones; each later picture is named at most once in all."""
    first_of: dict[bytes, int] = {}
    same: list[tuple[int, int]] = []
    near: list[tuple[int, int]] = []
    # At most three differing bits leave at least one of four 16-bit quarters equal: only those need comparing.
    quarters: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for index, one in enumerate(prints):
        if one.exact in first_of:
            same.append((first_of[one.exact], index))
            continue
        first_of[one.exact] = index
        keys = [(place, one.bits >> (16 * place) & 0xFFFF) for place in range(4)]
        twin = _twin(prints, one, sorted({other for key in keys for other in quarters[key][:_MOST_COMPARED]}))
        if twin is not None:
            near.append((twin, index))
        for key in keys:
            quarters[key].append(index)
    return same, near


def _twin(prints: Sequence[Fingerprint], one: Fingerprint, candidates: Sequence[int]) -> int | None:
    """The first of the candidates that is near."""
    alike = [other for other in candidates if (one.bits ^ prints[other].bits).bit_count() <= NEAR_BITS]
    if not alike:
        return None
    colours = np.frombuffer(b"".join(prints[other].colours for other in alike), np.uint8).reshape(len(alike), -1)
    differences = np.abs(colours.astype(np.int16) - np.frombuffer(one.colours, np.uint8)).mean(axis=1)
    near = np.flatnonzero(differences <= NEAR_COLOUR)
    return alike[near[0]] if len(near) else None


def _aspect(picture: Image.Image) -> int:
    """Which keeps a square and a stretched copy of it apart."""
    return round(64 * picture.width / picture.height)
