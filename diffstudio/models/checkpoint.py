"""Checkpoint: what a file of weights is, read from its header alone (no weights, no torch).

A checkpoint made here is one `.safetensors` file whose header metadata holds ModelSpec keys for other programs and,
under `diffstudio.*`, JSON that says how to rebuild it: the network, the schedule, the tokenizer, the recipe.
"""

from __future__ import annotations

import json
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from diffstudio.errors import CheckpointDamaged, CheckpointMissing

FORMAT = 1                        # of the diffstudio.* metadata
LARGEST_HEADER_BYTES = 100 << 20  # safetensors' own limit
LARGEST_SIDE = 65_536             # px, that a header is believed


class Conditioning(StrEnum):
    """What a model is told about the picture it is to make."""

    NONE = "none"
    CLASS = "class"
    TEXT = "text"


class Origin(StrEnum):
    STARTER = "starter"           # ships with the program
    TRAINED = "trained"           # made by a run on this machine
    IMPORTED = "imported"         # a file from elsewhere


class Role(StrEnum):
    """What a file of weights is for."""

    CHECKPOINT = "checkpoint"     # pictures can be made with it
    LORA = "lora"                 # and its kin: changes to a checkpoint
    EMBEDDING = "embedding"       # textual inversion: a word learnt for a text encoder
    VAE = "vae"
    CONTROLNET = "controlnet"
    UPSCALER = "upscaler"
    TEXT_ENCODER = "text_encoder"
    NETWORK = "network"           # a transformer or U-Net without its text encoders and autoencoder
    UNKNOWN = "unknown"


class Layout(StrEnum):
    """How its weights are stored and named."""

    OURS = "ours"                 # made by this program
    ORIGINAL = "original"         # one file, named as the model's makers do
    DIFFUSERS = "diffusers"       # one file, named as diffusers does
    FOLDER = "folder"             # a diffusers folder: model_index.json and a sub-folder for each component
    GGUF = "gguf"
    PICKLE = "pickle"             # .ckpt, .pt, .pth, .bin: not opened before it was looked through


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint on disk, as its header describes it."""

    path: Path
    name: str                     # unique in a library; what `--checkpoint` takes
    title: str                    # what a person reads
    family: str                   # `pixel` for those made here
    conditioning: Conditioning
    classes: tuple[str, ...]      # for Conditioning.CLASS, in the order of their indices
    width: int                    # px it was trained at
    height: int
    parameters: int
    dtype: str                    # as stored: F16, BF16, F32
    size_bytes: int
    origin: Origin
    modified: float               # seconds since the epoch
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)  # the header's, unparsed
    role: Role = Role.CHECKPOINT
    layout: Layout = Layout.OURS
    prediction: str = ""          # eps, v, flow or x0: what its network says; empty where that is not known
    inpainting: bool = False      # its network also sees a mask and what lies under it
    reason: str = ""              # why it was taken for what it is, in a sentence for a person

    def json(self, key: str) -> Any:
        """The value under `diffstudio.<key>` in the header. CheckpointDamaged when it is missing or not JSON."""
        try:
            return json.loads(self.metadata[f"diffstudio.{key}"])
        except (KeyError, ValueError, RecursionError) as error:
            raise CheckpointDamaged(f"{self.path.name} does not say what its {key} is",
                                    remedy="Train or download it again") from error


@dataclass(frozen=True, slots=True)
class TensorEntry:
    dtype: str
    shape: tuple[int, ...]
    start: int                    # bytes from the end of the header
    end: int


_DTYPE_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8,
               "U16": 16, "U32": 32, "U64": 64, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4}


def read_header(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """The tensors and the metadata that a safetensors file declares, checked against the file's size.

    Raises CheckpointMissing, or CheckpointDamaged for a header that is cut short, too large, not JSON, or whose
    tensors overlap, leave holes, or do not fit the file: https://github.com/huggingface/safetensors#format.
    """
    try:
        size = _plain_file_size(path)
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
            if length > min(LARGEST_HEADER_BYTES, size - 8) or length < 2:
                raise _damaged(path, "its header does not fit the file")
            header = json.loads(file.read(length))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointMissing(f"There is no checkpoint at {path}", remedy="Check the name, or choose another") from None
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({(error.strerror or str(error)).lower()})") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read ({str(error)[:200]})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a table")
    metadata = header.pop("__metadata__", {}) or {}
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


def _plain_file_size(path: Path) -> int:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
        raise _damaged(path, "it is a folder" if stat.S_ISDIR(about.st_mode) else "it is not a plain file")
    return about.st_size


def _entry(path: Path, name: str, value: Any) -> TensorEntry:
    try:
        dtype, shape = str(value["dtype"]), tuple(int(side) for side in value["shape"])
        start, end = (int(offset) for offset in value["data_offsets"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _damaged(path, f"tensor {name[:80]!r} is not described") from error
    bits = _DTYPE_BITS.get(dtype)
    for side in shape:
        if side < 0:
            raise _damaged(path, f"tensor {name[:80]!r} has a negative side")
        bits = bits * side if bits is not None else None
    if start < 0 or end < start or bits is None or (bits + 7) // 8 != end - start:
        raise _damaged(path, f"tensor {name[:80]!r} does not have the size it declares")
    return TensorEntry(dtype, shape, start, end)


def _damaged(path: Path, why: str) -> CheckpointDamaged:
    return CheckpointDamaged(f"{path.name} is damaged or not a safetensors file", why, "Get it again from where it came")


def read_checkpoint(path: Path, *, origin: Origin | None = None) -> Checkpoint:
    """The record of one `.safetensors` file. Raises CheckpointMissing, CheckpointDamaged.

    A file that was not made here has family `unknown` until another family claims it.
    """
    tensors, metadata = read_header(path)
    about = path.stat()
    parameters = sum(_elements(entry.shape) for entry in tensors.values())
    dtypes = [entry.dtype for entry in tensors.values()]
    stored = max(set(dtypes), key=dtypes.count) if dtypes else "F32"
    checkpoint = Checkpoint(
        path=path, name=path.stem, title=metadata.get("modelspec.title", path.stem),
        family="unknown", conditioning=Conditioning.NONE, classes=(), width=0, height=0, parameters=parameters,
        dtype=stored, size_bytes=about.st_size, origin=origin or Origin.IMPORTED, modified=about.st_mtime, metadata=metadata)
    return _made_here(checkpoint, origin) if "diffstudio.format" in metadata else checkpoint


def _made_here(checkpoint: Checkpoint, origin: Origin | None) -> Checkpoint:
    from dataclasses import replace

    written = checkpoint.json("format")
    if type(written) is not int:
        raise CheckpointDamaged(f"{checkpoint.path.name} does not say of what format it is", remedy="Train or download it again")
    if written > FORMAT:
        raise CheckpointDamaged(f"{checkpoint.path.name} was made by a newer diffstudio", remedy="Update the program")
    about = checkpoint.json("model")
    try:
        width, height = int(about["width"]), int(about["height"])
        if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
            raise ValueError("its size makes no sense")
        return replace(
            checkpoint, family=str(about["family"]), conditioning=Conditioning(about["conditioning"]),
            classes=tuple(str(name) for name in about.get("classes", ())), width=width, height=height,
            origin=origin or Origin.TRAINED)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointDamaged(f"{checkpoint.path.name} does not describe its model", str(error)[:200],
                                "Train or download it again") from error


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
