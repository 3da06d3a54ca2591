"""The entropy coding of JPEG XL: ISO/IEC 18181-1, annex C. Numbers of a codestream, by prefix codes or ANS.

Only what small side information needs: no distances of two-dimensional images. ValueError for what no encoder writes,
IndexError where the data end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LOG_TOTAL = 12  # of the probabilities of ANS: they add up to 4096
_TOTAL = 1 << _LOG_TOTAL
_ANS_END = 0x13 << 16  # the state after the last number
_WINDOW = 1 << 20  # how far back a copy may begin
_LENGTH_ORDER = (1, 2, 3, 4, 0, 5, 17, 6, 16, 7, 8, 9, 10, 11, 12, 13, 14, 15)
_LENGTH_CODE = {(2, 0b00): 0, (2, 0b10): 4, (2, 0b01): 3, (3, 0b110): 2, (4, 0b1110): 1, (4, 0b1111): 5}
_LOG_COUNT_CODE = {  # of a count of ANS: its number of bits, 0 for none; 13 repeats the one before
    (5, 0b10001): 0, (4, 0b1101): 1, (4, 0b1111): 2, (4, 0b1100): 3, (4, 0b1001): 4, (4, 0b1110): 5, (3, 0b001): 6,
    (3, 0b010): 7, (3, 0b101): 8, (3, 0b011): 9, (3, 0b000): 10, (6, 0b100001): 11, (7, 0b1000000): 12,
    (7, 0b1000001): 13,
}  # fmt: skip

TOO_MANY_BITS = "a number of more than 32 bits"
_INCOMPLETE = "an incomplete prefix code"

PrefixCode = dict[tuple[int, int], int]  # (length, code with the first bit read as its highest) -> symbol


class Bits:
    """Numbers of a codestream, the lowest bit first. IndexError at its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self.position = data, 0

    def u(self, count: int) -> int:
        first, self.position = self.position, self.position + count
        if self.position > 8 * len(self._data):
            raise IndexError("the data end")
        whole = int.from_bytes(self._data[first >> 3 : (self.position + 7) >> 3], "little")
        return whole >> (first & 7) & ((1 << count) - 1)

    def u32(self, *choices: tuple[int, int]) -> int:
        """One of four distributions, each (constant, number of bits that are added)."""
        constant, bits = choices[self.u(2)]
        return constant + self.u(bits)

    def u64(self) -> int:
        choice = self.u(2)
        if choice < 3:
            constant, count = ((0, 0), (1, 4), (17, 8))[choice]
            return constant + self.u(count)
        value, shift = self.u(12), 12
        while self.u(1):
            count = 8 if shift < 60 else 4
            value |= self.u(count) << shift
            shift += 8
            if count == 4:
                break
        return value

    def enum(self) -> int:
        return self.u32((0, 0), (1, 0), (2, 4), (18, 6))

    def u8(self) -> int:
        """0, or a number of bits and so many bits of a number."""
        if not self.u(1):
            return 0
        count = self.u(3)
        return self.u(count) + (1 << count)

    def symbol(self, code: PrefixCode) -> int:
        """The next symbol of a prefix code."""
        length = value = 0
        while (length, value) not in code:
            length, value = length + 1, value << 1 | self.u(1)
            if length > 15:
                raise ValueError("a code that no symbol has")
        return code[length, value]


@dataclass(frozen=True, slots=True)
class HybridConfig:
    """How many bits of a number its token holds: split exponent, most and least significant bits."""

    split: int
    high: int
    low: int

    @classmethod
    def read(cls, bits: Bits, log_alphabet: int) -> HybridConfig:
        split = bits.u(log_alphabet.bit_length())
        high = low = 0
        if split != log_alphabet:
            high = bits.u(split.bit_length())
            low = bits.u(max(0, split - high).bit_length())
        if high + low > split:
            raise ValueError("a token of more bits than it has")
        return cls(split, high, low)

    def number(self, bits: Bits, token: int) -> int:
        if token < 1 << self.split:
            return token
        held = self.high + self.low
        count = self.split - held + ((token - (1 << self.split)) >> held)
        if count > 31:
            raise ValueError(TOO_MANY_BITS)
        low = token & ((1 << self.low) - 1)
        high = (token >> self.low) & ((1 << self.high) - 1) | 1 << self.high
        return (high << count | bits.u(count)) << self.low | low


