"""Checkpoint: what a file of weights is, read from its header alone (no weights, no torch).

A checkpoint made here is one `.safetensors` file whose header metadata holds ModelSpec keys for other programs and,
under `diffstudio.*`, JSON that says how to rebuild it: the network, the schedule, the tokenizer, the recipe.
"""

from __future__ import annotations

import gc
import json
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import prod
from pathlib import Path
from typing import Any

from diffstudio.errors import CheckpointDamaged, CheckpointMissing
from diffstudio.models.detection import detect
from diffstudio.models.detection_names import Detected, Layout, Role
from diffstudio.models.family import FAMILIES, UNKNOWN
from diffstudio.models.prediction import TensorEntry, prediction_beside, prediction_within

FORMAT = 1  # of the diffstudio.* metadata
LARGEST_HEADER_BYTES = (
    32 << 20
)  # safetensors allows 100 MB, which no published file comes near and which would take seconds
LARGEST_SIDE = 65_536  # px, that a header is believed


class Conditioning(StrEnum):
    """What a model is told about the picture it is to make."""

    NONE = "none"
    CLASS = "class"
    TEXT = "text"


class Origin(StrEnum):
    STARTER = "starter"  # ships with the program
    TRAINED = "trained"  # made by a run on this machine
    IMPORTED = "imported"  # a file from elsewhere


