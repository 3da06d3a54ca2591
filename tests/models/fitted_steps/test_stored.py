"""Where ladders are kept: in the header of checkpoints trained here, beside all others; the weights stay as they are."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from diffstudio import paths
from diffstudio.errors import StorageProblem
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.detection.types import Layout
from diffstudio.models.families import pixel_file
from diffstudio.models.files.safetensors_header import read_safetensors_header
from diffstudio.models.fitted_steps.ladders import NONE
from diffstudio.models.fitted_steps.stored import BESIDE, IN_FOLDER, KEY, fitted_steps, rewrite_metadata, store
from diffstudio.models.library.records import read_checkpoint
from tests.models.fitted_steps.some_ladders import ladder
from tests.models.tiny import write_tiny_checkpoint


@pytest.fixture
def own(tmp_path: Path) -> Checkpoint:
    return read_checkpoint(write_tiny_checkpoint(tmp_path / "own.safetensors"))


@pytest.fixture
def other(own: Checkpoint) -> Checkpoint:
    """A checkpoint of another program, as far as this is concerned."""
    return dataclasses.replace(own, layout=Layout.DIFFUSERS)


def test_without_any_there_are_none(own: Checkpoint) -> None:
    assert fitted_steps(own) == NONE


def test_those_of_a_checkpoint_trained_here_are_in_its_header(own: Checkpoint) -> None:
    tensors = own.path.read_bytes()[read_safetensors_header(own.path).data_start :]
    before = pixel_file.load(own).network.state_dict()
    assert store(own, [ladder("euler", 4)]) == own.path
    assert store(own, [ladder("heun", 3)]) == own.path  # those before stay
    again = read_checkpoint(own.path)
    assert fitted_steps(again).ladders == (ladder("euler", 4), ladder("heun", 3))
    assert not list(own.path.parent.glob(f"*{BESIDE}"))
    assert {**again.metadata, KEY: ""} == {**own.metadata, KEY: ""}
    header = read_safetensors_header(own.path)
    assert own.path.read_bytes()[header.data_start :] == tensors and header.data_start % 8 == 0
    after = pixel_file.load(again).network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert safetensors.torch.load_file(own.path).keys() == safetensors.torch.load(own.path.read_bytes()).keys()


def test_those_of_others_are_beside_them(other: Checkpoint) -> None:
    before = other.path.read_bytes()
    path = store(other, [ladder("euler", 4)])
    assert path == other.path.with_name("own" + BESIDE) and other.path.read_bytes() == before
    assert fitted_steps(other).ladders == (ladder("euler", 4),)
    store(other, [ladder("euler", 2), ladder("euler", 4, difference=1e-7)])
    assert fitted_steps(other).ladders == (ladder("euler", 2), ladder("euler", 4, difference=1e-7))


def test_what_is_fitted_to_an_included_checkpoint_is_kept_in_the_users_folder(own: Checkpoint) -> None:
    store(own, [ladder("euler", 4, recommended=True)])  # it came with these, in its header and beside it
    store(dataclasses.replace(own, layout=Layout.DIFFUSERS), [ladder("heun", 3)])
    included = dataclasses.replace(read_checkpoint(own.path), origin=Origin.INCLUDED)
    installed = {path: path.read_bytes() for path in own.path.parent.glob("own*")}
    assert len(installed) == 2
    kept = store(included, [ladder("euler", 4, difference=1e-7)])
    assert kept == paths.steps_of_included() / f"own{BESIDE}"
    store(included, [ladder("unipc", 2)])
    assert {path: path.read_bytes() for path in own.path.parent.glob("own*")} == installed
    fitted = fitted_steps(included)
    assert fitted.ladders == (
        ladder("euler", 4, difference=1e-7, recommended=True),
        ladder("heun", 3),
        ladder("unipc", 2),
    )
    assert not fitted.problem and fitted_steps(read_checkpoint(own.path)).of("unipc", 2) is None


def test_where_the_users_folder_cannot_be_made_it_is_said(own: Checkpoint) -> None:
    paths.data().mkdir(parents=True, exist_ok=True)
    paths.steps_of_included().write_bytes(b"")
    with pytest.raises(StorageProblem, match="The fitted steps of own cannot be saved"):
        store(dataclasses.replace(own, origin=Origin.INCLUDED), [ladder()])


def test_those_of_a_folder_are_in_it(own: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    folder = dataclasses.replace(own, path=tmp_path / "pipeline", layout=Layout.FOLDER)
    assert store(folder, [ladder()]) == tmp_path / "pipeline" / IN_FOLDER
    assert fitted_steps(folder).ladders == (ladder(),)


def test_a_file_beside_a_checkpoint_goes_before_its_header(own: Checkpoint) -> None:
    store(own, [ladder("euler", 4), ladder("heun", 3)])
    store(dataclasses.replace(own, layout=Layout.DIFFUSERS), [ladder("euler", 4, difference=1e-7)])
    found = fitted_steps(read_checkpoint(own.path)).ladders
    assert found == (ladder("euler", 4, difference=1e-7), ladder("heun", 3))


def test_a_damaged_file_is_named_and_nothing_else_suffers(own: Checkpoint, other: Checkpoint) -> None:
    beside = other.path.with_name("own" + BESIDE)
    for data, why in ((b"{", "damaged"), (b"\xff\xfe", "UTF-8"), (b" " * (5 << 20), "too large")):
        beside.write_bytes(data)
        os.utime(beside, ns=(len(data), len(data)))
        assert why in fitted_steps(other).problem
    store(own, [ladder()])
    found = fitted_steps(read_checkpoint(own.path))
    assert found.ladders == (ladder(),) and found.problem
    metadata = {**own.metadata, KEY: "nonsense"}
    assert "damaged" in fitted_steps(dataclasses.replace(own, metadata=metadata)).problem
    beside.unlink()
    beside.mkdir()
    assert "cannot be read" in fitted_steps(other).problem


def test_what_cannot_be_kept_leaves_the_file_as_it_was(own: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    before = own.path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffstudio.models.fitted_steps.stored.shutil.copyfileobj", full)
    with pytest.raises(StorageProblem, match="fitted steps of own cannot be saved"):
        store(own, [ladder()])
    assert own.path.read_bytes() == before and len(list(own.path.parent.glob("*own*"))) == 1


def test_a_file_without_metadata_gets_some(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    safetensors.torch.save_file({"a": torch.arange(3.0)}, path)
    rewrite_metadata(path, {"key": "Äpfel"}, "failed")
    assert read_safetensors_header(path).metadata == {"key": "Äpfel"}
    assert torch.equal(safetensors.torch.load_file(path)["a"], torch.arange(3.0))


def test_a_file_that_cannot_be_read_is_kept_under_another_name(other: Checkpoint) -> None:
    """Such as one of a newer program."""
    beside = other.path.with_name("own" + BESIDE)
    newer = '{"format": 99, "ladders": []}'
    beside.write_text(newer)
    store(other, [ladder()])
    assert fitted_steps(other).ladders == (ladder(),) and not fitted_steps(other).problem
    assert beside.with_name(beside.name + ".damaged").read_text() == newer
