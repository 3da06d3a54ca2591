"""Colours of any profile become sRGB, by the ICC profile in the file or by what a PNG chunk declares.

Conversions are relative colorimetric with black point compensation, as Photoshop and GIMP convert by default. CMYK
without a profile is approximated by Pillow's formula. A profile that cannot be used is left out and named.
Chunks of PNG: https://www.w3.org/TR/png-3/#11addnlcolinfo; there cICP is preferred to iCCP, that to sRGB, that to gAMA
and cHRM. Code points: ITU-T H.273, tables 2 and 3.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from diffstudio.imaging.limits import LARGEST_PROFILE_BYTES

_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
_PRECISE = ImageCms.Flags.NOOPTIMIZE  # the optimised paths of 16-bit and grey values are off by up to 10 of 255
_REFUSALS = (OSError, ValueError, RuntimeError, ImageCms.PyCMSError)  # of littlecms, by way of Pillow
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}  # of a profile -> Pillow's mode
_NAMES = {"RGB ": "RGB", "GRAY": "grey", "CMYK": "CMYK", "Lab ": "Lab"}

PROFILE_DAMAGED = "its colour profile is damaged and was not used"
PROFILE_TOO_LARGE = f"its colour profile is larger than {LARGEST_PROFILE_BYTES >> 20} MiB and was not used"
CMYK_APPROXIMATED = "its CMYK colours have no profile and are approximated"


class ProfileProblem(ValueError):
    """A colour profile that cannot be used. The message is a clause for people."""


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str]:
    """An image of mode L, LA, RGB, RGBA, CMYK or LAB as RGB, or as RGBA with its transparency unchanged.

    The second value is a note about what could not be done, or empty.
    """
    if image.mode in ("LA", "RGBA"):
        base, note = to_srgb(image.convert(image.mode[:-1]), profile)
        base.putalpha(image.getchannel("A"))
        return base, note
    note = ""
    if profile:
        try:
            return _converted(image, profile), ""
        except ProfileProblem as problem:
            note = str(problem)
    if image.mode == "LAB":
        return _apply(image, _transform(_lab_profile(), "LAB")), note
    return _as_rgb(image), note or (CMYK_APPROXIMATED if image.mode == "CMYK" else "")


def deep_to_srgb(values: NDArray[np.uint16], profile: bytes) -> NDArray[np.uint8]:
    """RGB values of 16 bits [H,W,3], by an RGB profile, as 8-bit sRGB. ProfileProblem when it cannot be used."""
    if (transformed := _deep_transformed(values, profile, "uint8")) is None:
        return np.rint(values / np.float32(257)).astype(np.uint8)
    converted: NDArray[np.uint8] = transformed
    return converted


def deep_to_deep_srgb(values: NDArray[np.uint16], profile: bytes) -> NDArray[np.uint16]:
    """Grey [H,W] or RGB [H,W,3] values of 16 bits as sRGB of 16 bits, by their profile; grey stays grey.

    ProfileProblem when it cannot be used.
    """
    grey = values.ndim == 2
    if grey and _space(profile) == "RGB ":
        values = np.repeat(values[..., None], 3, axis=2)
    transformed = _deep_transformed(values, profile, "uint16")
    converted: NDArray[np.uint16] = values if transformed is None else transformed
    return converted[..., 0] if grey and converted.ndim == 3 else converted


def _deep_transformed(values: NDArray[np.uint16], profile: bytes, dtype: str) -> NDArray[Any] | None:
    """[H,W] or [H,W,3] -> [H,W,3] of this type; None for a profile that changes no value."""
    import imagecodecs

    grey = values.ndim == 2
    if _space(profile) != ("GRAY" if grey else "RGB "):
        raise ProfileProblem(_wrong_space(profile, "grey" if grey else "RGB"))
    if _transform(profile, "L" if grey else "RGB") is None:
        return None
    converted: NDArray[Any] = imagecodecs.cms_transform(
        values, profile, srgb_profile(), colorspace="gray" if grey else "rgb", outcolorspace="rgb", outdtype=dtype,
        intent=int(_INTENT), flags=int(_FLAGS | _PRECISE),
    )  # fmt: skip
    return converted


def srgb_chunks() -> PngInfo:
    """What declares sRGB in a PNG, for `image.save(path, pnginfo=…)`; texts can be added."""
    chunks = PngInfo()
    chunks.add(b"sRGB", b"\0")
    return chunks


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """An ICC profile of sRGB, to be written into image files."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@lru_cache(maxsize=1)
def _lab_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    space = _space(profile)
    mode = _SPACES.get(space)
    if image.mode == "L" and mode == "RGB":
        image = image.convert("RGB")
    if mode != image.mode:
        raise ProfileProblem(_wrong_space(profile, {"L": "grey", "LAB": "Lab"}.get(image.mode, image.mode)))
    return _apply(image, _transform(profile, mode))


