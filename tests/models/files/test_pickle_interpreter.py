"""Every opcode does to the stack what it does in Python, and nothing is imported or called."""

from __future__ import annotations

import pickletools
import struct
from typing import Any

import pytest

from diffstudio.models.files import pickle_interpreter
from diffstudio.models.files.pickle_interpreter import (
    MOST_OPCODES,
    Call,
    Global,
    OpcodeBudget,
    PersistentId,
    PickleInterpreter,
    Truncated,
    Unreadable,
)
from tests.models.pickles import called, imported, text


def run(data: bytes) -> Any:
    return PickleInterpreter(data + b".").run()


def plain(value: Any) -> Any:
    """Calls, globals and persistent ids as tuples, which compare."""
    match value:
        case Global():
            return ("global", str(value))
        case Call():
            return ("call", plain(value.callee), plain(value.args), value.items, plain(value.appended), value.state)
        case PersistentId():
            return ("persistent", plain(value.id))
        case tuple() | list():
            return type(value)(plain(one) for one in value)
    return value


# ---- values ----------------------------------------------------------------------------------------------------------

VALUES: dict[str, tuple[bytes, Any]] = {
    "none": (b"N", None),
    "true": (b"\x88", True),
    "false": (b"\x89", False),
    "line integers": (b"(I5\nI-7\nI01\nI00\nI1\nI0\nL12L\nL-3L\nt", (5, -7, True, False, 1, 0, 12, -3)),
    "line integer of 39 digits": (b"I" + b"9" * 39 + b"\n", 10**39 - 1),
    "line integer of 40 digits": (b"I" + b"9" * 40 + b"\n", 0),
    "line float": (b"F2.5\n", 2.5),
    "four bytes": (b"J" + struct.pack("<i", -70_000), -70_000),
    "one byte": (b"K\xff", 255),
    "two bytes": (b"M\x01\x02", 513),
    "float": (b"G" + struct.pack(">d", -0.25), -0.25),
    "long of 16 bytes": (b"\x8a\x10" + b"\xff" * 16, -1),
    "long of 17 bytes": (b"\x8a\x11" + b"\xff" * 17, 0),
    "long with a long length": (b"\x8b" + struct.pack("<I", 2) + b"\x00\x80", -32768),
    "long of nothing": (b"\x8a\x00", 0),
    "quoted": (b"S'a\\n\\'b'\n", "a\n'b"),
    "quoted twice": (b'S"a"\n', "a"),
    "quoted nothing": (b"S''\n", ""),
    "binary string": (b"T\x02\0\0\0ab", "ab"),
    "short binary string": (b"U\x02ab", "ab"),
    "line of unicode": (b"Vcaf\\u00e9\n", "café"),
    "unicode": (b"X\x05\0\0\0caf\xc3\xa9", "café"),
    "short unicode": (b"\x8c\x02ab", "ab"),
    "long unicode": (b"\x8d\x02" + bytes(7) + b"ab", "ab"),
    "not unicode": (b"\x8c\x01\xff", "\udcff"),
    "bytes": (b"B\x02\0\0\0ab", b"ab"),
    "short bytes": (b"C\x02ab", b"ab"),
    "long bytes": (b"\x8e\x02" + bytes(7) + b"ab", b"ab"),
    "bytearray": (b"\x96\x02" + bytes(7) + b"ab", b"ab"),
    "empty": (b"(]}\x8f)t", ([], {}, [], ())),
    "list": (b"(K\1K\2l", [1, 2]),
    "tuples": (b"(K\1\x85K\1K\2\x86K\1K\2K\3\x87t", ((1,), (1, 2), (1, 2, 3))),
    "tuple on other values": (b"K\1K\2K\3\x86\x86", (1, (2, 3))),
    "dict": (b"(K\1K\2K\3K\4d", {1: 2, 3: 4}),
    "dict with an odd number of values": (b"(K\1K\2K\3d", {1: 2}),
    "frozenset": (b"(K\1K\2\x91", [1, 2]),
    "append": (b"]K\1aK\2a", [1, 2]),
    "appends": (b"](K\1K\2e", [1, 2]),
    "add items": (b"\x8f(K\1K\2\x90", [1, 2]),
    "set item": (b"}K\1K\2s", {1: 2}),
    "set items": (b"}(K\1K\2K\3K\4u", {1: 2, 3: 4}),
    "keys that are not scalars": (b"}()K\1K\2K\3]K\4u", {2: 3}),
    "append to a number": (b"K\7K\1a", 7),
    "set items of a number": (b"K\7(K\1K\2u", 7),
    "state of a number": (b"K\7K\1b", 7),
    "pop": (b"K\1K\2" + b"0", 1),
    "pop a mark": (b"K\1(" + b"0", 1),
    "pop to the mark": (b"K\1(K\2K\3" + b"1", 1),
    "duplicate": (b"K\x012\x86", (1, 1)),
    "memo": (b"K\1q\x05" + b"0K\2r\x06\0\0\0" + b"0K\3p7\n0h\x05j\x06\0\0\0g7\n\x87", (1, 2, 3)),
    "memoize": (b"(K\1\x94K\2\x94h\x01h\x00t", (1, 2, 2, 1)),
    "protocol and frame": (b"\x80\x04\x95" + bytes(8) + b"K\1", 1),
    "readonly buffer": (b"\x97\x98", ("persistent", "buffer")),
    "persistent line": (b"Pabc\n", ("persistent", "abc")),
    "persistent": (b"(K\1K\2tQ", ("persistent", (1, 2))),
    "global": (imported("a.b", "c"), ("global", "a.b.c")),
    "global of the stack": (text("a.b") + text("c.d") + b"\x93", ("global", "a.b.c.d")),
    "extensions": (
        b"\x82\x01\x83\x01\x02\x84\x01\0\0\x01\x87",
        tuple(("global", f"copyreg.extension {code}") for code in (1, 513, 16777217)),
    ),
    "reduce": (called(imported("a", "b"), b"K\1"), ("call", ("global", "a.b"), (1,), {}, [], None)),
    "new": (imported("a", "b") + b")\x81", ("call", ("global", "a.b"), (), {}, [], None)),
    "new with names": (imported("a", "b") + b"K\1\x85}\x92", ("call", ("global", "a.b"), ((1,), {}), {}, [], None)),
    "object": (b"(" + imported("a", "b") + b"K\1o", ("call", ("global", "a.b"), (1,), {}, [], None)),
    "instance": (b"(K\1K\2ia\nb\n", ("call", ("global", "a.b"), (1, 2), {}, [], None)),
    "what is set on an object": (
        imported("a", "b") + b")RK\1K\2s(K\3K\4uK\5a(K\6e}b",
        ("call", ("global", "a.b"), (), {1: 2, 3: 4}, [5, 6], {}),
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    data, expected = VALUES[name]
    found = plain(run(data))
    assert found == expected and repr(found) == repr(expected)  # 1 == True


def test_a_global_is_one_object_however_often_it_is_named() -> None:
    first, second, other = run(b"(" + imported("a", "b") * 2 + imported("a", "c") + b"t")
    assert first is second and first is not other


def test_several_pickles_share_nothing_but_the_record() -> None:
    interpreter = PickleInterpreter(b"K\1q\0(K\2K\3." + b"h\0.")
    assert interpreter.run() == 3 and interpreter.at == 10
    with pytest.raises(Unreadable, match="it is invalid at byte 12"):
        interpreter.run()
    assert PickleInterpreter(b"xxK\1.", at=2).run() == 1


def test_calls_globals_and_storages_are_recorded() -> None:
    stored = b"(" + text("storage") + imported("torch", "FloatStorage") + text("0") + text("cpu") + b"K\4tQ"
    rebuilt = called(imported("torch._utils", "_rebuild_tensor_v2"), stored)
    data = b"(" + called(imported("os", "system"), text("x")) + rebuilt + called(called(imported("a", "b"))) + b"l"
    interpreter = PickleInterpreter(data + b".")
    interpreter.run()
    assert list(interpreter.globals) == [
        ("os", "system"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch", "FloatStorage"),
        ("a", "b"),
    ]
    assert [plain(call.callee)[-1] for call in interpreter.calls[:2]] == ["os.system", "a.b"]
    assert len(interpreter.calls) == 3 and type(interpreter.calls[2].callee) is Call
    assert [plain(one) for one in interpreter.storages] == [
        ("storage", ("global", "torch.FloatStorage"), "0", "cpu", 4)
    ]


@pytest.mark.parametrize(
    "id",
    [
        b"(" + text("storage") + imported("a", "b") + text("0") + text("cpu") + b"t",
        b"(" + text("module") + imported("a", "b") + text("0") + text("cpu") + b"K\4t",
        b"(" + text("storage") + text("b") + text("0") + text("cpu") + b"K\4t",
        b"(" + text("storage") + imported("a", "b") + text("0") + text("cpu") + b"K\4l",
    ],
)
def test_other_persistent_ids_are_no_storages(id: bytes) -> None:
    interpreter = PickleInterpreter(id + b"Q.")
    assert type(interpreter.run()) is PersistentId and interpreter.storages == []


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b"C\x02\x80x", [b"\x80x"]),
        (b"C\x01\x80", []),
        (b"C\x03abc", []),
        (b"B\x03\0\0\0a\nc", [b"a\nc"]),
        (b"\x8e\x03" + bytes(7) + b"a\x93c", [b"a\x93c"]),
        (b"\x96\x02" + bytes(7) + b"\x80x", [b"\x80x"]),
        (b"T\x02\0\0\0\x80x", [b"\x80x"]),
        (b"U\x02\x80x", [b"\x80x"]),
        (text("a\nb"), [b"a\nb"]),
        (text("a\u20ac\nb"), [b"a?\nb"]),
        (text("\x80ab"), [b"\x80ab"]),
        (text("ab\x80"), []),
        (b"V\\u0080ab\n", [b"\x80ab"]),
    ],
)
def test_constants_that_may_be_pickles_are_kept(data: bytes, kept: list[bytes]) -> None:
    interpreter = PickleInterpreter(data + b".")
    interpreter.run()
    assert interpreter.constants == kept


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_opcodes_that_python_does_not_know_are_invalid() -> None:
    known = {ord(opcode.code) for opcode in pickletools.opcodes}
    for opcode in sorted(set(range(256)) - known):
        with pytest.raises(Unreadable, match="it is invalid at byte 2"):
            run(b"NN" + bytes([opcode]))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is invalid at byte 1"),  # nothing on the stack
        (b"q\0", "it is invalid at byte 2"),
        (b"h\1", "it is invalid at byte 2"),
        (b"Ix\n", "it is invalid at byte 3"),
        (b"Fx\n", "it is invalid at byte 3"),
        (b"t", "it is invalid at byte 1"),
        (b"0", "it is invalid at byte 1"),
        (b"\x85", "it is invalid at byte 1"),
        (b"(o", "it is invalid at byte 2"),
        (b"K\1\x86", "it pops more than the stack has"),
        (b"K\1K\2\x87", "it pops more than the stack has"),
        (b"K\1K\2\x93", "a global in it is not named by strings"),
        (text("a") + b"K\2\x93", "a global in it is not named by strings"),
        (b"K\2" + text("a") + b"\x93", "a global in it is not named by strings"),
        (b"Sab\n", "a string in it has no end"),
        (b"S'ab\n", "a string in it has no end"),
        (b"S'\n", "a string in it has no end"),
        (b"Saba\n", "a string in it has no end"),
        (b"S\n", "a string in it has no end"),
    ],
)
def test_programs_that_make_no_sense(data: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why) as raised:
        run(data)
    assert type(raised.value) is Unreadable


