"""Upscalers: known by their tensors whatever the names, folded or not; what is none is refused in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown, OutOfMemory
from diffstudio.models.detection.types import Role
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.tiling import finish
from diffstudio.models.upscalers import CompactNetwork, DenseNetwork, Upscaler, build_upscaler, load_upscaler
from tests.models import published
from tests.models.tiny import write_tiny_checkpoint

CPU = torch.device("cpu")
State = dict[str, Tensor]


def dense(ups: int = 2, unshuffle: int = 1) -> DenseNetwork:
    torch.manual_seed(ups + 10 * unshuffle)
    return DenseNetwork(8, 4, 2, ups, unshuffle).eval()


def first_names(state: State) -> State:
    """As the first ESRGAN code named them."""

    def old(key: str) -> str:
        key = re.sub(r"^body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB", key)
        return re.sub(r"^conv_up(\d)", r"upconv\1", key).replace("conv_body", "trunk_conv").replace("conv_hr", "HRconv")

    return {old(key): value for key, value in state.items()}


def numbered_names(state: State, ups: int, depth: int = 2) -> State:
    """As the released files of ESRGAN have them: layers that do not learn are counted too."""
    numbers = {
        "conv_first": "0",
        "conv_body": f"1.sub.{depth}",
        "conv_hr": str(2 + 3 * ups),
        "conv_last": str(4 + 3 * ups),
    }
    numbers |= {f"conv_up{index}": str(3 * index) for index in range(1, ups + 1)}

    def old(key: str) -> str:
        if found := re.fullmatch(r"body\.(\d+)\.rdb(\d)\.conv(\d)\.(\w+)", key):
            return "model.1.sub.{}.RDB{}.conv{}.0.{}".format(*found.groups())
        layer, kind = key.split(".")
        return f"model.{numbers[layer]}.{kind}"

    return {old(key): value for key, value in state.items()}


@pytest.mark.parametrize("ups", [0, 1, 2, 3])
def test_three_ways_to_name_the_same_network(ups: int) -> None:
    network = dense(ups)
    picture = torch.rand(2, 3, 12, 9)
    with torch.no_grad():
        expected = network(picture).clamp(0, 1)
    assert expected.shape == (2, 3, 12 * 2**ups, 9 * 2**ups)
    state = network.state_dict()
    for names in (state, first_names(state), numbered_names(state, ups), {"params_ema": state, "params": {}}):
        found = build_upscaler(names, "some.pth", CPU)
        assert found.scale == 2**ups
        assert torch.equal(found(picture), expected)


def test_a_folded_picture_of_odd_sides_keeps_its_size() -> None:
    network = dense(ups=2, unshuffle=2)
    found = build_upscaler(network.state_dict(), "x2plus.pth", CPU)
    assert found.scale == 2
    assert found(torch.rand(1, 3, 7, 11)).shape == (1, 3, 14, 22)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_compact_one(scale: int) -> None:
    torch.manual_seed(scale)
    network = CompactNetwork(8, 3, scale).eval()
    found = build_upscaler({"params": network.state_dict()}, "compact.pth", CPU)
    picture = torch.rand(1, 3, 10, 14)
    with torch.no_grad():
        assert torch.equal(found(picture), network(picture).clamp(0, 1))


def test_half_precision_weights_run_in_float32() -> None:
    network = dense()
    found = build_upscaler({key: value.half() for key, value in network.state_dict().items()}, "half", CPU)
    assert found(torch.rand(1, 3, 8, 8)).dtype == torch.float32


def test_tiles_show_no_seams() -> None:
    network = CompactNetwork(8, 2, 2).eval()  # sees 4 px around each
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 8), size=(60, 80), mode="bicubic").clamp(0, 1)
    upscaler = Upscaler(network, 2, CPU)
    whole, tiled = upscaler(picture, tile_size=1000), upscaler(picture, tile_size=32, overlap=12)
    difference = (whole - tiled).abs()
    assert difference.max() < 0.1 * whole.std()
    assert difference.median() == 0 or difference.median() < 1e-6


def test_no_upscaler(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointUnknown, match="unsupported architecture"):
        build_upscaler({"blocks.0.attention.weight": torch.zeros(3, 3)}, "odd.pth", CPU)
    state = dense().state_dict()
    del state["body.1.rdb2.conv3.weight"]
    with pytest.raises(CheckpointDamaged, match="incomplete or damaged upscaler"):
        build_upscaler(state, "short.pth", CPU)
    state = dense().state_dict()
    state["conv_first.weight"] = torch.zeros(8, 5, 3, 3)
    with pytest.raises(CheckpointDamaged, match="takes 5 channels"):
        build_upscaler(state, "odd.pth", CPU)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("names", [dict, first_names, lambda state: numbered_names(state, 2)])
def test_from_a_file_whatever_it_is_stored_as(tmp_path: Path, suffix: str, names: Callable[[State], State]) -> None:
    network = dense()
    path = tmp_path / f"4x{suffix}"
    state = names(network.state_dict())
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    record = read_checkpoint(path)
    assert record.role is Role.UPSCALER
    picture = torch.rand(1, 3, 12, 9)
    with torch.no_grad():
        assert torch.equal(load_upscaler(record, CPU)(picture), network(picture).clamp(0, 1))


def test_a_file_that_is_none_or_is_cut_short(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnknown, match="not an upscaler"):
        load_upscaler(read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors")), CPU)
    save_file(dense().state_dict(), tmp_path / "4x.safetensors")
    record = read_checkpoint(tmp_path / "4x.safetensors")
    (tmp_path / "4x.safetensors").write_bytes((tmp_path / "4x.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointDamaged):
        load_upscaler(record, CPU)


def test_enlarged_less_than_the_network_does_in_less_memory() -> None:
    network = dense()
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 8), size=(60, 80), mode="bicubic").clamp(0, 1)
    upscaler = Upscaler(network, 4, CPU)
    half = finish(upscaler.each_tile(picture, downscale=2, tile_size=40, overlap=16))
    assert half.shape == (1, 3, 120, 160)
    whole = torch.nn.functional.interpolate(upscaler(picture), scale_factor=0.5, mode="bicubic", antialias=True)
    assert (half - whole).abs().mean() < 0.01


def test_out_of_memory_with_the_smallest_tile_is_an_error() -> None:
    class Large(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise MemoryError

    with pytest.raises(OutOfMemory, match="could not be upscaled"):
        Upscaler(Large(), 2, CPU)(torch.rand(1, 3, 300, 300))


# ---- published weights -----------------------------------------------------------------------------------------------


def test_animevideov3_gives_what_its_makers_program_gives(tmp_path: Path) -> None:
    """Real-ESRGAN's weights in PyTorch's format, as BasicSR saves them, against ncnn's own run of the published file."""
    torch.save({"params": published.anime_video_weights()}, tmp_path / "realesr-animevideov3.pth")
    checkpoint = read_checkpoint(tmp_path / "realesr-animevideov3.pth")
    assert checkpoint.role is Role.UPSCALER and checkpoint.parameters == 621_424
    upscaler = load_upscaler(checkpoint, CPU)
    assert upscaler.scale == 4
    expected, image = published.anime_video_of_ncnn(), published.sample_image()
    with torch.no_grad():
        assert (upscaler.network(image) - expected).abs().max() < 0.01 / 255
    assert (finish(upscaler.each_tile(image)) - expected.clamp(0, 1)).abs().max() < 0.01 / 255


def test_an_upscaler_in_the_format_of_ncnn_is_named() -> None:
    with pytest.raises(CheckpointUnknown, match=r"it is an ncnn model, which is not supported.*as a safetensors file"):
        read_checkpoint(published.ANIME_VIDEO)


def test_swinir_is_unsupported_rather_than_damaged() -> None:
    """Its first layer has the name of ESRGAN's."""
    state = {
        "conv_first.weight": torch.zeros(8, 3, 3, 3),
        "layers.0.residual_group.blocks.0.norm1.weight": torch.ones(8),
    }
    with pytest.raises(CheckpointUnknown, match="unsupported architecture"):
        build_upscaler(state, "swinir.pth", CPU)
