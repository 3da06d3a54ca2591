"""Editions of a family with the same tensors, such as Z-Image Base and Turbo: told apart by name and metadata. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping

# family -> the editions that its files may be of, whose recommended settings differ
EDITIONS: Mapping[str, tuple[str, ...]] = {
    "z_image": ("Turbo", "Base", "Omni"),
    "flux": ("dev", "schnell"),
    "sd3": ("3 medium", "3.5 medium", "3.5 large", "3.5 large Turbo"),
    "qwen_image": ("Base", "Edit", "Lightning"),
    "sdxl": ("Base", "Turbo", "Lightning", "Hyper", "LCM", "DMD"),
    "sd1": ("Base", "Hyper", "LCM"),
    "sd2": ("Base", "Turbo"),
}
_ASKED = ("z_image",)  # families of which no edition is the usual one
_PRECISION = r"(?:[-_. ]*(?:bf16|fp16|fp32|fp8|e4m3fn|e5m2|scaled|q\d(?:_[0-9k])?(?:_[sml])?))*"
_PLAIN_Z_IMAGE = re.compile(rf"(?:tongyi-mai/)?z[-_ ]?image(?:/lora)?{_PRECISION}")
_WORDS = (("turbo", "Turbo"), ("zit", "Turbo"), ("omni", "Omni"), ("base", "Base"), ("zib", "Base"))


def named_edition(family: str, *texts: str) -> str:
    """The edition that a file's name, title or metadata says, the first text first; empty if none does.

    Only for families of which no edition is the usual one. Their Base is published without a word for it: `Z-Image`.
    """
    if family not in _ASKED:
        return ""
    for text in map(str.lower, texts):
        for word, edition in _WORDS:
            if re.search(rf"(?<![a-z]){word}(?![a-z])|image{word}", text):
                return edition
        if _PLAIN_Z_IMAGE.fullmatch(text):
            return "Base"
    return ""


def is_unclear(family: str, edition: str) -> bool:
    """Whether the user must be asked which edition a file is of."""
    return family in _ASKED and not edition


def edition_question(family: str, edition: str) -> str:
    """What the user is asked then; empty where the edition is known or makes no difference."""
    if not is_unclear(family, edition):
        return ""
    editions = EDITIONS[family]
    return (
        f"Which edition is this checkpoint: {', '.join(editions)}? The file does not say. Until you choose, "
        f"{editions[0]}’s steps and CFG scale are used."
    )
