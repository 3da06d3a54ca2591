"""Text inside an image file, read without trusting it: PNG text chunks, and the EXIF comment of JPEG and WebP.

No pixel is decoded here, and no size in the file is believed: sizes, counts and
decompressed lengths all have limits, so that a hostile file costs a few megabytes at most.
PNG chunks: https://www.w3.org/TR/png-3/#5DataRep and #11textinfo.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from diffstudio.imaging.reader import image_errors, image_problem

LARGEST_TEXT_BYTES = 2 << 20  # of one text, decompressed: ComfyUI's workflows reach some hundred KiB
LARGEST_TEXTS_BYTES = 8 << 20  # of all texts in one file together
MOST_TEXTS = 256
MOST_CHUNKS = 500_000  # a 4 GiB image in chunks of 8 KiB
LARGEST_OTHER_BYTES = 512 << 20  # of a JPEG or WebP, which Pillow may hold in memory

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EXIF_IFD, _USER_COMMENT, _MAKE, _MODEL = 0x8769, 0x9286, 0x010F, 0x0110


@dataclass(frozen=True, slots=True)
class ImageText:
    """An image's size in px and the texts in its file, by keyword."""

    width: int
    height: int
    texts: dict[str, str]


def read_text(path: Path) -> ImageText:
    """Size and texts of an image file. ImageProblem when it is missing, not an image, or damaged."""
    with image_errors(path):
        with path.open("rb") as file:
            if file.read(8) == PNG_SIGNATURE:
                return _read_png(file, path)
        if path.stat().st_size > LARGEST_OTHER_BYTES:
            raise image_problem(path, f"the file is larger than {LARGEST_OTHER_BYTES >> 20} MiB")
        return _read_other(path)


def _read_png(file: BinaryIO, path: Path) -> ImageText:
    width = height = 0
    texts: dict[str, str] = {}
    held_bytes = 0
    for _ in range(MOST_CHUNKS):
        prefix = file.read(8)
        if len(prefix) < 8:
            break  # cut short: what came before still counts
        length, kind = struct.unpack(">I4s", prefix)
        if kind == b"IHDR" and length == 13:
            width, height = struct.unpack(">II", file.read(8))
            file.seek(length - 8 + 4, 1)
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and length <= LARGEST_TEXT_BYTES:
            body, checksum = file.read(length), file.read(4)
            if len(checksum) == 4 and zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(checksum, "big"):
                keyword, text = _text_chunk(kind, body)
                held_bytes += len(text)
                if text and held_bytes <= LARGEST_TEXTS_BYTES and len(texts) < MOST_TEXTS:
                    texts.setdefault(keyword, text)
        elif kind == b"IEND":
            break
        else:
            file.seek(length + 4, 1)
    if not 0 < width < 2**31 or not 0 < height < 2**31:
        raise image_problem(path, "it is damaged (its header holds no size)")
    return ImageText(width, height, texts)


def _text_chunk(kind: bytes, body: bytes) -> tuple[str, str]:
    """Keyword and text of one chunk; no text when it is malformed or grows too large."""
    keyword, _, rest = body.partition(b"\0")
    name = keyword[:79].decode("latin-1")
    if kind == b"tEXt":
        return name, rest.decode("latin-1")
    if kind == b"zTXt":
        return name, _inflated(rest[1:]).decode("latin-1") if rest[:1] == b"\0" else ""
    compressed, _, rest = rest[:1], rest[1:2], rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, _, text = rest.partition(b"\0")
    return name, (_inflated(text) if compressed == b"\1" else text).decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, LARGEST_TEXT_BYTES)
    except zlib.error:
        return b""
    return b"" if stream.unconsumed_tail else text


def _read_other(path: Path) -> ImageText:
    with Image.open(path, formats=("JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")) as image:
        texts: dict[str, str] = {}
        if image.format in ("JPEG", "WEBP"):
            exif = image.getexif()
            comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT) or b""
            if isinstance(comment, (bytes, str)) and len(comment) <= LARGEST_TEXT_BYTES:
                text = _user_comment(comment)
                if text:
                    texts["parameters"] = text
            for tag in (_MAKE, _MODEL):  # where ComfyUI keeps `workflow:{...}` and `prompt:{...}` in a WebP
                value = exif.get(tag)
                if isinstance(value, str) and len(value) <= LARGEST_TEXT_BYTES:
                    name, colon, text = value.partition(":")
                    if colon and name in ("workflow", "prompt"):
                        texts[name] = text
        return ImageText(image.width, image.height, texts)


def _user_comment(comment: bytes | str) -> str:
    """EXIF 2.3, UserComment: eight bytes name the encoding. Writers disagree about the byte order of UNICODE."""
    if isinstance(comment, str):
        return comment.strip("\0")
    encoding, text = comment[:8], comment[8:]
    if encoding.startswith(b"UNICODE"):
        order = "utf-16-be" if text[:1] == b"\0" or text[1:2] != b"\0" else "utf-16-le"
        return text.decode(order, "replace").strip("\0")
    if encoding.startswith((b"ASCII", b"\0\0\0\0")):
        return text.decode("utf-8", "replace").strip("\0")
    return ""
