"""What a pickle would run, and which weights it holds, found out without running it: PyTorch's `.ckpt`, `.pt`, `.pth`, `.bin`.

Three containers are known. Since 1.6 PyTorch writes a zip file: one pickle and a member for each storage. Before, it wrote five
pickles in a row and then the storages. Before 2017 it wrote a tar file, which is looked through and not loaded. A constant in a
pickle may be a pickle itself, to be opened by the outer one; those are gone through too. Of the weights nothing is read.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from diffstudio.errors import CheckpointDamaged, CheckpointDangerous, CheckpointMissing, CheckpointUnknown
from diffstudio.models.files.pickle_globals import STORAGES, GlobalKind, classify
from diffstudio.models.files.pickle_interpreter import (
    Call,
    Global,
    OpcodeBudget,
    PersistentId,
    PickleInterpreter,
    Truncated,
    Unreadable,
)
from diffstudio.models.files.pickle_tensors import BYTES, PickledTensor, tensors_in
from diffstudio.models.files.safetensors_header import regular_file_size
from diffstudio.models.files.zip_archive import ZipArchive

_LARGEST_PICKLE_BYTES = 32 << 20  # without the weights; that of Stable Diffusion XL takes half a megabyte
_FIRST_BYTES = 1 << 18  # of a file that is looked at before more is
_MOST_PICKLES = 32  # in one file, without those inside others
_DEEPEST = 3  # pickles within pickles
_MOST_NESTED = 1000
_MOST_CALLS = 5  # of one thing, that are shown
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of PyTorch's older container
_LARGEST_SHARE = 8  # tensors may share storages, but not make this many times the file


@dataclass(frozen=True, slots=True)
class NamedGlobal:
    """A thing that a pickle names, and what it would have been called with, where it would have been called."""

    name: str  # os.system
    kind: GlobalKind
    calls: tuple[str, ...] = ()  # os.system('rm -rf /')


@dataclass(frozen=True, slots=True)
class StorageLocation:
    """Where the numbers of a storage lie."""

    size_bytes: int
    start: int = -1  # bytes from the beginning of the file; -1 where they are packed in a zip's member
    member: str = ""


@dataclass(frozen=True)
class PickleScan:
    """What was found out about one file."""

    path: Path
    container: str  # zip, pickles, tar
    found: tuple[NamedGlobal, ...]  # the most dangerous first
    tensors: Mapping[str, PickledTensor] = field(default_factory=dict, repr=False)
    storages: Mapping[str, StorageLocation] = field(default_factory=dict, repr=False)
    problem: str = ""  # why the weights cannot be read, where they cannot

    @cached_property
    def dangerous(self) -> tuple[NamedGlobal, ...]:
        return tuple(found for found in self.found if found.kind is GlobalKind.DANGEROUS)

    @property
    def leftovers(self) -> tuple[NamedGlobal, ...]:
        """What is neither dangerous nor part of weights."""
        return tuple(found for found in self.found if found.kind is GlobalKind.UNKNOWN)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def check(self) -> None:
        """CheckpointDangerous for a file that would have run something; CheckpointDamaged for one that cannot be read."""
        if self.dangerous:
            said = [call for found in self.dangerous for call in found.calls[:1] or (found.name,)]
            more = f" and {len(said) - 3:,} more" if len(said) > 3 else ""
            raise CheckpointDangerous(
                f"{self.path.name} is dangerous and was not opened",
                f"opening it would have run {', '.join(said[:3])}{more}",
                "Delete it, and get the model elsewhere, as a safetensors file",
            )
        if self.problem:
            raise damaged(self.path, self.problem)


def damaged(path: Path, why: str) -> CheckpointDamaged:
    return CheckpointDamaged(
        f"{path.name} cannot be read", why, "Get it again from where it came, best as a safetensors file"
    )


def scan_pickle(path: Path) -> PickleScan:
    """Goes through every pickle in a file and runs none of it. A normal file takes some hundredths of a second.

    CheckpointMissing, CheckpointDamaged where nothing can be said about it. What it would have run is in the answer: see `check`.
    """
    try:
        size = regular_file_size(path)
        with path.open("rb") as file:
            first = file.read(512)
            if first[:4] == b"PK\3\4" or first[:4] == b"PK\5\6":
                return _zip(path, file, size)
            return _tar(path, file) if first[257:262] == b"ustar" else _row(path, file, size)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointMissing(
            f"There is no checkpoint at {path}", remedy="Check the name, or choose another"
        ) from None
    except OSError as error:
        raise damaged(path, f"it cannot be read ({(error.strerror or str(error)).lower()})") from error
    except Unreadable as error:
        raise damaged(path, str(error)) from error


# ---- the three containers --------------------------------------------------------------------------------------------


def _zip(path: Path, file: BinaryIO, size: int) -> PickleScan:
    members = ZipArchive(file, size)
    notes = _Notes()
    pickles = [name for name in members.infos if name.endswith(".pkl")]
    roots = [name for name in pickles if name.rpartition("/")[2] == "data.pkl" and name.count("/") <= 1]
    values = {name: notes.all_of(members.read(name, _LARGEST_PICKLE_BYTES)) for name in pickles[:_MOST_PICKLES]}
    if len(roots) != 1 or roots[0] not in values:
        raise CheckpointUnknown(
            f"{path.name} is not a file of weights", "it is a zip file, but not one of PyTorch's", "Choose another file"
        )
    folder = roots[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in members.infos or any(name.startswith(f"{folder}code/") for name in members.infos):
        return notes.scan(path, "zip", "it is a program for TorchScript, and no table of weights")
    if f"{folder}byteorder" in members.infos and members.read(f"{folder}byteorder", 16) == b"big":
        return notes.scan(path, "zip", "its numbers are written for another kind of processor")
    try:
        if notes.problem:
            raise Unreadable(notes.problem)
        tensors = tensors_in(values[roots[0]][0])
        storages = {tensor.storage: _in_zip(members, folder, tensor) for tensor in tensors.values()}
        _check_sizes(tensors, storages, size)
    except Unreadable as error:
        return notes.scan(path, "zip", str(error))
    return notes.scan(path, "zip", tensors=tensors, storages=storages)


def _in_zip(members: ZipArchive, folder: str, tensor: PickledTensor) -> StorageLocation:
    name = f"{folder}data/{tensor.storage}"
    info = members.infos.get(name)
    if info is None:
        raise Unreadable(f"storage {tensor.storage[:40]!r} is missing")
    return StorageLocation(info.file_size, members.start(name), name)


def _row(path: Path, file: BinaryIO, size: int) -> PickleScan:
    """Pickles one after the other; PyTorch's five of them, and what they say then follows."""
    length = _FIRST_BYTES
    while True:
        file.seek(0)
        notes = _Notes()
        values = notes.all_of(file.read(length))
        if not (notes.cut_short and length < size and length < _LARGEST_PICKLE_BYTES):
            break
        length *= 8
    if not values or values[0] != _MAGIC:
        if notes.problem and not values and not notes.names:
            raise damaged(path, f"as a pickle {notes.problem}")
        return notes.scan(path, "pickles", notes.problem)
    try:
        if notes.problem or len(values) < 5 or not isinstance(keys := values[4], list):
            raise Unreadable(notes.problem or "it was cut short")
        tensors = tensors_in(values[3])
        storages = _in_row(file, size, notes.end, keys, notes.storage_types())
        if any(tensor.storage not in storages for tensor in tensors.values()):
            raise Unreadable("a storage is missing")
        _check_sizes(tensors, storages, size)
    except Unreadable as error:
        return notes.scan(path, "pickles", str(error))
    return notes.scan(path, "pickles", tensors=tensors, storages=storages)


