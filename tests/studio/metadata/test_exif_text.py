"""Text in EXIF and XMP metadata: either directory, either byte order, with and without a byte order mark."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, features

from diffstudio.studio.metadata import exif_text
from diffstudio.studio.metadata.exif_text import exif_texts, user_comment, xmp_comment
from diffstudio.studio.metadata.image_text import read_text
from diffstudio.studio.metadata.metadata import read

TEXT = "灯台 a lighthouse\nSteps: 9, Sampler: Heun, CFG scale: 2, Seed: 77"


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be", "utf-16"])
@pytest.mark.parametrize("ifd", [0x8769, None])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "PNG"])
def test_the_user_comment(tmp_path: Path, kind: str, ifd: int | None, order: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    exif = Image.Exif()
    exif[0x0131] = "some program"
    comment = b"UNICODE\0" + TEXT.encode(order)
    if ifd is None:
        exif[0x9286] = comment
    else:
        exif.get_ifd(ifd)[0x9286] = comment
    Image.new("RGB", (40, 24)).save(tmp_path / "a", kind, exif=exif)
    request = read(tmp_path / "a").request
    assert (request.prompt, request.seed) == ("灯台 a lighthouse", 77)


def test_a_text_without_ascii_is_read_in_the_order_of_its_file() -> None:
    for order in ("utf-16-le", "utf-16-be"):
        assert user_comment(b"UNICODE\0" + "灯台".encode(order), order) == "灯台"
    assert user_comment(b"UNICODE\0" + "灯台".encode("utf-16"), "utf-16-be") == "灯台"


@pytest.mark.parametrize("comment", [None, 7, b"", b"JIS\0\0\0\0\0\xff", [b"ASCII"]])
def test_other_comments(comment: object) -> None:
    assert user_comment(comment, "utf-16-le") == ""


def test_text_of_comfyui_in_tags_of_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x010F], exif[0x0110] = 'Prompt:{"1": {}}', "workflow", 7
    assert list(exif_texts(exif)) == [("prompt", '{"1": {}}')]
    monkeypatch.setattr(exif_text, "LARGEST_COMMENT_BYTES", 4)
    assert list(exif_texts(exif)) == []


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        ('<exif:UserComment><rdf:Alt><rdf:li xml:lang="x-default">{"c": "a &amp; b"}</rdf:li>', '{"c": "a & b"}'),
        ('<rdf:Description exif:UserComment="{&quot;c&quot;: 1}"/>', '{"c": 1}'),
        ("<exif:UserComment><rdf:li>never ends", ""),
        ("<exif:UserComment>" * 100_000, ""),
        ("<x:xmpmeta/>", ""),
    ],
)
def test_xmp(packet: str, expected: str) -> None:
    assert xmp_comment(packet) == expected


def test_xmp_in_a_jpeg(tmp_path: Path) -> None:
    packets = {
        "parameters": '<rdf:Description exif:UserComment="a cat"/>',
        "draw_things": '<rdf:Description exif:UserComment="{&quot;c&quot;: 1}"/>',
    }
    for keyword, packet in packets.items():
        Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", xmp=packet.encode())
        assert list(read_text(tmp_path / "a.jpg").texts) == [keyword]
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", xmp=b"<x/>")
    assert read_text(tmp_path / "a.jpg").texts == {}


def test_comments_in_encodings_that_their_first_bytes_do_not_name() -> None:
    assert user_comment(b"UNICODE\0" + "a 灯台 lighthouse".encode(), "utf-16-be") == "a 灯台 lighthouse"
    assert user_comment("a 灯台 lighthouse".encode(), "utf-16-le") == "a 灯台 lighthouse"
    assert user_comment(b"JIS\0\0\0\0\0" + "灯台".encode("iso2022_jp"), "utf-16-le") == "灯台"
    assert user_comment(b"\xff\xfe a camera's", "utf-16-le") == ""