_DRAWING = (Role.CHECKPOINT, Role.NETWORK)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint on disk, as its header describes it."""

    path: Path
    name: str  # unique in a library; what `--checkpoint` takes
    title: str  # what a person reads
    family: str  # `pixel` for those made here
    conditioning: Conditioning
    classes: tuple[str, ...]  # for Conditioning.CLASS, in the order of their indices
    width: int  # px it was trained at
    height: int
    parameters: int
    dtype: str  # as stored: F16, BF16, F32
    size_bytes: int
    origin: Origin
    modified: float  # seconds since the epoch
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)  # the header's, unparsed
    role: Role = Role.CHECKPOINT
    layout: Layout = Layout.OURS
    prediction: str = ""  # eps, v, flow or x0: what its network says; empty where that is not known
    inpainting: bool = False  # its network also sees a mask and what lies under it
    reason: str = ""  # why it was taken for what it is, in a sentence for a person
    edition: str = ""  # which one of its family, where its header says so: dev, schnell, 3.5 large

    @property
    def draws(self) -> bool:
        """Whether pictures can be made with it: alone, or with parts that lie beside it."""
        return self.role in _DRAWING and self.family in FAMILIES

    def json(self, key: str) -> Any:
        """The value under `diffstudio.<key>` in the header. CheckpointDamaged when it is missing or not JSON."""
        try:
            return json.loads(self.metadata[f"diffstudio.{key}"])
        except (KeyError, ValueError, RecursionError) as error:
            raise CheckpointDamaged(
                f"{self.path.name} does not say what its {key} is", remedy="Train or download it again"
            ) from error


_CALLED_ALIKE = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model|adapter_model)([.-](fp16|fp32|bf16|non_ema))*"
)
_CONFIGS = ("config.json", "adapter_config.json")  # beside them: diffusers', transformers' and peft's
_DTYPE_BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U8": 8,
    "U16": 16,
    "U32": 32,
    "U64": 64,
    "BOOL": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F4": 4,
}


_MOST_SIDES = 16  # of a tensor
_MOST_NUMBERS = 1 << 60  # in one, leaving out sides of nothing, as torch does when it lays out an empty one
_WHOLE = {int}  # the types of what counts, without True and False
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Thousands of small lists and tables are made, none of them in a circle: to look for circles meanwhile takes as long again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_no_collecting()
def read_header(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """The tensors and the metadata that a safetensors file declares, checked against the file's size.

    Raises CheckpointMissing, or CheckpointDamaged for a header that is cut short, too large, not JSON, or whose
    tensors overlap, leave holes, or do not fit the file: https://github.com/huggingface/safetensors#format.
    """
    try:
        size = plain_file_size(path)
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
            if length > min(LARGEST_HEADER_BYTES, size - 8) or length < 2:
                raise _damaged(path, "its header does not fit the file")
            header = _table(file.read(length))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointMissing(
            f"There is no checkpoint at {path}", remedy="Check the name, or choose another"
        ) from None
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({(error.strerror or str(error)).lower()})") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read ({str(error)[:200]})") from error
    metadata: Any = header.pop("__metadata__", {}) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its metadata is not text")
    tensors = {name: _entry(path, name, value) for name, value in header.items()}
    reached = 0
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != reached:
            raise _damaged(path, "its tensors overlap or leave holes")
        reached = entry.end
    if 8 + length + reached != size:
        raise _damaged(path, "its tensors do not fill the file exactly: it was cut short or added to")
    return tensors, metadata


def _table(text: bytes) -> dict[str, Any]:
    """JSON in which no name of an object occurs twice, and no text is none.

    To look at each name takes half as long again as to read it, so where there can be no doubt it is not done.
    """
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError("it is not a table")
    counts = {text.count(name) for name in (b'"dtype"', b'"shape"', b'"data_offsets"')}
    if counts != {len(table) - (b'"__metadata__"' in text)} or b"\\u" in text or text.count(b'"__metadata__"') > 1:
        table = json.loads(text, object_pairs_hook=_once)
    if _SURROGATE.search(text) is not None:
        json.dumps(table, ensure_ascii=False).encode()
    return table


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name in it occurs twice")
    return table


def plain_file_size(path: Path) -> int:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
        raise CheckpointDamaged(
            f"{path.name} is no file of weights",
            "it is a folder" if stat.S_ISDIR(about.st_mode) else "it is not a plain file",
            "Choose another",
        )
    return about.st_size


def _entry(path: Path, name: str, value: Any) -> TensorEntry:
    try:
        dtype, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"tensor {name[:80]!r} is not described") from error
    if type(shape) is not list or len(shape) > _MOST_SIDES or {type(start), type(end), *map(type, shape)} != _WHOLE:
        raise _damaged(path, f"tensor {name[:80]!r} is not described")
    if start < 0 or shape and min(shape) < 0:
        raise _damaged(path, f"tensor {name[:80]!r} has a negative side")
    if start == end and prod(filter(None, shape)) > _MOST_NUMBERS:
        raise _damaged(path, f"tensor {name[:80]!r} has sides without end")
    bits = _DTYPE_BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None or end < start or (bits * prod(shape) + 7) // 8 != end - start:
        raise _damaged(path, f"tensor {name[:80]!r} does not have the size it declares")
    return TensorEntry(dtype, tuple(shape), start, end)


def _damaged(path: Path, why: str) -> CheckpointDamaged:
    return CheckpointDamaged(
        f"{path.name} is damaged or not a safetensors file", why, "Get it again from where it came"
    )


@_no_collecting()
def read_checkpoint(path: Path, *, origin: Origin | None = None) -> Checkpoint:
    """The record of one `.safetensors` file. Raises CheckpointMissing, CheckpointDamaged.

    A file that was not made here is taken for what its tensors look like; `reason` says why, also where that is nothing known.
    """
    tensors, metadata = read_header(path)
    about = path.stat()
    held = _bytes_by_dtype(tensors)
    checkpoint = Checkpoint(
        path=path,
        name=name_of(path),
        title=metadata.get("modelspec.title", "").strip()[:200] or name_of(path),
        family=UNKNOWN,
        conditioning=Conditioning.NONE,
        classes=(),
        width=0,
        height=0,
        parameters=sum(size * 8 // _DTYPE_BITS[dtype] for dtype, size in held.items()),
        dtype=max(held, key=lambda dtype: held[dtype], default="F32"),
        size_bytes=about.st_size,
        origin=origin or Origin.IMPORTED,
        modified=about.st_mtime,
        metadata=metadata,
    )
    if "diffstudio.format" in metadata:
        return _made_here(checkpoint, origin)
    found = detect({name: entry.shape for name, entry in tensors.items()}, metadata)
    return described(checkpoint, with_prediction(found, path, tensors))


def name_of(path: Path) -> str:
    """Of a file: its own, or its folder's where all are called alike (`control_canny/diffusion_pytorch_model.safetensors`)."""
    stem = path.name.removesuffix(path.suffix)
    alike = _CALLED_ALIKE.fullmatch(stem) is not None and any(path.with_name(name).is_file() for name in _CONFIGS)
    return path.absolute().parent.name if alike else stem


