"""Text inside an image file, read without trusting it: PNG text chunks, EXIF and XMP, and text hidden in pixels.

No size in the file is believed: sizes, counts and decompressed lengths all have limits, so that a hostile file costs a
few megabytes at most. Pixels are decoded only of a PNG without any text, of at most as many as images may have.
PNG chunks: https://www.w3.org/TR/png-3/#5DataRep and #11textinfo.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image

from diffstudio.errors import ImageProblem
from diffstudio.imaging.decoding import turned, upright_size
from diffstudio.imaging.formats import format_of, read_head
from diffstudio.imaging.limits import LARGEST_PIXELS
from diffstudio.imaging.problems import image_errors, image_problem
from diffstudio.imaging.reader import read_size
from diffstudio.studio.metadata.exif_text import exif_texts, xmp_comment
from diffstudio.studio.metadata.readers.found_settings import json_object
from diffstudio.studio.metadata.stealth_text import stealth_text

LARGEST_TEXT_BYTES = 2 << 20  # of one text, decompressed: ComfyUI's workflows reach some hundred KiB
LARGEST_TEXTS_BYTES = 8 << 20  # of all texts in one file together
MOST_TEXTS = 256
MOST_CHUNKS = 500_000  # a 4 GiB image in chunks of 8 KiB
LARGEST_OTHER_BYTES = 512 << 20  # of a JPEG or WebP, which Pillow may hold in memory

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_WITH_TEXT = ("JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
XMP_KEYWORD = "XML:com.adobe.xmp"


@dataclass(frozen=True, slots=True)
class ImageText:
    """An image's size in px, upright, and the texts in its file, by keyword."""

    width: int
    height: int
    texts: dict[str, str]
    unread: tuple[str, ...] = ()  # keywords of texts that are damaged or too large


def read_text(path: Path) -> ImageText:
    """Size and texts of an image file. ImageProblem when it is missing, not an image, or damaged."""
    with image_errors(path):
        with path.open("rb") as file:
            if file.read(8) == PNG_SIGNATURE:
                found = _read_png(file, path)
                if found.texts or found.width * found.height > LARGEST_PIXELS:
                    return found
                return replace(found, texts=_hidden_texts(path))
        if path.stat().st_size > LARGEST_OTHER_BYTES:
            raise image_problem(path, f"the file is larger than {LARGEST_OTHER_BYTES >> 20} MiB")
        return _read_other(path)


def _read_png(file: BinaryIO, path: Path) -> ImageText:
    width = height = 0
    texts: dict[str, str] = {}
    unread: dict[str, None] = {}
    held_bytes = 0
    orientation: object = 1  # as EXIF has it: of any type
    for _ in range(MOST_CHUNKS):
        prefix = file.read(8)
        if len(prefix) < 8:
            break  # cut short: what came before still counts
        length, kind = struct.unpack(">I4s", prefix)
        if kind == b"IHDR" and length == 13:
            width, height = struct.unpack(">II", file.read(8))
            file.seek(length - 8 + 4, 1)
        elif kind in _TEXT_CHUNKS:
            body = file.read(min(length, LARGEST_TEXT_BYTES))
            file.seek(length - len(body), 1)
            checksum = file.read(4)
            keyword, text = _text_chunk(kind, body)
            sound = len(checksum) == 4 and zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(checksum, "big")
            if not sound or text is None:  # cut short, damaged or too large
                unread[keyword] = None
            elif text and len(texts) < MOST_TEXTS:
                held_bytes += len(text)
                if held_bytes <= LARGEST_TEXTS_BYTES:
                    texts.setdefault(keyword, text)
                else:
                    unread[keyword] = None
        elif kind == b"eXIf" and length <= LARGEST_TEXT_BYTES:
            exif = Image.Exif()
            exif.load(file.read(length))
            _add_exif(exif, texts)
            orientation = exif.get(ExifTags.Base.Orientation)
            file.seek(4, 1)
        elif kind == b"IEND":
            break
        else:
            file.seek(length + 4, 1)
    if not 0 < width < 2**31 or not 0 < height < 2**31:
        raise image_problem(path, "it is damaged (its header holds no size)")
    if XMP_KEYWORD in texts:
        _add_xmp(texts.pop(XMP_KEYWORD), texts)
    return ImageText(
        *turned((width, height), orientation), texts, tuple(keyword for keyword in unread if keyword not in texts)
    )


def _text_chunk(kind: bytes, body: bytes) -> tuple[str, str | None]:
    """Keyword and text of one chunk; None for a text that is malformed or grows too large."""
    keyword, _, rest = body.partition(b"\0")
    name = keyword[:79].decode("latin-1")
    if kind == b"tEXt":
        return name, rest.decode("latin-1")
    if kind == b"zTXt":
        inflated = _inflated(rest[1:]) if rest[:1] == b"\0" else None
        return name, None if inflated is None else inflated.decode("latin-1")
    compressed, _, rest = rest[:1], rest[1:2], rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, _, text = rest.partition(b"\0")
    whole = _inflated(text) if compressed == b"\1" else text
    return name, None if whole is None else whole.decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes | None:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, LARGEST_TEXT_BYTES)
    except zlib.error:
        return None
    return None if stream.unconsumed_tail else text


def _read_other(path: Path) -> ImageText:
    if format_of(read_head(path)) not in _WITH_TEXT:  # JPEG XL, HEIC and others: read, but not for texts
        return ImageText(*read_size(path), {})
    with Image.open(path, formats=_WITH_TEXT) as image:
        texts: dict[str, str] = {}
        _add_exif(image.getexif(), texts)
        packet = image.info.get("xmp")
        if isinstance(packet, bytes):
            _add_xmp(packet[:LARGEST_TEXT_BYTES].decode("utf-8", "replace"), texts)
        return ImageText(*upright_size(image), texts)


def _add_exif(exif: Image.Exif, texts: dict[str, str]) -> None:
    for keyword, text in exif_texts(exif):
        texts.setdefault(keyword, text)


def _add_xmp(packet: str, texts: dict[str, str]) -> None:
    """Draw Things keeps JSON there; other programs AUTOMATIC1111's text."""
    if comment := xmp_comment(packet):
        texts.setdefault("draw_things" if comment.startswith("{") else "parameters", comment)


def _hidden_texts(path: Path) -> dict[str, str]:
    """The texts in the pixels of an image with transparency, by keyword."""
    with suppress(ImageProblem), image_errors(path), Image.open(path, formats=("PNG",)) as image:
        if image.mode not in ("RGB", "RGBA"):
            return {}
        text = stealth_text(image)
        values = json_object(text)
        if values is None:
            return {"parameters": text} if text else {}
        return {name: value for name, value in values.items() if isinstance(value, str)}  # NovelAI's: its PNG chunks
    return {}