class Numbers:
    """A sequence of numbers, each with one of several contexts, whose distributions are read first: C.2.1."""

    def __init__(self, bits: Bits, contexts: int, *, copies_allowed: bool = True) -> None:
        self._bits = bits
        self._before: list[int] = []
        self._left = self._from = 0  # what a copy has still to give, and where
        self._copies = bool(bits.u(1))
        if self._copies:
            if not copies_allowed:
                raise ValueError("copies where none are allowed")
            self._least_token = bits.u32((224, 0), (512, 0), (4096, 0), (8, 15))
            self._least_length = bits.u32((3, 0), (4, 0), (5, 2), (9, 8))
            self._length_config = HybridConfig.read(bits, 8)
            contexts += 1
        self._clusters = _clusters(bits, contexts) if contexts > 1 else [0]
        count = max(self._clusters) + 1
        self._by_prefix = bool(bits.u(1))
        log_alphabet = 15 if self._by_prefix else 5 + bits.u(2)
        self._configs = [HybridConfig.read(bits, log_alphabet) for _ in range(count)]
        self._codes: list[PrefixCode] = []
        self._tables: list[_AliasTable] = []
        if self._by_prefix:
            sizes = [_alphabet_size(bits) for _ in range(count)]
            self._codes = [_prefix_code(bits, size) for size in sizes]
            self._state = _ANS_END
        else:
            self._tables = [_AliasTable(_probabilities(bits), log_alphabet) for _ in range(count)]
            self._state = bits.u(32)

    def next(self, context: int) -> int:
        if not self._left:
            cluster = self._clusters[context]
            token = self._token(cluster)
            if not self._copies:
                return self._configs[cluster].number(self._bits, token)
            if token < self._least_token:
                self._before.append(self._configs[cluster].number(self._bits, token))
                return self._before[-1]
            self._begin_copy(token - self._least_token)
        value = self._before[self._from] if self._from < len(self._before) else 0
        self._from, self._left = self._from + 1, self._left - 1
        self._before.append(value)
        return value

    def check_end(self) -> None:
        """ValueError unless the state is that after a last number: a checksum of ANS."""
        if self._state != _ANS_END:
            raise ValueError("a wrong state at the end")

    def _begin_copy(self, token: int) -> None:
        self._left = self._length_config.number(self._bits, token) + self._least_length
        cluster = self._clusters[-1]
        distance = self._configs[cluster].number(self._bits, self._token(cluster)) + 1
        self._from = len(self._before) - min(distance, len(self._before), _WINDOW)

    def _token(self, cluster: int) -> int:
        if self._by_prefix:
            return self._bits.symbol(self._codes[cluster])
        symbol, probability, offset = self._tables[cluster].of(self._state & (_TOTAL - 1))
        self._state = probability * (self._state >> _LOG_TOTAL) + offset
        if self._state < 1 << 16:
            self._state = self._state << 16 | self._bits.u(16)
        return symbol


def _clusters(bits: Bits, contexts: int) -> list[int]:
    """Which distribution each context has: C.2.2."""
    if bits.u(1):
        count = bits.u(2)
        found = [bits.u(count) for _ in range(contexts)]
    else:
        moved = bool(bits.u(1))
        numbers = Numbers(bits, 1, copies_allowed=contexts > 2)
        found = [numbers.next(0) for _ in range(contexts)]
        numbers.check_end()
        if max(found) > 255:
            raise ValueError("more than 256 distributions")
        if moved:
            found = _moved_back(found)
    if set(found) != set(range(max(found) + 1)):
        raise ValueError("a distribution without a context")
    return found


