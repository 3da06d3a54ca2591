"""ICC profiles inside JPEG XL, which are compressed there: ISO/IEC 18181-1, annex E.4.

The bytes of a profile are predicted: those of its header by what most profiles hold, its tags by a list of usual ones,
tables by the values before them. What is left is entropy-coded, with a context of the two bytes before. Written after the
standard, and checked against libjxl (BSD-3-Clause), which imagecodecs decodes pixels with but does not hand profiles on.
"""

from __future__ import annotations

import struct

from diffstudio.imaging.jpeg_xl_entropy import TOO_MANY_BITS, Bits, Numbers
from diffstudio.imaging.limits import LARGEST_PROFILE_BYTES

_CONTEXTS, _HEADER = 41, 128
_MOST_GAIN = 256  # profile bytes for each compressed byte: more is no profile
_CHECKED_EVERY = 1 << 16  # bytes
_INITIAL = bytearray(_HEADER)
_INITIAL[8:9] = b"\x04"
_INITIAL[12:24] = b"mntrRGB XYZ "
_INITIAL[36:40] = b"acsp"
_INITIAL[68:80] = bytes.fromhex("0000f6d6000100000000d32d")
_MAKERS = {b"A": b"APPL", b"M": b"MSFT", b"SG": b"SGI ", b"SU": b"SUNW"}  # by how they begin
_TAGS = (  # of commands from 4
    b"cprt", b"wtpt", b"bkpt", b"rXYZ", b"gXYZ", b"bXYZ", b"kXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"chad", b"desc",
    b"chrm", b"dmnd", b"dmdd", b"lumi",
)  # fmt: skip
_OF_20_BYTES = {b"rXYZ", b"gXYZ", b"bXYZ", b"kXYZ", b"wtpt", b"bkpt", b"lumi"}
_TYPES = (b"XYZ ", b"desc", b"text", b"mluc", b"para", b"curv", b"sf32", b"gbd ")  # of commands from 16
_STATED_START, _STATED_SIZE = 64, 128
_ANOTHER_SIZE = "a profile of another size than stated"
_TOO_LARGE = "too large a profile"


def read_profile(bits: Bits) -> bytes:
    """The ICC profile that begins here. ValueError or IndexError when it is damaged or too large."""
    size, first = bits.u64(), bits.position
    if size > LARGEST_PROFILE_BYTES:
        raise ValueError(_TOO_LARGE)
    numbers = Numbers(bits, _CONTEXTS)
    found = bytearray()
    for index in range(size):
        found.append(numbers.next(_context(index, found)) & 255)
        if index % _CHECKED_EVERY == _CHECKED_EVERY - 1 and index > _MOST_GAIN * ((bits.position - first) / 8):
            raise ValueError("too large a profile for its data")
    numbers.check_end()
    return _Restored(bytes(found)).profile()


def _context(index: int, found: bytearray) -> int:
    return 0 if index <= _HEADER else 1 + _KINDS[found[-1]] + 8 * _KINDS_BEFORE[found[-2]]


def _kind(byte: int, groups: tuple[tuple[int, int], ...]) -> int:
    """0 for letters, 1 for digits, else that of the first group (below this byte, kind) that the byte belongs to."""
    character = chr(byte)
    if character.isascii() and character.isalpha():
        return 0
    if (character.isascii() and character.isdigit()) or character in ".,":
        return 1
    return next(kind for below, kind in groups if byte < below)


_KINDS = bytes(_kind(byte, ((1, 2), (2, 3), (16, 4), (241, 7), (255, 5), (256, 6))) for byte in range(256))
_KINDS_BEFORE = bytes(_kind(byte, ((16, 2), (241, 4), (256, 3))) for byte in range(256))


class _Stream:
    """Bytes that are read from the front. IndexError at their end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def __len__(self) -> int:
        return len(self._data) - self._position

    def take(self, count: int) -> bytes:
        if count > len(self):
            raise IndexError("the data end")
        self._position += count
        return self._data[self._position - count : self._position]

    def number(self) -> int:
        """Seven bits a byte, the lowest first; of at most 32 bits."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                break
        if value >> 32 or byte > 127:
            raise ValueError(TOO_MANY_BITS)
        return value


