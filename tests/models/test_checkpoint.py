"""The record of a checkpoint: a header that lies ends in CheckpointDamaged, whatever it says."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import CheckpointDamaged
from diffstudio.models.families import pixel
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.loading import load
from tests.models.tiny import write_tiny_checkpoint

Change = Callable[[dict[str, Any]], Any]


def changed(path: Path, change: Change) -> Path:
    """The same file with another header."""
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    change(header)
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + whole[8 + length :])
    return path


def metadata(key: str, value: str) -> Change:
    return lambda header: header["__metadata__"].update({f"diffstudio.{key}": value})


def table(key: str, **values: Any) -> Change:
    def change(header: dict[str, Any]) -> None:
        about = json.loads(header["__metadata__"][f"diffstudio.{key}"])
        header["__metadata__"][f"diffstudio.{key}"] = json.dumps(about | values)

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(metadata("format", value) for value in ("null", "[]", '"x"', "1e999", "99", "{")),
        *(metadata("model", value) for value in ("null", "[]", "99", '"x"', "{}")),
        *(table("model", width=width) for width in (0, -1, 10**30, float("inf"), "x")),
        lambda header: header["patch_embed.proj1.weight"].update(shape=[float("inf")]),
        lambda header: header["patch_embed.proj1.weight"].update(data_offsets=[-4, 0]),
    ],
)
def test_headers_that_lie(tmp_path: Path, change: Change) -> None:
    with pytest.raises(CheckpointDamaged):
        read_checkpoint(changed(write_tiny_checkpoint(tmp_path / "tiny.safetensors"), change))


@pytest.mark.parametrize(
    "change",
    [
        *(
            metadata(key, value)
            for key in ("network", "schedule", "guidance")
            for value in ("null", "[]", "1e999", '"x"')
        ),
        *(
            table("network", **{key: 10**9})
            for key in ("depth", "width", "size", "vocabulary", "text_tokens", "margin")
        ),
        table("network", heads=0),
        table("network", patch=0),
        table("network", depth=-1),
        *(table("schedule", shift=shift) for shift in (0, "x", -1.0, float("nan"))),
        table("guidance", scale="x"),
        table("guidance", scale=None),
        table("guidance", interval=[1]),
        table("guidance", interval=[9, 3]),
    ],
)
def test_networks_that_cannot_be(tmp_path: Path, change: Change) -> None:
    import torch

    checkpoint = read_checkpoint(changed(write_tiny_checkpoint(tmp_path / "tiny.safetensors"), change))
    assert checkpoint.family == pixel.FAMILY
    with pytest.raises(CheckpointDamaged):
        load(checkpoint, torch.device("cpu"))


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CheckpointDamaged, match="it is a folder"):
        read_checkpoint(tmp_path / "folder.safetensors")
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe.safetensors")  # opening it would wait for ever
        with pytest.raises(CheckpointDamaged, match="not a plain file"):
            read_checkpoint(tmp_path / "pipe.safetensors")
