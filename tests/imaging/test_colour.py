"""Colours of any profile become sRGB: values from the formulas of sRGB, CIE Lab and ICC, not from yesterday's output."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from diffstudio.imaging import colour
from diffstudio.imaging.colour import (
    CMYK_APPROXIMATED,
    PROFILE_DAMAGED,
    PROFILE_TOO_LARGE,
    Declared,
    ProfileProblem,
    declared_by_code_points,
    declared_by_numbers,
    declared_by_png,
    deep_to_srgb,
    srgb_chunks,
    srgb_profile,
    to_srgb,
)

DATA = Path(__file__).parents[1] / "data" / "colour"
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def encoded(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: linear light in [0, 1] -> 8-bit sRGB."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def stored(name: str) -> Image.Image:
    """A file of the test data as Pillow reads it, colours as stored."""
    with Image.open(DATA / name) as file:
        return file.copy()


def adobe_rgb() -> bytes:
    return stored("adobergb.png").info["icc_profile"]


def cmyk_profile() -> bytes:
    """An ICC profile (ICC.1:2001-04) with a table of two points an ink: paper is white, each ink has one Lab colour."""
    inks = {
        (1, 0, 0, 0): (55, -37, -50),
        (0, 1, 0, 0): (48, 74, -3),
        (0, 0, 1, 0): (89, -5, 93),
        (0, 0, 0, 0): (100, 0, 0),
    }
    table = bytearray()
    for corner in np.ndindex(2, 2, 2, 2):
        lightness, a, b = inks.get(corner, (0, 0, 0))
        table += bytes((round(2.55 * lightness), a + 128, b + 128))
    identity = [65536 if row == column else 0 for row in range(3) for column in range(3)]
    curve = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + struct.pack(">9i", *identity) + 4 * curve + bytes(table) + 3 * curve
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    text = b"text\0\0\0\0none\0\0\0\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", 4) + b"ink\0" + bytes(80)
    tags = {b"desc": description, b"cprt": text, b"wtpt": white, b"A2B0": lut + bytes(-len(lut) % 4)}
    offset, entries, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        entries += struct.pack(">4sII", name, offset + len(body), len(data))
        body += data
    size = offset + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab ") + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + body


def test_adobe_rgb_becomes_srgb() -> None:
    image, note = to_srgb(stored("adobergb.png"), adobe_rgb())
    expected = np.asarray(stored("adobergb_expected.png")).astype(int)
    assert note == "" and image.mode == "RGB"
    assert np.abs(np.asarray(image) - expected).max() <= 1
    assert np.abs(np.asarray(stored("adobergb.png")) - expected).max() > 60


def test_an_srgb_profile_changes_no_pixel() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    assert (np.asarray(to_srgb(image, srgb_profile())[0]) == np.asarray(image)).all()
    values = np.asarray(image).astype(np.uint16) * 257
    assert (deep_to_srgb(values, srgb_profile()) == np.asarray(image)).all()


def test_colours_are_converted_before_transparency_is_laid_on_anything() -> None:
    source = stored("adobergb.png")
    opacity = Image.fromarray(np.linspace(0, 255, 64 * 64).astype(np.uint8).reshape(64, 64))
    opaque, _ = to_srgb(source, adobe_rgb())
    source.putalpha(opacity)
    image, _ = to_srgb(source, adobe_rgb())
    assert image.mode == "RGBA"
    assert (np.asarray(image)[..., :3] == np.asarray(opaque)).all()
    assert (np.asarray(image)[..., 3] == np.asarray(opacity)).all()


def test_a_grey_profile_applies_to_grey_with_and_without_opacity() -> None:
    linear = imagecodecs.cms_profile("gray", gamma=1.0)
    for image in (Image.fromarray(RAMP), Image.merge("LA", [Image.fromarray(RAMP)] * 2)):
        converted, note = to_srgb(image, linear)
        assert note == "" and converted.mode == ("RGB" if image.mode == "L" else "RGBA")
        assert np.abs(np.asarray(converted)[..., 0] - encoded(RAMP / 255)).max() < 1.5


def test_an_rgb_profile_applies_to_a_grey_image() -> None:
    image, note = to_srgb(Image.fromarray(RAMP), declared_by_png(1.0, None).profile)
    assert note == ""
    assert np.abs(np.asarray(image)[..., 1] - encoded(RAMP / 255)).max() < 1.5


def test_cmyk_by_its_profile_and_without_one() -> None:
    paper, yellow = Image.new("CMYK", (4, 4), 0), Image.new("CMYK", (4, 4), (0, 0, 255, 0))
    assert to_srgb(paper, cmyk_profile())[0].getpixel((0, 0)) == pytest.approx((255, 255, 255), abs=2)
    converted, note = to_srgb(yellow, cmyk_profile())
    assert note == "" and converted.getpixel((0, 0)) == pytest.approx((248, 224, 0), abs=3)  # by CIE Lab's formulas
    plain, note = to_srgb(yellow, None)
    assert plain.getpixel((0, 0)) == (255, 255, 0) and note == CMYK_APPROXIMATED


@pytest.mark.parametrize("profile", [None, b"no profile"])
def test_lab_needs_no_profile(profile: bytes | None) -> None:
    """sRGB's red has L = 54.3, a = 80.8, b = 69.9 under D50."""
    lab = Image.merge("LAB", [Image.new("L", (4, 4), value) for value in (138, 128 + 81, 128 + 70)])
    image, note = to_srgb(lab, profile)
    assert image.getpixel((0, 0)) == pytest.approx((255, 0, 0), abs=5)
    assert note == ("" if profile is None else PROFILE_DAMAGED)


