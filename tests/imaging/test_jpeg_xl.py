"""JPEG XL: headers written bit by bit after ISO/IEC 18181-1, and pixels that imagecodecs encoded."""

from __future__ import annotations

import base64
import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import ImageProblem
from diffstudio.imaging import jpeg_xl
from diffstudio.imaging.colour import PROFILE_DAMAGED, Declared, declared_by_code_points, declared_by_numbers
from diffstudio.imaging.jpeg_xl import JpegXlHeader, JpegXlProblem, read_header
from diffstudio.imaging.jpeg_xl_entropy import Bits
from diffstudio.imaging.limits import FIRST_FRAME
from diffstudio.imaging.reader import load_image, read_size

NOISE = np.random.default_rng(0).integers(0, 256, (40, 61, 4), dtype=np.uint8)
SIGNATURE = b"\xff\x0a"
D65 = (0.3127, 0.3290)
SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))


def bits(*fields: tuple[int, int]) -> bytes:
    """(value, number of bits) each, the lowest bit first, padded with zeros."""
    value, position = 0, 0
    for number, count in fields:
        value |= number << position
        position += count
    return SIGNATURE + value.to_bytes(position // 8 + 16, "little")


def size(width: int, height: int) -> list[tuple[int, int]]:
    """SizeHeader: not a multiple of eight, 18 bits a side, no ratio."""
    return [(0, 1), (2, 2), (height - 1, 18), (0, 3), (2, 2), (width - 1, 18)]


LINEAR_SRGB = declared_by_numbers((D65, *SRGB_PRIMARIES), 1.0)
# `cjxl -d 0` and `cjxl -d 1` (libjxl 0.7) of the gradient below, with a profile of Display P3 whose curve is a table
LOSSLESS = base64.b64decode(
    "/woDQQhXzQEGDABALBjQALPBIaTTwHOSWJrXtR+ZQqGIbjhQ2+zczKY9Dw01YmlqgpidH832JwdemHHh8NSRJtxZmt1ZRBxdqyZHR0e3NjsT"
    "LrwP1QRArEa1mhFANHurOeMuK/e5DaCA32tUtgIAAACgOKzbiYtzuZIOCQ0kqlYqVnQ3pXKHsvLchlyuo7eBRr2ClUtWqlOo6GYNVGtW2UCm"
    "ZJUqxSoH21kpAE/TqMMKw47X3988BfYmg/sg/vvbC/nvr08EK+5gYF3wwBe6+/nv728HjYLhxh0YKQdS/MCxXDiSmw38gb//U/4X5X/5X+U/"
    "BVD+F1D+FxBc+r/4T/lf8AlLE6D4FKEAqPCx/wWU/++Gj75J5vc66vdNyboEqe/zOyY9B3W+7bL84H3K8CpGwY9+GBg0DNBjiimbFGNEay4y"
    "THgtMRP0E8apTEw0cUG6ibFJjEOsFK9N1jTbzcGLiPC7n4N0/g/AR4UmFirFm3Ad0UuEQxom9ixuGy8w2coNbEQGOPQFyJ7wXwD/ADQWlawW"
    "gHUAux6BImzQ4AqGIUGbmnBeDggCAQCQAUsoorpF+jm4DnLw+/FJKCgoKCg5gIgRqHMyxpwYBwIKICk6BmcYY4wxjEFhsRIADCAEEEAQMACY"
    "OEhZ+Y5RcLkj5Y/+/2b+v6oq/aqq/76o/4/zCE34ZAUB3I7T7z5A/Fs0cmA="
)
LOSSY = base64.b64decode(
    "/woDQQpXzQEGDABALBjQALPBIaTTwHOSWJrXtR+ZQqGIbjhQ2+zczKY9Dw01YmlqgpidH832JwdemHHh8NSRJtxZmt1ZRBxdqyZHR0e3NjsT"
    "LrwP1QRArEa1mhFANHurOeMuK/e5DaCA32tUtgIAAACgOKzbiYtzuZIOCQ0kqlYqVnQ3pXKHsvLchlyuo7eBRr2ClUtWqlOo6GYNVGtW2UCm"
    "ZJUqxSoH21kpAE/TqMMKw47X3988BfYmg/sg/vvbC/nvr08EK+5gYF3wwBe6+/nv728HjYLhxh0YKQdS/MCxXDiSmw38gb//U/4X5X/5X+U/"
    "BVD+F1D+FxBc+r/4T/lf8AlLE6D4FKEAqPCx/wWU/++Gj75J5vc66vdNyboEqe/zOyY9B3W+7bL84H3K8CpGwY9+GBg0DNBjiimbFGNEay4y"
    "THgtMRP0E8apTEw0cUG6ibFJjEOsFK9N1jTbzcGLiPC7n4N0/g/AR4UmFirFm3Ad0UuEQxom9ixuGy8w2coNbEQGOPQFyJ7wXwD/ADQWlawW"
    "gHUAux6BImzQ4AqGIUGbmnBeDgASiAIAyAFd5RIAABUqo4wbvJzr+fJDh8W0jesMbbVtYUmiyDg2SSdwSBJLgHhbHIeg/PW/QsxXXGmPzgJ7"
    "eOopO60Xr3iqLKNMq1QRFIBKEqkQ2dh+NRKCwOj9+HnKPS7yLFTBDACg654lbaH7z2FvrkFo1llpkBQ="
)

EIGHT_BITS = [(0, 1), (0, 2)]
NO_EXTRAS = [(0, 1), *EIGHT_BITS, (1, 1), (0, 2), (0, 1)]  # no extra fields; depth; 16-bit buffers; channels; not XYB


def coloured(*fields: tuple[int, int]) -> Declared:
    return read_header(bits(*size(9, 5), (0, 1), *NO_EXTRAS, *fields)).colours


def boxes(*parts: tuple[bytes, bytes]) -> bytes:
    container = b"\0\0\0\x0cJXL \r\n\x87\n"
    return container + b"".join(struct.pack(">I4s", 8 + len(body), kind) + body for kind, body in parts)


def test_sizes_in_every_way_they_are_written() -> None:
    def read(*fields: tuple[int, int]) -> tuple[int, int]:
        header = read_header(bits(*fields, (1, 1)))
        assert header == JpegXlHeader(header.width, header.height, False, Declared(), False)
        return header.width, header.height

    assert read(*size(70_000, 3)) == (70_000, 3)
    assert read((1, 1), (4, 5), (0, 3), (31, 5)) == (256, 40)  # eighths
    ratios = {1: (120, 120), 2: (144, 120), 3: (160, 120), 4: (180, 120), 5: (213, 120), 6: (150, 120), 7: (240, 120)}
    for code, expected in ratios.items():
        assert read((0, 1), (0, 2), (119, 9), (code, 3)) == expected
    assert read((0, 1), (1, 2), (8000, 13), (0, 3), (3, 2), (2**29, 30)) == (2**29 + 1, 8001)


def test_what_stands_before_the_colours_is_passed_over() -> None:
    preview = [(0, 1), (1, 2), (5, 8), (0, 3), (0, 2), (9, 6)]
    animation = [(2, 2), (5, 10), (0, 2), (1, 2), (4, 3), (0, 1)]
    extra = [(1, 1), (5, 3), (1, 1), *size(4, 4), (1, 1), *preview, (1, 1), *animation]
    alpha = [(0, 1), (0, 2), *EIGHT_BITS, (0, 2), (1, 2), (2, 4), (65, 8), (66, 8), (1, 1)]
    spot = [(0, 1), (2, 2), (0, 4), (1, 1), (0, 2), (8, 4), (0, 2), (0, 2), (0, 64)]
    filter_array = [(0, 1), (2, 2), (3, 4), *EIGHT_BITS, (0, 2), (0, 2), (0, 2)]
    depth_map = [(0, 1), (1, 2), *EIGHT_BITS, (0, 2), (0, 2)]
    channels = [(2, 2), (3, 4), (1, 1), *alpha, *spot, *filter_array, *depth_map]
    header = read_header(
        bits(*size(30, 20), (0, 1), *extra, (1, 1), (0, 2), (7, 4), (1, 1), *channels, (1, 1), (0, 1), (1, 1), (2, 2))
    )
    assert (header.width, header.height, header.animated) == (20, 30, True)  # turned by a quarter
    assert header.colours == LINEAR_SRGB  # lossy and with a profile

    square = [(1, 1), (0, 3), (0, 1), (1, 1), (1, 1), (0, 2), (1, 3), (0, 1)]  # a preview by ratio, in eighths
    rest = [*EIGHT_BITS, (1, 1), (0, 2), (0, 1), (1, 1)]
    header = read_header(bits(*size(30, 20), (0, 1), *square, *rest))
    assert (header.width, header.height, header.colours) == (30, 20, Declared())


def test_colours_by_code() -> None:
    def enum(value: int) -> list[tuple[int, int]]:
        return [(value, 2)] if value < 2 else [(2, 2), (value - 2, 4)] if value < 18 else [(3, 2), (value - 18, 6)]

    rgb, named = [(0, 1), (0, 1), *enum(0)], [*enum(1), *enum(1), (0, 1)]
    assert coloured((1, 1)) == Declared()
    assert coloured(*rgb, *named, *enum(13)) == Declared()
    assert coloured(*rgb, *enum(1), *enum(11), (0, 1), *enum(13)).note == ""
    assert coloured(*rgb, *enum(1), *enum(9), (0, 1), *enum(13)) == declared_by_code_points(9, 13)
    assert coloured(*rgb, *named, *enum(8)) == declared_by_code_points(1, 8)
    assert coloured(*rgb, *named, *enum(18)).note == "its colours are HDR (HLG) and are read as sRGB"
    by_gamma = coloured(*rgb, *enum(1), *enum(1), (1, 1), (5_000_000, 24))
    assert by_gamma == declared_by_numbers((D65, *SRGB_PRIMARIES), 2.0) and by_gamma.profile is not None
    assert coloured((0, 1), (0, 1), *enum(1), *enum(1), (0, 1), *enum(8)) == declared_by_code_points(1, 8)  # grey
    assert coloured((0, 1), (0, 1), *enum(2)) == Declared()  # XYB


def test_colours_by_number() -> None:
    def point(x: float, y: float) -> list[tuple[int, int]]:
        return (
            [field for value in (x, y) for field in ((0, 2), (round(value * 1e6) * 2, 19))]
            if max(x, y) < 0.26
            else [
                field
                for value in (x, y)
                for field in (
                    [(0, 2), (round(value * 1e6) * 2, 19)]
                    if value < 0.26
                    else [(1, 2), (round(value * 1e6) * 2 - 524_288, 19)]
                )
            ]
        )

    custom = [(0, 1), (0, 1), (0, 2), (2, 2), (0, 4), *point(0.3127, 0.3290), (2, 2), (0, 4)]
    for corner in ((0.5, 0.4), (0.2, 0.5), (0.1, 0.1)):
        custom += point(*corner)
    assert coloured(*custom, (0, 1), (2, 2), (6, 4)) == declared_by_numbers(
        (D65, (0.5, 0.4), (0.2, 0.5), (0.1, 0.1)), 1.0
    )
    negative = [(0, 1), (0, 1), (0, 2), (1, 2), (2, 2), (0, 4), (0, 2), (3, 19)]  # zigzag: 3 is -2 millionths
    assert coloured(*negative, (0, 2), (3, 19), *([(0, 2), (0, 19)] * 4), (0, 1), (2, 2), (6, 4)).profile is None


@pytest.mark.parametrize(
    "data",
    [
        SIGNATURE,
        SIGNATURE + b"\x02",
        boxes((b"ftyp", b"jxl ")),
        boxes((b"ftyp", b"jxl "))[:-2],
        boxes(*[(b"free", b"")] * 1001),
        b"\0\0\0\x0cJXL \r\n\x87\n" + struct.pack(">I4s", 3, b"jxlc") + bytes(9),
        bits(*size(3, 3), (0, 1), *NO_EXTRAS, (0, 1), (0, 1), (0, 2), (0, 2)),  # a white point that does not exist
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(JpegXlProblem):
        read_header(data)
    (tmp_path / "a.jxl").write_bytes(data)
    with pytest.raises(ImageProblem, match="damaged"):
        load_image(tmp_path / "a.jxl")


def test_boxes_of_every_length() -> None:
    code = bits(*size(7, 5), (1, 1))
    long = b"\0\0\0\x0cJXL \r\n\x87\n" + struct.pack(">I4sQ", 1, b"jxlc", 16 + len(code)) + code
    last = b"\0\0\0\x0cJXL \r\n\x87\n" + struct.pack(">I4s", 0, b"jxlc") + code
    part = boxes((b"jbrd", b""), (b"jxlp", bytes(4) + code), (b"jxlp", bytes(40)))
    assert [(found.width, found.height, found.is_jpeg) for found in map(read_header, (long, last, part))] == [
        (7, 5, False),
        (7, 5, False),
        (7, 5, True),
    ]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_without_loss(tmp_path: Path, channels: int) -> None:
    pixels = NOISE[..., 0] if channels == 1 else np.ascontiguousarray(NOISE[..., :channels])
    path = tmp_path / "a.jxl"
    path.write_bytes(imagecodecs.jpegxl_encode(pixels, lossless=True))
    loaded = load_image(path)
    assert loaded.size == read_size(path) == (61, 40) and loaded.notes == () and loaded.depth is None
    expected = Image.fromarray(pixels).convert("RGBA" if channels in (2, 4) else "RGB")
    assert loaded.image.mode == expected.mode
    assert (np.asarray(loaded.image) == np.asarray(expected)).all()
    assert load_image(path, at_least=10).image.size == (16, 10)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deep_pixels_are_read_as_the_linear_light_they_declare(tmp_path: Path, dtype: str) -> None:
    linear = np.linspace(0, 1, 48).reshape(6, 8, 1).repeat(3, axis=2)
    pixels = np.rint(linear * 65535).astype(np.uint16) if dtype == "uint16" else linear.astype(np.float32)
    path = tmp_path / "a.jxl"
    path.write_bytes(imagecodecs.jpegxl_encode(pixels, lossless=True))
    loaded = load_image(path)
    encoded = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(np.asarray(loaded.image) - encoded).max() < 1.2
    assert loaded.depth is not None and loaded.depth.declared == ((0, 65535) if dtype == "uint16" else (0, 1))


def test_a_recompressed_jpeg_is_the_jpeg_with_its_profile(tmp_path: Path) -> None:
    with Image.open(Path(__file__).parents[1] / "data" / "colour" / "adobergb.png") as file:
        jpeg = io.BytesIO()
        file.save(jpeg, "JPEG", quality=95, icc_profile=file.info["icc_profile"])
    (tmp_path / "a.jpg").write_bytes(jpeg.getvalue())
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode_jpeg(jpeg.getvalue()))
    one, other = (load_image(tmp_path / name) for name in ("a.jpg", "a.jxl"))
    assert one.size == other.size == read_size(tmp_path / "a.jxl")
    assert (np.asarray(one.image) == np.asarray(other.image)).all()


def test_where_the_jpeg_cannot_be_restored_the_pixels_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpeg = io.BytesIO()
    Image.fromarray(NOISE[..., :3]).save(jpeg, "JPEG", quality=95)
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode_jpeg(jpeg.getvalue()))

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("JXL_DEC_ERROR")

    monkeypatch.setattr(imagecodecs, "jpegxl_decode_jpeg", refuse)
    with Image.open(jpeg) as file:
        assert np.abs(np.asarray(load_image(tmp_path / "a.jxl").image).astype(int) - np.asarray(file)).mean() < 2


def test_of_an_animation_the_first_frame_is_used_and_that_is_reported(tmp_path: Path) -> None:
    frames = np.stack([NOISE[..., :3], 255 - NOISE[..., :3]])
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(frames, lossless=True))
    loaded = load_image(tmp_path / "a.jxl")
    assert loaded.notes == (FIRST_FRAME,)
    assert (np.asarray(loaded.image) == frames[0]).all()


