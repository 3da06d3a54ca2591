"""CLIP's vocabulary, which ships with the program: no weight file holds it. No torch."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import cache

from diffstudio import paths

_FILE = "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 49_152 - 256 - 2  # of the lines in that file, those that CLIP uses


@cache
def clip_vocabulary() -> tuple[Mapping[str, int], tuple[tuple[str, str], ...]]:
    """CLIP's vocabulary (token -> id) and BPE merges (Radford et al. 2021, arXiv 2103.00020).

    256 bytes, each alone and at a word's end, then one token for every merge.
    """
    with gzip.open(paths.resources() / "families" / "clip" / _FILE, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : _MERGES + 1]
    merges = tuple((left, right) for left, _, right in (line.partition(" ") for line in lines))
    letters = _letters()
    tokens = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *(left + right for left, right in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return {token: number for number, token in enumerate(tokens)}, merges


def _letters() -> list[str]:
    """A printable character for each of the 256 bytes: GPT-2's byte-level BPE (Radford et al. 2019)."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printed] + [chr(256 + number) for number in range(256 - len(printed))]
