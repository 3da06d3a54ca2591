"""One picture file: every mode of Pillow's, and files that are not what they say."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path
from types import ModuleType

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile
from PIL.PpmImagePlugin import PpmImageFile

from diffstudio.errors import ImageProblem, RunProblem
from diffstudio.imaging.formats import looks_like_an_image
from diffstudio.imaging.limits import FIRST_FRAME
from diffstudio.imaging.reader import (
    flatten,
    image_errors,
    image_notes,
    load_image,
    read_image,
    read_image_bytes,
    read_rgb,
    read_size,
)
from diffstudio.imaging.value_range import Depth, SampleType, ranges_of_folder
from diffstudio.studio.metadata.image_text import read_text
from diffstudio.training.data.preprocess import background_colour, resize_to
from diffstudio.training.recipe import DataRecipe

RED = (255, 0, 0)


def saved(path: Path, picture: Image.Image, **how: object) -> Path:
    picture.save(path, **how)
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def bmp_header(width: int, height: int) -> bytes:
    body = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 99, 0, 0, 54) + body + bytes(99)


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("1", 1, "png", (255, 255, 255)),
        ("L", 100, "png", (100, 100, 100)),
        ("I;16", 65535 // 5, "png", (51, 51, 51)),
        ("I;16", 65535 // 5, "tiff", (51, 51, 51)),
        ("I", 65535 // 5, "tiff", (51, 51, 51)),
        ("F", 0.2, "tiff", (51, 51, 51)),
        ("F", 51.0, "tiff", (51, 51, 51)),
        ("RGB", RED, "bmp", RED),
        ("CMYK", (0, 255, 255, 0), "tiff", RED),
        ("RGB", RED, "gif", RED),
        ("RGB", RED, "ppm", RED),
        ("RGB", RED, "tga", RED),
    ],
)
def test_any_mode_becomes_eight_bit_rgb(
    tmp_path: Path, mode: str, colour: object, suffix: str, expected: tuple
) -> None:
    path = saved(tmp_path / f"picture.{suffix}", Image.new(mode, (20, 10), colour))
    picture, size = read_image(path)
    assert picture.mode == "RGB"
    assert size == picture.size == (20, 10)
    assert picture.getpixel((7, 7)) == pytest.approx(expected, abs=1)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    picture, _ = read_image(saved(tmp_path / "print.jpg", Image.new("CMYK", (32, 32), (0, 255, 255, 0))), at_least=16)
    assert picture.mode == "RGB"
    assert picture.getpixel((3, 3)) == pytest.approx(RED, abs=4)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(path: Path, kind: bytes, data: bytes) -> Path:
    """The PNG with a chunk after its header."""
    whole = path.read_bytes()
    path.write_bytes(whole[:33] + chunk(kind, data) + whole[33:])
    return path


def test_a_profile_is_honoured_and_not_passed_on(tmp_path: Path) -> None:
    data = Path(__file__).parents[1] / "data" / "colour"
    loaded = load_image(data / "adobergb.png")
    with Image.open(data / "adobergb_expected.png") as expected, Image.open(data / "adobergb.png") as source:
        assert np.abs(np.asarray(loaded.image).astype(int) - np.asarray(expected)).max() <= 1
        assert loaded.image.info == {} and loaded.notes == ()
        profile = source.info["icc_profile"]
        for name in ("a.jpg", "a.webp", "a.avif", "a.tiff"):
            how = (
                {}
                if name == "a.tiff"
                else {"lossless": True}
                if name == "a.webp"
                else {"quality": 100, "subsampling": "4:4:4"}
            )
            read = read_image(saved(tmp_path / name, source, icc_profile=profile, **how))[0]
            assert np.abs(np.asarray(read).astype(int) - np.asarray(expected)).max() <= 12, name


def test_a_broken_profile_is_reported_and_costs_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("RGB", (9, 9), RED), icc_profile=b"broken")
    loaded = load_image(path)
    assert loaded.image.getpixel((3, 3)) == RED and loaded.notes == ("its colour profile is damaged and was not used",)
    assert image_notes(path) == ("a.png: its colour profile is damaged and was not used.",)


def test_an_embedded_cmyk_jpeg_of_adobe_is_not_inverted(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 0, 0, 0)))
    loaded = load_image(path)
    assert loaded.image.getpixel((3, 3)) == pytest.approx((255, 255, 255), abs=2)
    assert loaded.notes == ("its CMYK colours have no profile and are approximated",)


def test_the_colour_chunks_of_png_in_their_order(tmp_path: Path) -> None:
    """cICP before iCCP before sRGB before gAMA; linear light (gamma 1) of 55 is 128 in sRGB."""
    grey = Image.new("RGB", (9, 9), (55, 55, 55))
    linear = struct.pack(">I", 100_000)

    def value(path: Path) -> int:
        return read_image(path)[0].getpixel((3, 3))[0]

    path = with_chunk(saved(tmp_path / "gamma.png", grey), b"gAMA", linear)
    assert value(path) == pytest.approx(128, abs=1)
    assert value(with_chunk(path, b"sRGB", b"\0")) == 55
    with Image.open(Path(__file__).parents[1] / "data" / "colour" / "adobergb.png") as source:
        both = saved(
            tmp_path / "both.png", Image.new("RGB", (9, 9), (0, 200, 0)), icc_profile=source.info["icc_profile"]
        )
    assert read_image(both)[0].getpixel((3, 3))[1] > 200
    assert read_image(with_chunk(both, b"cICP", bytes((1, 13, 0, 1))))[0].getpixel((3, 3)) == (0, 200, 0)
    hdr = with_chunk(saved(tmp_path / "hdr.png", grey), b"cICP", bytes((9, 16, 0, 1)))
    assert load_image(hdr).notes == ("its colours are HDR (PQ) and are read as sRGB",)
    many = saved(tmp_path / "many.png", grey)
    many.write_bytes(many.read_bytes()[:33] + 1001 * chunk(b"prVt", b"") + many.read_bytes()[33:])
    assert value(many) == 55


def test_a_frame_of_an_animation_is_reported(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, (0, 255, 0))]
    for suffix in ("gif", "webp", "png", "avif", "tiff"):
        path = saved(tmp_path / f"film.{suffix}", frames[0], save_all=True, append_images=frames[1:])
        assert load_image(path).notes == (FIRST_FRAME,), suffix
        assert load_image(path).image.getpixel((8, 8)) == pytest.approx(RED, abs=4)
    assert load_image(saved(tmp_path / "phone.mpo", frames[0], save_all=True, append_images=frames[1:])).notes == ()
    film = tmp_path / "film.gif"
    film.write_bytes(film.read_bytes()[:-12])  # damage behind the first frame
    assert load_image(film).image.size == (16, 16)


def test_what_follows_a_first_frame_may_be_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, (0, 255, 0))]
    path = saved(tmp_path / "film.gif", frames[0], save_all=True, append_images=frames[1:])

    def broken(self: GifImageFile) -> bool:
        raise ValueError("damaged")

    monkeypatch.setattr(GifImageFile, "is_animated", property(broken))
    assert load_image(path).notes == ()


def test_sixteen_bits_are_rounded_not_cut(tmp_path: Path) -> None:
    """65535 v / 255 is v exactly; half-way values show that the low byte counts."""
    values = np.zeros((8, 9, 3), np.uint16)
    values[..., 0], values[..., 1], values[..., 2] = 128, 129, 257 * 77
    path = tmp_path / "deep.png"
    path.write_bytes(imagecodecs.png_encode(values))
    loaded = load_image(path)
    assert loaded.image.getpixel((2, 2)) == (0, 1, 77)
    assert loaded.depth == Depth(SampleType.UINT16, 128, 257 * 77)
    assert load_image(path, ranges={SampleType.UINT16: (0.0, 257.0 * 154)}).image.getpixel((2, 2))[2] == 128
    assert load_image(path, at_least=4).image.size == (5, 4)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImageProblem):
        load_image(path)


def test_sixteen_bits_with_a_profile(tmp_path: Path) -> None:
    data = Path(__file__).parents[1] / "data" / "colour"
    with Image.open(data / "adobergb.png") as source, Image.open(data / "adobergb_expected.png") as expected:
        deep, grey = tmp_path / "deep.png", tmp_path / "grey.png"
        deep.write_bytes(imagecodecs.png_encode(np.asarray(source).astype(np.uint16) * 257))
        wanted = np.asarray(expected).astype(int)
        name = b"p\0\0" + zlib.compress(source.info["icc_profile"])
    assert np.abs(np.asarray(load_image(with_chunk(deep, b"iCCP", name)).image) - wanted).max() <= 1
    deep.write_bytes(imagecodecs.png_encode(np.full((9, 9, 3), 65535, np.uint16)))
    loaded = load_image(with_chunk(deep, b"iCCP", b"p\0\0" + zlib.compress(b"broken")))
    assert loaded.notes == ("its colour profile is damaged and was not used",)
    grey.write_bytes(imagecodecs.png_encode(np.full((9, 9), 55 * 257, np.uint16)))
    assert load_image(with_chunk(grey, b"gAMA", struct.pack(">I", 100_000))).image.getpixel((1, 1))[0] == 128


def test_the_same_value_is_the_same_pixel_in_a_folder(tmp_path: Path) -> None:
    """Twelve bits in sixteen, and floats: one by one, the darker file would come out as bright as the other."""
    for name, largest in (("dark", 900), ("bright", 4000)):
        pixels = np.linspace(0, largest, 64).reshape(8, 8)
        Image.fromarray(pixels.astype(np.uint16)).save(tmp_path / f"{name}.png")
        Image.fromarray(pixels.astype(np.float32)).save(tmp_path / f"{name}.tiff")
    for suffix, scale in ((".png", 255 / 4095), (".tiff", 255 / 4000)):
        files = [tmp_path / f"{name}{suffix}" for name in ("dark", "bright")]
        ranges = ranges_of_folder(loaded.depth for path in files if (loaded := load_image(path)).depth)
        for path, largest in zip(files, (900, 4000), strict=True):
            values = np.linspace(0, largest, 64).reshape(8, 8).astype(np.uint16 if suffix == ".png" else np.float32)
            image = load_image(path, ranges=ranges).image
            assert np.abs(np.asarray(image)[..., 0] - values * scale).max() <= 0.51


def test_values_that_are_no_numbers_are_reported(tmp_path: Path) -> None:
    pixels = np.full((4, 4), 0.5, np.float32)
    pixels[0, :2] = np.nan, np.inf
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    loaded = load_image(tmp_path / "a.tiff")
    assert loaded.notes == ("2 of its values are not finite numbers and are black",)
    assert loaded.image.getpixel((0, 0)) == (0, 0, 0) and loaded.image.getpixel((3, 3)) == (128, 128, 128)


@pytest.mark.parametrize("shape", [(20, 20), (20, 20, 3), (20, 20, 5)])
def test_an_image_without_a_finite_value_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.full(shape, np.nan, np.float32))
    with pytest.raises(ImageProblem, match="none of its values is a finite number"):
        load_image(tmp_path / "a.npy")


def test_a_file_that_declares_its_range_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 1023\n" + struct.pack(">2H", 0, 1023))
    loaded = load_image(tmp_path / "a.pgm")
    assert [loaded.image.getpixel((x, 0))[0] for x in (0, 1)] == [0, 255]
    assert loaded.depth is not None and loaded.depth.declared == (0, 65535)
    floats = load_image(saved(tmp_path / "a.pfm", Image.new("F", (4, 4), 0.5)))
    assert floats.image.getpixel((1, 1)) == (128, 128, 128)


def test_floats_in_colour_which_pillow_does_not_open(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((12, 20, 3)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tiff", pixels, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    loaded = load_image(tmp_path / "a.tiff")
    assert loaded.size == loaded.image.size == (12, 20)
    upright = np.asarray(loaded.image.transpose(Image.Transpose.ROTATE_90))
    assert (upright == np.rint(pixels * 255)).all()
    assert read_size(tmp_path / "a.tiff") == (20, 12) or read_size(tmp_path / "a.tiff") == (12, 20)
    tifffile.imwrite(
        tmp_path / "clear.tiff", np.dstack([pixels, pixels[..., :1]]), photometric="rgb", extrasamples=["unassalpha"]
    )
    assert load_image(tmp_path / "clear.tiff").image.mode == "RGBA"


def test_sizes_are_read_from_headers(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_size(saved(tmp_path / "a.jpg", Image.new("RGB", (30, 20)), exif=exif)) == (20, 30)
    (tmp_path / "text.png").write_text("Dear diary")
    with pytest.raises(ImageProblem, match="not an image"):
        read_size(tmp_path / "text.png")


def test_an_image_in_memory_is_read_with_the_same_limits() -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), RED).save(file, "PNG")
    assert read_image_bytes(file.getvalue(), "The thumbnail", at_least=16).size == (16, 16)
    with pytest.raises(ImageProblem, match="The thumbnail cannot be read: at 13,000 × 13,000 px"):
        read_image_bytes(png_header(13_000, 13_000), "The thumbnail")


def test_heic_without_its_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "IMG_1.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".ljust(64, b"\0"))
    with pytest.raises(ImageProblem, match="-m pip install pillow-heif") as problem:
        load_image(tmp_path / "IMG_1.jpg")
    assert "GPL" in problem.value.why and "HEIC" in problem.value.why


def test_heic_with_its_package_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for pillow-heif, whose opener takes the pixels from another format behind HEIC's first bytes."""

    class Opener(PpmImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self.fp.seek(32)
            self._mode, self._size, self.tile = "RGB", (2, 1), [("raw", (0, 0, 2, 1), 32, ("RGB", 0, 1))]

    package = ModuleType("pillow_heif")
    package.register_heif_opener = lambda: Image.register_open("HEIF", Opener, lambda head: True)
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".ljust(32, b"\0")
    (tmp_path / "a.heic").write_bytes(head + bytes((255, 0, 0, 0, 255, 0)))
    assert load_image(tmp_path / "a.heic").image.getpixel((0, 0)) == RED
    assert read_size(tmp_path / "a.heic") == (2, 1)


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "RGB with a colour key"])
def test_what_shines_through_is_seen(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "picture.png"
    match mode:
        case "P":
            picture = Image.new("P", (20, 20), 0)
            picture.putpalette([9, 9, 9, 255, 0, 0])
            picture.paste(1, (10, 0, 20, 20))
            picture.save(path, transparency=0)
        case "RGB with a colour key":
            picture = Image.new("RGB", (20, 20), (9, 9, 9))
            picture.paste(RED, (10, 0, 20, 20))
            picture.save(path, transparency=(9, 9, 9))
        case _:
            picture = Image.new(mode, (20, 20), 0)
            picture.paste(RED + (255,) if mode == "RGBA" else (200, 255), (10, 0, 20, 20))
            picture.save(path)
    read, _ = read_image(path)
    assert read.mode == "RGBA"
    assert read.getpixel((0, 0))[3] == 0
    assert read.getpixel((19, 0))[3] == 255
    on_blue = resize_to(read, (20, 20), (0, 0, 255), "pad")
    assert tuple(on_blue[5, 2]) == (0, 0, 255)
    assert tuple(on_blue[5, 17]) == ((200, 200, 200) if mode == "LA" else RED)


def test_a_wholly_opaque_alpha_channel_is_no_transparency(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path / "a.png", Image.new("RGBA", (20, 20), RED + (255,))))[0].mode == "RGB"


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, (0, 255, 0), (0, 0, 255))]
    path = saved(tmp_path / f"film.{suffix}", frames[0], save_all=True, append_images=frames[1:], duration=50)
    assert read_image(path)[0].convert("RGB").getpixel((8, 8)) == pytest.approx(RED, abs=4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, orientation: int) -> None:
    """A camera held in each of eight ways: the red corner is top left, whatever the pixels' own order."""
    upright = Image.new("RGB", (64, 32))
    upright.paste(RED, (0, 0, 16, 16))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose that stores `upright` for each orientation
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture, size = read_image(saved(tmp_path / "photo.jpg", stored, exif=exif, quality=95))
    assert size == picture.size == (64, 32)
    assert picture.getpixel((8, 8))[0] > 200
    assert max(picture.getpixel((60, 28))) < 40


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif", "16-bit.tif"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_the_size_in_the_header_is_that_of_the_upright_image(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"photo.{suffix}"
    if suffix == "16-bit.tif":
        tifffile.imwrite(path, np.zeros((8, 16), np.uint16), extratags=[(274, "H", 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        saved(path, Image.new("RGB", (16, 8), RED), exif=exif)
    loaded = load_image(path)
    expected = (16, 8) if orientation == 3 else (8, 16)
    found = read_text(path)
    assert loaded.image.size == loaded.size == read_size(path) == (found.width, found.height) == expected


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's own words, as it opens the file
def test_damaged_exif_costs_the_rotation_and_not_the_picture(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "photo.jpg", Image.new("RGB", (40, 20), RED), exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 9
    )
    assert read_image(path)[1] == (40, 20)


@pytest.mark.parametrize(("suffix", "mode"), [("jpg", "RGB"), ("png", "RGB"), ("png", "RGBA")])
def test_a_large_picture_comes_small_and_its_own_size_is_told(tmp_path: Path, suffix: str, mode: str) -> None:
    path = saved(tmp_path / f"photo.{suffix}", Image.new(mode, (1600, 800), (*RED, 100)[: len(mode)]))
    picture, size = read_image(path, at_least=64)
    assert size == (1600, 800)
    assert min(picture.size) in range(64, 128)
    assert picture.width == pytest.approx(2 * picture.height, abs=1)
    assert picture.getpixel((9, 9)) == pytest.approx((*RED, 100)[: len(mode)], abs=2)
    assert read_image(path, at_least=900)[0].size == read_image(path)[0].size == (1600, 800)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("empty.png", b"", "empty"),
        ("text.png", b"Dear diary, this is not a picture at all.", "not an image"),
        ("bomb.png", png_header(30_000, 30_000), "at 30,000 × 30,000 px"),
        ("canvas.webp", b"RIFF\0\1\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + 2 * b"\xfe\x3f\0" + bytes(99), "16,383 × 16,383"),
        ("bomb.bmp", bmp_header(20_000, 20_000), "megapixels"),
        ("middle.bmp", bmp_header(10_000, 9_000), "at 10,000 × 9,000 px"),
        ("hole.png", png_header(64, 64), "truncated"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_hostile_files_are_named_with_a_reason(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageProblem) as problem:
        read_image(path)
    assert why in problem.value.why
    assert name in str(problem.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as it is outside tests: said, not raised
def test_a_picture_between_pillows_two_limits_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "poster.png").write_bytes(png_header(12_000, 10_000))
    with pytest.raises(ImageProblem, match="12,000 × 10,000 px"):
        read_image(tmp_path / "poster.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tiff", "bmp"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    path = saved(tmp_path / f"half.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageProblem):
        read_image(path, at_least=16)


def _encoded(kind: str) -> bytes:
    noise = np.random.default_rng(1).integers(0, 255, (24, 24, 4), dtype=np.uint8)
    picture = Image.fromarray(noise)
    file = io.BytesIO()
    (picture.convert("RGB") if kind == "JPEG" else picture).save(file, kind)
    return file.getvalue()


SEEDS = {kind: _encoded(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")}


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(sorted(SEEDS)), data=st.data())
def test_any_damage_gives_a_picture_or_an_image_problem(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    content = bytearray(SEEDS[kind])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind.lower()}"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        picture, _ = read_image(path, at_least=16)
    except ImageProblem as problem:
        assert problem.why
    else:
        assert picture.mode in ("RGB", "RGBA")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    assert not looks_like_an_image(tmp_path / "pipe")
    with pytest.raises(ImageProblem, match="not a plain file"):
        read_image(tmp_path / "pipe.png")


def test_permission_and_absence_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageProblem, match="does not exist"):
        read_image(tmp_path / "gone.png")
    path = saved(tmp_path / "locked.png", Image.new("RGB", (20, 20)))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ImageProblem, match="no permission to read it"):
        read_image(path)


def test_what_looks_like_a_picture(tmp_path: Path) -> None:
    picture = Image.new("RGB", (20, 20))
    assert looks_like_an_image(saved(tmp_path / "A.JPG", picture))
    assert looks_like_an_image(saved(tmp_path / "0001", picture, format="PNG"))
    assert looks_like_an_image(saved(tmp_path / "a.jpg_large", picture, format="JPEG"))
    (tmp_path / "b.jpg_large").write_text("Dear diary")
    (tmp_path / "LICENSE").write_text("Do what you like.")
    (tmp_path / "drawing.eps").write_text("%!PS")  # would start another program
    for name in ("LICENSE", "drawing.eps", "notes.txt", "b.jpg_large", "a.jpeg2", "a.txt_png"):
        assert not looks_like_an_image(tmp_path / name)


def test_pad_shows_the_whole_picture_and_crop_its_middle() -> None:
    wide = Image.new("RGB", (90, 30), RED)
    wide.paste((0, 255, 0), (30, 0, 60, 30))
    padded = resize_to(wide, (30, 30), (0, 0, 255), "pad")
    assert padded.shape == (30, 30, 3)
    assert tuple(padded[2, 15]) == (0, 0, 255)
    assert tuple(padded[15, 2]) == RED
    assert tuple(padded[15, 15]) == (0, 255, 0)
    cropped = resize_to(wide, (30, 30), (0, 0, 255), "crop")
    assert (cropped == np.array((0, 255, 0))).all()


@pytest.mark.parametrize("fit", ["pad", "crop"])
@pytest.mark.parametrize("size", [(5000, 1), (1, 5000), (1, 1), (16, 17)])
def test_any_shape_fits(size: tuple[int, int], fit: str) -> None:
    assert resize_to(Image.new("RGBA", size, RED + (128,)), (32, 32), (255, 255, 255), fit).shape == (32, 32, 3)


def test_no_dark_rim_around_what_is_cut_out() -> None:
    """Red on nothing, the nothing stored as black: resized onto white, every pixel is a mixture of red and white."""
    across = np.hypot(*np.mgrid[-63.5:64.5, -63.5:64.5]) < 50
    pixels = np.zeros((128, 128, 4), dtype=np.uint8)
    pixels[across] = (255, 0, 0, 255)
    laid = resize_to(Image.fromarray(pixels), (40, 40), (255, 255, 255), "pad").astype(int)
    assert laid[..., 0].min() >= 253
    assert np.abs(laid[..., 1] - laid[..., 2]).max() <= 1
    assert ((laid[..., 1] > 20) & (laid[..., 1] < 235)).any()  # the rim itself is there, and soft


def test_backgrounds() -> None:
    assert background_colour(DataRecipe(background="#102030")) == (16, 32, 48)
    assert background_colour(DataRecipe(background="white")) == (255, 255, 255)
    with pytest.raises(RunProblem, match="not a colour"):
        background_colour(DataRecipe(background="blurple"))


def test_names_and_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "png").write_bytes(png_header(8, 8))
    (tmp_path / "text").write_text("no")
    assert looks_like_an_image(tmp_path / "png") and not looks_like_an_image(tmp_path / "text")
    assert looks_like_an_image(Path("gone.JPG")) and not looks_like_an_image(Path("gone"))
    assert not looks_like_an_image(Path("a.eps"))  # Pillow would start Ghostscript


def test_a_folder_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageProblem, match="folder.png cannot be read"):
        read_image(tmp_path / "folder.png")


def test_transparency_is_laid_on_a_background(tmp_path: Path) -> None:
    path = saved(tmp_path / "clear.png", Image.new("RGBA", (4, 4), (255, 0, 0, 0)))
    assert read_rgb(path).getpixel((0, 0)) == (255, 255, 255)
    assert read_rgb(path, (0, 0, 0)).getpixel((0, 0)) == (0, 0, 0)
    assert flatten(Image.new("RGB", (1, 1), RED)).getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Image.DecompressionBombError("x"), "it has more than 89 megapixels, the most that are read"),
        (UnidentifiedImageError("x"), "it is not an image in a supported format"),
        (PermissionError(13, "x"), "there is no permission to read it"),
        (IsADirectoryError(21, "x"), "it is a folder"),
        (FileNotFoundError(2, "x"), "the file does not exist"),
        (MemoryError(), "there is not enough memory to decode it"),
        (EOFError(), "the file is truncated"),
        (struct.error("x"), "the file is truncated"),
        (OSError("image file is truncated (3 bytes not processed)"), "the file is truncated"),
        (OSError(5, "Input/output error"), "input/output error"),
        (SyntaxError("broken PNG file."), "it is damaged (broken PNG file)"),
        (KeyError(), "it is damaged"),
    ],
)
def test_every_error_has_a_reason(error: Exception, why: str) -> None:
    with pytest.raises(ImageProblem) as problem, image_errors(Path("a.png")):
        raise error
    assert problem.value.why == why and problem.value.what == "a.png cannot be read" and problem.value.remedy


def test_damaged_exif_turns_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (8, 4)))

    def damaged(image: Image.Image) -> None:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", damaged)
    assert read_image(path)[1] == (8, 4)
