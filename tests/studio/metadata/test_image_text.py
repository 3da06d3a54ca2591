"""Text in image files: every kind of chunk and comment, and limits on all of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import ImageProblem
from diffstudio.studio.metadata import exif_text, image_text
from diffstudio.studio.metadata.image_text import PNG_SIGNATURE, read_text


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 30, 8, 2, 0, 0, 0))
END = chunk(b"IEND", b"")


def png(path: Path, *chunks: bytes) -> Path:
    path.write_bytes(PNG_SIGNATURE + b"".join(chunks))
    return path


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (chunk(b"tEXt", b"a\0caf\xe9"), {"a": "café"}),
        (chunk(b"zTXt", b"a\0\0" + zlib.compress(b"caf\xe9")), {"a": "café"}),
        (chunk(b"zTXt", b"a\0\1" + zlib.compress(b"an unknown method")), {}),
        (chunk(b"zTXt", b"a\0\0not compressed"), {}),
        (chunk(b"iTXt", b"a\0\0\0en\0\0" + "日本".encode()), {"a": "日本"}),
        (chunk(b"iTXt", b"a\0\1\0en\0translated\0" + zlib.compress("日本".encode())), {"a": "日本"}),
        (chunk(b"tEXt", b"a\0wrong checksum", crc=1), {}),
        (chunk(b"tEXt", b"a\0cut")[:-2], {}),
        (chunk(b"tEXt", b"a\0first") + chunk(b"tEXt", b"a\0second"), {"a": "first"}),
        (chunk(b"gAMA", b"\0\0\0\1") + chunk(b"tEXt", b"a\0b"), {"a": "b"}),
        (chunk(b"tEXt", b"a\0b") + END + chunk(b"tEXt", b"c\0after the end"), {"a": "b"}),
        (chunk(b"tEXt", b"no separator"), {}),
    ],
)
def test_text_chunks(tmp_path: Path, data: bytes, expected: dict[str, str]) -> None:
    found = read_text(png(tmp_path / "a.png", HEADER, data))
    assert (found.width, found.height, found.texts) == (40, 30, expected)


@pytest.mark.parametrize(
    "data",
    [
        chunk(b"zTXt", b"a\0\1" + zlib.compress(b"an unknown method")),
        chunk(b"zTXt", b"a\0\0not compressed"),
        chunk(b"iTXt", b"a\0\1\0en\0\0not compressed"),
        chunk(b"tEXt", b"a\0wrong checksum", crc=1),
        chunk(b"tEXt", b"a\0cut")[:-2],
        chunk(b"tEXt", b"a\0" + b"x" * (image_text.LARGEST_TEXT_BYTES + 1)),
    ],
)
def test_a_text_that_is_damaged_or_too_large_is_named(tmp_path: Path, data: bytes) -> None:
    found = read_text(png(tmp_path / "a.png", HEADER, chunk(b"tEXt", b"b\0c"), data))
    assert found.texts == {"b": "c"} and found.unread == ("a",)
    again = read_text(png(tmp_path / "b.png", HEADER, chunk(b"tEXt", b"a\0whole"), data))
    assert again.texts == {"a": "whole"} and again.unread == ()


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_text, "LARGEST_TEXT_BYTES", 100)
    monkeypatch.setattr(image_text, "LARGEST_TEXTS_BYTES", 150)
    monkeypatch.setattr(image_text, "MOST_TEXTS", 2)
    bomb = chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(10_000)))
    large = chunk(b"tEXt", b"large\0" + b"x" * 200)
    assert read_text(png(tmp_path / "a.png", HEADER, bomb, large, chunk(b"tEXt", b"a\0b"))).texts == {"a": "b"}
    assert read_text(png(tmp_path / "a.png", HEADER, bomb, large)).unread == ("bomb", "large")
    many = [chunk(b"tEXt", b"%d\0" % number + b"x" * 90) for number in range(4)]
    found = read_text(png(tmp_path / "b.png", HEADER, *many))
    assert list(found.texts) == ["0"] and found.unread == ("1", "2", "3")
    small = [chunk(b"tEXt", b"%d\0x" % number) for number in range(4)]
    assert list(read_text(png(tmp_path / "c.png", HEADER, *small)).texts) == ["0", "1"]
    monkeypatch.setattr(image_text, "MOST_CHUNKS", 2)
    assert list(read_text(png(tmp_path / "d.png", HEADER, *small)).texts) == ["0"]


@pytest.mark.parametrize("size", [(0, 30), (40, 0), (1 << 31, 30), (40, 1 << 31)])
def test_an_impossible_size(tmp_path: Path, size: tuple[int, int]) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    with pytest.raises(ImageProblem, match="its header holds no size"):
        read_text(png(tmp_path / "a.png", header))


def test_a_file_that_is_too_large_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_text, "LARGEST_OTHER_BYTES", 1 << 20)
    (tmp_path / "a.jpg").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(ImageProblem, match="larger than 1 MiB"):
        read_text(tmp_path / "a.jpg")


def with_exif(path: Path, edit: Callable[[Image.Exif], object]) -> Path:
    exif = Image.Exif()
    edit(exif)
    Image.new("RGB", (8, 4)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        (b"UNICODE\0" + "Steps: 1".encode("utf-16-be"), "Steps: 1"),
        (b"UNICODE\0" + "Steps: 1".encode("utf-16-le"), "Steps: 1"),
        (b"ASCII\0\0\0Steps: 1\0", "Steps: 1"),
        (b"\0\0\0\0\0\0\0\0Steps: 1", "Steps: 1"),
        (b"JIS\0\0\0\0\0Steps: 1", "Steps: 1"),
        (b"", None),
    ],
)
def test_the_exif_comment(tmp_path: Path, comment: bytes, expected: str | None) -> None:
    path = with_exif(tmp_path / "a.jpg", lambda exif: exif.get_ifd(0x8769).__setitem__(0x9286, comment))
    assert read_text(path).texts == ({} if expected is None else {"parameters": expected})


def test_a_comment_that_is_text_already() -> None:
    assert exif_text.user_comment("Steps: 1\0", "utf-16-le") == "Steps: 1"


def test_comments_of_other_types_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_exif(tmp_path / "a.jpg", lambda exif: None)
    for comment in (7, b"ASCII\0\0\0" + bytes(image_text.LARGEST_TEXT_BYTES)):
        monkeypatch.setattr(Image.Exif, "get_ifd", lambda exif, tag, comment=comment: {0x9286: comment})
        assert read_text(path).texts == {}


def test_comfyui_in_a_webp(tmp_path: Path) -> None:
    def edit(exif: Image.Exif) -> None:
        exif[0x010F] = 'workflow:{"nodes": []}'
        exif[0x0110] = 'prompt:{"1": {}}'

    assert read_text(with_exif(tmp_path / "a.webp", edit)).texts == {"workflow": '{"nodes": []}', "prompt": '{"1": {}}'}


def test_a_camera_says_nothing(tmp_path: Path) -> None:
    def edit(exif: Image.Exif) -> None:
        exif[0x010F] = "Nikon"
        exif[0x0110] = "camera:D700"

    assert read_text(with_exif(tmp_path / "a.jpg", edit)).texts == {}


def test_formats_without_text(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "a.gif")
    assert read_text(tmp_path / "a.gif") == image_text.ImageText(8, 4, {})


def test_formats_that_are_read_for_their_size_alone(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(pixels, lossless=True))
    Image.fromarray(pixels).save(tmp_path / "a.tga")
    for name in ("a.jxl", "a.tga"):
        assert read_text(tmp_path / name) == image_text.ImageText(30, 20, {})


@pytest.mark.filterwarnings("error")
def test_pixels_of_a_bomb_are_not_searched_for_text(tmp_path: Path) -> None:
    Image.new("1", (13_000, 13_000)).save(tmp_path / "bomb.png", compress_level=1)
    assert read_text(tmp_path / "bomb.png") == image_text.ImageText(13_000, 13_000, {})