def test_a_bomb_is_refused_by_its_header_and_damage_by_the_decoder(tmp_path: Path) -> None:
    path = tmp_path / "a.jxl"
    path.write_bytes(bits(*size(30_000, 30_000), (1, 1)))
    with pytest.raises(ImageProblem, match="30,000 × 30,000 px"):
        load_image(path)
    path.write_bytes(imagecodecs.jpegxl_encode(NOISE, lossless=True)[:300])
    with pytest.raises(ImageProblem, match="damaged"):
        load_image(path)


def test_what_cannot_be_followed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(NOISE, lossless=True))
    header = JpegXlHeader(61, 40, False, Declared(note="it cannot be followed"), False)
    monkeypatch.setattr(jpeg_xl, "read_header", lambda data, **_: header)
    assert load_image(tmp_path / "a.jxl").notes == ("it cannot be followed",)


# ---- ICC profiles inside the codestream ------------------------------------------------------------------------------


def gradient() -> Image.Image:
    down, across = np.mgrid[0:16, 0:24]
    return Image.fromarray(np.stack([10 * across, 15 * down, 255 - 5 * across], axis=-1).astype(np.uint8))


def as_png(folder: Path, profile: bytes | None) -> np.ndarray:
    gradient().save(folder / "same.png", icc_profile=profile)
    return np.asarray(load_image(folder / "same.png").image).astype(float)