def test_a_profile_that_cannot_be_used_is_left_out_and_named() -> None:
    image = Image.fromarray(np.stack([RAMP] * 3, axis=-1))
    largest = colour.LARGEST_PROFILE_BYTES
    for profile, note in (
        (b"nothing", PROFILE_DAMAGED),
        (adobe_rgb()[:200], PROFILE_DAMAGED),
        (bytes(largest + 1), PROFILE_TOO_LARGE),
        (
            imagecodecs.cms_profile("gray", gamma=1.0),
            "its colour profile is for grey and the image is RGB: it was not used",
        ),
        (imagecodecs.cms_profile("xyz"), "its colour profile is for XYZ and the image is RGB: it was not used"),
    ):
        converted, said = to_srgb(image, profile)
        assert said == note
        assert (np.asarray(converted) == np.asarray(image)).all()
    with pytest.raises(ProfileProblem, match="is for grey and the image is RGB"):
        deep_to_srgb(np.zeros((2, 2, 3), np.uint16), imagecodecs.cms_profile("gray", gamma=1.0))
    assert to_srgb(Image.new("CMYK", (2, 2)), adobe_rgb())[1].endswith(
        "is for RGB and the image is CMYK: it was not used"
    )


def test_a_profile_without_its_curves_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """littlecms opens a profile whose tags are missing, and refuses it when it is used."""
    profile = adobe_rgb()[:132].replace(adobe_rgb()[128:132], struct.pack(">I", 0))
    profile = struct.pack(">I", len(profile)) + profile[4:]
    assert to_srgb(Image.new("RGB", (2, 2)), profile)[1] == PROFILE_DAMAGED


def test_sixteen_bits_are_converted_before_they_are_rounded() -> None:
    """Linear light: of 16 bits the darkest hundredth gives 25 levels of sRGB, of 8 bits three."""
    values = np.repeat(np.arange(656, dtype=np.uint16)[None, :, None], 3, axis=2)
    profile = declared_by_png(1.0, None).profile
    assert profile is not None
    converted = deep_to_srgb(values, profile)
    assert np.abs(converted[0, :, 0] - encoded(np.arange(656) / 65535)).max() < 1.1
    assert len(np.unique(converted)) > 20
    adobe = np.asarray(stored("adobergb.png")).astype(np.uint16) * 257
    expected = np.asarray(stored("adobergb_expected.png")).astype(int)
    assert np.abs(deep_to_srgb(adobe, adobe_rgb()) - expected).max() <= 1


def test_what_is_written_declares_srgb(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png", pnginfo=srgb_chunks())
    with Image.open(tmp_path / "a.png") as file:
        assert file.info["srgb"] == 0
    assert ImageCms.ImageCmsProfile(ImageCms.core.profile_frombytes(srgb_profile())).profile.xcolor_space == "RGB "


def test_chunks_that_mean_srgb_ask_for_nothing() -> None:
    srgb = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
    assert declared_by_png(0.45455, srgb) == declared_by_png(0.45455, None) == declared_by_png(None, srgb) == Declared()
    assert declared_by_code_points(1, 13) == declared_by_code_points(1, 1) == Declared()


def test_a_gamma_is_followed_and_an_impossible_one_is_named() -> None:
    profile = declared_by_png(1 / 1.8, None).profile
    image, _ = to_srgb(Image.fromarray(RAMP), profile)
    assert np.abs(np.asarray(image)[..., 0] - encoded((RAMP / 255) ** 1.8)).max() < 1.5
    assert declared_by_png(0.0, None).note == "its gamma of 0 is not possible and was not used"


def test_primaries_are_followed_as_display_p3() -> None:
    """Full green of Display P3 is outside sRGB; P3 (0.5, 0.5, 0.5) is the same grey; the rest by the two matrices."""
    p3_to_srgb = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
    pixels = np.array([[[120, 120, 120], [100, 150, 90], [200, 90, 160]]], np.uint8)
    decoded = np.where(pixels <= 10, pixels / 255 / 12.92, ((pixels / 255 + 0.055) / 1.055) ** 2.4)
    for declared in (
        declared_by_code_points(12, 13),
        declared_by_png(0.45455, (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
    ):
        converted = np.asarray(to_srgb(Image.fromarray(pixels), declared.profile)[0])
        assert np.abs(converted - encoded(decoded @ p3_to_srgb.T)).max() < 1.5


def test_colours_that_cannot_be_followed_are_named() -> None:
    assert declared_by_code_points(9, 16).note == "its colours are HDR (PQ) and are read as sRGB"
    assert declared_by_code_points(9, 18).note == "its colours are HDR (HLG) and are read as sRGB"
    assert declared_by_code_points(1, 11).note == "its colours are of transfer function 11 and are read as sRGB"
    assert declared_by_code_points(99, 13).note == "its colours have primaries of code 99 and are read as sRGB"
    impossible = declared_by_numbers(((0.0, 0.0),) * 4, 0.0)
    assert impossible.profile is None and "are not possible" in impossible.note
