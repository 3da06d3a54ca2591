"""Text in EXIF and XMP metadata: the user comment of JPEG, WebP, AVIF and PNG, and what Draw Things writes.

EXIF 2.3, UserComment (0x9286): eight bytes name the encoding. Writers disagree about the byte order of UNICODE, and
some write the tag into the first directory instead of the EXIF one; both are read.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import suppress

from PIL import Image

LARGEST_COMMENT_BYTES = 2 << 20

_EXIF_IFD = 0x8769
_USER_COMMENT, _DESCRIPTION, _MAKE, _MODEL = 0x9286, 0x010E, 0x010F, 0x0110
_XMP_ATTRIBUTE = re.compile(r'\bexif:UserComment="([^"]*)"')


def exif_texts(exif: Image.Exif) -> Iterator[tuple[str, str]]:
    """Keyword and text of each text that a generator may have left in EXIF metadata."""
    order = "utf-16-be" if exif.endian == ">" else "utf-16-le"
    for directory in (exif.get_ifd(_EXIF_IFD), exif):
        if text := user_comment(directory.get(_USER_COMMENT), order):
            yield "parameters", text
    for tag in (_DESCRIPTION, _MAKE, _MODEL):  # where ComfyUI keeps `Workflow:{...}` and `Prompt:{...}` in a WebP
        value = exif.get(tag)
        if isinstance(value, str) and len(value) <= LARGEST_COMMENT_BYTES:
            name, colon, text = value.partition(":")
            if colon and name.lower() in ("workflow", "prompt"):
                yield name.lower(), text


def user_comment(comment: object, order: str) -> str:
    """The text of a UserComment; `order` is the byte order of the file, used where the text itself does not tell."""
    if isinstance(comment, str):
        return comment.strip("\0 ")
    if not isinstance(comment, bytes) or len(comment) > LARGEST_COMMENT_BYTES:
        return ""
    encoding, text = comment[:8], comment[8:]
    if encoding.startswith(b"UNICODE"):
        return _utf_16(text, order).strip("\0 ")
    if encoding.startswith((b"ASCII", b"\0\0\0\0")):
        return text.decode("utf-8", "replace").strip("\0 ")
    with suppress(UnicodeDecodeError):
        japanese = encoding.startswith(b"JIS\0")
        return (text.decode("iso2022_jp") if japanese else comment.decode("utf-8")).strip("\0 ")
    return ""


def _utf_16(text: bytes, order: str) -> str:
    """Decoded by its byte order mark, else by where the zeros of ASCII characters stand, else in `order`."""
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return text.decode("utf-16", "replace")
    high, low = text[0::2].count(0), text[1::2].count(0)
    if not high and not low:  # some writers keep UTF-8 there: settings hold ASCII, which UTF-16 has zeros in
        with suppress(UnicodeDecodeError):
            return text.decode("utf-8")
    if high != low:
        order = "utf-16-be" if high > low else "utf-16-le"
    return text.decode(order, "replace")


def xmp_comment(packet: str) -> str:
    """The exif:UserComment of an XMP packet, as Draw Things writes it, or an empty text."""
    packet = packet[:LARGEST_COMMENT_BYTES]
    _, element, inside = packet.partition("<exif:UserComment")
    if element:
        _, _, item = inside.partition("<rdf:li")
        text, end, _ = item.partition(">")[2].partition("</rdf:li>")
        return html.unescape(text).strip() if end else ""
    match = _XMP_ATTRIBUTE.search(packet)
    return html.unescape(match[1]).strip() if match else ""
