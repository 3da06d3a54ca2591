"""Images of 16 bits that were generated here: 65,535 is their white, whatever range the training images had."""

from __future__ import annotations

import json
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from diffstudio.errors import DiffstudioError
from diffstudio.models.output_format import OutputFormat
from diffstudio.studio.metadata.image_text import read_text
from diffstudio.studio.metadata.metadata import JSON_KEY
from diffstudio.studio.metadata.readers.found_settings import as_object, json_object

PIXELS_KEY = "diffstudio.pixels"  # of images without a request, and of checkpoints: the format of the pixels


def pixels_text(output: OutputFormat) -> PngInfo:
    """What an image without a request says of its pixels, where they are not RGB of 8 bits."""
    texts = PngInfo()
    if not output.is_plain:
        texts.add_text(PIXELS_KEY, json.dumps(output.to_json()))
    return texts


def was_generated(path: Path) -> bool:
    """Whether a file was generated here with a checkpoint of other pixels than RGB of 8 bits."""
    try:
        texts = read_text(path).texts
    except (DiffstudioError, OSError):
        return False
    values = json_object(texts.get(JSON_KEY)) or {}
    return PIXELS_KEY in texts or "pixels" in as_object(values.get("environment"))
