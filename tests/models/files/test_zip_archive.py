"""Zip files of others: every member is checked before it is opened, and sound ones are read whatever their size."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping

import pytest

from diffstudio.models.files import zip_archive
from diffstudio.models.files.pickle_interpreter import Unreadable
from diffstudio.models.files.zip_archive import ZipArchive

DIRECTORY = b"PK\1\2"
# byte of a field in an entry of the directory, and its struct format
FLAGS, METHOD, CRC, COMPRESSED, SIZE, OFFSET = (8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (42, "<I")


def zip_of(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return bytearray(file.getvalue())


def changed(data: bytearray, field: tuple[int, str], value: int, entry: int = 0) -> bytearray:
    """With another value in an entry of the directory."""
    at = -1
    for _ in range(entry + 1):
        at = data.index(DIRECTORY, at + 1)
    struct.pack_into(field[1], data, at + field[0], value)
    return data


def opened(data: bytes) -> ZipArchive:
    return ZipArchive(io.BytesIO(data), len(data))


def test_stored_members_are_found_in_the_file() -> None:
    data = bytes(zip_of({"a/data.pkl": b"abc", "a/data/0": b"01234567", "empty": b""}))
    archive = opened(data)
    assert list(archive.infos) == ["a/data.pkl", "a/data/0", "empty"]
    assert archive.read("a/data.pkl", 3) == b"abc" and archive.read("empty", 0) == b""
    start = archive.start("a/data/0")
    assert data[start : start + 8] == b"01234567" == archive.read("a/data/0", 100)


def test_the_start_is_after_the_extra_field_of_the_local_header() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open("a", "w", force_zip64=True) as member:
        member.write(b"xyz")
    start = opened(file.getvalue()).start("a")
    assert start > 31 and file.getvalue()[start : start + 3] == b"xyz"


def test_compressed_members_have_no_start() -> None:
    archive = opened(zip_of({"a": bytes(1000)}, zipfile.ZIP_DEFLATED))
    assert archive.start("a") == -1 and archive.read("a", 1000) == bytes(1000)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_may_be_larger_than_a_directory(compression: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "_LARGEST_DIRECTORY_BYTES", 10_000)
    content = os.urandom(50_000)
    assert opened(zip_of({"a": content}, compression)).read("a", len(content)) == content


def test_a_directory_up_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = zip_of(dict.fromkeys("abcdefghij", b""))
    size = len(data) - data.index(DIRECTORY) - 22  # of the directory, without the record at its end
    monkeypatch.setattr(zip_archive, "_LARGEST_DIRECTORY_BYTES", size)
    assert len(opened(data).infos) == 10
    monkeypatch.setattr(zip_archive, "_LARGEST_DIRECTORY_BYTES", size - 1)
    with pytest.raises(Unreadable, match="it declares too many members"):
        opened(data)


def test_a_file_that_is_no_zip() -> None:
    for data in (b"", b"PK\3\4", b"x" * 1000, zip_of({"a": b"x"})[:-1]):
        with pytest.raises(Unreadable, match=r"the zip file was cut short or is damaged \(File is not a zip file\)"):
            opened(data)
    with pytest.raises(Unreadable, match=r"damaged \(Bad magic number for central directory\)"):
        opened(zip_of({"a": b"x"}).replace(DIRECTORY, b"PK\1\3"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(Unreadable, match="two of its members have the same name"):
        opened(file.getvalue())


def test_members_expand_to_twenty_times_the_file_and_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    data = zip_of({"a": bytes(30_000), "b": bytes(30_000)}, zipfile.ZIP_DEFLATED)
    assert 20 * len(data) < 60_000
    monkeypatch.setattr(zip_archive, "_SPARE_BYTES", 60_000 - 20 * len(data))
    assert opened(data).read("a", 30_000) == bytes(30_000)
    monkeypatch.setattr(zip_archive, "_SPARE_BYTES", 60_000 - 20 * len(data) - 1)
    why = f"it is a zip bomb: {len(data)} bytes that would expand to 60,000"
    with pytest.raises(Unreadable, match=why):
        opened(data)


def test_members_that_overlap_or_end_beyond_the_file() -> None:
    members = {"a": b"0123456789", "b": b"0123456789"}
    data = zip_of(members)
    with pytest.raises(Unreadable, match="its members overlap, like those of a zip bomb"):
        opened(changed(data[:], OFFSET, 9, entry=1))
    opened(changed(data[:], OFFSET, 10, entry=1))  # directly after the bytes of the first
    size = len(data) - 41  # of the second, so that it reaches the end of the file
    for more in (0, 1):
        longer = changed(changed(data[:], COMPRESSED, size + more, 1), SIZE, size + more, 1)
        if not more:
            opened(longer)
        else:
            with pytest.raises(Unreadable, match="it was cut short"):
                opened(longer)


@pytest.mark.parametrize("name", ["/etc/x", "a\\b", "C:x", "..", "a/../b", "a/.."])
def test_paths_outside(name: str) -> None:
    with pytest.raises(Unreadable, match="has a path outside the archive"):
        opened(zip_of({"first": b"", name: b"x"}))


def test_dots_within_a_name_are_harmless() -> None:
    assert set(opened(zip_of({"a..b/..c": b"", "a/./b": b""})).infos) == {"a..b/..c", "a/./b"}


def test_what_pytorch_never_writes() -> None:
    with pytest.raises(Unreadable, match="it is encrypted"):
        opened(changed(zip_of({"a": b"x"}), FLAGS, 1))
    with pytest.raises(Unreadable, match="it uses a compression that PyTorch does not"):
        opened(zip_of({"a": b"x"}, zipfile.ZIP_BZIP2))
    with pytest.raises(Unreadable, match="its member 'a' does not have the size that it declares"):
        opened(changed(zip_of({"a": b"xy"}), SIZE, 1))


def test_a_member_is_not_read_beyond_what_was_asked_for() -> None:
    archive = opened(zip_of({"a": b"x" * 1234}))
    assert archive.read("a", 1234) == b"x" * 1234
    with pytest.raises(Unreadable, match="its member 'a' has 1,234 bytes"):
        archive.read("a", 1233)


def test_a_member_that_is_damaged() -> None:
    data = zip_of({"a": b"0123456789"})
    data[data.index(b"0123456789")] += 1  # the checksum is wrong
    with pytest.raises(Unreadable, match="its member 'a' is damaged"):
        opened(data).read("a", 10)
    stream = zlib.compress(b"0123456789" * 100)[2:-4]
    packed = zip_of({"a": b"0123456789" * 100}, zipfile.ZIP_DEFLATED)
    packed[packed.index(stream)] = 0xFF  # no such block
    with pytest.raises(Unreadable, match="its member 'a' is damaged"):
        opened(packed).read("a", 1000)


def test_a_member_with_fewer_bytes_than_it_declares() -> None:
    archive = opened(changed(zip_of({"a": b"0123456789"}, zipfile.ZIP_DEFLATED), SIZE, 11))
    with pytest.raises(Unreadable, match="its member 'a' was cut short"):
        archive.read("a", 100)


def test_a_local_header_that_is_damaged() -> None:
    data = zip_of({"a": b"x", "b": b"y"})
    data[data.index(b"PK\3\4", 4)] = 0
    with pytest.raises(Unreadable, match="its member 'b' is damaged"):
        opened(data).start("b")
    beyond = changed(zip_of({"a": b""}), OFFSET, len(data))  # reads nothing
    with pytest.raises(Unreadable, match="it was cut short"):
        opened(beyond)
    at_the_end = zip_of({"a": b""})
    with pytest.raises(Unreadable, match="its member 'a' is damaged"):
        opened(changed(at_the_end, OFFSET, len(at_the_end) - 29)).start("a")
