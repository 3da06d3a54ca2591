"""A machine that goes through a pickle and does nothing it says: what would be imported or called becomes a note of it.

A pickle is a program for a small stack machine (Lib/pickletools.py describes its 68 instructions). Here each instruction does to the
stack what it would, but a global stays its name, and a call stays what would have been called with what. Of that, weights can be
read (`pickle_weights.py`), and it can be said what a file would have run. Whatever the bytes say, numbers, texts, lists, tables and
the three notes below are all that is ever made of them, and never more of these than there are instructions.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

MOST_OPCODES = 500_000
_MOST_CALLS = 1000  # that are remembered
_MOST_MARKS = 10_000  # that wait to be closed
_LONGEST_INTEGER = 16  # bytes: no number that says anything about weights is longer
_SCALARS = (str, int, float, bool, bytes, type(None))


class Unreadable(ValueError):
    """These bytes are no pickle, or not one that is followed to its end."""


class Truncated(Unreadable):
    """The bytes ended before the pickle did."""


class Global:
    """Something that would have been imported."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Call:
    """What would have come of a call, with what would have been put into it later."""

    __slots__ = ("args", "callee", "items", "members", "state")

    def __init__(self, callee: Any, args: Any) -> None:
        self.callee, self.args = callee, args
        self.items: dict[Any, Any] = {}
        self.members: list[Any] = []
        self.state: Any = None


class PersistentId:
    """Something outside the pickle: for PyTorch, a storage."""

    __slots__ = ("id",)

    def __init__(self, id: Any) -> None:
        self.id = id


class OpcodeBudget:
    """How many instructions may still be followed, in all the pickles of one file."""

    def __init__(self, opcodes: int = MOST_OPCODES) -> None:
        self.left = self.whole = opcodes