def test_a_lossless_image_is_converted_by_its_profile(tmp_path: Path) -> None:
    (tmp_path / "a.jxl").write_bytes(LOSSLESS)
    profile = read_header(LOSSLESS).colours.profile
    assert profile is not None and len(profile) == 6732 and b"curv" in profile
    assert read_header(LOSSLESS, with_profile=False).colours == Declared()
    loaded = load_image(tmp_path / "a.jxl")
    expected = as_png(tmp_path, profile)
    assert loaded.notes == () and loaded.size == read_size(tmp_path / "a.jxl") == (24, 16)
    assert (np.asarray(loaded.image) == expected).all()
    assert np.abs(expected - np.asarray(gradient())).mean() > 5  # the profile changes much


def test_a_lossy_image_with_a_profile_is_decoded_to_linear_light(tmp_path: Path) -> None:
    """libjxl has no colour management of its own: it decodes to linear sRGB, 40 levels too dark when that is not said."""
    (tmp_path / "a.jxl").write_bytes(LOSSY)
    assert read_header(LOSSY).colours == LINEAR_SRGB
    away = np.abs(
        np.asarray(load_image(tmp_path / "a.jxl").image) - as_png(tmp_path, read_header(LOSSLESS).colours.profile)
    )
    assert away.mean() < 2


