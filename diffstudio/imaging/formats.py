"""Which image formats are read: their names, file name suffixes and first bytes. No Pillow, no Qt.

Every list of image files is made from this table: file dialogs, drag and drop, the gallery, folders of training images.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

JPEG_XL = "JPEG XL"  # read by imagecodecs
HEIF = "HEIF"  # read by pillow-heif, where that is installed
NPY = "NPY"  # an array of NumPy with any number of channels

# Pillow's name of each format -> file name suffixes. Left out are formats that start another program (EPS), need a
# plug-in for pixels (WMF), or hold images of several sizes (ICO, ICNS).
SUFFIXES_OF: dict[str, tuple[str, ...]] = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    JPEG_XL: (".jxl",),
    HEIF: (".heic", ".heif", ".heics", ".heifs", ".hif"),
    "TIFF": (".tif", ".tiff"),
    NPY: (".npy",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "DDS": (".dds",),
    "PCX": (".pcx",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes)

# Formats that are written here or carry the settings of other programs; the gallery lists these.
GALLERY_SUFFIXES = tuple(
    suffix for name in ("PNG", "JPEG", "WEBP", "AVIF", JPEG_XL, HEIF) for suffix in SUFFIXES_OF[name]
)

_HEAD_BYTES = 32
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})


def format_of(head: bytes) -> str:
    """The format by a file's first 32 bytes: one of PNG, JPEG, GIF, WEBP, AVIF, JPEG XL, HEIF, BMP, TIFF, NPY, else ""."""
    signatures = {
        b"\x89PNG\r\n\x1a\n": "PNG",
        b"\xff\xd8\xff": "JPEG",
        b"GIF8": "GIF",
        b"BM": "BMP",
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"II+\0": "TIFF",  # BigTIFF
        b"MM\0+": "TIFF",
        b"\x93NUMPY": NPY,
        b"\xff\x0a": JPEG_XL,
        b"\0\0\0\x0cJXL \r\n\x87\n": JPEG_XL,
    }
    if found := next((name for signature, name in signatures.items() if head.startswith(signature)), ""):
        return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":  # brands: https://github.com/strukturag/libheif and ISO/IEC 23000-22
        brands = {head[8:12], *(head[start : start + 4] for start in range(16, len(head), 4))}
        return "AVIF" if brands & {b"avif", b"avis"} else HEIF if brands & _HEIF_BRANDS else ""
    return ""


def read_head(path: Path) -> bytes:
    """The first bytes of a file, for `format_of`. OSError."""
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def looks_like_an_image(path: Path) -> bool:
    """Whether its suffix is one of an image file; without one, or with more after it, whether its first bytes are."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    beginning = re.match(r"\.[a-z0-9]+(?=[^a-z0-9])", suffix)  # `.jpg_large`, `.png?width=640`: saved from the web
    if suffix and (beginning is None or beginning[0] not in IMAGE_SUFFIXES):
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode) and format_of(read_head(path)) != ""
    except OSError:
        return False
