"""The frames of a reverse process as one animated file: state and estimate beside each other, with the step below. No torch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from diffstudio.imaging.reader import read_rgb

_SIDE = 256  # px of each image, at least; smaller ones are enlarged by whole factors
_GAP, _CAPTION = 8, 26  # px
_PAPER, _INK = (255, 255, 255), (40, 45, 55)
_STEP_MS, _END_MS = 250, 1500


def animation(rows: Sequence[tuple[Sequence[Path], str]]) -> bytes:
    """An animated GIF that runs for ever: for each step its images beside each other, and its caption. ImageProblem."""
    frames = [_frame([read_rgb(path) for path in files], caption) for files, caption in rows]
    file = io.BytesIO()
    durations = [_STEP_MS] * (len(frames) - 1) + [_END_MS]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return file.getvalue()


def _frame(images: Sequence[Image.Image], caption: str) -> Image.Image:
    enlarged = [_enlarged(image) for image in images]
    width = sum(image.width for image in enlarged) + _GAP * (len(enlarged) + 1)
    height = max(image.height for image in enlarged) + 2 * _GAP + _CAPTION
    frame = Image.new("RGB", (width, height), _PAPER)
    left = _GAP
    for image in enlarged:
        frame.paste(image, (left, _GAP))
        left += image.width + _GAP
    ImageDraw.Draw(frame).text((_GAP, height - _CAPTION), caption, _INK, ImageFont.load_default(14))
    return frame


def _enlarged(image: Image.Image) -> Image.Image:
    factor = max(1, _SIDE // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
