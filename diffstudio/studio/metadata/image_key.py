"""Which job made an image, and which of its images it is: what identifies an image under any name, in any folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import ImageProblem
from diffstudio.studio.metadata.image_text import read_text
from diffstudio.studio.metadata.metadata import JSON_KEY, LARGEST_JSON_CHARACTERS
from diffstudio.studio.metadata.readers.found_settings import as_object, json_object

_TOKEN = re.compile(r"[0-9a-f]{32}")
_MOST_IMAGES = 1 << 20  # of a job


@dataclass(frozen=True, slots=True)
class ImageKey:
    """The token of a job in the queue, and the index of an image in its request, from 0."""

    token: str
    index: int

    def __str__(self) -> str:
        return f"{self.token}-{self.index}"


def image_key(path: Path) -> ImageKey | None:
    """The key in the settings of an image file. None for an image of another program, or one that cannot be read."""
    try:
        text = read_text(path).texts.get(JSON_KEY, "")
    except (ImageProblem, OSError):
        return None
    values = as_object(json_object(text)) if len(text) <= LARGEST_JSON_CHARACTERS else {}
    token, index = as_object(values.get("environment")).get("job"), as_object(values.get("image")).get("index")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return None
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < _MOST_IMAGES:
        return None
    return ImageKey(token, index)
