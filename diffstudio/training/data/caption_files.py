"""Reads the captions of images from text files. No torch."""

from __future__ import annotations

import codecs
from pathlib import Path

from diffstudio.errors import NOT_A_PLAIN_FILE, unreadable

MAX_CAPTION_BYTES = 64 * 1024  # read from a caption file


def read_caption(path: Path) -> tuple[str | None, str]:
    """The text with normalised white space, and the problem of the file, if any."""
    try:
        if not path.is_file():  # a pipe would block
            return None, NOT_A_PLAIN_FILE
        with path.open("rb") as file:
            data = file.read(MAX_CAPTION_BYTES + 1)
    except OSError as error:
        return None, unreadable(error)
    whole = len(data) <= MAX_CAPTION_BYTES
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # `Unicode` in Windows Notepad
    decoder = codecs.getincrementaldecoder("utf-16" if utf_16 else "utf-8-sig")()
    try:
        text = decoder.decode(data[:MAX_CAPTION_BYTES], final=whole)
    except UnicodeDecodeError:
        return None, "it is not text in UTF-8"
    if "\0" in text:
        return None, "it is not text"
    why = "" if whole else f"only its first {MAX_CAPTION_BYTES // 1024} KiB are used"
    return " ".join(text.split()) or None, why
