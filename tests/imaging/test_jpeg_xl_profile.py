"""Profiles that libjxl compressed, and predicted forms written after ISO/IEC 18181-1, annex E.4."""

from __future__ import annotations

import io
import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from diffstudio.imaging import jpeg_xl_profile
from diffstudio.imaging.colour import PROFILE_DAMAGED
from diffstudio.imaging.jpeg_xl import JpegXlProblem, read_header
from diffstudio.imaging.jpeg_xl_entropy import Bits
from diffstudio.imaging.jpeg_xl_profile import _Restored, read_profile
from diffstudio.imaging.limits import LARGEST_PROFILE_BYTES

HEADER = bytes(128)


def number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes(found) + bytes([value])


def predicted(size: int, commands: bytes, data: bytes) -> bytes:
    """The predicted form of a profile of this size, whose header is as expected."""
    return number(size) + number(len(commands)) + commands + data


def restored(commands: bytes, data: bytes, size: int) -> bytes:
    """What follows the header of 128 bytes."""
    return _Restored(predicted(128 + size, commands, HEADER + data)).profile()[128:]


def profile(**options: Any) -> bytes:
    made: bytes = imagecodecs.cms_profile("rgb", **options)
    return made


def jpeg(icc: bytes, mode: str = "RGB") -> bytes:
    """A JPEG with a profile, as JPEG XL."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).convert(mode)
    image.save(file := io.BytesIO(), "JPEG", icc_profile=icc)
    return bytes(imagecodecs.jpegxl_encode_jpeg(file.getvalue()))


def table_profile() -> bytes:
    """Display P3 with a curve that no formula gives: libjxl keeps such profiles, where it names others by numbers."""
    curve = (np.linspace(0, 1, 256) ** 1.9 * 65535).astype(np.uint16)
    return profile(
        whitepoint=(0.3127, 0.3290, 1.0),
        primaries=(0.68, 0.32, 1.0, 0.265, 0.69, 1.0, 0.15, 0.06, 1.0),
        transferfunction=[curve] * 3,
    )


def padded(size: int) -> bytes:
    """A profile with bytes at its end that nothing predicts."""
    whole = table_profile() + np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8).tobytes()
    return struct.pack(">I", len(whole)) + whole[4:]


@pytest.mark.parametrize("icc", [
    table_profile(),
    ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    padded(3000),
], ids=["table", "sRGB", "padded"])  # fmt: skip
def test_profiles_are_those_that_were_compressed(icc: bytes) -> None:
    assert read_header(jpeg(icc)).colours.profile == icc


# ---- predicted forms -------------------------------------------------------------------------------------------------


def test_headers_are_expected_to_be_as_most_are() -> None:
    whole = _Restored(predicted(128, b"", HEADER)).profile()
    assert struct.unpack(">I", whole[:4]) == (128,) and whole[8] == 4 and whole[12:24] == b"mntrRGB XYZ "
    assert whole[36:40] == b"acsp" and whole[68:80].hex() == "0000f6d6000100000000d32d"
    for first, second, expected in ((65, 0, b"APPL"), (77, 0, b"MSFT"), (83, 71, b"SGI "), (83, 85, b"SUNW")):
        data = bytearray(HEADER)
        data[4:8], data[40], data[41] = b"lcms", first, second
        whole = _Restored(predicted(128, b"", bytes(data))).profile()
        assert whole[40:44] == expected and whole[80:84] == b"lcms"
    assert _Restored(predicted(5, b"", bytes(5))).profile() == b"\0\0\0\x05\0"


def test_tags_with_and_without_their_places() -> None:
    def tag(name: bytes, start: int, size: int) -> bytes:
        return name + struct.pack(">II", start, size)

    commands = number(10)  # nine tags
    commands += bytes([4 | 128]) + number(40)  # cprt, of 40 bytes, at the first place
    commands += bytes([5])  # wtpt, of 20 bytes, after it
    commands += bytes([2 | 64 | 128]) + number(400) + number(30)  # three curves in one place
    commands += bytes([3])  # three colours one after another
    commands += bytes([1 | 64]) + number(999)  # a tag by its name, as large as the one before
    commands += b"\0" + bytes([1]) + number(3)  # their end, and three bytes
    first = 128 + 12 * 9
    expected = struct.pack(">I", 9) + tag(b"cprt", first, 40) + tag(b"wtpt", first + 40, 20)
    expected += b"".join(tag(name, 400, 30) for name in (b"rTRC", b"gTRC", b"bTRC"))
    expected += b"".join(tag(name, 430 + 20 * place, 20) for place, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ")))
    expected += tag(b"abcd", 999, 20) + b"xyz"
    assert restored(commands, b"abcdxyz", len(expected)) == expected
    assert restored(number(1) + bytes([20]), b"", 4 + 12) == struct.pack(">I", 0) + tag(b"lumi", 128, 20)


def test_elements_of_every_kind() -> None:
    none = number(0)
    assert restored(none + bytes([10, 16, 23]), b"abcdefghijkl", 36) == (
        b"XYZ \0\0\0\0abcdefghijkl" + b"XYZ \0\0\0\0" + b"gbd \0\0\0\0"
    )
    assert restored(none + bytes([2]) + number(5), b"aceb\x64", 5) == b"abced"[:1] + b"b" + b"c" + b"d" + b"e"
    assert restored(none + bytes([3]) + number(8), b"AEBFCGDH", 8) == b"ABCDEFGH"


@pytest.mark.parametrize(("width", "form"), [(1, "B"), (2, "H"), (4, "I")])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_tables_of_polynomials_leave_no_differences(width: int, form: str, order: int) -> None:
    values = [(7 + (3 * place if order else 0) + (place * place if order == 2 else 0)) for place in range(12)]
    table = struct.pack(f">12{form}", *values)
    begun, rest = table[: 4 * width], table[4 * width :]
    commands = number(0) + bytes([1]) + number(len(begun)) + bytes([4, width - 1 | order << 2]) + number(len(rest))
    assert restored(commands, begun + bytes(len(rest)), len(table)) == table
    apart = commands[:-2] + bytes([width - 1 | order << 2 | 16]) + number(width) + number(len(rest))
    assert restored(apart, begun + bytes(len(rest)), len(table)) == table


@pytest.mark.parametrize(("commands", "data", "size", "why"), [
    (number(0) + bytes([99]), b"", 8, "unknown command"),
    (number(9) + bytes([60]), b"", 40, "unknown tag"),
    (number(0) + bytes([1]) + number(3), b"abc", 2, "another size"),
    (number(0) + bytes([1]) + number(3), b"abcd", 3, "another size"),
    (number(0) + bytes([16, 16]), b"", 8, "another size"),
    (number(0) + bytes([16, 16, 16]), b"", 8, "another size"),
    (number(3) + bytes([2]), b"", 20, "another size"),
    (number(2) + bytes([4 | 64]) + number(2**32 - 1) + bytes([3]), b"", 90, "32 bits"),
    (number(0) + bytes([4, 2, 1]), b"a", 8, "impossible prediction"),
    (number(0) + bytes([4, 12, 1]), b"a", 8, "impossible prediction"),
    (number(0) + bytes([4, 17, 1, 1]), b"a", 8, "impossible prediction"),
    (number(0) + bytes([4, 16, 50, 1]), b"a", 8, "impossible prediction"),
    (b"\xff\xff\xff\xff\x1f", b"", 8, "32 bits"),
    (b"\xff" * 6, b"", 8, "32 bits"),
])  # fmt: skip
def test_forms_that_no_encoder_writes(commands: bytes, data: bytes, size: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        restored(commands, data, size)


def test_forms_that_end_early_or_are_too_large() -> None:
    with pytest.raises(IndexError):
        restored(number(0) + bytes([1]) + number(3), b"ab", 3)
    with pytest.raises(ValueError, match="too large"):
        _Restored(number(LARGEST_PROFILE_BYTES + 1))
    with pytest.raises(ValueError, match="too large"):
        read_profile(Bits(bits((3, 2), (0xFFF, 12), (1, 1), (255, 8), (1, 1), (255, 8), (0, 1))))


def bits(*fields: tuple[int, int]) -> bytes:
    value, position = 0, 0
    for found, count in fields:
        value |= found << position
        position += count
    return value.to_bytes(position // 8 + 80, "little")


def test_much_from_little_is_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single symbol takes no bits: 4,000 bytes of it are refused after 1,024, and 900 only at their end."""
    monkeypatch.setattr(jpeg_xl_profile, "_CHECKED_EVERY", 1024)
    monkeypatch.setattr(jpeg_xl_profile, "_MOST_GAIN", 16)
    alone = [(0, 1), (1, 1), (0, 2), (1, 1), (15, 4), (0, 1)]  # no copies, one prefix code, of one symbol
    with pytest.raises(ValueError, match="for its data"):
        read_profile(Bits(bits((3, 2), (4000, 12), (0, 1), *alone)))
    with pytest.raises(ValueError, match="another size"):
        read_profile(Bits(bits((3, 2), (900, 12), (0, 1), *alone)))


def test_damage_anywhere_in_a_profile_is_survived() -> None:
    """A byte changed in turn: the header is damaged, the profile is, or it is another one, as raw bytes have no checksum."""
    whole = bytearray(jpeg(table_profile()))
    begin = whole.index(b"jxlp") + 12
    notes = set()
    for place in range(begin, begin + 60, 3):
        changed = whole.copy()
        changed[place] ^= 0x55
        try:
            notes.add(read_header(bytes(changed)).colours.note)
        except JpegXlProblem:
            notes.add("header")
    assert PROFILE_DAMAGED in notes and notes <= {"", "header", PROFILE_DAMAGED}
