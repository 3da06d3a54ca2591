"""File names of the gallery's images."""

from __future__ import annotations

import re
import unicodedata

_LONGEST_SLUG = 48


def slug(prompt: str) -> str:
    """A prompt as part of a file name: lower-case letters and digits of any script, hyphens between."""
    parts = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", prompt[:400]).lower())
    text = "-".join(parts).encode("utf-8", "ignore").decode()
    while len(text) > _LONGEST_SLUG or len(text.encode()) > 2 * _LONGEST_SLUG:
        text = text[:-1]
    return text.rstrip("-")
