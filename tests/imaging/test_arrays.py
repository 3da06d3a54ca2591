"""Arrays of any number of channels: every layout of .npy and TIFF, and files that lie about themselves."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from diffstudio.errors import ImageProblem
from diffstudio.imaging.arrays import read_npy, read_tiff_channels, tiff_channels_size
from diffstudio.imaging.limits import FIRST_FRAME
from diffstudio.imaging.reader import load_image, read_size
from diffstudio.imaging.samples import SamplesProblem

FIVE = np.arange(20 * 24 * 5, dtype=np.uint16).reshape(20, 24, 5) * np.uint16(7)  # [H,W,C]


def saved(values: np.ndarray, **how: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    np.save(buffer, values, **how)
    return buffer


def header_only(about: str, payload: bytes = b"") -> io.BytesIO:
    """A .npy file with this header, whatever it says."""
    text = about.encode("latin-1")
    return io.BytesIO(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n" + payload)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (FIVE, FIVE),
        (np.moveaxis(FIVE, 2, 0), FIVE),
        (np.asfortranarray(FIVE), FIVE),
        (FIVE.astype(">u2"), FIVE),
        (np.asfortranarray(FIVE[..., 0]), FIVE[..., :1]),
        (FIVE.astype(np.float16), FIVE.astype(np.float16)),
        (FIVE.astype(np.longdouble), FIVE.astype(np.float64)),
        (FIVE > 100, (FIVE > 100).astype(np.uint8) * 255),
        (-FIVE.astype(np.int32), -FIVE.astype(np.int32)),
    ],
)
def test_npy_of_every_layout_and_type(stored: np.ndarray, expected: np.ndarray) -> None:
    found = read_npy(saved(stored)).values
    assert found.dtype == expected.dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, expected)


def test_a_version_2_header_is_read() -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, FIVE, version=(2, 0))
    np.testing.assert_array_equal(read_npy(buffer).values, FIVE)


DESCR = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (saved(np.array([[object()]], dtype=object), allow_pickle=True), "a pickle"),
        (saved(np.zeros((20, 20), np.complex64)), "complex64"),
        (saved(np.zeros((20, 20), [("a", "f4"), ("b", "f4")])), "not whole numbers"),
        (saved(np.zeros((20, 20), "U3")), "not whole numbers"),
        (saved(np.zeros(7)), "its shape is 7: an image has two axes"),
        (saved(np.zeros(())), "a single number"),
        (saved(np.zeros((0, 20))), "its shape is 0 × 20"),
        (saved(np.zeros((70, 70, 70), np.uint8)), "at most 64 channels"),
        (saved(np.zeros((2, 3, 4, 5))), "its shape is 2 × 3 × 4 × 5"),
        (header_only(DESCR % "(1000000, 1000000)"), "more than 89 megapixels"),
        (header_only(DESCR % "(9000, 9000, 64)"), "more than the 682 MiB"),
        (header_only(DESCR % "(20, 20)", b"\0" * 100), "truncated"),
        (header_only(DESCR % "(-20, 20)"), "its shape is -20 × 20"),
        (header_only(DESCR % "(20, 99999999999999999999999)"), "megapixels"),
        (header_only("{'descr': '<f4'}"), "header is damaged"),
        (header_only("(" * 5000), "header is damaged"),
        (header_only(" " * 20_000), "header is damaged"),
        (io.BytesIO(b"\x93NUMPY\x09\x00" + b"\0" * 40), "header is damaged"),
        (io.BytesIO(b"\x93NUMPY\x01\x00"), "header is damaged"),
    ],
)
def test_hostile_npy_files_are_refused_before_anything_is_decoded(tmp_path: Path, file: io.BytesIO, why: str) -> None:
    with pytest.raises(SamplesProblem, match=why):
        read_npy(file)
    (tmp_path / "a.npy").write_bytes(file.getvalue())
    with pytest.raises(ImageProblem, match=why):
        load_image(tmp_path / "a.npy")


CHANNELS_FIRST = np.moveaxis(FIVE, 2, 0)


@pytest.mark.parametrize(
    ("pixels", "how"),
    [
        (FIVE, {"photometric": "minisblack", "planarconfig": "contig"}),
        (CHANNELS_FIRST, {"photometric": "minisblack", "planarconfig": "separate"}),
        (CHANNELS_FIRST, {"photometric": "minisblack"}),  # pages, with tifffile's own metadata
        (np.repeat(FIVE, 4, axis=0), {"photometric": "minisblack"}),  # one page a row of pixels
        (CHANNELS_FIRST, {"imagej": True, "metadata": {"axes": "CYX"}}),
        (CHANNELS_FIRST, {"ome": True, "metadata": {"axes": "CYX"}}),
        (FIVE[..., :2].astype(np.uint8), {"photometric": "minisblack", "planarconfig": "contig"}),
        (FIVE[..., :4].astype(np.float32), {"photometric": "minisblack", "planarconfig": "contig"}),
        (CHANNELS_FIRST, {"photometric": "minisblack", "compression": "zlib"}),
    ],
)
def test_tiff_channels_of_every_layout(tmp_path: Path, pixels: np.ndarray, how: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, **how)
    expected = np.moveaxis(pixels, 0, -1) if pixels.shape[0] == 5 else pixels
    with path.open("rb") as file:
        found = read_tiff_channels(file)
        assert tiff_channels_size(file) == (expected.shape[1], expected.shape[0])
    assert found is not None
    np.testing.assert_array_equal(found.values, expected)
    assert read_size(path) == load_image(path).size == (expected.shape[1], expected.shape[0])
    assert len(load_image(path).channels) == expected.shape[2]


def test_a_series_of_arrays_is_read_from_its_first_frame(tmp_path: Path) -> None:
    series = np.stack([CHANNELS_FIRST, CHANNELS_FIRST + np.uint16(1)])
    tifffile.imwrite(tmp_path / "a.tif", series, imagej=True, metadata={"axes": "TCYX"})
    with (tmp_path / "a.tif").open("rb") as file:
        found = read_tiff_channels(file)
    assert found is not None
    np.testing.assert_array_equal(found.values, FIVE)
    assert found.notes == (FIRST_FRAME, "its pages are read as 5 channels")
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for _ in range(2):
            writer.write(FIVE, photometric="minisblack", planarconfig="contig", metadata=None)
    assert FIRST_FRAME in load_image(tmp_path / "b.tif").notes


@pytest.mark.parametrize(
    ("pixels", "how"),
    [
        (FIVE[..., 0], {}),
        (FIVE[..., :3], {"photometric": "rgb"}),
        (FIVE[..., :2].astype(np.uint8), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
        (CHANNELS_FIRST, {"metadata": {"axes": "ZYX"}}),  # a stack over depth
        (CHANNELS_FIRST, {"metadata": None}),  # pages without any metadata
        (np.zeros((80, 20, 80), np.uint8), {"photometric": "minisblack"}),  # more pages than channels are read
    ],
)
def test_images_and_stacks_are_not_arrays(tmp_path: Path, pixels: np.ndarray, how: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels, **how)
    with (tmp_path / "a.tif").open("rb") as file:
        assert read_tiff_channels(file) is None
        assert tiff_channels_size(file) is None
    loaded = load_image(tmp_path / "a.tif")
    assert loaded.channels == ()
    assert (FIRST_FRAME in loaded.notes) == (pixels.ndim == 3 and pixels.shape[0] in (5, 80))


def test_a_stack_that_pillow_does_not_open_is_said_too(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for _ in range(2):
            writer.write(FIVE[..., :3].astype(np.float32) / 20000, photometric="rgb", metadata=None)
    assert load_image(tmp_path / "a.tif").notes == (FIRST_FRAME,)
    assert read_size(tmp_path / "a.tif") == (24, 20)


def test_hostile_tiff_channels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((20, 20, 70), np.float32), photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageProblem, match="it has 70 channels; at most 64 are read"):
        load_image(path)
    tifffile.imwrite(path, CHANNELS_FIRST, photometric="minisblack")
    whole = path.read_bytes()
    monkeypatch.setattr("diffstudio.imaging.arrays.LARGEST_PIXELS_BYTES", 3000)
    with pytest.raises(ImageProblem, match="MiB that are read"):
        load_image(path)
    monkeypatch.undo()
    path.write_bytes(whole[:-1000])  # which has the directories of all pages but the first
    with pytest.raises(ImageProblem, match="truncated"):
        load_image(path)


def test_the_first_channels_are_shown_and_the_others_named(tmp_path: Path) -> None:
    np.save(tmp_path / "five.npy", np.full((20, 24, 5), 51, np.uint8))
    loaded = load_image(tmp_path / "five.npy")
    assert loaded.size == read_size(tmp_path / "five.npy") == (24, 20)
    assert loaded.image.getpixel((3, 3)) == (51, 51, 51)
    assert loaded.notes == ("it has 5 channels, of which the first three are shown",)
    np.save(tmp_path / "two.npy", np.full((20, 24, 2), 51, np.uint8))
    assert load_image(tmp_path / "two.npy").notes == ("it has 2 channels, of which the first is shown",)
    np.save(tmp_path / "rgb.npy", np.full((20, 24, 3), 51, np.uint8))
    assert load_image(tmp_path / "rgb.npy").notes == ()
    np.save(tmp_path / "nan.npy", np.array([[0.0, np.nan], [np.inf, 1.0]]))
    loaded = load_image(tmp_path / "nan.npy")
    assert loaded.notes == ("2 of its values are not finite numbers and are black",)
    assert [loaded.image.getpixel(at)[0] for at in ((0, 0), (1, 0), (0, 1), (1, 1))] == [0, 0, 0, 255]  # type: ignore[index]


def test_a_fourth_channel_without_a_meaning_is_named(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.uint16):
        tifffile.imwrite(
            tmp_path / "a.tif", FIVE[..., :4].astype(dtype), photometric="rgb", extrasamples=["unspecified"]
        )
        assert load_image(tmp_path / "a.tif").notes == ("its fourth channel is not opacity and is not used",)
