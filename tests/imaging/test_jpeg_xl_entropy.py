"""JPEG XL's entropy coding: streams written bit by bit after ISO/IEC 18181-1, annex C, and an encoder of ANS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from diffstudio.imaging.jpeg_xl_entropy import Bits, HybridConfig, Numbers, _AliasTable

Field = tuple[int, int]  # a number and how many bits it takes
NO_COPIES, ONE_CLUSTER, PREFIX, ANS = (0, 1), [(1, 1), (0, 2)], (1, 1), (0, 1)
EVERY_TOKEN = [(15, 4)]  # tokens are the numbers themselves, of prefix codes
FINAL_STATE = (0x13 << 16, 32)


def stream(*fields: Field, spare: int = 64) -> Bits:
    value, position = 0, 0
    for number, count in fields:
        value |= number << position
        position += count
    return Bits(value.to_bytes((position + 7) // 8 + spare, "little"))


def first_bit_first(text: str) -> list[Field]:
    return [(int(bit), 1) for bit in text]


def read(bits: Bits, count: int, contexts: int = 1) -> list[int]:
    numbers = Numbers(bits, contexts)
    found = [numbers.next(index % contexts) for index in range(count)]
    numbers.check_end()
    return found


# ---- numbers of fixed forms ------------------------------------------------------------------------------------------


def test_numbers_of_every_form() -> None:
    fields = [(0, 2), (1, 2), (5, 4), (2, 2), (9, 8), (3, 2), (7, 12), (1, 1), (1, 8), (0, 1)]
    bits = stream(*fields)
    assert [bits.u64() for _ in range(4)] == [0, 6, 26, 7 + (1 << 12)]
    whole = [(3, 2), (0xFFF, 12), *[(1, 1), (255, 8)] * 6, (1, 1), (15, 4)]
    assert stream(*whole).u64() == 2**64 - 1
    assert stream((0, 1), (1, 1), (0, 3), (1, 1), (4, 3), (9, 4)).u8() == 0
    bits = stream((1, 1), (0, 3), (1, 1), (4, 3), (9, 4))
    assert (bits.u8(), bits.u8(), bits.enum()) == (1, 25, 0)


def test_data_that_end() -> None:
    bits = Bits(b"\xff\x01")
    assert bits.u(9) == 511
    with pytest.raises(IndexError):
        bits.u(8)


def test_tokens_hold_the_highest_and_lowest_bits() -> None:
    config = HybridConfig.read(stream((4, 4), (2, 3), (1, 2)), 8)
    assert config == HybridConfig(4, 2, 1)
    assert config.number(stream(), 15) == 15
    for value in (16, 17, 31, 100, 12345):  # split as the standard's encoder does
        n = value.bit_length() - 1
        rest = value - (1 << n)
        token = 16 + ((n - 4) << 3) + ((rest >> (n - 2)) << 1) + (rest & 1)
        count = n - 3
        assert config.number(stream(((value >> 1) & ((1 << count) - 1), count)), token) == value
    assert HybridConfig.read(stream((8, 4)), 8) == HybridConfig(8, 0, 0)
    for fields in ([(4, 4), (5, 3)], [(4, 4), (2, 3), (3, 2)]):
        with pytest.raises(ValueError, match="more bits than it has"):
            HybridConfig.read(stream(*fields), 8)
    with pytest.raises(ValueError, match="more than 32 bits"):
        config.number(stream(), 16 + 8 * 40)


# ---- prefix codes ----------------------------------------------------------------------------------------------------


def prefixed(size: int, code: Sequence[Field], symbols: str) -> Bits:
    n = (size - 1).bit_length() - 1
    alphabet = [(1, 1), (n, 4), (size - 1 - (1 << n), n)] if size > 1 else [(0, 1)]
    return stream(NO_COPIES, PREFIX, *EVERY_TOKEN, *alphabet, *code, *first_bit_first(symbols))


def test_prefix_codes_of_few_symbols() -> None:
    assert read(prefixed(1, [], ""), 3) == [0, 0, 0]
    assert read(prefixed(9, [(1, 2), (0, 2), (5, 4)], ""), 2) == [5, 5]
    assert read(prefixed(9, [(1, 2), (1, 2), (7, 4), (2, 4)], "01"), 2) == [2, 7]
    assert read(prefixed(9, [(1, 2), (2, 2), (7, 4), (8, 4), (2, 4)], "01011"), 3) == [7, 2, 8]
    four = [(1, 2), (3, 2), (7, 4), (8, 4), (2, 4), (1, 4)]
    assert read(prefixed(9, [*four, (0, 1)], "00011011"), 4) == [1, 2, 7, 8]
    assert read(prefixed(9, [*four, (1, 1)], "010110111"), 4) == [7, 8, 1, 2]
    for symbols in ([(9, 4), (1, 4)], [(4, 4), (4, 4)]):
        with pytest.raises(ValueError, match="not in the alphabet, or one twice"):
            read(prefixed(9, [(1, 2), (1, 2), *symbols], ""), 1)


def lengths(found: dict[int, str], codes: str) -> list[Field]:
    """A prefix code whose lengths are themselves coded: the code of each length, in the standard's order."""
    of_length = {0: "00", 4: "10", 3: "01", 2: "110", 1: "1110", 5: "1111"}
    order, fields, space = (1, 2, 3, 4, 0, 5, 17, 6, 16, 7, 8, 9, 10, 11, 12, 13, 14, 15), [(0, 2)], 32
    for place in order:
        length = len(found.get(place, ""))
        fields += first_bit_first(of_length[length])
        space -= 32 >> length if length else 0
        if space == 0:
            break
    return [*fields, *first_bit_first(codes)]


