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

_RAW = "camera raw files are not read; export them as TIFF or JPEG"
_DRAWING = "drawings and documents are not read; export them as PNG"
_OTHER = "its format is not read; export it as PNG or TIFF"
_ARRAY = "of arrays, only .npy and TIFF files are read"
_FILM = "films are not read; export their frames as images"
_ARCHIVE = "archives are not opened; unpack it"
_UNFINISHED = "it is an unfinished download"
_NOT_READ = {
    suffix: why
    for why, suffixes in {
        _RAW: ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf "
        ".srw .x3f",
        _DRAWING: ".svg .svgz .eps .ps .ai .pdf .cdr .wmf .emf .odg .vsdx",
        _OTHER: ".exr .hdr .xcf .kra .ora .clip .psb .ico .icns .cur .dcm .dicom .nii .nrrd .mha .fits .fit .svs .ndpi .czi "
        ".lif .nd2 .jxr .wdp .bpg .flif .ktx .ktx2 .xpm .xbm .pic .pict",
        _ARRAY: ".npz .mat .h5 .hdf5 .zarr .pt .pth .pkl .pickle",
        _FILM: ".mp4 .mov .avi .mkv .webm .m4v .wmv .mpg .mpeg .ogv .flv .3gp",
        _ARCHIVE: ".zip .tar .gz .tgz .bz2 .xz .7z .rar .zst .parquet .arrow .tfrecord .tfrecords .lmdb .mdb .cbz",
        _UNFINISHED: ".part .partial .crdownload .download .opdownload",
    }.items()
    for suffix in suffixes.split()
}

# Formats that are written here or carry the settings of other programs; the gallery lists these.
GALLERY_SUFFIXES = tuple(
    suffix for name in ("PNG", "JPEG", "WEBP", "AVIF", JPEG_XL, HEIF) for suffix in SUFFIXES_OF[name]
)


def why_not_read(suffix: str) -> str:
    """Why a file is not read that people may take for an image, a clause, by its suffix in lower case; else ""."""
    return _NOT_READ.get(suffix, "")


def is_raw(suffix: str) -> bool:
    """Whether files with this suffix are a camera's, which have the first bytes of a TIFF."""
    return _NOT_READ.get(suffix) == _RAW


_HEAD_BYTES = 32
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})


def format_of(head: bytes) -> str:
    """The format by a file's first 32 bytes, one of SUFFIXES_OF; else "", as for formats without a signature."""
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
        b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
        b"\xff\x4f\xff\x51": "JPEG2000",
        b"8BPS": "PSD",
        b"qoif": "QOI",
        b"DDS ": "DDS",
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
