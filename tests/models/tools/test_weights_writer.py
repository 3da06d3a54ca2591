"""Files of tensors: the same bits come back, nothing is written over, nothing half is left, and memory stays small."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import safetensors.torch
import torch
from torch import Tensor

from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointUnknown, StorageProblem
from diffstudio.models.files.lazy_tensor import materialize
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.tools import weights_writer
from diffstudio.models.tools.convert import convert
from diffstudio.models.tools.merge import merge
from diffstudio.models.tools.spec import Precision
from diffstudio.models.tools.weights_writer import open_checkpoint, within_range, write_file
from tests.models.headers import write_header
from tests.models.small_files import record

MIXED = {
    "a.weight": torch.randn(3, 5),
    "a.bias": torch.randn(5).half(),
    "number": torch.tensor(3.5).bfloat16(),
    "ids": torch.arange(7)[None],
    "eighths": torch.randn(4, 4).to(torch.float8_e4m3fn),
    "mask": torch.tensor([True, False]),
    "nothing": torch.empty(0),
    "minus": torch.full((2, 2), -torch.inf),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def test_the_same_bits_come_back(place: Path) -> None:
    list(write_file(place / "a.safetensors", MIXED, {"title": "Å \udcff"}))
    theirs = safetensors.torch.load_file(place / "a.safetensors")  # by safetensors itself
    assert theirs.keys() == MIXED.keys()
    with open_checkpoint(read_checkpoint(place / "a.safetensors")) as weights:
        assert weights.metadata == {"title": "Å ?"}
        for name, expected in MIXED.items():
            ours = materialize(weights.tensors[name])
            assert (
                ours.dtype == expected.dtype == theirs[name].dtype
                and ours.shape == expected.shape == theirs[name].shape
            )
            assert ours.float().equal(expected.float()) and theirs[name].float().equal(expected.float())
    assert (place / "a.safetensors").stat().st_size and os.listdir(place) == ["a.safetensors"]


def test_numbers_lie_even(place: Path) -> None:
    """So that other programs may map the file: each tensor begins at a multiple of its numbers' size."""
    list(write_file(place / "a.safetensors", MIXED, {}))
    from diffstudio.models.files.safetensors_header import read_safetensors_header

    entries = read_safetensors_header(place / "a.safetensors").tensors
    start = int.from_bytes((place / "a.safetensors").read_bytes()[:8], "little")
    assert start % 8 == 0 and all(entry.start % MIXED[name].element_size() == 0 for name, entry in entries.items())


def test_nothing_is_written_over(place: Path) -> None:
    target = place / "a.safetensors"
    target.write_text("mine")
    with pytest.raises(BadRequest, match=r"already exists: existing files are never overwritten"):
        list(write_file(target, MIXED, {}))
    with pytest.raises(BadRequest, match="already exists"):
        list(write_file(place, MIXED, {}))
    late = place / "b.safetensors"
    writing = write_file(late, MIXED, {})
    next(writing)
    late.write_text("came meanwhile")
    with pytest.raises(BadRequest, match="already exists"):
        list(writing)
    assert target.read_text() == "mine" and late.read_text() == "came meanwhile"
    assert sorted(os.listdir(place)) == ["a.safetensors", "b.safetensors"]


def test_two_do_not_write_one_file(place: Path) -> None:
    first, second = write_file(place / "a.safetensors", MIXED, {}), write_file(place / "a.safetensors", MIXED, {})
    next(first), next(second)
    assert list(first)[-1] == 1.0
    with pytest.raises(BadRequest, match="already exists"):
        list(second)
    assert os.listdir(place) == ["a.safetensors"]


def test_given_up_it_leaves_nothing(place: Path) -> None:
    writing = write_file(place / "a.safetensors", MIXED, {})
    next(writing), next(writing)
    assert [name.endswith(".part") for name in os.listdir(place)] == [True]
    writing.close()
    assert os.listdir(place) == []


def test_a_full_disk_is_known_before(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    with pytest.raises(StorageProblem, match=r"would not fit on the disk: it takes \d+ B, and 10 B are free"):
        list(write_file(place / "a.safetensors", MIXED, {}))
    assert os.listdir(place) == []


def test_a_disk_that_fills_up_meanwhile(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensor: torch.Tensor) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_writer, "_bytes", full)
    with pytest.raises(StorageProblem, match="the disk is full"):
        list(write_file(place / "a.safetensors", MIXED, {}))
    assert os.listdir(place) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_may_not_be_written(place: Path) -> None:
    place.chmod(0o500)
    with pytest.raises(StorageProblem, match="no permission to write"):
        list(write_file(place / "a.safetensors", MIXED, {}))
    place.chmod(0o700)


