"""Scan a pickle (PyTorch's `.ckpt`, `.pt`, `.pth`, `.bin`) without running it: what it would import and call, and which
tensors it has.

There are three containers. Since 1.6 PyTorch writes a zip file: one pickle, and one member for each storage. Before, it
wrote five pickles in a row, followed by the storages. Before 2017 it wrote a tar file, which is scanned and not loaded.
A constant in a pickle may itself be a pickle that the outer one would load; those are scanned too. No weights are read.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from diffstudio.errors import CheckpointDangerous, listed
from diffstudio.models.files.file_access import CHOOSE_OR_DOWNLOAD, TRUNCATED, damaged, reading, regular_file_size
from diffstudio.models.files.formats import archive_kind
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
from diffstudio.models.files.zip_archive import ZipArchive

_LARGEST_PICKLE_BYTES = 32 << 20  # without the weights; that of Stable Diffusion XL has half a megabyte
_FIRST_BYTES = 1 << 18  # of a file, tried before more are read
_MOST_PICKLES = 32  # in one file, not counting nested ones
_DEEPEST = 3  # levels of nested pickles
_MOST_NESTED = 1000
_MOST_CALLS = 5  # of one global, in a report
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of PyTorch's old container
_MEMBERS_OF_TAR = {"sys_info", "pickle", "storages", "tensors"}  # that PyTorch wrote
_LARGEST_RATIO = 8  # of all tensors to the file: tensors may share storages, but not so often


@dataclass(frozen=True, slots=True)
class NamedGlobal:
    """A global that a pickle would import, and the calls of it that the pickle would make."""

    name: str  # os.system
    kind: GlobalKind
    calls: tuple[str, ...] = ()  # os.system('rm -rf /'), shortened


@dataclass(frozen=True, slots=True)
class StorageLocation:
    """Where the bytes of a storage are."""

    size_bytes: int
    start: int = -1  # byte in the file; -1 for a compressed member of a zip file
    member: str = ""


@dataclass(frozen=True)
class PickleScan:
    """What one pickle file would import and call, and the tensors in it."""

    path: Path
    container: str  # zip, pickles, tar
    globals: tuple[NamedGlobal, ...]  # the most dangerous first
    tensors: Mapping[str, PickledTensor] = field(default_factory=dict, repr=False)
    storages: Mapping[str, StorageLocation] = field(default_factory=dict, repr=False)
    problem: str = ""  # why the weights cannot be read, where they cannot

    @cached_property
    def dangerous(self) -> tuple[NamedGlobal, ...]:
        return tuple(one for one in self.globals if one.kind is GlobalKind.DANGEROUS)

    @property
    def unknown(self) -> tuple[NamedGlobal, ...]:
        """Neither dangerous nor part of weights: mostly left over from training."""
        return tuple(one for one in self.globals if one.kind is GlobalKind.UNKNOWN)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def check(self) -> None:
        """CheckpointDangerous for a file that would run something; CheckpointDamaged for one whose tensors cannot be
        read.
        """
        if self.dangerous:
            calls = [call for one in self.dangerous for call in one.calls[:1] or (one.name,)]
            raise CheckpointDangerous(
                not_opened(self.path.name),
                f"opening it would have run {listed(calls, 3)}",
                f"{OTHER_SOURCE}, as a safetensors file",
            )
        if self.problem:
            raise damaged(self.path, self.problem)


OTHER_SOURCE = "Delete it, and download the model from another source"


def not_opened(name: str) -> str:
    return f"{name} is dangerous and was not opened"


def scan_pickle(path: Path) -> PickleScan:
    """Scan every pickle in a file and run none of them. A normal file takes some hundredths of a second.

    CheckpointMissing, CheckpointDamaged, CheckpointUnknown. A dangerous file raises nothing here: see
    `PickleScan.check`.
    """
    try:
        with reading(path):
            size = regular_file_size(path)
            with path.open("rb") as file:
                first = file.read(512)
                if first[:4] == b"PK\3\4" or first[:4] == b"PK\5\6":
                    return _zip(path, file, size)
                return _tar(path, file) if first[257:262] == b"ustar" else _row(path, file, size)
    except Unreadable as error:
        raise damaged(path, str(error)) from error


# ---- the three containers --------------------------------------------------------------------------------------------


def _zip(path: Path, file: BinaryIO, size: int) -> PickleScan:
    members = ZipArchive(file, size)
    scanner = _Scanner()
    pickles = [name for name in members.infos if name.endswith(".pkl")]
    roots = [name for name in pickles if name.rpartition("/")[2] == "data.pkl" and name.count("/") <= 1]
    values = {name: scanner.scan(members.read(name, _LARGEST_PICKLE_BYTES)) for name in pickles[:_MOST_PICKLES]}
    if len(roots) != 1 or roots[0] not in values:
        raise archive_kind("zip", members.infos).error(path)
    folder = roots[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in members.infos or any(name.startswith(f"{folder}code/") for name in members.infos):
        return scanner.result(path, "zip", "it is a TorchScript program, not a state dict")
    if f"{folder}byteorder" in members.infos and members.read(f"{folder}byteorder", 16) == b"big":
        return scanner.result(path, "zip", "it is big-endian")
    try:
        if scanner.problem:
            raise Unreadable(scanner.problem)
        tensors = tensors_in(values[roots[0]][0])
        storages = {tensor.storage: _in_zip(members, folder, tensor) for tensor in tensors.values()}
        _check_sizes(tensors, storages, size)
    except Unreadable as error:
        return scanner.result(path, "zip", str(error))
    return scanner.result(path, "zip", tensors=tensors, storages=storages)


def _in_zip(members: ZipArchive, folder: str, tensor: PickledTensor) -> StorageLocation:
    name = f"{folder}data/{tensor.storage}"
    info = members.infos.get(name)
    if info is None:
        raise Unreadable(f"storage {tensor.storage[:40]!r} is missing")
    return StorageLocation(info.file_size, members.start(name), name)


def _row(path: Path, file: BinaryIO, size: int) -> PickleScan:
    """Pickles one after another: PyTorch's five, followed by the storages."""
    length = _FIRST_BYTES
    while True:
        file.seek(0)
        scanner = _Scanner()
        values = scanner.scan(file.read(length))
        if not (scanner.cut_short and length < size and length < _LARGEST_PICKLE_BYTES):
            break
        length *= 8
    if not values or values[0] != _MAGIC:
        if scanner.problem and not values and not scanner.names:
            raise damaged(path, f"as a pickle {scanner.problem}", remedy=CHOOSE_OR_DOWNLOAD)
        return scanner.result(path, "pickles", scanner.problem)
    try:
        if scanner.problem or len(values) < 5 or not isinstance(keys := values[4], list):
            raise Unreadable(scanner.problem or TRUNCATED)
        tensors = tensors_in(values[3])
        storages = _in_row(file, size, scanner.end, keys, scanner.storage_types())
        if any(tensor.storage not in storages for tensor in tensors.values()):
            raise Unreadable("a storage is missing")
        _check_sizes(tensors, storages, size)
    except Unreadable as error:
        return scanner.result(path, "pickles", str(error))
    return scanner.result(path, "pickles", tensors=tensors, storages=storages)