def _in_row(
    file: BinaryIO, size: int, at: int, keys: list[Any], types: Mapping[str, int]
) -> dict[str, StorageLocation]:
    """Each begins with how many numbers it has."""
    storages: dict[str, StorageLocation] = {}
    for key in keys:
        file.seek(at)
        said = file.read(8)
        if len(said) != 8 or not isinstance(key, str) or key not in types:
            raise Unreadable("it was cut short" if len(said) != 8 else "a storage in it is of no known kind")
        length = struct.unpack("<q", said)[0] * types[key]
        if length < 0 or at + 8 + length > size:
            raise Unreadable("it was cut short")
        storages[key] = StorageLocation(length, at + 8)
        at += 8 + length
    return storages


def _tar(path: Path, file: BinaryIO) -> PickleScan:
    import tarfile

    file.seek(0)
    notes = _Notes()
    try:
        with tarfile.open(fileobj=io.BytesIO(file.read(_LARGEST_PICKLE_BYTES)), mode="r:") as archive:
            for _, entry in zip(range(_MOST_PICKLES), archive, strict=False):
                member = archive.extractfile(entry) if entry.isfile() else None
                if member is not None:
                    notes.all_of(member.read(_FIRST_BYTES))
    except (tarfile.TarError, OSError, ValueError, EOFError, RecursionError, KeyError, struct.error):
        pass  # only the beginning was read: what was found till then is what can be said
    return notes.scan(path, "tar", "it was written by a PyTorch from before 2017, in a way that is not read here")