def _moved_back(places: Sequence[int]) -> list[int]:
    """The inverse of the move-to-front transform."""
    order, found = list(range(256)), []
    for place in places:
        order.insert(0, order.pop(place))
        found.append(order[0])
    return found


# ---- prefix codes: C.2.4, those of Brotli (RFC 7932, section 3) ------------------------------------------------------


def _alphabet_size(bits: Bits) -> int:
    if not bits.u(1):
        return 1
    count = bits.u(4)
    return bits.u(count) + (1 << count) + 1


def _prefix_code(bits: Bits, size: int) -> PrefixCode:
    if size > 1 << 15:
        raise ValueError("an alphabet of more than 32,768 symbols")
    if size == 1:
        return {(0, 0): 0}
    skipped = bits.u(2)
    if skipped == 1:
        return _simple_code(bits, size)
    lengths, space = [0] * 18, 32
    for place in _LENGTH_ORDER[skipped:]:
        lengths[place] = length = bits.symbol(_LENGTH_CODE)
        space -= 32 >> length if length else 0
        if space <= 0:
            break
    if space != 0 and sum(length > 0 for length in lengths) != 1:
        raise ValueError(_INCOMPLETE)
    return _canonical(_code_lengths(bits, _canonical(lengths), size))


def _simple_code(bits: Bits, size: int) -> PrefixCode:
    symbols = [bits.u((size - 1).bit_length()) for _ in range(bits.u(2) + 1)]
    if max(symbols) >= size or len(set(symbols)) < len(symbols):
        raise ValueError("a symbol that is not in the alphabet, or one twice")
    lengths = [(0,), (1, 1), (1, 2, 2), (2, 2, 2, 2)][len(symbols) - 1]
    if len(symbols) == 4 and bits.u(1):
        lengths = (1, 2, 3, 3)
    ordered = sorted(zip(lengths, symbols, strict=True))  # the longer codes by symbol, as canonical codes are
    return _in_order(ordered)


def _code_lengths(bits: Bits, code: PrefixCode, size: int) -> list[int]:
    """The length of each symbol's code."""
    lengths: list[int] = []
    before, repeated, repeats, space = 8, 0, 0, 1 << 15
    while len(lengths) < size and space > 0:
        found = bits.symbol(code)
        if found < 16:
            repeats = 0
            lengths.append(found)
            if found:
                before, space = found, space - (1 << 15 >> found)
            continue
        length = before if found == 16 else 0
        if length != repeated:
            repeats, repeated = 0, length
        earlier = repeats
        repeats = ((repeats - 2) << (found - 14) if repeats else 0) + bits.u(found - 14) + 3
        lengths += [length] * (repeats - earlier)
        space -= (repeats - earlier) * (1 << 15 >> length) if length else 0
    if space != 0 or len(lengths) > size:
        raise ValueError(_INCOMPLETE)
    return lengths


def _canonical(lengths: Sequence[int]) -> PrefixCode:
    return _in_order(sorted((length, symbol) for symbol, length in enumerate(lengths) if length))


def _in_order(codes: Sequence[tuple[int, int]]) -> PrefixCode:
    """The canonical code of (length, symbol) in this order; a single symbol takes no bits."""
    if len(codes) == 1:
        return {(0, 0): codes[0][1]}
    found: PrefixCode = {}
    value, before = 0, 0
    for length, symbol in codes:
        value <<= length - before
        found[length, value] = symbol
        value, before = value + 1, length
    return found


# ---- ANS: C.2.5 and C.2.6 --------------------------------------------------------------------------------------------