def _in_row(
    file: BinaryIO, size: int, at: int, keys: list[Any], types: Mapping[str, int]
) -> dict[str, StorageLocation]:
    """Each begins with its number of elements."""
    storages: dict[str, StorageLocation] = {}
    for key in keys:
        file.seek(at)
        count = file.read(8)
        if len(count) != 8 or not isinstance(key, str) or key not in types:
            raise Unreadable(TRUNCATED if len(count) != 8 else "a storage in it has an unknown type")
        length = struct.unpack("<q", count)[0] * types[key]
        if length < 0 or at + 8 + length > size:
            raise Unreadable(TRUNCATED)
        storages[key] = StorageLocation(length, at + 8)
        at += 8 + length
    return storages


def _tar(path: Path, file: BinaryIO) -> PickleScan:
    import tarfile

    file.seek(0)
    scanner, names = _Scanner(), list[str]()
    try:
        with tarfile.open(fileobj=io.BytesIO(file.read(_LARGEST_PICKLE_BYTES)), mode="r:") as archive:
            for _, entry in zip(range(_MOST_PICKLES), archive, strict=False):
                names.append(entry.name)
                member = archive.extractfile(entry) if entry.isfile() else None
                if member is not None:
                    scanner.scan(member.read(_FIRST_BYTES))
    except (tarfile.TarError, OSError, ValueError, EOFError, RecursionError, KeyError, struct.error):
        pass  # only the beginning was read: report what was found in it
    if not scanner.names and not {Path(name).name for name in names} & _MEMBERS_OF_TAR:
        raise archive_kind("tar", names).error(path)
    return scanner.result(path, "tar", "it was written by a PyTorch from before 2017, whose format is not supported")