class PickleInterpreter:
    """Goes through one pickle after another in the same bytes, from `at` on."""

    def __init__(self, data: bytes, budget: OpcodeBudget | None = None, at: int = 0) -> None:
        self.at, self.budget = at, budget or OpcodeBudget()
        self.globals: dict[tuple[str, str], Global] = {}
        self.calls: list[Call] = []  # those of what is not plainly part of weights
        self.constants: list[bytes] = []  # that may be pickles themselves
        self.storages: list[tuple[Any, ...]] = []  # ("storage", kind, key, device, numbers, …), as PyTorch calls them
        self._data, self._size = data, len(data)
        self._begin()

    def _begin(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # what lies under each mark
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """What one pickle describes. Unreadable, Truncated."""
        self._begin()
        data, size, budget, does = self._data, self._size, self.budget, _DOES
        first = self.at
        try:
            while self.at < size:
                opcode = data[self.at]
                self.at += 1
                if opcode == 0x2E:  # STOP
                    return self._stack.pop()
                budget.left -= 1
                if budget.left < 0:
                    raise Unreadable(f"it has more than {budget.whole:,} instructions")
                does[opcode](self)
        except Unreadable:
            raise
        except (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError, struct.error) as error:
            raise Unreadable(f"it makes no sense at byte {self.at:,}") from error
        raise Truncated("it was cut short" if size > first else "it is empty")

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _take(self, length: int) -> bytes:
        begin, self.at = self.at, self.at + length
        if self.at > self._size:
            raise Truncated("it was cut short")
        return self._data[begin : self.at]

    def _number(self, form: str, length: int) -> Any:
        return struct.unpack(form, self._take(length))[0]

    def _line(self) -> bytes:
        begin, end = self.at, self._data.find(b"\n", self.at)
        if end < 0:
            raise Truncated("it was cut short")
        self.at = end + 1
        return self._data[begin:end]

    def _long(self, length: int) -> int:
        data = self._take(length)
        return int.from_bytes(data, "little", signed=True) if length <= _LONGEST_INTEGER else 0

    def _constant(self, data: bytes) -> bytes:
        if len(data) > 1 and (data[0] == 0x80 or b"\n" in data or b"\x93" in data):
            self.constants.append(data)
        return data

    def _text(self, data: bytes) -> str:
        text = data.decode("utf-8", "surrogateescape")
        if b"\n" in data or text[:1] == "\x80":  # pickles were lines of text once; bytes are written as texts by some
            self._constant(text.encode("latin-1", "replace"))
        return text

    # ---- doing -------------------------------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _above(self) -> list[Any]:
        """What lies above the newest mark, which goes."""
        above, self._stack = self._stack, self._below.pop()
        return above

    def _mark(self) -> None:
        if len(self._below) >= _MOST_MARKS:
            raise Unreadable("it is nested too deeply")
        self._below.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._above()

    def _named(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Unreadable("a name in it is no text")
        found = self.globals.get((module, name))
        if found is None:
            found = self.globals[module, name] = Global(module, name)
        self._stack.append(found)

    def _call(self, callee: Any, args: Any) -> None:
        made = Call(callee, args)
        if (type(callee) is not Global or callee.module != "torch._utils") and len(self.calls) < _MOST_CALLS:
            self.calls.append(made)
        self._stack.append(made)

    def _call_top(self) -> None:
        args = self._stack.pop()
        self._call(self._stack.pop(), args)

    def _call_with_names(self) -> None:
        names, args = self._stack.pop(), self._stack.pop()
        self._call(self._stack.pop(), (args, names))

    def _call_above(self) -> None:  # OBJ
        callee, *args = self._above()
        self._call(callee, tuple(args))

    def _call_line(self) -> None:  # INST
        self._named(self._text(self._line()), self._text(self._line()))
        callee = self._stack.pop()
        self._call(callee, tuple(self._above()))

    def _import_line(self) -> None:
        self._named(self._text(self._line()), self._text(self._line()))

    def _import_stack(self) -> None:
        name = self._stack.pop()
        self._named(self._stack.pop(), name)

    def _import_number(self, length: int) -> None:
        """Of the registry of copyreg, in which there is nothing unless a program put it there."""
        self._named("copyreg", f"extension {int.from_bytes(self._take(length), 'little')}")

    def _build(self) -> None:
        state = self._stack.pop()
        if type(into := self._stack[-1]) is Call:
            into.state = state

    def _fetch(self, id: Any) -> None:
        if type(id) is tuple and len(id) >= 5 and id[0] == "storage" and type(id[1]) is Global:
            self.storages.append(id)
        self._stack.append(PersistentId(id))

    def _append(self, values: list[Any]) -> None:
        into = self._stack[-1]
        if type(into) is list:
            into.extend(values)
        elif type(into) is Call:
            into.members.extend(values)

    def _put_in(self, values: list[Any]) -> None:
        """Only under keys that are a text or a number: a key that is a tower of tuples would take for ever to look up."""
        into = self._stack[-1]
        table = into if type(into) is dict else into.items if type(into) is Call else None
        if table is not None:
            for index in range(0, len(values) - 1, 2):
                if isinstance(key := values[index], _SCALARS):
                    table[key] = values[index + 1]

    def _table(self) -> None:
        values = self._above()
        self._stack.append({})
        self._put_in(values)

    def _top_one(self) -> None:
        self._stack[-1] = (self._stack[-1],)

    def _top(self, count: int) -> None:
        values = tuple(self._stack[-count:])
        if len(values) != count:
            raise Unreadable("it takes more than there is")
        self._stack[-count:] = (values,)

    def _last_two(self) -> list[Any]:
        value = self._stack.pop()
        return [self._stack.pop(), value]

    def _remember(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        self._stack.append(self._memo[index])


def _text_line(machine: PickleInterpreter) -> None:  # STRING: quoted, with escapes
    line = machine._line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"\"'":
        raise Unreadable("a text in it has no end")
    machine._push(machine._text(codecs.escape_decode(line[1:-1])[0]))


def _integer_line(machine: PickleInterpreter) -> None:
    line = machine._line().rstrip(b"L")
    machine._push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line) if len(line) < 40 else 0)


_DOES_BY_NAME: dict[bytes, Callable[[PickleInterpreter], object]] = {
    b"(": PickleInterpreter._mark,
    b"0": PickleInterpreter._pop,
    b"1": PickleInterpreter._above,
    b"2": lambda m: m._push(m._stack[-1]),
    # numbers
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"I": _integer_line,
    b"L": _integer_line,
    b"F": lambda m: m._push(float(m._line())),
    b"J": lambda m: m._push(m._number("<i", 4)),
    b"K": lambda m: m._push(m._take(1)[0]),
    b"M": lambda m: m._push(m._number("<H", 2)),
    b"G": lambda m: m._push(m._number(">d", 8)),
    b"\x8a": lambda m: m._push(m._long(m._take(1)[0])),
    b"\x8b": lambda m: m._push(m._long(m._number("<I", 4))),
    # texts and bytes
    b"S": _text_line,
    b"T": lambda m: m._push(m._text(m._constant(m._take(m._number("<I", 4))))),
    b"U": lambda m: m._push(m._text(m._constant(m._take(m._take(1)[0])))),
    b"V": lambda m: m._push(m._text(m._line().decode("raw-unicode-escape").encode("utf-8", "surrogatepass"))),
    b"X": lambda m: m._push(m._text(m._take(m._number("<I", 4)))),
    b"\x8c": lambda m: m._push(m._text(m._take(m._take(1)[0]))),
    b"\x8d": lambda m: m._push(m._text(m._take(m._number("<Q", 8)))),
    b"B": lambda m: m._push(m._constant(m._take(m._number("<I", 4)))),
    b"C": lambda m: m._push(m._constant(m._take(m._take(1)[0]))),
    b"\x8e": lambda m: m._push(m._constant(m._take(m._number("<Q", 8)))),
    b"\x96": lambda m: m._push(m._constant(m._take(m._number("<Q", 8)))),
    # lists, tuples, tables, sets
    b"]": lambda m: m._push([]),
    b")": lambda m: m._push(()),
    b"}": lambda m: m._push({}),
    b"\x8f": lambda m: m._push([]),
    b"l": lambda m: m._push(m._above()),
    b"t": lambda m: m._push(tuple(m._above())),
    b"d": PickleInterpreter._table,
    b"\x91": lambda m: m._push(m._above()),
    b"\x85": PickleInterpreter._top_one,
    b"\x86": lambda m: m._top(2),
    b"\x87": lambda m: m._top(3),
    b"a": lambda m: m._append([m._stack.pop()]),
    b"e": lambda m: m._append(m._above()),
    b"\x90": lambda m: m._append(m._above()),
    b"s": lambda m: m._put_in(m._last_two()),
    b"u": lambda m: m._put_in(m._above()),
    # what is remembered
    b"p": lambda m: m._remember(int(m._line())),
    b"q": lambda m: m._remember(m._take(1)[0]),
    b"r": lambda m: m._remember(m._number("<I", 4)),
    b"\x94": lambda m: m._remember(len(m._memo)),
    b"g": lambda m: m._recall(int(m._line())),
    b"h": lambda m: m._recall(m._take(1)[0]),
    b"j": lambda m: m._recall(m._number("<I", 4)),
    # what would be imported, called, or fetched from elsewhere
    b"c": PickleInterpreter._import_line,
    b"\x93": PickleInterpreter._import_stack,
    b"\x82": lambda m: m._import_number(1),
    b"\x83": lambda m: m._import_number(2),
    b"\x84": lambda m: m._import_number(4),
    b"R": PickleInterpreter._call_top,
    b"\x81": PickleInterpreter._call_top,
    b"\x92": PickleInterpreter._call_with_names,
    b"o": PickleInterpreter._call_above,
    b"i": PickleInterpreter._call_line,
    b"b": PickleInterpreter._build,
    b"P": lambda m: m._push(PersistentId(m._text(m._line()))),
    b"Q": lambda m: m._fetch(m._stack.pop()),
    b"\x97": lambda m: m._push(PersistentId("buffer")),
    b"\x98": lambda m: None,
    # how it is written
    b"\x80": lambda m: m._take(1),
    b"\x95": lambda m: m._take(8),
}


def _no_opcode(machine: PickleInterpreter) -> None:
    raise Unreadable(f"it makes no sense at byte {machine.at - 1:,}")


_DOES: tuple[Callable[[PickleInterpreter], object], ...] = tuple(
    _DOES_BY_NAME.get(bytes([opcode]), _no_opcode) for opcode in range(256)
)
