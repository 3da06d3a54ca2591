"""Interpret a pickle without importing or calling anything: imports and calls become objects that describe them.

A pickle is a program for a small stack machine (Lib/pickletools.py describes its 68 opcodes). Here every opcode does to
the stack what it would do in Python, but a global stays a `Global` and a call a `Call`. From these, `pickle_tensors.py`
reads the tensors, and `pickle_scan.py` reports what the file would run. Whatever the bytes are, only numbers, strings,
lists, dicts, tuples and the three classes below are created, and never more of them than there are opcodes.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

from diffstudio.models.files.file_access import TRUNCATED

MOST_OPCODES = 500_000
_MOST_CALLS = 1000  # that are recorded
_MOST_MARKS = 10_000  # open at the same time
_LONGEST_INTEGER = 16  # bytes; no integer that describes weights is longer
_SCALARS = (str, int, float, bool, bytes, type(None))


class Unreadable(ValueError):
    """The bytes are not a valid pickle, or exceed a limit."""


class Truncated(Unreadable):
    """The bytes end before the pickle does."""


class Global:
    """A global that Python would import."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Call:
    """A call that Python would make, with the items and the state that would be set on its result."""

    __slots__ = ("appended", "args", "callee", "items", "state")

    def __init__(self, callee: Any, args: Any) -> None:
        self.callee, self.args = callee, args
        self.items: dict[Any, Any] = {}
        self.appended: list[Any] = []
        self.state: Any = None


class PersistentId:
    """A persistent id: an object outside the pickle, in PyTorch a storage."""

    __slots__ = ("id",)

    def __init__(self, id: Any) -> None:
        self.id = id


class OpcodeBudget:
    """How many opcodes may still be executed, in all pickles of one file together."""

    def __init__(self, opcodes: int = MOST_OPCODES) -> None:
        self.left = self.whole = opcodes


