"""Pickles built to attack: each is refused in a sentence that says what it would have run, at once, in little memory."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import re
import struct
import sys
import tarfile
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffstudio.errors import (
    CheckpointDamaged,
    CheckpointDangerous,
    CheckpointProblem,
    CheckpointUnknown,
    DiffstudioError,
)
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.files import pickle_scan
from diffstudio.models.files.pickle_globals import GlobalKind
from diffstudio.models.files.pickle_interpreter import (
    MOST_OPCODES,
    Call,
    Global,
    OpcodeBudget,
    PersistentId,
    PickleInterpreter,
    Unreadable,
)
from diffstudio.models.files.pickle_scan import NamedGlobal, StorageLocation, format_call, scan_pickle
from diffstudio.models.files.pickle_tensors import PickledTensor
from diffstudio.models.library.records import read_checkpoint
from tests.models.pickles import (
    EMPTY_TUPLE,
    MARK,
    RAN,
    REDUCE,
    STOP,
    TUPLE,
    attack,
    called,
    imported,
    table,
    tensor,
    text,
    zipped,
)

# Of the processor, a few times what is needed: that there is a bound, not how fast it is. Coverage slows bytecode down.
SECONDS, MEGABYTES = 3.0 if sys.gettrace() is None else 15.0, 160


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / RAN).exists(), "a pickle was run"


def refused(path: Path, kind: type[CheckpointProblem] = CheckpointDamaged) -> str:
    """What is said, in one sentence or two."""
    began = time.process_time()
    with pytest.raises(kind) as raised:
        read_checkpoint(path)
    assert time.process_time() - began < SECONDS
    said = str(raised.value)
    assert "\n" not in said and len(said) < 600
    return said


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# ---- what would run something ----------------------------------------------------------------------------------------

SYSTEM = imported("os", "system")
COMMAND = text(f"touch {RAN}")
ARGUMENTS = MARK + COMMAND + TUPLE
RUN = ARGUMENTS + REDUCE + STOP
LAST = struct.pack("<I", (1 << 32) - 1)
ATTACKS: dict[str, tuple[bytes, str]] = {
    "reduce": (b"\x80\x02" + called(SYSTEM, COMMAND) + STOP, f"os.system('touch {RAN}')"),
    "reduce, protocol 0": (f"cos\nsystem\n(S'touch {RAN}'\ntR.".encode(), f"os.system('touch {RAN}')"),
    "inst": (MARK + COMMAND + b"ios\nsystem\n" + STOP, f"os.system('touch {RAN}')"),
    "obj": (MARK + SYSTEM + COMMAND + b"o" + STOP, f"os.system('touch {RAN}')"),
    "newobj": (b"\x80\x02" + imported("subprocess", "Popen") + ARGUMENTS + b"\x81" + STOP, "subprocess.Popen('touch"),
    "newobj with names": (
        b"\x80\x04" + imported("subprocess", "Popen") + ARGUMENTS + b"}\x92" + STOP,
        "subprocess.Popen(",
    ),
    "stack global": (b"\x80\x04" + text("os") + text("system") + b"\x93" + RUN, "os.system("),
    "stack global of what was remembered": (
        b"\x80\x04" + text("system") + b"\x94" + text("posix") + b"\x9400" + b"h\x01h\x00\x93" + RUN,
        "posix.system(",
    ),
    "remembered out of order": (
        b"\x80\x02" + text("os") + b"r" + LAST + b"0" + text("x") + b"q\x010j" + LAST + text("system") + b"\x93" + RUN,
        "os.system(",
    ),
    "a chain of getattr": (
        b"\x80\x02"
        + called(
            called(
                imported("builtins", "getattr"), called(imported("builtins", "__import__"), text("os")), text("system")
            ),
            COMMAND,
        )
        + STOP,
        "builtins.getattr(",
    ),
    "getattr of what is allowed": (
        b"\x80\x02"
        + called(imported("builtins", "getattr"), imported("collections", "OrderedDict"), text("__class__"))
        + STOP,
        "builtins.getattr(collections.OrderedDict, '__class__')",
    ),
    "a point in the name": (
        b"\x80\x04" + text("torch.serialization") + text("os.system") + b"\x93" + RUN,
        "torch.serialization.os.system(",
    ),
    "eval": (b"\x80\x02" + called(imported("__builtin__", "eval"), text("1 + 1")) + STOP, "__builtin__.eval('1 + 1')"),
    "exec, hidden in numpy": (
        b"\x80\x02" + called(imported("numpy.testing._private.utils", "runstring"), text("x"), b"}") + STOP,
        "runstring(",
    ),
    "torch's own doors": (
        b"\x80\x02" + called(imported("torch.hub", "load"), text("a/b")) + STOP,
        "torch.hub.load('a/b')",
    ),
    "a pickle that torch would open": (
        b"\x80\x02" + called(imported("torch.storage", "_load_from_bytes"), b"C\x03abc") + STOP,
        "torch.storage._load_from_bytes(",
    ),
    "thrown away": (b"\x80\x02" + called(SYSTEM, COMMAND) + b"0N" + STOP, "os.system("),
    "thrown away with a mark": (b"\x80\x02" + MARK + called(SYSTEM, COMMAND) + b"1N" + STOP, "os.system("),
    "before it breaks": (b"\x80\x02" + called(SYSTEM, COMMAND) + b"\xff\xff", "os.system("),
    "before it ends": (b"\x80\x02" + called(SYSTEM, COMMAND), "os.system("),
    "put into an object": (
        b"\x80\x02"
        + imported("collections", "OrderedDict")
        + EMPTY_TUPLE
        + REDUCE
        + called(SYSTEM, COMMAND)
        + b"b"
        + STOP,
        "os.system(",
    ),
    "an extension": (b"\x80\x02\x82\x01)R" + called(SYSTEM, COMMAND) + STOP, "os.system("),
    "imported alone": (b"\x80\x02" + imported("antigravity", "fly") + STOP, "antigravity.fly"),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("container", ["alone", "zip", "after another"])
def test_what_would_run_is_named(tmp_path: Path, name: str, container: str) -> None:
    data, said = ATTACKS[name]
    match container:
        case "alone":
            path = written(tmp_path / "a.ckpt", data)
        case "zip":
            path = zipped(tmp_path / "a.pt", data)
        case _:
            path = written(tmp_path / "a.bin", pickle.dumps({"x": 1}) + data)
    assert said in refused(path, CheckpointDangerous)


def test_python_itself_would_run_them(tmp_path: Path) -> None:
    """That these are attacks at all: opened in the usual way, one leaves something behind."""
    pickle.loads(ATTACKS["a chain of getattr"][0])
    assert (tmp_path / RAN).exists()
    (tmp_path / RAN).unlink()


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = written(
        tmp_path / "a.pt", pickle.dumps({"weights": [1, 2.5, b"x", "y", (None, True)], "x": attack()}, protocol)
    )
    assert f"{os.system.__module__}.system('touch {RAN}')" in refused(path, CheckpointDangerous)


@pytest.mark.parametrize("new", [True, False])
def test_beside_weights(tmp_path: Path, new: bool) -> None:
    torch.save(
        {"state_dict": {"a": torch.ones(3)}, "callback": attack()},
        tmp_path / "a.ckpt",
        _use_new_zipfile_serialization=new,
    )
    said = refused(tmp_path / "a.ckpt", CheckpointDangerous)
    assert said == (
        f"a.ckpt is dangerous and was not opened: opening it would have run {os.system.__module__}.system("
        f"'touch {RAN}'). Delete it, and download the model from another source, as a safetensors file."
    )


@pytest.mark.parametrize("outer", [0, 2, 3, 5])
@pytest.mark.parametrize("inner", [0, 2, 5])
def test_pickles_within_pickles(tmp_path: Path, outer: int, inner: int) -> None:
    nested = pickle.dumps({"harmless": [1, 2], "deeper": pickle.dumps(attack(), inner)}, inner)
    path = written(tmp_path / "a.pt", pickle.dumps({"a": nested, "b": bytearray(nested)}, outer))
    assert "in a pickle within the pickle" in refused(path, CheckpointDangerous)


def test_a_harmless_constant_is_not_taken_for_a_pickle(tmp_path: Path) -> None:
    texts = {"config": "model:\n  system: x\ncos\nsystem\n", "raw": bytes(range(256)), "text": "\x80\x02 os system"}
    torch.save({"a": torch.ones(2), **texts}, tmp_path / "a.pt")
    scan_pickle(tmp_path / "a.pt").check()


def test_the_tar_files_of_old(tmp_path: Path) -> None:
    def tarred(name: str, data: bytes) -> Path:
        with tarfile.open(tmp_path / name, "w") as archive:
            entry = tarfile.TarInfo("pickle")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        return tmp_path / name

    assert "os.system(" in refused(tarred("a.pth", ATTACKS["reduce"][0]), CheckpointDangerous)
    assert "before 2017" in refused(tarred("b.pth", pickle.dumps({"a": 1})))


# ---- what would take all memory, or for ever -------------------------------------------------------------------------


def _bomb(path: Path, size: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(size >> 20):
                member.write(bytes(1 << 20))
    return path


def _twice(path: Path) -> Path:
    with pytest.warns(UserWarning, match="Duplicate"):
        return zipped(path, table(), {"archive/data.pkl": ATTACKS["reduce"][0]})


def _overlapping(path: Path) -> Path:
    """Two entries of the directory for one member."""
    data = zipped(path, table(), {"archive/data/0": bytes(64), "archive/data/1": bytes(64)}).read_bytes()
    first, second = (data.index(b"archive/data/" + digit) - 30 for digit in (b"0", b"1"))
    at = data.rindex(b"archive/data/1") - 46 + 42
    assert struct.unpack("<I", data[at : at + 4])[0] == second
    path.write_bytes(data[:at] + struct.pack("<I", first) + data[at + 4 :])
    return path


def _directory_of_a_million(path: Path) -> Path:
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", *([0] * 6), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    data = b"PK\3\4" + entry * 1_000_000
    return written(path, data + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, len(data) - 4, 4, 0))


def _one_tensor(path: Path, members: Mapping[str, bytes] | None = None, **about: Any) -> Path:
    return zipped(path, table(a=tensor(**about)), {"archive/data/0": bytes(16)} | dict(members or {}))


OPCODES = 50_000  # a tenth of what is allowed, and so a tenth of the time
BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a zip bomb": (lambda path: _bomb(path, 64 << 20), "zip bomb"),
    "a pickle that was a bomb": (
        lambda path: zipped(path, b"N" * (40 << 20), compression=zipfile.ZIP_DEFLATED),
        "bytes",
    ),
    "two members of one name": (_twice, "the same name"),
    "a member elsewhere": (
        lambda path: zipped(path, table(), {"archive/data/../../../x": b"x"}),
        "path outside the archive",
    ),
    "a member at the root": (lambda path: zipped(path, table(), {"/etc/x": b"x"}), "path outside the archive"),
    "members that overlap": (_overlapping, "overlap"),
    "a million members": (_directory_of_a_million, "too many members"),
    "a zip cut short": (lambda path: written(path, _one_tensor(path).read_bytes()[:-40]), "cut short"),
    "a zip cut in half": (lambda path: written(path, _one_tensor(path).read_bytes()[:200]), "cut short"),
    "LONG4": (lambda path: written(path, b"\x80\x02\x8b" + struct.pack("<i", -1) + b"x."), "cut short"),
    "BINUNICODE8": (lambda path: written(path, b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x."), "cut short"),
    "BINBYTES8": (lambda path: written(path, b"\x80\x04\x8e" + struct.pack("<Q", (1 << 64) - 1) + b"x."), "cut short"),
    "BYTEARRAY8": (lambda path: written(path, b"\x80\x05\x96" + struct.pack("<Q", 100 << 30) + b"x."), "cut short"),
    "instructions without end": (lambda path: written(path, b"\x80\x02" + b"N0" * OPCODES + STOP), "opcodes"),
    "marks without end": (lambda path: written(path, b"\x80\x02" + b"(" * (2 * OPCODES)), "too deeply"),
    "a tower": (lambda path: written(path, b"N" + b"\x85" * (OPCODES - 10) + b"}" + b"."), "no weights"),
    "a tower that doubles, as a key": (
        lambda path: written(path, b"\x80\x02N" + b"2\x86" * 200 + b"q\x000}h\x00Ns."),
        "no weights",
    ),
    "a number of a million digits": (lambda path: written(path, b"I" + b"9" * 1_000_000 + b"\n."), "no weights"),
    "nothing": (lambda path: written(path, b""), "empty"),
    "no pickle": (lambda path: written(path, b"\x01ggml" + b"\n" * 1000), "invalid at byte"),
    "text": (lambda path: written(path, b"ggml" + b"\n" * 1000), "a text that begins “ggml”"),
    "a program for TorchScript": (
        lambda path: zipped(path, table(), {"archive/code/x.py": b"1", "archive/constants.pkl": table()}),
        "TorchScript",
    ),
    "numbers the other way round": (lambda path: _one_tensor(path, {"archive/byteorder": b"big"}), "big-endian"),
    "a storage that is not there": (lambda path: zipped(path, table(a=tensor())), "missing"),
    "a storage that is short": (lambda path: _one_tensor(path, {"archive/data/0": bytes(12)}), "shorter"),
    "a tensor beyond its storage": (lambda path: _one_tensor(path, offset=1), "larger than"),
    "a tensor below its storage": (lambda path: _one_tensor(path, offset=-1), "invalid"),
    "a negative side": (lambda path: _one_tensor(path, size=(-4,)), "invalid"),
    "a side that is no number": (lambda path: _one_tensor(path, size=("x",)), "invalid"),
    "one number spread over all memory": (
        lambda path: _one_tensor(path, size=(1 << 40, 1 << 20), stride=(0, 0)),
        "larger than",
    ),
    "a storage shared a million times": (
        lambda path: zipped(
            path,
            table(**{f"a{i}": tensor(numbers=100_000, size=(100_000,)) for i in range(100)}),
            {"archive/data/0": bytes(400_000)},
        ),
        "would take",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OpcodeBudget().whole == MOST_OPCODES == 10 * OPCODES
    monkeypatch.setattr(OpcodeBudget.__init__, "__defaults__", (OPCODES,))
    build, said = BOMBS[name]
    path = build(tmp_path / "a.ckpt")
    began = time.process_time()
    assert said in _reason(path)
    assert time.process_time() - began < SECONDS / 5
    tracemalloc.start()
    try:
        _reason(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEGABYTES << 20


def _reason(path: Path) -> str:
    try:
        return read_checkpoint(path).reason
    except DiffstudioError as error:
        return str(error)


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    for begin in (b"\x80\x02}", b"\x80\x04\x8e" + struct.pack("<Q", 3 << 30), b"PK\3\4", bytes(8)):
        with (tmp_path / "a.ckpt").open("wb") as file:
            file.write(begin)
            file.truncate(4 << 30)
        refused(tmp_path / "a.ckpt")


def test_tables_that_hold_themselves(tmp_path: Path) -> None:
    inner = b"}q\x00" + text("x") + b"h\x00s"
    zipped(tmp_path / "a.pt", b"\x80\x02" + inner + STOP)
    assert read_checkpoint(tmp_path / "a.pt").reason.startswith("There are no weights in it")
    twice = [b"}(" + text("x") + b"h%c" % i + text("y") + b"h%c" % i + b"uq%c" % (i + 1) for i in range(100)]
    doubling = b"\x80\x02}q\x00" + b"".join(twice) + STOP
    zipped(tmp_path / "b.pt", doubling)
    assert read_checkpoint(tmp_path / "b.pt").reason.startswith("There are no weights in it")


# ---- what is harmless ------------------------------------------------------------------------------------------------


def test_what_training_leaves_behind_is_named_and_passed_by(tmp_path: Path) -> None:
    class ModelCheckpoint:
        best = 3

    ModelCheckpoint.__module__, ModelCheckpoint.__qualname__ = __name__, "ModelCheckpoint"
    globals()["ModelCheckpoint"] = ModelCheckpoint
    try:
        torch.save(
            {
                "state_dict": OrderedDict(a=torch.ones(2, 3)),
                "callbacks": {ModelCheckpoint: ModelCheckpoint()},
                "epoch": 3,
                "optimizer_states": [torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))]).state_dict()],
            },
            tmp_path / "a.ckpt",
        )
    finally:
        del globals()["ModelCheckpoint"]
    scan = scan_pickle(tmp_path / "a.ckpt")
    scan.check()
    assert [found.name for found in scan.unknown] == [f"{__name__}.ModelCheckpoint"]
    assert scan.shapes == {"a": (2, 3)}


def test_every_instruction_is_known() -> None:
    from diffstudio.models.files import pickle_interpreter

    known = {
        bytes([code])
        for code, does in enumerate(pickle_interpreter._HANDLERS)
        if does is not pickle_interpreter._invalid_opcode
    } | {STOP}
    assert known == {opcode.code.encode("latin-1") for opcode in pickletools.opcodes}


def _held_in(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(0, 9), inner)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        _held_in,
        max_leaves=12,
    ),
    st.integers(0, 5),
)
def test_plain_values_come_out_as_pickle_has_them(value: Any, protocol: int) -> None:
    """Where nothing would be called, both machines agree."""
    pickled = pickle.dumps(value, protocol)
    if any(opcode.name in ("REDUCE", "GLOBAL", "STACK_GLOBAL") for opcode, _, _ in pickletools.genops(pickled)):
        return  # bytes, before protocol 3
    if any(isinstance(one, int) and abs(one) > 1 << 120 for one in _leaves(value)):
        return  # longer than any number that says something about weights
    assert PickleInterpreter(pickled).run() == value


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from (*_leaves(key), *_leaves(one))
    else:
        yield value


# ---- whatever the bytes ----------------------------------------------------------------------------------------------

_HERE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _saved(new: bool) -> bytes:
    file = io.BytesIO()
    torch.save(
        {"state_dict": {"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.half)}, "epoch": 3},
        file,
        _use_new_zipfile_serialization=new,
    )
    return file.getvalue()


@_HERE
@given(data=st.data(), new=st.booleans())
def test_bytes_that_were_changed(tmp_path: Path, data: st.DataObject, new: bool) -> None:
    whole = bytearray(_saved(new))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    whole = whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole
    _only_our_errors(written(tmp_path / "a.pt", bytes(whole)))


@_HERE
@given(st.binary(max_size=300), st.sampled_from([b"", b"\x80\x02", b"\x80\x04\x95", b"(", b"}(", b"PK\3\4", b"c"]))
def test_any_bytes(tmp_path: Path, tail: bytes, head: bytes) -> None:
    _only_our_errors(written(tmp_path / "a.ckpt", head + tail))


@_HERE
@given(
    st.lists(
        st.sampled_from(
            [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
            + [text("os"), text("system"), SYSTEM, tensor(), b"K\x01", b"q\x00", b"h\x00", b"1\n"]
        ),
        max_size=60,
    )
)
def test_any_instructions(tmp_path: Path, instructions: list[bytes]) -> None:
    _only_our_errors(zipped(tmp_path / "a.pt", b"".join(instructions) + STOP, {"archive/data/0": bytes(16)}))


def _only_our_errors(path: Path) -> None:
    from diffstudio.models.files.weights_reader import load_weights

    try:
        record = read_checkpoint(path)
        assert record.layout is Layout.PICKLE and record.reason
        for value in load_weights(path).values():
            value.sum()
    except DiffstudioError as error:
        assert str(error)


# ---- PyTorch's containers --------------------------------------------------------------------------------------------

MAGIC = 0x1950A86A20F9469CFC6C


def stored(key: str = "0", kind: str = "FloatStorage") -> bytes:
    return tensor(key, kind=kind)


def row(path: Path, root: bytes, keys: Any, *storages: bytes, counts: tuple[int, ...] = ()) -> Path:
    """As PyTorch wrote files before version 1.6: five pickles, then each storage after its number of elements."""
    counts = counts or tuple(len(storage) // 4 for storage in storages)
    pickles = (pickle.dumps(MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2), root, pickle.dumps(keys, 2))
    data = b"".join(struct.pack("<q", count) + storage for count, storage in zip(counts, storages, strict=True))
    return written(path, b"".join(pickles) + data)


def test_storages_after_the_pickles(tmp_path: Path) -> None:
    root = table(a=stored("x"), b=stored("y"))
    scan = scan_pickle(path := row(tmp_path / "a.pt", root, ["y", "x"], bytes(16), bytes(16)))
    size = path.stat().st_size
    assert (scan.container, scan.problem) == ("pickles", "")
    assert scan.storages == {"y": StorageLocation(16, size - 40), "x": StorageLocation(16, size - 16)}
    assert scan.shapes == {"a": (4,), "b": (4,)}


@pytest.mark.parametrize(
    ("keys", "storages", "counts", "why"),
    [
        (["0"], [], (), "it was cut short"),
        (["0"], [bytes(15)], (4,), "it was cut short"),
        (["0"], [bytes(16)], (-1,), "it was cut short"),
        (["0"], [bytes(12)], (), "the storage of 'a' is shorter than it declares"),
        (["0", "0"], [bytes(16)], (), "it was cut short"),
        (["1"], [bytes(16)], (), "a storage in it has an unknown type"),
        ([0], [bytes(16)], (), "a storage in it has an unknown type"),
        ([], [], (), "a storage is missing"),
        ("0", [bytes(16)], (), "it was cut short"),
    ],
)
def test_storages_that_do_not_go_with_the_pickles(
    tmp_path: Path, keys: Any, storages: list[bytes], counts: tuple[int, ...], why: str
) -> None:
    path = row(tmp_path / "a.pt", table(a=stored()), keys, *storages, counts=counts)
    assert scan_pickle(path).problem == why
    with pytest.raises(CheckpointDamaged, match=f"a.pt cannot be read: {why}. Download it again"):
        scan_pickle(path).check()


def test_pickles_longer_than_what_is_read_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = row(tmp_path / "a.pt", table(long=text("x" * 5000), a=stored()), ["0"], bytes(16))
    monkeypatch.setattr(pickle_scan, "_FIRST_BYTES", 100)
    assert scan_pickle(path).shapes == {"a": (4,)} and scan_pickle(path).problem == ""
    monkeypatch.setattr(pickle_scan, "_LARGEST_PICKLE_BYTES", 800)
    assert scan_pickle(path).problem == "it was cut short"


def test_zip_files_of_pytorch(tmp_path: Path) -> None:
    members = {"archive/data/0": bytes(16), "archive/byteorder": b"little"}
    path = zipped(tmp_path / "a.pt", table(a=stored()), members)
    scan = scan_pickle(path)
    assert (scan.container, scan.problem, scan.shapes) == ("zip", "", {"a": (4,)})
    start = path.read_bytes().index(b"archive/data/0") + len("archive/data/0")
    assert scan.storages == {"0": StorageLocation(16, start, "archive/data/0")}
    packed = zipped(tmp_path / "b.pt", table(a=stored()), members, compression=zipfile.ZIP_DEFLATED)
    assert scan_pickle(packed).storages == {"0": StorageLocation(16, -1, "archive/data/0")}


@pytest.mark.parametrize(
    "names",
    [
        ["a/data.pkl", "b/data.pkl"],
        ["a/b/data.pkl"],
        ["a/other.pkl"],
        [],
        [*(f"{i}.pkl" for i in range(32)), "data.pkl"],
    ],
)
def test_zip_files_of_others(tmp_path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name in names:
            archive.writestr(name, table())
    with pytest.raises(
        CheckpointUnknown, match="a.pt is not a weights file: it is a zip file, but not one of PyTorch's"
    ):
        scan_pickle(tmp_path / "a.pt")


def test_the_pickle_of_a_zip_file_may_be_at_its_root(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("data.pkl", table(a=stored()))
        archive.writestr("data/0", bytes(16))
        archive.writestr("x/y/data.pkl", ATTACKS["reduce"][0])
    scan = scan_pickle(tmp_path / "a.pt")
    assert scan.shapes == {"a": (4,)} and [one.name for one in scan.dangerous] == ["os.system"]


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"archive/constants.pkl": table()}, "it is a TorchScript program, not a state dict"),
        ({"archive/code/x.py": b""}, "it is a TorchScript program, not a state dict"),
        ({"archive/byteorder": b"big"}, "it is big-endian"),
        ({}, "storage '0' is missing"),
    ],
)
def test_zip_files_that_cannot_be_loaded(tmp_path: Path, members: dict[str, bytes], why: str) -> None:
    scan = scan_pickle(zipped(tmp_path / "a.pt", table(a=stored()), members))
    assert (scan.container, scan.problem, scan.shapes) == ("zip", why, {})
    broken = scan_pickle(zipped(tmp_path / "b.pt", b"\x80\x02\xff"))
    assert broken.problem == "it is invalid at byte 2"


def test_pickles_alone_have_no_weights(tmp_path: Path) -> None:
    scan = scan_pickle(written(tmp_path / "a.pt", pickle.dumps({"a": 1}, 2)))
    assert (scan.container, scan.problem, scan.tensors, scan.globals) == ("pickles", "", {}, ())
    scan.check()
    behind = scan_pickle(written(tmp_path / "b.pt", pickle.dumps({"a": 1}, 2) + b"\xff"))
    assert behind.problem == "it has data after the pickle"
    short = scan_pickle(written(tmp_path / "c.pt", pickle.dumps({"a": 1}, 2) + b"K"))
    assert short.problem == "it was cut short"
    with pytest.raises(CheckpointDamaged, match="d.pt cannot be read: as a pickle it is invalid at byte 0"):
        scan_pickle(written(tmp_path / "d.pt", b"\xff"))


def test_tar_files_with_folders_and_without_an_end(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.pt", "w") as archive:
        folder = tarfile.TarInfo("storages")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in (("pickle", ATTACKS["reduce"][0]), ("tensors", bytes(2000))):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    whole = (tmp_path / "a.pt").read_bytes()
    cut = written(tmp_path / "b.pt", whole[: whole.index(b"tensors") + 600])
    for path in (tmp_path / "a.pt", cut):
        scan = scan_pickle(path)
        assert scan.container == "tar" and scan.problem.startswith("it was written by a PyTorch from before 2017")
        assert [one.name for one in scan.dangerous] == ["os.system"]


def test_tensors_take_at_most_eight_times_the_file_and_a_little() -> None:
    whole = 1 << 20  # allowed for a file of no bytes
    one = PickledTensor("U8", (whole,), (1,), 0, "0", whole)
    storages = {"0": StorageLocation(whole)}
    pickle_scan._check_sizes({"a": one}, storages, 0)
    pickle_scan._check_sizes({"a": one, "b": one}, storages, whole // 8)
    why = "its tensors would take 2,097,152 bytes, and the file has 131,071"
    with pytest.raises(Unreadable, match=why):
        pickle_scan._check_sizes({"a": one, "b": one}, storages, whole // 8 - 1)
    with pytest.raises(Unreadable, match="the storage of 'a' is shorter than it declares"):
        pickle_scan._check_sizes({"a": one}, {"0": StorageLocation(whole - 1)}, 0)


# ---- the report ------------------------------------------------------------------------------------------------------


def calls(*names: str) -> bytes:
    return b"\x80\x02(" + b"".join(called(imported("os", name), text("x")) for name in names) + b"l."


def test_the_report_names_three_calls_and_counts_the_rest(tmp_path: Path) -> None:
    for names, said in (
        (("a", "b", "c"), "opening it would have run os.a('x'), os.b('x'), os.c('x'). Delete"),
        (("a", "b", "c", "d", "e"), "opening it would have run os.a('x'), os.b('x'), os.c('x') and 2 more. Delete"),
        (("a", "a"), "opening it would have run os.a('x'). Delete"),
    ):
        scan = scan_pickle(written(tmp_path / "a.pt", calls(*names)))
        with pytest.raises(CheckpointDangerous, match=re.escape(said)):
            scan.check()
    (only,) = scan_pickle(written(tmp_path / "a.pt", calls(*"a" * 6))).globals
    assert only == NamedGlobal("os.a", GlobalKind.DANGEROUS, ("os.a('x')",) * 5)


def test_the_most_dangerous_come_first(tmp_path: Path) -> None:
    data = b"\x80\x02(" + imported("collections", "OrderedDict") + imported("mine", "A") + SYSTEM + b"l."
    scan = scan_pickle(written(tmp_path / "a.pt", data))
    assert [(one.name, one.kind.name) for one in scan.globals] == [
        ("os.system", "DANGEROUS"),
        ("mine.A", "UNKNOWN"),
        ("collections.OrderedDict", "ALLOWED"),
    ]
    assert [one.name for one in scan.dangerous] == ["os.system"] and [one.name for one in scan.unknown] == ["mine.A"]


def nested(data: bytes, levels: int) -> bytes:
    for _ in range(levels):
        data = b"\x80\x02B" + struct.pack("<I", len(data)) + data + STOP
    return data


def test_pickles_are_nested_up_to_a_depth_and_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = ATTACKS["reduce"][0]
    for levels, found in ((0, True), (1, True), (3, True), (4, False)):
        scan = scan_pickle(written(tmp_path / "a.pt", nested(attack, levels)))
        assert bool(scan.dangerous) is found
        assert not levels or not found or scan.dangerous[0].calls[0].endswith(" in a pickle within the pickle")
    monkeypatch.setattr(pickle_scan, "_MOST_NESTED", 2)
    for before, found in ((1, True), (2, False)):
        inner = nested(b"\x80\x02N.", 1)[2:-1] * before + nested(attack, 1)[2:-1]
        scan = scan_pickle(written(tmp_path / "a.pt", b"\x80\x02(" + inner + b"l."))
        assert bool(scan.dangerous) is found


def test_a_constant_that_breaks_counts_only_if_it_is_dangerous_before(tmp_path: Path) -> None:
    harmless = b"\x80\x02" + called(imported("mine", "A"), text("x")) + b"\xff"
    assert scan_pickle(written(tmp_path / "a.pt", nested(harmless, 1))).globals == ()
    dangerous = b"\x80\x02" + called(SYSTEM, text("x")) + b"\xff"
    assert [one.name for one in scan_pickle(written(tmp_path / "a.pt", nested(dangerous, 1))).globals] == ["os.system"]


A, CALL = Global("a", "b"), Call(Global("a", "b"), (1,))


@pytest.mark.parametrize(
    ("value", "source"),
    [
        (A, "a.b"),
        (CALL, "a.b(1)"),
        (Call(A, "x"), "a.b('x')"),
        (Call(A, (1, 2, 3)), "a.b(1, 2, 3)"),
        (Call(A, (1, 2, 3, 4)), "a.b(1, 2, 3, …)"),
        (Call(CALL, ()), "a.b(1)()"),
        (Call(A, (Call(A, (Call(A, (Call(A, ()),)),)),)), "a.b(a.b(a.b(…)))"),
        (PersistentId("x"), "<storage>"),
        ("x" * 80, repr("x" * 80)),
        (b"x" * 81, repr(b"x" * 80) + "…"),
        ([1, "x"], "(1, 'x')"),
        ({"a": 1}, "('a')"),
        (((((1,),),),), "(((…)))"),
        (1.5, "1.5"),
        (10**50, "1" + "0" * 39),
        (None, "None"),
    ],
)
def test_calls_as_source(value: Any, source: str) -> None:
    assert format_call(value) == source


def test_what_it_holds_is_known_from_the_scan_alone(tmp_path: Path) -> None:
    torch.save(
        {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": {"*": torch.ones(2, 768)}, "name": "cat"},
        tmp_path / "cat.pt",
    )
    record = read_checkpoint(tmp_path / "cat.pt")
    assert (record.role, record.family, record.layout) == (Role.EMBEDDING, "sd1", Layout.PICKLE)
    assert (record.parameters, record.dtype) == (1536, "F32")
    assert record.reason == (
        "2 vectors of the token width of Stable Diffusion 1: a textual inversion. A pickle, scanned and harmless."
    )


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not one of PyTorch's" in refused(tmp_path / "a.bin", CheckpointUnknown)


def test_an_empty_file_is_no_pickle(tmp_path: Path) -> None:
    with pytest.raises(CheckpointDamaged, match="as a pickle it is empty"):
        scan_pickle(written(tmp_path / "a.pt", b""))