def test_a_place_that_there_cannot_be(place: Path) -> None:
    (place / "file").write_text("")
    with pytest.raises(StorageProblem, match="cannot be written"):
        list(write_file(place / "file" / "a.safetensors", MIXED, {}))


def test_values_that_are_no_numbers_are_named(place: Path) -> None:
    bad = MIXED | {"b.weight": torch.tensor([1.0, torch.nan])}
    with pytest.raises(CheckpointDamaged, match=r"a.safetensors was not written: b.weight contains NaN"):
        list(write_file(place / "a.safetensors", bad, {}))
    with pytest.raises(CheckpointDamaged, match="eighths contains NaN values"):
        list(write_file(place / "a.safetensors", {"eighths": torch.tensor([torch.nan]).to(torch.float8_e4m3fn)}, {}))
    assert os.listdir(place) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_that_a_tool_makes_infinite_are_refused(dtype: torch.dtype) -> None:
    before = torch.tensor([1.0, -torch.inf])[: 2 if dtype.itemsize > 1 else 1].to(dtype)  # as attention masks have
    assert torch.equal(within_range("b.weight", before, before.float()).float(), before.float())
    name = str(dtype).removeprefix("torch.")
    for value in (torch.inf, -torch.inf, torch.nan):
        with pytest.raises(BadRequest, match=f"values of b.weight would be beyond the range of {name}"):
            within_range("b.weight", before, torch.full(before.shape, value))


def test_packed_weights_and_odd_numbers_are_refused(place: Path) -> None:
    from dataclasses import replace

    from diffstudio.models.detection.types import Layout

    list(write_file(place / "a.safetensors", MIXED, {}))
    with pytest.raises(CheckpointUnknown, match="GGUF"):
        open_checkpoint(replace(read_checkpoint(place / "a.safetensors"), layout=Layout.GGUF))


def test_a_file_cut_short_meanwhile(place: Path) -> None:
    write_header(place / "a.safetensors", {"w": (1000, 1000)})
    with open_checkpoint(read_checkpoint(place / "a.safetensors")) as weights:
        with (place / "a.safetensors").open("r+b") as file:
            file.truncate(1000)
        with pytest.raises(CheckpointDamaged, match="ends too early"):
            materialize(weights.tensors["w"])


def test_a_pickle_is_read_without_being_run(place: Path) -> None:
    torch.save(
        {"state_dict": {name: value for name, value in MIXED.items() if name != "minus"}, "epoch": 3}, place / "a.ckpt"
    )
    with open_checkpoint(read_checkpoint(place / "a.ckpt")) as weights:
        assert all(
            torch.equal(materialize(weights.tensors[name]).float(), value.float())
            for name, value in MIXED.items()
            if name != "minus"
        )


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> tuple[Path, Path]:
    """Two of 200 MB, in tensors of 4 MB."""
    shapes = {f"model.layer.{number}.weight": (1024, 1024) for number in range(50)}
    return (
        write_header(tmp_path / "one.safetensors", shapes, "F32"),
        write_header(tmp_path / "two.safetensors", shapes, "F32"),
    )


def grown(making: Iterator[Any]) -> int:
    """By how many bytes this process grew at most while something was made."""
    process = psutil.Process()
    before = process.memory_info().rss
    return max(process.memory_info().rss for _ in making) - before


@pytest.mark.parametrize(
    "do",
    [
        lambda one, two, out: convert(record(one, "sd1"), out, Precision.FP16),
        lambda one, two, out: merge([record(one, "sd1"), record(two, "sd1")], out, 0.3),
    ],
)
def test_memory_is_that_of_some_tensors_not_of_the_file(
    large: tuple[Path, Path], tmp_path: Path, home: Path, do: Callable[..., Iterator[Any]]
) -> None:
    list(do(*large, tmp_path / "warm.safetensors"))  # what is imported, and what the allocator keeps
    assert grown(do(*large, tmp_path / "out.safetensors")) < 60 << 20
    assert isinstance(safetensors.torch.load_file(tmp_path / "out.safetensors")["model.layer.3.weight"], Tensor)
