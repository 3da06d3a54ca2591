"""Image files read and written for restoration: depth, grey, opacity and names stay; bad ones are named."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffstudio.errors import BadRequest, FolderProblem, ImageProblem
from diffstudio.imaging.exact_files import ExactValues, write_png
from diffstudio.imaging.value_range import SampleType
from diffstudio.models.output_format import OutputFormat, ValueType
from diffstudio.studio.evaluations.restore.blending import blended_png
from diffstudio.studio.evaluations.restore.image_files import (
    encoded,
    enlarged_alpha,
    image_files,
    names_of,
    read_restorable,
    subfolders_with_images,
    unknown_pixels,
    write_image,
)
from diffstudio.studio.metadata.full_range import pixels_text

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA"])
def test_files_of_8_bits_come_back_as_they_were(tmp_path: Path, mode: str) -> None:
    levels = RNG.integers(0, 256, (5, 7, len(mode)), dtype=np.uint8)
    if mode.endswith("A"):
        levels[..., -1] = RNG.integers(128, 256, (5, 7))
    path = tmp_path / "a.png"
    Image.fromarray(levels[..., 0] if mode == "L" else levels, mode).save(path)
    picture = read_restorable(path, "a")
    assert picture.size == (7, 5) and picture.bits == 8 and picture.is_grey is (mode in ("L", "LA"))
    path.write_bytes(encoded(picture.values, picture.bits, picture.alpha))
    with Image.open(path) as image:
        assert image.mode == mode and np.abs(np.asarray(image, int).reshape(levels.shape) - levels).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_files_of_16_bits_keep_their_depth(tmp_path: Path, channels: int) -> None:
    levels = RNG.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(imagecodecs.png_encode(levels[..., 0] if channels == 1 else levels))
    picture = read_restorable(path, "deep")
    assert picture.bits == 16 and picture.values.shape[2] == channels
    again = imagecodecs.png_decode(encoded(picture.values, 16, None))
    assert again.dtype == np.uint16 and np.abs(again.astype(int).reshape(levels.shape) - levels).max() <= 1


def test_what_a_png_does_not_keep_is_said(tmp_path: Path) -> None:
    film = tmp_path / "film.gif"
    Image.new("L", (4, 4)).save(film, save_all=True, append_images=[Image.new("L", (4, 4), 255)])
    assert read_restorable(film, "film").notes == ("only its first frame is used",)
    floats = tmp_path / "floats.tif"
    tifffile.imwrite(floats, np.linspace(0, 1.02, 16, dtype=np.float32).reshape(4, 4))
    (note,) = read_restorable(floats, "floats").notes
    assert note == (
        "its floating-point values are saved as a 16-bit PNG: 0 becomes 0 and 1 becomes 65535, "
        "and values beyond that range are clipped"
    )
    signed = tmp_path / "signed.tif"
    tifffile.imwrite(signed, np.arange(-8, 8, dtype=np.int16).reshape(4, 4))
    (note,) = read_restorable(signed, "signed").notes
    assert note == "its whole numbers are saved as a 16-bit PNG: -8 becomes 0 and 7 becomes 65535"
    levels = tmp_path / "levels.png"
    levels.write_bytes(imagecodecs.png_encode(np.full((4, 4), 40_000, np.uint16)))
    assert read_restorable(levels, "levels").notes == ()


@pytest.mark.parametrize(
    ("largest", "here", "white", "said"),
    [
        (4095, False, 4095, ()),
        (4100, False, 4095, ("0 to 4095 is taken for black to white, and values beyond that range are clipped",)),
        (
            60_000,
            False,
            65535,
            (
                "its values are beyond 0 to 4095, the range of the training images, so that 0 to 65535 was taken for black "
                "to white",
            ),
        ),
        (4000, True, 65535, ("it was generated here, so that 65535 is its white, not that of the training images",)),
    ],
)
def test_deep_files_are_read_by_the_range_of_the_training_images(
    tmp_path: Path, largest: int, here: bool, white: int, said: tuple[str, ...]
) -> None:
    """And come back in their own units, also with transparency."""
    levels = RNG.integers(0, largest, (5, 7, 4)).astype(np.uint16)
    levels[0, 0, :3], levels[0, 1, :3], levels[..., 3] = largest, 0, 65535
    levels[1, :, 3] = 257 * 200
    path, texts = tmp_path / "deep.png", pixels_text(OutputFormat(3, False, ValueType.UINT16)) if here else PngInfo()
    with path.open("wb") as file:
        write_png(file, Image.new("L", (1, 1)), texts, ExactValues(levels, as_png=True))
    picture = read_restorable(path, "deep", {SampleType.UINT16: (0.0, 4095.0)})
    assert picture.notes == said and picture.levels == (0, white)
    opaque = np.minimum(levels[2:, :, :3] / white, 1) * 2 - 1
    assert np.abs(picture.values[2:] - opaque).max() < 1e-4
    again = imagecodecs.png_decode(encoded(picture.values, 16, picture.alpha, picture.levels)).astype(int)
    assert np.abs(again - np.minimum(levels, [white] * 3 + [65535])).max() <= 1


def test_floats_without_a_usual_range_are_in_the_units_of_the_checkpoint(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.linspace(100, 2000, 16, dtype=np.float32).reshape(4, 4))
    picture = read_restorable(tmp_path / "a.tif", "a", {SampleType.INTEGER: (0.0, 4000.0)}, (0.0, 4000.0))
    assert picture.values.min() == pytest.approx(-0.95, abs=1e-4) and picture.values.max() == pytest.approx(0, abs=1e-4)
    alone = read_restorable(tmp_path / "a.tif", "a")
    assert alone.values.min() == -1 and alone.values.max() == 1


def test_dark_colours_of_12_bits_are_not_taken_for_grey(tmp_path: Path) -> None:
    path = tmp_path / "dark.png"
    path.write_bytes(imagecodecs.png_encode(np.array([[[500, 200, 100]] * 4] * 4, np.uint16)))
    assert not read_restorable(path, "dark", {SampleType.UINT16: (0.0, 4095.0)}).is_grey


def test_transparent_colours_are_laid_on_white_and_taken_from_it(tmp_path: Path) -> None:
    levels = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 128]]], np.uint8)
    path = tmp_path / "clear.png"
    Image.fromarray(levels).save(path)
    picture = read_restorable(path, "clear")
    assert picture.alpha is not None and np.allclose(picture.values[0, 1], 1)  # white
    path.write_bytes(encoded(picture.values, 8, picture.alpha))
    with Image.open(path) as image:
        found = np.asarray(image, int)
    assert np.abs(found[0, ::2] - levels[0, ::2]).max() <= 1 and found[0, 1].tolist() == [0, 0, 0, 0]


def test_arrays_and_damaged_files_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "five.npy", np.zeros((8, 8, 5), np.uint8))
    with pytest.raises(ImageProblem, match="array of 5 channels"):
        read_restorable(tmp_path / "five.npy", "five")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
    with pytest.raises(ImageProblem):
        read_restorable(tmp_path / "broken.png", "broken")


def test_what_is_named_is_a_file_or_a_folder_with_images(tmp_path: Path) -> None:
    with pytest.raises(ImageProblem):
        image_files(tmp_path / "gone")
    with pytest.raises(FolderProblem, match="no images"):
        image_files(tmp_path)
    for name in ("b.png", "a.png"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    assert [path.name for path in image_files(tmp_path)] == ["a.png", "b.png"]
    assert image_files(tmp_path / "a.png") == [tmp_path / "a.png"]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ("a.png A.jpg a.webp b.png", "a A-2 a-3 b"),
        ("n.jpg n.png", "n-2 n"),  # the result of n.png is called n.png
        ("n.jpg n-2.webp n.PNG", "n-3 n-2 n"),
        ("a\u0308.jpg \u00e4.png", "a\u0308-2 \u00e4"),  # one name, in two Unicode normal forms
        ("x.jpg x.tif", "x x-2"),
    ],
)
def test_a_file_keeps_its_name_in_the_result_png_files_first(files: str, names: str) -> None:
    assert names_of(list(map(Path, files.split()))) == names.split()


def test_subfolders_with_images_are_named(tmp_path: Path) -> None:
    for folder in ("old/deep", "notes", ".cache"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "notes" / "a.txt").write_text("x")
    for name in ("a.png", "old/deep/b.png", ".cache/c.png"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    assert subfolders_with_images(tmp_path) == ["old"] and subfolders_with_images(tmp_path / "a.png") == []


def test_masks_are_white_where_an_image_is_filled(tmp_path: Path) -> None:
    clear = np.full((4, 4, 4), 255, np.uint8)
    clear[0, 0, 3] = 0
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "whole.png")
    mask = Image.new("L", (4, 4))
    mask.putpixel((1, 2), 255)
    mask.save(tmp_path / "mask.png")
    whole = read_restorable(tmp_path / "whole.png", "whole")
    assert np.argwhere(unknown_pixels(whole, tmp_path / "mask.png")).tolist() == [[2, 1]]
    assert np.argwhere(unknown_pixels(read_restorable(tmp_path / "clear.png", "c"), None)).tolist() == [[0, 0]]
    with pytest.raises(BadRequest, match="no pixel is transparent"):
        unknown_pixels(whole, None)
    for size, colour, why in (
        (3, 255, "mask.png has 3 × 3 px"),
        (4, 0, "no white pixels"),
        (4, 255, "All of whole.png"),
    ):
        Image.new("L", (size, size), colour).save(tmp_path / "mask.png")
        with pytest.raises(BadRequest, match=why):
            unknown_pixels(whole, tmp_path / "mask.png")


def test_opacity_is_enlarged_and_parts_are_written(tmp_path: Path) -> None:
    assert enlarged_alpha(None, 2) is None
    alpha = np.array([[0, 65535]], np.uint16)
    larger = enlarged_alpha(alpha, 2)
    assert larger is not None and larger.shape == (2, 4) and larger.dtype == np.uint16
    assert larger[0, 0] < 10000 < 50000 < larger[0, 3]
    assert (
        write_image(tmp_path, "mean", "a", b"x") == "mean/a.png" and (tmp_path / "mean" / "a.png").read_bytes() == b"x"
    )


def test_two_files_are_blended_at_their_depth(tmp_path: Path) -> None:
    mean, sample = np.full((3, 3), 10_000, np.uint16), np.full((3, 3), 20_000, np.uint16)
    for name, levels in (("mean.png", mean), ("sample.png", sample)):
        (tmp_path / name).write_bytes(imagecodecs.png_encode(levels))
    half = imagecodecs.png_decode(blended_png(tmp_path / "mean.png", tmp_path / "sample.png", 0.5))
    assert half.dtype == np.uint16 and int(half[0, 0]) == pytest.approx(15_000, abs=1)
    alone = imagecodecs.png_decode(blended_png(tmp_path / "mean.png", None, 0.5))
    assert int(alone[0, 0]) == pytest.approx(10_000, abs=1)