def _probabilities(bits: Bits) -> list[int]:
    """Of each symbol, in 4096ths."""
    if bits.u(1):
        symbols = [bits.u8() for _ in range(bits.u(1) + 1)]
        counts = [0] * (max(symbols) + 1)
        counts[symbols[0]] = _TOTAL if len(symbols) == 1 else bits.u(_LOG_TOTAL)
        if len(symbols) == 2:
            if symbols[0] == symbols[1]:
                raise ValueError("one symbol twice")
            counts[symbols[1]] = _TOTAL - counts[symbols[0]]
        return counts
    if bits.u(1):
        size = bits.u8() + 1
        share, more = divmod(_TOTAL, size)
        return [share + (symbol < more) for symbol in range(size)]
    return _listed_probabilities(bits)


def _listed_probabilities(bits: Bits) -> list[int]:
    log = 0
    while log < 3 and bits.u(1):
        log += 1
    shift = (bits.u(log) | 1 << log) - 1
    if shift > _LOG_TOTAL + 1:
        raise ValueError("probabilities of too many bits")
    size = bits.u8() + 3
    sizes: list[int] = []  # bits of each count; -1: as before
    while len(sizes) < size:
        found = bits.symbol(_LOG_COUNT_CODE)
        sizes += [-1] * (bits.u8() + 4) if found == 13 else [found]
    sizes = sizes[:size]
    place = sizes.index(max(sizes))
    if sizes[place] <= 0 or sizes[place + 1 : place + 2] == [-1]:
        raise ValueError("probabilities without a largest one")
    counts: list[int] = []
    for index, count in enumerate(sizes):
        if count < 0:
            counts.append(counts[-1] if counts else 0)
        elif index == place or count == 0:
            counts.append(0)
        else:
            count -= 1
            kept = max(0, min(count, shift - ((_LOG_TOTAL - count) >> 1))) if shift else 0
            counts.append((1 << count) + (bits.u(kept) << (count - kept)))
    counts[place] = _TOTAL - sum(counts)
    if counts[place] <= 0:
        raise ValueError("probabilities that add up to more than 1")
    return counts


class _AliasTable:
    """Which symbol a value of 12 bits stands for: entries of equal size, each shared by at most two symbols."""

    def __init__(self, probabilities: Sequence[int], log_alphabet: int) -> None:
        size = 1 << log_alphabet
        if len(probabilities) > size:
            raise ValueError("more symbols than the alphabet has")
        self._log_entry = _LOG_TOTAL - log_alphabet
        self._probabilities = [*probabilities, *[0] * (size - len(probabilities))]
        entry = 1 << self._log_entry
        self._cutoffs = list(self._probabilities)
        self._others, self._offsets = list(range(size)), [0] * size
        if _TOTAL in self._probabilities:  # one symbol alone, which leaves the state as it is
            self._cutoffs = [0] * size
            self._others = [self._probabilities.index(_TOTAL)] * size
            self._offsets = [entry * index for index in range(size)]
            return
        over = [index for index in range(size) if self._cutoffs[index] > entry]
        under = [index for index in range(size) if self._cutoffs[index] < entry]
        while over:
            giver, taker = over.pop(), under.pop()
            self._cutoffs[giver] -= entry - self._cutoffs[taker]
            self._others[taker], self._offsets[taker] = giver, self._cutoffs[giver]
            if self._cutoffs[giver] < entry:
                under.append(giver)
            elif self._cutoffs[giver] > entry:
                over.append(giver)
        for index in range(size):
            if self._cutoffs[index] == entry:
                self._cutoffs[index] = self._offsets[index] = 0
                self._others[index] = index
            else:
                self._offsets[index] -= self._cutoffs[index]

    def of(self, value: int) -> tuple[int, int, int]:
        """The symbol, its probability, and the place of `value` among those that stand for it."""
        entry, place = value >> self._log_entry, value & ((1 << self._log_entry) - 1)
        if place < self._cutoffs[entry]:
            return entry, self._probabilities[entry], place
        symbol = self._others[entry]
        return symbol, self._probabilities[symbol], self._offsets[entry] + place