def _check_sizes(tensors: Mapping[str, PickledTensor], storages: Mapping[str, StorageLocation], size: int) -> None:
    whole = 0
    for name, tensor in tensors.items():
        if storages[tensor.storage].size_bytes < tensor.numbers * tensor.itemsize:
            raise Unreadable(f"the storage of {name[:80]!r} is shorter than it declares")
        whole += tensor.length * tensor.itemsize
    if whole > _LARGEST_SHARE * size + (1 << 20):
        raise Unreadable(f"its tensors would take {whole:,} bytes, and the file has {size:,}")


# ---- what is noted on the way ----------------------------------------------------------------------------------------


class _Notes:
    """What the pickles of one file name and would call."""

    def __init__(self) -> None:
        self.names: dict[str, tuple[GlobalKind, list[str]]] = {}
        self.problem, self.cut_short, self.end = "", False, 0
        self._budget, self._nested = OpcodeBudget(), _MOST_NESTED
        self._machines: list[PickleInterpreter] = []

    def all_of(self, data: bytes) -> list[Any]:
        """What the pickles describe that `data` begins with: PyTorch's five, or as many as there are."""
        machine = PickleInterpreter(data, self._budget)
        self._machines.append(machine)
        values: list[Any] = []
        try:
            while (
                machine.at < len(data)
                and len(values) < _MOST_PICKLES
                and not (len(values) == 5 and values[0] == _MAGIC)
            ):
                values.append(machine.run())
        except Unreadable as error:
            if values and values[0] != _MAGIC and not isinstance(error, Truncated):
                error = Unreadable("something follows the pickle in it")
            self.problem, self.cut_short = self.problem or str(error), isinstance(error, Truncated)
        if not data:
            self.problem = "it is empty"
        self.end = machine.at
        self._note(machine)
        self._note_nested(machine.constants, 1)
        return values

    def storage_types(self) -> dict[str, int]:
        """The bytes of a number, by the key of the storage, as the pickles' persistent ids say."""
        return {
            stored[2]: BYTES[STORAGES[stored[1].name]]
            for machine in self._machines
            for stored in machine.storages
            if stored[1].name in STORAGES and isinstance(stored[2], str)
        }

    def scan(self, path: Path, container: str, problem: str = "", **more: Any) -> PickleScan:
        found = [NamedGlobal(name, kind, tuple(calls)) for name, (kind, calls) in self.names.items()]
        return PickleScan(path, container, tuple(sorted(found, key=lambda one: -one.kind)), problem=problem, **more)

    def _note(self, machine: PickleInterpreter, within: str = "") -> None:
        for module, name in machine.globals:
            self.names.setdefault(f"{module}.{name}", (classify(module, name), []))
        for call in machine.calls:
            root: Any = call
            while isinstance(root, Call):
                root = root.callee
            if (
                isinstance(root, Global)
                and (known := self.names[str(root)])[0] is not GlobalKind.ALLOWED
                and len(known[1]) < _MOST_CALLS
            ):
                known[1].append(format_call(call) + within)

    def _note_nested(self, constants: list[bytes], depth: int) -> None:
        """A constant that is a pickle to its end counts, and one that would have run something before it fails."""
        for constant in constants:
            self._nested -= 1
            if self._nested < 0 or depth > _DEEPEST:
                return
            machine, whole = PickleInterpreter(constant, self._budget), True
            try:
                machine.run()
            except Unreadable:
                whole = False
            if whole or any(
                isinstance(call.callee, Global)
                and classify(call.callee.module, call.callee.name) is GlobalKind.DANGEROUS
                for call in machine.calls
            ):
                self._note(machine, " in a pickle within the pickle")
                self._note_nested(machine.constants, depth + 1)


def format_call(value: Any, depth: int = 3) -> str:
    """As it would be written in a program, shortened."""
    match value:
        case Global():
            return str(value)
        case Call():
            args = value.args if isinstance(value.args, tuple) else (value.args,)
            return f"{format_call(value.callee, depth - 1)}({_listed(args, depth)})" if depth else "…"
        case PersistentId():
            return "<storage>"
        case str() | bytes():
            return repr(value[:80]) + ("…" if len(value) > 80 else "")
        case tuple() | list() | dict():
            return f"({_listed(tuple(value), depth)})" if depth else "…"
    return repr(value)[:40]


def _listed(values: tuple[Any, ...], depth: int) -> str:
    return ", ".join(format_call(value, depth - 1) for value in values[:3]) + (", …" if len(values) > 3 else "")