def test_prefix_codes_with_lengths_that_repeat() -> None:
    """Lengths 1, 2, 3, 3 of four symbols; then 0 (17: seven times), 2 and three times 2 again (16), of eleven."""
    three = {1: "0", 2: "10", 3: "11"}
    assert read(prefixed(4, lengths(three, "0101111"), "111011010"), 4) == [3, 0, 2, 1]
    some = {0: "10", 1: "0", 2: "11"}  # lengths 1, 0, 2, 0, 2
    assert read(prefixed(5, lengths(some, "010111011"), "11010"), 3) == [4, 0, 2]
    code = {2: "0", 16: "10", 17: "11"}
    text = "11" + "001" + "0" + "10" + "00"  # three bits of 17: 4 more than 3
    assert read(prefixed(11, lengths(code, text), "00011011"), 4) == [7, 8, 9, 10]
    # Repeats that follow each other multiply: (3 - 2) * 8 + 0 + 3 zeros in all
    assert read(prefixed(15, lengths(code, "11000" + "11000" + text[5:]), "00011011"), 4) == [11, 12, 13, 14]
    for size, wrong in ((9, "11111"), (3, "000")):  # too many symbols; space left
        with pytest.raises(ValueError, match="incomplete prefix code"):
            read(prefixed(size, lengths(code, wrong), ""), 1)
    with pytest.raises(ValueError, match="incomplete prefix code"):
        read(prefixed(9, [(0, 2), *first_bit_first("10" * 2 + "00" * 16)], ""), 1)
    with pytest.raises(ValueError, match="32,768"):
        read(prefixed(40_000, [], ""), 1)


def test_a_code_that_no_symbol_has() -> None:
    with pytest.raises(ValueError, match="no symbol has"):
        stream((0xFFFFF, 20)).symbol({(1, 0): 3})


# ---- ANS -------------------------------------------------------------------------------------------------------------


