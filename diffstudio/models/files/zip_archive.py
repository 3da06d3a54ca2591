"""Read an untrusted zip file: the number and sizes of its members are checked before any is opened. No torch."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import BinaryIO

from diffstudio.models.files.file_access import TRUNCATED
from diffstudio.models.files.pickle_interpreter import Unreadable

_LARGEST_DIRECTORY_BYTES = 4 << 20  # some 40,000 members
_LARGEST_RATIO = 20  # of all members to the file: weights hardly compress, and PyTorch stores them as they are
_SPARE_BYTES = 4 << 20  # that a small file may expand to at any ratio
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    OverflowError,
    OSError,
)


class ZipArchive:
    """The members by name.

    Unreadable for what PyTorch never writes: zip bombs, duplicate or overlapping members, paths outside.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, directory = file, _LimitedReads(file)
        try:
            self._zip = zipfile.ZipFile(directory)
        except Unreadable:
            raise
        except _ZIP_ERRORS as error:
            raise Unreadable(f"the zip file was cut short or is damaged ({str(error)[:80]})") from error
        directory.limited = False
        infos = self._zip.infolist()
        self.infos = {info.filename: info for info in infos}
        if len(self.infos) != len(infos):
            raise Unreadable("two of its members have the same name")
        whole = sum(info.file_size for info in infos)
        if whole > _LARGEST_RATIO * size + _SPARE_BYTES:
            raise Unreadable(f"it is a zip bomb: {size:,} bytes that would expand to {whole:,}")
        reached = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            _check(info)
            if info.header_offset < reached:
                raise Unreadable("its members overlap, like those of a zip bomb")
            reached = info.header_offset + info.compress_size
        if reached > size:
            raise Unreadable(TRUNCATED)

    def read(self, name: str, most: int) -> bytes:
        """A member of at most `most` bytes."""
        info = self.infos[name]
        if info.file_size > most:
            raise Unreadable(f"its member {name[:80]!r} has {info.file_size:,} bytes")
        try:
            with self._zip.open(info) as member:
                data = member.read(info.file_size + 1)
        except _ZIP_ERRORS as error:
            raise _damaged_member(name) from error
        if len(data) != info.file_size:
            raise Unreadable(f"its member {name[:80]!r} was cut short")
        return data

    def start(self, name: str) -> int:
        """The byte in the file at which a member begins; -1 for a compressed one."""
        info = self.infos[name]
        if info.compress_type != zipfile.ZIP_STORED:
            return -1
        self._file.seek(info.header_offset)
        header = self._file.read(30)
        if len(header) != 30 or header[:4] != b"PK\3\4":
            raise _damaged_member(name)
        name_bytes, extra_bytes = struct.unpack("<HH", header[26:])
        return info.header_offset + 30 + int(name_bytes) + int(extra_bytes)


def _damaged_member(name: str) -> Unreadable:
    return Unreadable(f"its member {name[:80]!r} is damaged")


def _check(info: zipfile.ZipInfo) -> None:
    name = info.filename
    if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
        raise Unreadable(f"its member {name[:80]!r} has a path outside the archive")
    if info.flag_bits & 1:
        raise Unreadable("it is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable("it uses a compression that PyTorch does not")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise Unreadable(f"its member {name[:80]!r} does not have the size that it declares")


class _LimitedReads:
    """A file that refuses to read more at once than a directory may have: zipfile reads the directory as a whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.limited = True  # until the directory was read; `read` checks the sizes of members

    def read(self, size: int = -1) -> bytes:
        if not self.limited:
            return self._file.read(size)
        data = self._file.read(size if 0 <= size <= _LARGEST_DIRECTORY_BYTES else _LARGEST_DIRECTORY_BYTES + 1)
        if len(data) > _LARGEST_DIRECTORY_BYTES:
            raise Unreadable("it declares too many members")
        return data

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