@pytest.mark.parametrize(
    "data",
    [b"N", b"K", b"J\0\0\0", b"I5", b"X\x05\0\0\0abc", b"\x8a\x05ab", b"\x95" + bytes(7), b"ca\nb", b"\x80", b"V"],
)
def test_programs_that_end_too_early(data: bytes) -> None:
    with pytest.raises(Truncated, match="it was cut short"):
        PickleInterpreter(data).run()


def test_an_empty_program() -> None:
    with pytest.raises(Truncated, match="it is empty"):
        PickleInterpreter(b"").run()
    with pytest.raises(Truncated, match="it is empty"):
        PickleInterpreter(b"N.", at=2).run()


def test_a_budget_of_opcodes_for_all_pickles_together() -> None:
    budget = OpcodeBudget(5)
    assert PickleInterpreter(b"NNN.", budget).run() is None and budget.left == 2
    assert PickleInterpreter(b"NN.", budget).run() is None
    with pytest.raises(Unreadable, match="it has more than 5 opcodes"):
        PickleInterpreter(b"N.", budget).run()
    assert PickleInterpreter(b"N.").budget.left == MOST_OPCODES


def test_marks_and_calls_up_to_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_interpreter, "_MOST_MARKS", 3)
    monkeypatch.setattr(pickle_interpreter, "_MOST_CALLS", 2)
    assert run(b"(((N") is None
    with pytest.raises(Unreadable, match="it is nested too deeply"):
        run(b"((((N")
    interpreter = PickleInterpreter(called(imported("a", "b")) * 3 + b".")
    interpreter.run()
    assert len(interpreter.calls) == 2