def encoded(probabilities: Sequence[int], symbols: Sequence[int]) -> list[Field]:
    """The state and the words that follow it, by an encoder that inverts the table."""
    table = _AliasTable(probabilities, 5)
    slots = {(symbol, place): value for value in range(4096) for symbol, _, place in [table.of(value)]}
    state, words = 0x13 << 16, list[int]()
    for symbol in reversed(symbols):
        count = probabilities[symbol]
        if state >= count << 20:
            words.append(state & 0xFFFF)
            state >>= 16
        state = (state // count << 12) + slots[symbol, state % count]
    return [(state, 32), *((word, 16) for word in reversed(words))]


def by_ans(distribution: Sequence[Field], coded: Sequence[Field]) -> Bits:
    return stream(NO_COPIES, ANS, (0, 2), (5, 3), *distribution, *coded)


@pytest.mark.parametrize(("distribution", "probabilities"), [
    ([(1, 1), (1, 1), (1, 1), (0, 3), (1, 1), (1, 3), (1, 1), (1000, 12)], [0, 1000, 0, 3096]),
    ([(0, 1), (1, 1), (1, 1), (2, 3), (2, 2)], [586, 585, 585, 585, 585, 585, 585]),
], ids=["two symbols", "flat"])  # fmt: skip
def test_numbers_by_ans(distribution: list[Field], probabilities: list[int]) -> None:
    used = [symbol for symbol, count in enumerate(probabilities) if count]
    symbols = np.random.default_rng(1).choice(used, 300).tolist()
    assert read(by_ans(distribution, encoded(probabilities, symbols)), 300) == symbols


def test_a_single_symbol_takes_no_bits() -> None:
    alone = [(1, 1), (0, 1), (1, 1), (0, 3)]
    assert read(by_ans(alone, [FINAL_STATE]), 5) == [1] * 5
    with pytest.raises(ValueError, match="wrong state"):
        read(by_ans(alone, [(0x14 << 16, 32)]), 5)


def test_probabilities_that_are_listed() -> None:
    """Seven: the largest, which is left out, by its size; 32 and five bits; 1, and four times the one before."""
    text = "100001" + "001" + "1101" + "1000001"
    fields = [(0, 1), (0, 1), *first_bit_first("111"), (5, 3), (1, 1), (2, 3), (0, 2), *first_bit_first(text), (0, 1)]
    probabilities = [4096 - 42, 37, 1, 1, 1, 1, 1]
    symbols = [0, 1, 6, 2, 0, 1, 3, 4, 5]
    assert read(by_ans([*fields, (5, 5)], encoded(probabilities, symbols)), 9) == symbols


@pytest.mark.parametrize(("fields", "why"), [
    ([(1, 1), (1, 1), (0, 1), (0, 1)], "one symbol twice"),
    ([(0, 1), (0, 1), *first_bit_first("111"), (7, 3)], "too many bits"),
    ([(0, 1), (0, 1), (0, 1), (0, 1), *first_bit_first("10001" * 3)], "without a largest"),
    ([(0, 1), (0, 1), (0, 1), (0, 1), *first_bit_first("1101" + "1000001"), (0, 1)], "without a largest"),
    ([(0, 1), (0, 1), (0, 1), (0, 1), *first_bit_first("1000000" * 3)], "add up to more"),
    ([(0, 1), (1, 1), (1, 1), (5, 3), (1, 5)], "more symbols than the alphabet"),
], ids=["twice", "shift", "none", "repeated", "sum", "alphabet"])  # fmt: skip
def test_probabilities_that_no_encoder_writes(fields: list[Field], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Numbers(by_ans(fields, []), 1)


def test_repeats_at_the_beginning_are_zeros() -> None:
    text = "1000001" + "0" + "100001"  # four as before, the largest after them
    fields = [(0, 1), (0, 1), (0, 1), (1, 1), (1, 3), (0, 1), *first_bit_first(text)]
    assert read(by_ans(fields, [FINAL_STATE]), 2) == [4, 4]


# ---- contexts and copies ---------------------------------------------------------------------------------------------


def test_contexts_share_distributions() -> None:
    """Of three contexts the second has another code: 5 alone, where the others have 2 and 7."""
    codes = [*[(1, 1), (3, 4), (0, 3)] * 2, (1, 2), (1, 2), (7, 4), (2, 4), (1, 2), (0, 2), (5, 4)]
    simple = [(1, 1), (1, 2), (0, 1), (1, 1), (0, 1)]
    symbols = first_bit_first("1001")
    assert read(stream(NO_COPIES, *simple, PREFIX, *EVERY_TOKEN * 2, *codes, *symbols), 6, 3) == [7, 5, 2, 2, 5, 7]
    # The same map as numbers by a prefix code of 0 and 1, moved to the front: 0, 1, 1
    nested = [(0, 1), (1, 1), NO_COPIES, PREFIX, *EVERY_TOKEN, (1, 1), (0, 4), (1, 2), (1, 2), (0, 1), (1, 1)]
    nested += first_bit_first("011")
    assert read(stream(NO_COPIES, *nested, PREFIX, *EVERY_TOKEN * 2, *codes, *symbols), 6, 3) == [7, 5, 2, 2, 5, 7]
    plain = [(0, 1), (0, 1), *nested[2:-3], *first_bit_first("010")]
    assert read(stream(NO_COPIES, *plain, PREFIX, *EVERY_TOKEN * 2, *codes, *symbols), 6, 3) == [7, 5, 2, 2, 5, 7]


def test_maps_of_contexts_that_no_encoder_writes() -> None:
    with pytest.raises(ValueError, match="without a context"):
        Numbers(stream(NO_COPIES, (1, 1), (2, 2), (0, 2), (2, 2)), 2)
    many = [(0, 1), (0, 1), NO_COPIES, PREFIX, *EVERY_TOKEN, (1, 1), (9, 4), (0, 9), (1, 2), (0, 2), (300, 10)]
    with pytest.raises(ValueError, match="256"):
        Numbers(stream(NO_COPIES, *many), 2)
    with pytest.raises(ValueError, match="none are allowed"):
        Numbers(stream(NO_COPIES, (0, 1), (0, 1), (1, 1)), 2)


def test_copies_of_what_came_before() -> None:
    """Tokens from 224 copy: their lengths from 3, distances from 1. Before the first number there are zeros."""
    copies = [(1, 1), (0, 2), (0, 2), (8, 4)]
    alphabet = [(1, 1), (7, 4), (97, 7)]  # 226 symbols
    code = [(1, 2), (2, 2), (7, 8), (9, 8), (225, 8)]  # 7: 0, 9: 10, 225: 11
    apart = [(1, 1), (1, 2), (0, 1), (1, 1)]  # distances have a code of their own: 1 alone, two back
    distances = [(1, 1), (0, 4), (1, 2), (0, 2), (1, 1)]
    begun = [*copies, *apart, PREFIX, *EVERY_TOKEN * 2, *alphabet, *distances[:2], *code, *distances[2:]]
    assert read(stream(*begun, *first_bit_first("010" + "11" + "10")), 7) == [7, 9, 7, 9, 7, 9, 9]
    assert read(stream(*begun, *first_bit_first("11" + "0")), 5) == [0, 0, 0, 0, 7]