class _Restored:
    """A profile from its predicted form: how large it is, commands, and data for these."""

    def __init__(self, encoded: bytes) -> None:
        data = _Stream(encoded)
        self._size = data.number()
        if self._size > LARGEST_PROFILE_BYTES:
            raise ValueError(_TOO_LARGE)
        self._commands = _Stream(data.take(data.number()))
        self._data = data
        self._out = bytearray()

    def profile(self) -> bytes:
        self._header()
        if self._size > _HEADER:
            self._tags()
            while self._commands:
                self._element()
                if len(self._out) > self._size:
                    break
        if len(self._out) != self._size or self._data or self._commands:
            raise ValueError(_ANOTHER_SIZE)
        return bytes(self._out)

    def _header(self) -> None:
        expected = bytearray(_INITIAL)
        expected[:4] = struct.pack(">I", self._size)
        for index, byte in enumerate(self._data.take(min(self._size, _HEADER))):
            if index == 8:
                expected[80:84] = self._out[4:8]
            elif index in (41, 42):
                begun = bytes(self._out[40:index])
                expected[index:44] = _MAKERS.get(begun, bytes(expected[40:44]))[index - 40 :]
            self._out.append((byte + expected[index]) & 255)

    def _tags(self) -> None:
        """The tag table."""
        count = self._commands.number() - 1
        if count < 0:
            return
        self._append_numbers(count)
        start, size = _HEADER + 12 * count, 0
        while self._commands:
            command = self._commands.take(1)[0]
            if not (code := command & 63):
                return
            name = self._tag_name(code)
            start += size
            if command & _STATED_START:
                start = self._commands.number()
            if name in _OF_20_BYTES:
                size = 20
            if command & _STATED_SIZE:
                size = self._commands.number()
            self._append_tag(name, start, size)
            if code == 2:  # the curves of red, green and blue are one
                self._append_tag(b"gTRC", start, size)
                self._append_tag(b"bTRC", start, size)
            elif code == 3:
                self._append_tag(b"gXYZ", start + size, size)
                self._append_tag(b"bXYZ", start + 2 * size, size)

    def _tag_name(self, code: int) -> bytes:
        if code == 1:
            return self._data.take(4)
        if code < 4:
            return (b"rTRC", b"rXYZ")[code - 2]
        if code - 4 >= len(_TAGS):
            raise ValueError("an unknown tag")
        return _TAGS[code - 4]

    def _append_tag(self, name: bytes, start: int, size: int) -> None:
        self._out += name
        self._append_numbers(start, size)
        if len(self._out) > self._size:
            raise ValueError(_ANOTHER_SIZE)

    def _append_numbers(self, *numbers: int) -> None:
        if max(numbers) >> 32:
            raise ValueError(TOO_MANY_BITS)
        self._out += struct.pack(f">{len(numbers)}I", *numbers)

    def _element(self) -> None:
        """A part of what the tags hold."""
        match command := self._commands.take(1)[0]:
            case 1:
                self._out += self._data.take(self._commands.number())
            case 2 | 3:
                self._out += _unshuffled(self._data.take(self._commands.number()), 2 * command - 2)
            case 4:
                self._predicted()
            case 10:
                self._out += b"XYZ \0\0\0\0" + self._data.take(12)
            case _ if 16 <= command < 16 + len(_TYPES):
                self._out += _TYPES[command - 16] + bytes(4)
            case _:
                raise ValueError("an unknown command")

    def _predicted(self) -> None:
        """Values of `width` bytes, predicted by up to three values before."""
        flags = self._commands.take(1)[0]
        width, order = (flags & 3) + 1, flags >> 2 & 3
        stride = self._commands.number() if flags & 16 else width
        if width == 3 or order == 3 or stride < width or 4 * stride >= len(self._out):
            raise ValueError("an impossible prediction")
        differences = _unshuffled(self._data.take(self._commands.number()), width)
        first = len(self._out)
        for index, byte in enumerate(differences):
            place = first + index - index % width
            value = 0
            for factor, back in zip(((1,), (2, -1), (3, -3, 1))[order], (1, 2, 3), strict=False):
                before = place - back * stride
                value += factor * int.from_bytes(self._out[before : before + width], "big")
            shift = 8 * (width - 1 - index % width)
            self._out.append((byte + (value >> shift)) & 255)


def _unshuffled(data: bytes, width: int) -> bytes:
    """Values of `width` bytes that were stored all first bytes first."""
    rows = -(-len(data) // width)
    return bytes(byte for row in range(rows) for byte in data[row::rows]) if width > 1 else data
