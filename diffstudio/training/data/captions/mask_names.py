"""Which mask belongs to which image, by their names."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence

from diffstudio.training.data.captions.caption_files import same_name

MASK_NAME = re.compile(r"(?P<stem>.+?)(?:[-_ .]?(?:masklabel|condlabel)|[-_ .]mask)", re.IGNORECASE | re.DOTALL)


def name_stem(name: str) -> str:
    """The same for names that differ in case, in how Unicode composes their letters, or in their ending."""
    return same_name(os.path.splitext(name)[0])


def plain_stem(name: str) -> str:
    """`name_stem`, and of a mask that of its image: `cat` for `cat_mask.png`."""
    stem = name_stem(name)
    mask = MASK_NAME.fullmatch(stem)
    return mask["stem"] if mask else stem


def masks_of(images: Sequence[str], masks: Sequence[str]) -> dict[int, int]:
    """The number of the mask of each image, by the image's number, from the names of both.

    The same name comes first, then one that differs in case only or in `_mask`, then one with another ending. An image that
    shares a name with others, or that several masks have the name of, has none.
    """
    found: dict[int, int] = {}
    for of_image, of_mask in _LEVELS:
        left: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for number, name in enumerate(images):
            if number not in found:
                left[of_image(name)][0].append(number)
        used = set(found.values())
        for number, name in enumerate(masks):
            if number not in used:
                left[of_mask(name)][1].append(number)
        found |= {one[0]: other[0] for one, other in left.values() if len(one) == len(other) == 1}
    return found


def _as_it_is(name: str) -> str:
    return name


def _plain_name(name: str) -> str:
    return plain_stem(name) + same_name(os.path.splitext(name)[1])


_LEVELS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (_as_it_is, _as_it_is),
    (same_name, same_name),
    (same_name, _plain_name),
    (name_stem, name_stem),
    (name_stem, plain_stem),
)
