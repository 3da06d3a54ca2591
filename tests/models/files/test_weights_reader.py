"""WeightsFile: what a file holds is what was saved, however it is stored; and pickles open wherever weights are asked
for.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointDangerous, CheckpointMissing, CheckpointUnknown
from diffstudio.models.adapters.adapter_file import read_adapter
from diffstudio.models.conditioning.controlnet import load_controlnet
from diffstudio.models.detection.types import Role
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.files.header import read_header
from diffstudio.models.files.safetensors_header import DTYPE_BITS, read_safetensors_header
from diffstudio.models.files.weights_reader import TORCH_DTYPES, SafetensorsWeights, load_weights, open_weights
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.tools.convert import convert
from diffstudio.models.tools.spec import ToolResult
from diffstudio.models.upscalers import DenseNetwork, load_upscaler
from tests.models import adapter_files, published, small
from tests.models.hostile import gguf_file, safetensors_entry, safetensors_file
from tests.models.pickles import RAN, attack

CPU = torch.device("cpu")


def everything() -> dict[str, Tensor]:
    base = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    return {
        "plain": base,
        "turned": base.t(),
        "part": base[2:4, 1:3],
        "half": base.half(),
        "bfloat16": base[0].bfloat16(),
        "whole": torch.arange(7),
        "single": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "yes": torch.tensor([True, False]),
        "parameter": nn.Parameter(base[:2]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "double": base.double(),
    }


def same(found: Tensor, expected: Tensor) -> bool:
    return found.dtype == expected.dtype and torch.equal(found, expected)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("wrapped", ["state_dict", "params_ema", "alone", "module"])
def test_what_was_saved_comes_out(tmp_path: Path, new: bool, wrapped: str) -> None:
    """With whatever PyTorch itself reads, to the bit, and with whatever lies beside the weights."""
    saved: Any = everything()
    if wrapped != "alone":
        saved = {
            wrapped: OrderedDict(saved),
            "epoch": 3,
            "rng": torch.get_rng_state(),
            "score": np.float64(0.5),
            "lr": np.arange(3),
            "optimizer": torch.optim.Adam([nn.Parameter(torch.zeros(2))]).state_dict(),
        }
    torch.save(saved, tmp_path / "a.ckpt", _use_new_zipfile_serialization=new)
    with open_weights(tmp_path / "a.ckpt") as file:
        assert {name: file.shape(name) for name in file.names()} == {
            name: tuple(one.shape) for name, one in everything().items()
        }
        assert {name: file.dtype(name) for name in file.names()} == {
            name: one.dtype for name, one in everything().items()
        }
        assert all(same(file.get_tensor(name), one) for name, one in everything().items())


def test_numbers_of_eight_bits_and_whole_modules(tmp_path: Path) -> None:
    eighth = torch.randn(4).to(torch.float8_e4m3fn)
    torch.save({"a": eighth, "b": torch.arange(3).to(torch.uint16)}, tmp_path / "a.pt")
    found = load_weights(tmp_path / "a.pt")
    assert torch.equal(found["a"].view(torch.uint8), eighth.view(torch.uint8)) and same(
        found["b"], torch.arange(3).to(torch.uint16)
    )
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    torch.save(network, tmp_path / "b.pt")
    found = load_weights(tmp_path / "b.pt")
    assert found.keys() == network.state_dict().keys() and all(
        same(found[key], one) for key, one in network.state_dict().items()
    )


def test_a_file_that_was_packed_again(tmp_path: Path) -> None:
    torch.save(everything(), tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as source,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in source.namelist():
            packed.writestr(name, source.read(name))
    found = load_weights(tmp_path / "b.pt")
    assert all(same(found[name], one) for name, one in everything().items())


def test_storages_that_lie_unevenly(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as moved:
        torch.save(everything(), tmp_path / "a.pt")
        with zipfile.ZipFile(tmp_path / "a.pt") as source:
            for name in source.namelist():
                moved.writestr(name, source.read(name))
    found = load_weights(tmp_path / "b.pt")
    assert all(same(found[name], one) for name, one in everything().items())


def test_a_file_larger_than_memory_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: Any) -> Any:
        raise RuntimeError("unable to mmap 40861047826 bytes from file: Cannot allocate memory (12)")

    torch.save(everything(), tmp_path / "a.pt")
    monkeypatch.setattr(torch.UntypedStorage, "from_file", too_large)
    found = load_weights(tmp_path / "a.pt")
    assert all(same(found[name], one) for name, one in everything().items())


@pytest.mark.parametrize("inside", [False, True])
def test_a_file_that_is_cut_after_it_was_scanned(tmp_path: Path, inside: bool) -> None:
    """Before its last storage begins, or within it."""
    torch.save(everything(), tmp_path / "a.pt")
    with open_weights(tmp_path / "a.pt") as file:
        last = max(file.scan.storages.values(), key=lambda one: one.start)
        cut = last.start + last.size_bytes - 1 if inside else 900
        (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:cut])
        with pytest.raises(CheckpointDamaged, match="changed meanwhile"):
            file.get_tensor("plain")


def test_the_file_is_left_alone(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(4)}, tmp_path / "a.pt")
    before = (tmp_path / "a.pt").read_bytes()
    load_weights(tmp_path / "a.pt")["a"].mul_(7)
    assert (tmp_path / "a.pt").read_bytes() == before


def test_safetensors_are_the_same_to_ask(tmp_path: Path) -> None:
    path = adapter_files.write(tmp_path / "a.safetensors", {"x": torch.ones(2, 3).half()}, {"title": "A"})
    with open_weights(path) as file:
        assert file.metadata == {"title": "A"} and file.shape("x") == (2, 3) and file.dtype("x") == torch.float16
        assert same(file.get_tensor("x"), torch.ones(2, 3).half())
    path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    with pytest.raises(CheckpointDamaged):
        open_weights(path)
    with pytest.raises(CheckpointMissing):
        open_weights(tmp_path / "none.pt")


def test_safetensors_larger_than_the_address_space_are_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {name: one.detach().clone().contiguous() for name, one in everything().items()}
    safetensors.torch.save_file(tensors, path)
    monkeypatch.setattr(safetensors, "safe_open", Mock(side_effect=RuntimeError("Cannot allocate memory")))
    with open_weights(path) as file:
        found = {name: file.get_tensor(name) for name in file.names()}
        assert found.keys() == tensors.keys() and all(same(found[name], one) for name, one in tensors.items())
        entries = read_safetensors_header(path).tensors
        last = max(entries, key=lambda name: entries[name].end)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CheckpointDamaged, match="a.safetensors cannot be read: it was cut short"):
            file.get_tensor(last)
        path.unlink()
        with pytest.raises(CheckpointDamaged, match="a.safetensors cannot be read: no such file"):
            file.get_tensor(last)


def test_safetensors_that_changed_since_their_header_was_read(tmp_path: Path) -> None:
    path = adapter_files.write(tmp_path / "a.safetensors", {"x": torch.ones(2, 3), "y": torch.ones(1)})
    header = read_safetensors_header(path)
    adapter_files.write(path, {"y": torch.ones(1)})
    with (
        SafetensorsWeights(path, header) as file,
        pytest.raises(CheckpointDamaged, match="a.safetensors cannot be read: .*x"),
    ):
        file.get_tensor("x")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointDamaged, match="a.safetensors cannot be read: .*[Ii]ncomplete"):
        SafetensorsWeights(path, header)


def test_a_dtype_that_pytorch_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_file({"a": safetensors_entry(0, 1, (2,), "F4")}, 1))
    with open_weights(path) as file:
        assert file.shape("a") == (2,)
        with pytest.raises(CheckpointUnknown, match="PyTorch has no dtype F4. Download it in another precision"):
            file.dtype("a")


@pytest.mark.parametrize("name", TORCH_DTYPES)
def test_every_dtype_of_safetensors(tmp_path: Path, name: str) -> None:
    size = DTYPE_BITS[name] // 8
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_file({"a": safetensors_entry(0, 2 * size, (2,), name)}, 2 * size))
    with open_weights(path) as file:
        assert file.dtype("a") == file.get_tensor("a").dtype and file.dtype("a").itemsize == size
        assert torch.equal(file.get_tensor("a").view(torch.uint8), torch.zeros(2 * size, dtype=torch.uint8))


def test_tensors_outlive_their_file(tmp_path: Path) -> None:
    adapter_files.write(tmp_path / "a.safetensors", {"plain": everything()["plain"]})
    torch.save(everything(), tmp_path / "b.pt")
    for name in ("a.safetensors", "b.pt"):
        with open_weights(tmp_path / name) as file:
            found = file.get_tensor("plain")
        assert same(found, everything()["plain"])
        assert same(file.get_tensor("plain"), everything()["plain"])  # opened again


def test_a_pickle_that_is_cut_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(1000)}, path)

    def cut(*_: Any) -> Any:
        path.write_bytes(path.read_bytes()[:2000])
        raise RuntimeError("unable to mmap")

    monkeypatch.setattr(torch.UntypedStorage, "from_file", cut)
    with open_weights(path) as file, pytest.raises(CheckpointDamaged, match="a.pt cannot be read: it was cut short"):
        file.get_tensor("a")


def test_a_pickle_that_vanished_or_cannot_be_opened(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pt")
    with open_weights(tmp_path / "a.pt") as file:
        (tmp_path / "a.pt").unlink()
        with pytest.raises(CheckpointDamaged, match="a.pt cannot be read: no such file"):
            file.get_tensor("a")
    torch.save({"epoch": 3}, tmp_path / "b.pt")
    with open_weights(tmp_path / "b.pt") as file:
        assert file.names() == []
    (tmp_path / "c.pt").write_bytes(b"\x80\x02}.")
    with open_weights(tmp_path / "c.pt", read_header(tmp_path / "c.pt")) as file:
        assert file.names() == []
    (tmp_path / "d.pt").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2))
    with pytest.raises(CheckpointDamaged, match="d.pt cannot be read: it was cut short"):
        open_weights(tmp_path / "d.pt")


# ---- wherever weights are asked for ----------------------------------------------------------------------------------


def test_a_lora(tmp_path: Path) -> None:
    tensors = adapter_files.kohya("lora_unet", {"down_blocks.0.attentions.0.proj_in": nn.Linear(8, 8)})
    torch.save(tensors, tmp_path / "a.pt")
    file, expected = (
        read_adapter(tmp_path / "a.pt"),
        read_adapter(adapter_files.write(tmp_path / "a.safetensors", tensors)),
    )
    assert read_checkpoint(tmp_path / "a.pt").role is Role.LORA
    assert file.layers == expected.layers == 1 and file.kinds == ("LoRA",)
    torch.save(tensors | {"hook": attack()}, tmp_path / "b.pt")
    with pytest.raises(CheckpointDangerous):
        read_adapter(tmp_path / "b.pt")
    assert not Path(RAN).exists()


def test_a_controlnet(tmp_path: Path) -> None:
    unet = small.small_unet()
    control = ControlNetModel.from_unet(unet)
    torch.save(control.state_dict(), tmp_path / "canny.pth")
    record = read_checkpoint(tmp_path / "canny.pth")
    assert record.role is Role.CONTROLNET
    made = load_controlnet(record, unet, CPU, torch.float32)
    expected = control.state_dict()
    assert all(torch.equal(one, expected[name]) for name, one in made.state_dict().items())


@pytest.mark.parametrize("wrapper", ["params_ema", "params", ""])
def test_an_upscaler(tmp_path: Path, wrapper: str) -> None:
    weights = DenseNetwork(8, 4, 1, 1).state_dict()
    torch.save({wrapper: weights} if wrapper else weights, tmp_path / "x2.pth")
    record = read_checkpoint(tmp_path / "x2.pth")
    assert record.role is Role.UPSCALER
    made = load_upscaler(record, CPU)
    assert made.scale == 2 and all(torch.equal(one, weights[name]) for name, one in made.network.state_dict().items())


def test_a_pickle_becomes_safetensors(tmp_path: Path) -> None:
    """Tensors that share numbers, or lie across them, each get their own; the file says where it came from."""
    torch.save({"state_dict": everything(), "epoch": 1}, tmp_path / "a.ckpt")
    record = read_checkpoint(tmp_path / "a.ckpt")
    steps = list(convert(record, tmp_path / "a.safetensors"))
    assert (
        isinstance(steps[-1], ToolResult)
        and steps[:-1] == sorted(step for step in steps if isinstance(step, float))
        and steps[-2] == 1
    )
    found = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert found.keys() == everything().keys() and all(same(found[name], one) for name, one in everything().items())
    with open_weights(tmp_path / "a.safetensors") as file:
        assert file.metadata == {"converted_from": "a.ckpt", "converted_from_sha256": sha256_of(tmp_path / "a.ckpt")}
    with pytest.raises(BadRequest, match="already"):
        list(convert(record, tmp_path / "a.safetensors"))
    part = convert(record, tmp_path / "b.safetensors")
    for step in part:
        if step > 0.4:
            break
    part.close()
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["a.ckpt", "a.safetensors"]


# ---- published weights -----------------------------------------------------------------------------------------------


def test_weights_that_python_2_pickled() -> None:
    """LPIPS 0.1, of 2018 (Zhang et al., arXiv 1801.03924), to the bit as PyTorch reads it."""
    path = published.FOLDER / "lpips_alex.pth"
    expected = torch.load(path, map_location="cpu", weights_only=True)
    found = load_weights(path)
    assert [tuple(found[f"lin{index}.model.1.weight"].shape) for index in range(5)] == [
        (1, width, 1, 1) for width in (64, 192, 384, 256, 256)
    ]
    assert found.keys() == expected.keys() and all(same(found[name], one) for name, one in expected.items())
    assert read_checkpoint(path).reason.startswith("Named like LPIPS, a measure of perceptual distance")


def test_a_gguf_file_is_named_wherever_weights_are_read(tmp_path: Path) -> None:
    for suffix in (".gguf", ".safetensors", ".pt"):
        (tmp_path / f"lora{suffix}").write_bytes(gguf_file(0, 0))
        with pytest.raises(CheckpointUnknown, match=f"lora{suffix} is a GGUF file: its packed weights are used for"):
            load_weights(tmp_path / f"lora{suffix}")