def _apply(image: Image.Image, transform: ImageCms.ImageCmsTransform | None) -> Image.Image:
    return _as_rgb(image) if transform is None else transform.apply(image)


def _as_rgb(image: Image.Image) -> Image.Image:
    """The image as RGB, without a copy if it is RGB already."""
    return image if image.mode == "RGB" else image.convert("RGB")


def _wrong_space(profile: bytes, found: str) -> str:
    space = _space(profile)
    return f"its colour profile is for {_NAMES.get(space, space.strip())} and the image is {found}: it was not used"


@lru_cache(maxsize=64)
def _space(profile: bytes) -> str:
    if len(profile) > LARGEST_PROFILE_BYTES:
        raise ProfileProblem(PROFILE_TOO_LARGE)
    return str(_opened(profile).profile.xcolor_space)


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None where it changes no value by more than one level. ProfileProblem."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    flags = _FLAGS | _PRECISE if mode in ("L", "LAB") else _FLAGS
    try:
        transform = ImageCms.ImageCmsTransform(_opened(profile), srgb, mode, "RGB", _INTENT, flags=flags)
    except _REFUSALS as error:
        raise ProfileProblem(PROFILE_DAMAGED) from error
    if mode == "RGB":
        steps = np.linspace(0, 255, 9).round().astype(np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
        if np.abs(np.asarray(transform.apply(Image.fromarray(cube))).astype(int) - cube).max() <= 1:
            return None
    return transform


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except _REFUSALS as error:
        raise ProfileProblem(PROFILE_DAMAGED) from error


# ---- colours that are declared without a profile -------------------------------------------------------------------

_XY = tuple[float, float]
Points = tuple[_XY, _XY, _XY, _XY]  # x and y of white, red, green and blue

_D65: _XY = (0.3127, 0.3290)
PRIMARIES: dict[int, Points] = {  # code point -> chromaticities
    1: (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),  # BT.709, as sRGB
    9: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # DCI-P3
    12: (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
# Video's own curve counts as that of sRGB, as in web browsers. 0 stands for the curve of sRGB.
_GAMMAS = {1: 0.0, 4: 2.2, 5: 2.8, 6: 0.0, 8: 1.0, 13: 0.0, 14: 0.0, 15: 0.0, 17: 2.6}


@dataclass(frozen=True, slots=True)
class Declared:
    """Colours declared without a profile: the profile that they mean (None: sRGB), and what cannot be followed."""

    profile: bytes | None = None
    note: str = ""


def declared_by_code_points(primaries: int, transfer: int) -> Declared:
    """The colours that the code points in a PNG's cICP chunk declare."""
    if primaries not in PRIMARIES:
        return Declared(note=f"its colours have primaries of code {primaries} and are read as sRGB")
    return declared_by_transfer(PRIMARIES[primaries], transfer)


def declared_by_transfer(points: Points, transfer: int) -> Declared:
    """Colours with these chromaticities of white, red, green and blue, and a transfer function of H.273."""
    if transfer not in _GAMMAS:
        kind = {16: "HDR (PQ)", 18: "HDR (HLG)"}.get(transfer, f"of transfer function {transfer}")
        return Declared(note=f"its colours are {kind} and are read as sRGB")
    return declared_by_numbers(points, _GAMMAS[transfer])


def declared_by_png(gamma: float | None, chromaticity: tuple[float, ...] | None) -> Declared:
    """The colours that a PNG's gAMA (exponent of encoding) and cHRM (x and y of white, red, green, blue) declare."""
    exponent = 0.0
    if gamma is not None and not 0.44 <= gamma <= 0.47:  # 1/2.2 stands for the curve of sRGB
        if not 0.1 <= gamma <= 10:
            return Declared(note=f"its gamma of {gamma:g} is not possible and was not used")
        exponent = 1 / gamma
    points = PRIMARIES[1]
    if chromaticity is not None:
        white, red, green, blue = (chromaticity[2 * index : 2 * index + 2] for index in range(4))
        points = ((white[0], white[1]), (red[0], red[1]), (green[0], green[1]), (blue[0], blue[1]))
    return declared_by_numbers(points, exponent)


@lru_cache(maxsize=64)
def declared_by_numbers(points: Points, exponent: float) -> Declared:
    """Colours with these chromaticities of white, red, green and blue, and exponent of decoding; 0 is sRGB's curve."""
    import imagecodecs

    if exponent == 0 and np.abs(np.subtract(points, PRIMARIES[1])).max() < 0.003:
        return Declared()
    (white, *primaries) = points
    codes = np.linspace(0, 1, 1024)
    curve = codes**exponent if exponent else np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    try:
        return Declared(
            imagecodecs.cms_profile(
                "rgb",
                whitepoint=(*white, 1.0),
                primaries=[number for point in primaries for number in point],
                transferfunction=np.rint(curve * 65535).astype(np.uint16),
            )
        )
    except (RuntimeError, ValueError) as error:
        return Declared(note=f"its declared colours are not possible ({error}) and were not used")