class PickleInterpreter:
    """Interprets one pickle after another in `data`, starting at the byte `at`."""

    def __init__(self, data: bytes, budget: OpcodeBudget | None = None, at: int = 0) -> None:
        self.at, self.budget = at, budget or OpcodeBudget()
        self.globals: dict[tuple[str, str], Global] = {}
        self.calls: list[Call] = []  # except those of torch._utils, which build tensors
        self.constants: list[bytes] = []  # that may be pickles
        # Persistent ids as PyTorch writes them: ("storage", type, key, device, element count, …).
        self.storages: list[tuple[Any, ...]] = []
        self._data, self._size = data, len(data)
        self._reset()

    def _reset(self) -> None:
        self._stack: list[Any] = []
        self._metastack: list[list[Any]] = []  # the stacks below each mark
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value of one pickle. Unreadable, Truncated."""
        self._reset()
        data, size, budget, handlers = self._data, self._size, self.budget, _HANDLERS
        first = self.at
        try:
            while self.at < size:
                opcode = data[self.at]
                self.at += 1
                if opcode == 0x2E:  # STOP
                    return self._stack.pop()
                budget.left -= 1
                if budget.left < 0:
                    raise Unreadable(f"it has more than {budget.whole:,} opcodes")
                handlers[opcode](self)
        except Unreadable:
            raise
        except (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError, struct.error) as error:
            raise _invalid_at(self.at) from error
        raise Truncated(TRUNCATED if size > first else "it is empty")

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _read_bytes(self, length: int) -> bytes:
        begin, self.at = self.at, self.at + length
        if self.at > self._size:
            raise Truncated(TRUNCATED)
        return self._data[begin : self.at]

    def _unpack(self, form: str, length: int) -> Any:
        return struct.unpack(form, self._read_bytes(length))[0]

    def _read_line(self) -> bytes:
        begin, end = self.at, self._data.find(b"\n", self.at)
        if end < 0:
            raise Truncated(TRUNCATED)
        self.at = end + 1
        return self._data[begin:end]

    def _read_long(self, length: int) -> int:
        data = self._read_bytes(length)
        return int.from_bytes(data, "little", signed=True) if length <= _LONGEST_INTEGER else 0

    def _keep_constant(self, data: bytes) -> bytes:
        if len(data) > 1 and (data[0] == 0x80 or b"\n" in data or b"\x93" in data):
            self.constants.append(data)
        return data

    def _decode(self, data: bytes) -> str:
        text = data.decode("utf-8", "surrogateescape")
        if b"\n" in data or text[:1] == "\x80":  # protocol 0 is lines of text; some writers store bytes as text
            self._keep_constant(text.encode("latin-1", "replace"))
        return text

    # ---- executing ---------------------------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop_mark(self) -> list[Any]:
        """The values above the newest mark, which is removed."""
        above, self._stack = self._stack, self._metastack.pop()
        return above

    def _mark(self) -> None:
        if len(self._metastack) >= _MOST_MARKS:
            raise Unreadable("it is nested too deeply")
        self._metastack.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _push_global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Unreadable("a global in it is not named by strings")
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
        callee, *args = self._pop_mark()
        self._call(callee, tuple(args))

    def _call_line(self) -> None:  # INST
        self._push_global(self._decode(self._read_line()), self._decode(self._read_line()))
        callee = self._stack.pop()
        self._call(callee, tuple(self._pop_mark()))

    def _import_line(self) -> None:
        self._push_global(self._decode(self._read_line()), self._decode(self._read_line()))

    def _import_stack(self) -> None:
        name = self._stack.pop()
        self._push_global(self._stack.pop(), name)

    def _import_number(self, length: int) -> None:
        """An extension code of copyreg, whose registry is empty unless a program fills it."""
        self._push_global("copyreg", f"extension {int.from_bytes(self._read_bytes(length), 'little')}")

    def _build(self) -> None:
        state = self._stack.pop()
        if type(into := self._stack[-1]) is Call:
            into.state = state

    def _load_persistent(self, id: Any) -> None:
        if type(id) is tuple and len(id) >= 5 and id[0] == "storage" and type(id[1]) is Global:
            self.storages.append(id)
        self._stack.append(PersistentId(id))

    def _append(self, values: list[Any]) -> None:
        into = self._stack[-1]
        if type(into) is list:
            into.extend(values)
        elif type(into) is Call:
            into.appended.extend(values)

    def _set_items(self, values: list[Any]) -> None:
        """Only under keys that are strings or numbers: hashing deeply nested tuples would take forever."""
        into = self._stack[-1]
        table = into if type(into) is dict else into.items if type(into) is Call else None
        if table is not None:
            for index in range(0, len(values) - 1, 2):
                if isinstance(key := values[index], _SCALARS):
                    table[key] = values[index + 1]

    def _dict(self) -> None:
        values = self._pop_mark()
        self._stack.append({})
        self._set_items(values)

    def _tuple1(self) -> None:
        self._stack[-1] = (self._stack[-1],)

    def _tuple(self, count: int) -> None:
        values = tuple(self._stack[-count:])
        if len(values) != count:
            raise Unreadable("it pops more than the stack has")
        self._stack[-count:] = (values,)

    def _pop_pair(self) -> list[Any]:
        value = self._stack.pop()
        return [self._stack.pop(), value]

    def _put_memo(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _get_memo(self, index: int) -> None:
        self._stack.append(self._memo[index])


def _text_line(interpreter: PickleInterpreter) -> None:  # STRING: quoted, with escapes
    line = interpreter._read_line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"\"'":
        raise Unreadable("a string in it has no end")
    interpreter._push(interpreter._decode(codecs.escape_decode(line[1:-1])[0]))


def _integer_line(interpreter: PickleInterpreter) -> None:
    line = interpreter._read_line().rstrip(b"L")
    interpreter._push(
        {b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line) if len(line) < 40 else 0
    )


_HANDLER_BY_OPCODE: dict[bytes, Callable[[PickleInterpreter], object]] = {
    b"(": PickleInterpreter._mark,
    b"0": PickleInterpreter._pop,
    b"1": PickleInterpreter._pop_mark,
    b"2": lambda m: m._push(m._stack[-1]),
    # numbers
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"I": _integer_line,
    b"L": _integer_line,
    b"F": lambda m: m._push(float(m._read_line())),
    b"J": lambda m: m._push(m._unpack("<i", 4)),
    b"K": lambda m: m._push(m._read_bytes(1)[0]),
    b"M": lambda m: m._push(m._unpack("<H", 2)),
    b"G": lambda m: m._push(m._unpack(">d", 8)),
    b"\x8a": lambda m: m._push(m._read_long(m._read_bytes(1)[0])),
    b"\x8b": lambda m: m._push(m._read_long(m._unpack("<I", 4))),
    # strings and bytes
    b"S": _text_line,
    b"T": lambda m: m._push(m._decode(m._keep_constant(m._read_bytes(m._unpack("<I", 4))))),
    b"U": lambda m: m._push(m._decode(m._keep_constant(m._read_bytes(m._read_bytes(1)[0])))),
    b"V": lambda m: m._push(m._decode(m._read_line().decode("raw-unicode-escape").encode("utf-8", "surrogatepass"))),
    b"X": lambda m: m._push(m._decode(m._read_bytes(m._unpack("<I", 4)))),
    b"\x8c": lambda m: m._push(m._decode(m._read_bytes(m._read_bytes(1)[0]))),
    b"\x8d": lambda m: m._push(m._decode(m._read_bytes(m._unpack("<Q", 8)))),
    b"B": lambda m: m._push(m._keep_constant(m._read_bytes(m._unpack("<I", 4)))),
    b"C": lambda m: m._push(m._keep_constant(m._read_bytes(m._read_bytes(1)[0]))),
    b"\x8e": lambda m: m._push(m._keep_constant(m._read_bytes(m._unpack("<Q", 8)))),
    b"\x96": lambda m: m._push(m._keep_constant(m._read_bytes(m._unpack("<Q", 8)))),
    # lists, tuples, dicts, sets
    b"]": lambda m: m._push([]),
    b")": lambda m: m._push(()),
    b"}": lambda m: m._push({}),
    b"\x8f": lambda m: m._push([]),
    b"l": lambda m: m._push(m._pop_mark()),
    b"t": lambda m: m._push(tuple(m._pop_mark())),
    b"d": PickleInterpreter._dict,
    b"\x91": lambda m: m._push(m._pop_mark()),
    b"\x85": PickleInterpreter._tuple1,
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"a": lambda m: m._append([m._stack.pop()]),
    b"e": lambda m: m._append(m._pop_mark()),
    b"\x90": lambda m: m._append(m._pop_mark()),
    b"s": lambda m: m._set_items(m._pop_pair()),
    b"u": lambda m: m._set_items(m._pop_mark()),
    # memo
    b"p": lambda m: m._put_memo(int(m._read_line())),
    b"q": lambda m: m._put_memo(m._read_bytes(1)[0]),
    b"r": lambda m: m._put_memo(m._unpack("<I", 4)),
    b"\x94": lambda m: m._put_memo(len(m._memo)),
    b"g": lambda m: m._get_memo(int(m._read_line())),
    b"h": lambda m: m._get_memo(m._read_bytes(1)[0]),
    b"j": lambda m: m._get_memo(m._unpack("<I", 4)),
    # imports, calls, persistent ids
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
    b"P": lambda m: m._push(PersistentId(m._decode(m._read_line()))),
    b"Q": lambda m: m._load_persistent(m._stack.pop()),
    b"\x97": lambda m: m._push(PersistentId("buffer")),
    b"\x98": lambda m: None,
    # protocol and framing
    b"\x80": lambda m: m._read_bytes(1),
    b"\x95": lambda m: m._read_bytes(8),
}


def _invalid_at(byte: int) -> Unreadable:
    return Unreadable(f"it is invalid at byte {byte:,}")


def _invalid_opcode(interpreter: PickleInterpreter) -> None:
    raise _invalid_at(interpreter.at - 1)


_HANDLERS: tuple[Callable[[PickleInterpreter], object], ...] = tuple(
    _HANDLER_BY_OPCODE.get(bytes([opcode]), _invalid_opcode) for opcode in range(256)
)