def _check_sizes(tensors: Mapping[str, PickledTensor], storages: Mapping[str, StorageLocation], size: int) -> None:
    whole = 0
    for name, tensor in tensors.items():
        if storages[tensor.storage].size_bytes < tensor.storage_elements * tensor.itemsize:
            raise Unreadable(f"the storage of {name[:80]!r} is shorter than it declares")
        whole += tensor.elements * tensor.itemsize
    if whole > _LARGEST_RATIO * size + (1 << 20):
        raise Unreadable(f"its tensors would take {whole:,} bytes, and the file has {size:,}")


# ---- scanning pickles ------------------------------------------------------------------------------------------------


class _Scanner:
    """Collects the globals and calls in all pickles of one file."""

    def __init__(self) -> None:
        self.names: dict[str, tuple[GlobalKind, list[str]]] = {}
        self.problem, self.cut_short, self.end = "", False, 0
        self._budget, self._nested = OpcodeBudget(), _MOST_NESTED
        self._interpreters: list[PickleInterpreter] = []

    def scan(self, data: bytes) -> list[Any]:
        """The values of the pickles that `data` begins with: PyTorch's five, or as many as there are."""
        interpreter = PickleInterpreter(data, self._budget)
        self._interpreters.append(interpreter)
        values: list[Any] = []
        try:
            while (
                interpreter.at < len(data)
                and len(values) < _MOST_PICKLES
                and not (len(values) == 5 and values[0] == _MAGIC)
            ):
                values.append(interpreter.run())
        except Unreadable as error:
            if values and values[0] != _MAGIC and not isinstance(error, Truncated):
                error = Unreadable("it has data after the pickle")
            self.problem, self.cut_short = self.problem or str(error), isinstance(error, Truncated)
        if not data:
            self.problem = "it is empty"
        self.end = interpreter.at
        self._collect(interpreter)
        self._collect_nested(interpreter.constants, 1)
        return values

    def storage_types(self) -> dict[str, int]:
        """Bytes per element by the storage's key, from the persistent ids in the pickles."""
        return {
            stored[2]: BYTES[STORAGES[stored[1].name]]
            for interpreter in self._interpreters
            for stored in interpreter.storages
            if stored[1].name in STORAGES and isinstance(stored[2], str)
        }

    def result(self, path: Path, container: str, problem: str = "", **more: Any) -> PickleScan:
        found = [NamedGlobal(name, kind, tuple(calls)) for name, (kind, calls) in self.names.items()]
        return PickleScan(path, container, tuple(sorted(found, key=lambda one: -one.kind)), problem=problem, **more)

    def _collect(self, interpreter: PickleInterpreter, within: str = "") -> None:
        for module, name in interpreter.globals:
            self.names.setdefault(f"{module}.{name}", (classify(module, name), []))
        for call in interpreter.calls:
            root: Any = call
            while isinstance(root, Call):
                root = root.callee
            if (
                isinstance(root, Global)
                and (known := self.names[str(root)])[0] is not GlobalKind.ALLOWED
                and len(known[1]) < _MOST_CALLS
            ):
                known[1].append(format_call(call) + within)

    def _collect_nested(self, constants: list[bytes], depth: int) -> None:
        """Only constants that are complete pickles count, and those that would run something dangerous before they
        fail.
        """
        for constant in constants:
            self._nested -= 1
            if self._nested < 0 or depth > _DEEPEST:
                return
            interpreter, whole = PickleInterpreter(constant, self._budget), True
            try:
                interpreter.run()
            except Unreadable:
                whole = False
            if whole or any(
                isinstance(call.callee, Global)
                and classify(call.callee.module, call.callee.name) is GlobalKind.DANGEROUS
                for call in interpreter.calls
            ):
                self._collect(interpreter, " in a pickle within the pickle")
                self._collect_nested(interpreter.constants, depth + 1)


def format_call(value: Any, depth: int = 3) -> str:
    """As Python source, shortened: `os.system('rm -rf /')`."""
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