def test_a_jpeg_that_cannot_be_restored_is_converted_by_the_profile_of_the_codestream(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.jpg", quality=95, icc_profile=read_header(LOSSLESS).colours.profile)
    whole = bytes(imagecodecs.jpegxl_encode_jpeg((tmp_path / "a.jpg").read_bytes()))
    (tmp_path / "a.jxl").write_bytes(whole.replace(b"jbrd", b"free"))
    loaded = load_image(tmp_path / "a.jxl")
    assert loaded.notes == () and not read_header((tmp_path / "a.jxl").read_bytes()).is_jpeg
    assert (
        np.abs(np.asarray(loaded.image).astype(float) - np.asarray(load_image(tmp_path / "a.jpg").image)).mean() < 1.5
    )


def test_what_stands_between_the_colours_and_the_profile_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    begins: list[int] = []

    def note(found: Bits) -> bytes:
        begins.append(found.position)
        return b""

    with monkeypatch.context() as patched:
        patched.setattr(jpeg_xl, "read_profile", note)
        read_header(LOSSLESS)
    profile = (int.from_bytes(LOSSLESS[2:], "little") >> begins[0], 8 * len(LOSSLESS) - begins[0])
    extra = [(0, 3), (0, 1), (0, 1), (0, 1)]
    rest = [*NO_EXTRAS[1:], (0, 1), (1, 1), (0, 2)]
    tone_mapping = [(0, 1), (0, 49)]
    extensions = [(1, 2), (2 - 1 + 8, 4), (1, 2), (3, 4), (1, 2), (0, 4), (0, 5)]  # bits 1 and 3: of 4 bits, and of 1
    weights = [(0, 1), (7, 3), (0, 16 * (15 + 55 + 210))]
    data = bits(*size(9, 5), (0, 1), (1, 1), *extra, *rest, *tone_mapping, *extensions, *weights, profile)
    assert read_header(data).colours == read_header(LOSSLESS).colours


def test_a_damaged_profile_is_left_out_and_reported() -> None:
    damaged = bytearray(LOSSLESS)
    damaged[60] ^= 0xFF
    assert read_header(bytes(damaged)).colours == Declared(note=PROFILE_DAMAGED)
    assert read_header(LOSSLESS[:100]).colours == Declared(note=PROFILE_DAMAGED)