def described(checkpoint: Checkpoint, found: Detected) -> Checkpoint:
    """The record with what was found out about its file."""
    checkpoint = replace(
        checkpoint,
        role=found.role,
        family=found.family,
        prediction=found.prediction,
        inpainting=found.inpainting,
        layout=found.layout,
        reason=found.reason,
        edition=found.edition,
    )
    if not checkpoint.draws:
        return checkpoint
    width, height = _resolution(checkpoint)
    return replace(checkpoint, conditioning=Conditioning.TEXT, width=width, height=height)


def with_prediction(
    found: Detected, path: Path, tensors: Mapping[str, TensorEntry], begin: int | None = None
) -> Detected:
    """Where the header leaves open what a U-Net predicts: what lies beside the file and in it, as `prediction_within` takes it."""
    if found.family not in ("sd1", "sd2", "sdxl") or found.prediction == "v" or found.role not in _DRAWING:
        return found
    prediction, why = prediction_beside(path)
    if not prediction and not found.prediction:
        prediction, why = prediction_within(path, tensors, begin)
    if not prediction and not found.prediction:
        prediction, why = "v", "whether it predicts eps or v is not said, and most of its kind predict v"
    return replace(found, prediction=prediction, reason=f"{found.reason.rstrip('.')}; {why}.") if prediction else found


def _resolution(checkpoint: Checkpoint) -> tuple[int, int]:
    """px it was trained at: as ModelSpec says, or as its family is; 0 where neither is known."""
    said = re.fullmatch(
        r"(\d{2,5})(?:x(\d{2,5}))?", checkpoint.metadata.get("modelspec.resolution", "").lower().replace(" ", "")
    )
    if said is not None:
        width, height = int(said[1]), int(said[2] or said[1])
        if 64 <= width <= 4096 and 64 <= height <= 4096:
            return width, height
    side = FAMILIES[checkpoint.family].side
    if checkpoint.family == "sd2" and checkpoint.prediction == "eps":
        side = 512  # 2.0-base, 2.1-base and the one that paints
    return side, side


def _bytes_by_dtype(tensors: Mapping[str, TensorEntry]) -> dict[str, int]:
    held: dict[str, int] = {}
    for dtype, _, start, end in tensors.values():
        held[dtype] = held.get(dtype, 0) + end - start
    return held


def _made_here(checkpoint: Checkpoint, origin: Origin | None) -> Checkpoint:
    written = checkpoint.json("format")
    if type(written) is not int:
        raise CheckpointDamaged(
            f"{checkpoint.path.name} does not say of what format it is", remedy="Train or download it again"
        )
    if written > FORMAT:
        raise CheckpointDamaged(f"{checkpoint.path.name} was made by a newer diffstudio", remedy="Update the program")
    about = checkpoint.json("model")
    try:
        width, height = int(about["width"]), int(about["height"])
        if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
            raise ValueError("its size makes no sense")
        return replace(
            checkpoint,
            family=str(about["family"]),
            conditioning=Conditioning(about["conditioning"]),
            classes=tuple(str(name) for name in about.get("classes", ())),
            width=width,
            height=height,
            origin=origin or Origin.TRAINED,
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointDamaged(
            f"{checkpoint.path.name} does not describe its model", str(error)[:200], "Train or download it again"
        ) from error
