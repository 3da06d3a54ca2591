"""OFT and BOFT as kohya and LyCORIS define them, by their published formulas; PEFT's own are held in test_settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffstudio.models.adapters.adapters import Adapters, AdapterUse
from diffstudio.models.adapters.rotations import InputButterfly, InputRotation
from tests.models.adapter_files import random, small_flux, write


def applied(module: nn.Module, tensors: dict[str, Tensor], folder: Path, weight: float = 1.0) -> Tensor:
    """The weight of `module` with an adapter of these tensors, which must fit and restore it to the bit."""
    before = module.get_parameter("weight").detach().clone()
    adapters = Adapters(nn.ModuleDict({"c": module}), {})
    file = write(folder / "a.safetensors", {f"lora_unet_c.{name}": value for name, value in tensors.items()})
    (report,) = adapters.use([AdapterUse(file, "a", weight)])
    assert (report.matched, report.layers, report.note) == (1, 1, "")
    changed = module.get_parameter("weight").detach().clone()
    adapters.detach()
    assert torch.equal(module.get_parameter("weight"), before)
    return changed


def module_of(kernel: int, ins: int = 6, outs: int = 16) -> Any:
    torch.manual_seed(2)
    return nn.Conv2d(ins, outs, kernel, bias=False) if kernel else nn.Linear(ins, outs)


def kohya_blocks(blocks: Tensor, constraint: float) -> Tensor:
    """networks/oft.py of sd-scripts, `get_weight` at a multiplier of 1: [n, b, b]."""
    q = blocks - blocks.transpose(1, 2)
    norm = torch.norm(q.flatten())
    if constraint:
        q = q * ((torch.clamp(norm, max=constraint) + 1e-8) / (norm + 1e-8))
    identity = torch.eye(blocks.shape[1])
    return (identity + q) @ torch.linalg.inv(identity - q)


def rotated(weight: Tensor, r: Tensor) -> Tensor:
    """`einsum("k n m, k n ... -> k m ...")` of sd-scripts and LyCORIS, written out."""
    size = r.shape[1]
    parts = [r[k].T @ weight[k * size : (k + 1) * size].flatten(1) for k in range(len(r))]
    return torch.cat(parts).view(weight.shape)


@pytest.mark.parametrize("kernel", [0, 1, 3], ids=["linear", "1x1", "3x3"])
@pytest.mark.parametrize("alpha", [None, 1e-2, 10.0], ids=["free", "limited", "far from its limit"])
def test_oft_of_kohya_and_lycoris_rotates_blocks_of_outputs(kernel: int, alpha: float | None, tmp_path: Path) -> None:
    module, blocks = module_of(kernel), random(4, 4, 4, seed=3)
    weight = module.weight.detach().clone()
    tensors = {"oft_blocks": blocks} | ({} if alpha is None else {"alpha": torch.tensor(alpha)})
    expected = rotated(weight, kohya_blocks(blocks, 16 * (alpha or 0.0)))
    torch.testing.assert_close(applied(module, tensors, tmp_path), expected, rtol=1e-5, atol=1e-6)
    half = applied(module, tensors, tmp_path, 0.7)  # block_R_weighted = multiplier * (block_R - I) + I
    torch.testing.assert_close(half, weight + 0.7 * (expected - weight), rtol=1e-5, atol=1e-6)
    assert (expected - weight).abs().max() > 1e-3
    rows = expected.flatten(1).unflatten(0, (4, 4))  # a rotation keeps the length of each block's columns
    torch.testing.assert_close(rows.norm(dim=1), weight.flatten(1).unflatten(0, (4, 4)).norm(dim=1))


def test_rescaled_oft_and_the_rotations_of_early_lycoris(tmp_path: Path) -> None:
    module, blocks, rescale = module_of(3), random(2, 8, 8, seed=3), 1 + random(16, 1, 1, 1, seed=4)
    weight, r = module.weight.detach().clone(), kohya_blocks(blocks, 0.0)
    with_rescale = applied(module, {"oft_blocks": blocks, "rescale": rescale, "alpha": torch.tensor(0.0)}, tmp_path)
    torch.testing.assert_close(with_rescale, rescale * rotated(weight, r), rtol=1e-5, atol=1e-6)
    stored = applied(module, {"oft_diag": r}, tmp_path)
    torch.testing.assert_close(stored, rotated(weight, r), rtol=1e-5, atol=1e-6)


def lycoris_boft(weight: Tensor, r: Tensor) -> Tensor:
    """`make_weight` of LyCORIS' boft.py at scale 1, one output row after another instead of by reshaping."""
    outs, size = len(weight), r.shape[2]
    for step in range(len(r)):
        stride = 2**step * (size // 2)
        order = []  # row of the weight at each position of the blocks
        for group in range(outs // (2 * stride)):
            for k in range(stride):
                order += [group * 2 * stride + k, group * 2 * stride + stride + k]
        turned = weight.clone()
        for block in range(outs // size):
            rows = order[block * size : (block + 1) * size]
            turned[rows] = torch.einsum("ij,j...->i...", r[step, block], weight[rows])
        weight = turned
    return weight


@pytest.mark.parametrize("kernel", [0, 3], ids=["linear", "3x3"])
def test_boft_of_lycoris_turns_pairs_further_and_further_apart(kernel: int, tmp_path: Path) -> None:
    module, blocks = module_of(kernel), random(3, 4, 4, 4, seed=3)
    weight = module.weight.detach().clone()
    q = blocks - blocks.transpose(-1, -2)
    identity = torch.eye(4)
    for alpha in (0.0, 0.01):
        limited = q * min(1.0, 16 * alpha / float(q.norm())) if alpha else q
        expected = lycoris_boft(weight, (identity + limited) @ torch.linalg.inv(identity - limited))
        tensors = {"oft_blocks": blocks, "alpha": torch.tensor(alpha)}
        torch.testing.assert_close(applied(module, tensors, tmp_path), expected, rtol=1e-5, atol=1e-5)
    rescale = 1 + random(16, *[1] * (weight.ndim - 1), seed=4)
    tensors = {"oft_blocks": blocks, "rescale": rescale}
    expected = rescale * lycoris_boft(weight, (identity + q) @ torch.linalg.inv(identity - q))
    torch.testing.assert_close(applied(module, tensors, tmp_path), expected, rtol=1e-5, atol=1e-5)


def test_boft_of_peft_with_butterfly_factors() -> None:
    """PEFT multiplies whole permutation matrices, and only with a CUDA extension; its functions make the reference."""
    from peft.tuners.boft.layer import BOFTLayer

    layer: Any = BOFTLayer.__new__(BOFTLayer)
    weight, blocks, scale = random(5, 16, seed=1), random(3, 4, 4, 4, seed=2), 1 + random(5, 1, seed=3)
    total = torch.eye(16)
    for step in range(3):
        order = layer.block_butterfly_perm(16, 4 >> step, 2, 2)
        p = layer.perm2mat(order)
        total = p @ torch.block_diag(*layer.cayley_batch(blocks[step])) @ p.T @ total
    expected = (total @ weight.T).T * scale
    delta = InputButterfly(blocks, scale)
    assert delta.fits(5, 16, ((0, 5),)) and not delta.fits(5, 20, ((0, 5),)) and not delta.fits(6, 16, ((0, 6),))
    torch.testing.assert_close(weight + delta.difference(weight, None), expected, rtol=1e-5, atol=1e-6)


def test_oft_of_peft_before_0_18_has_the_whole_last_term() -> None:
    """2 Q^4 in `OFTRotationModule._cayley_batch` of PEFT 0.17, Q^4 in later ones."""
    skew, weight = random(2, 6, seed=1), random(3, 8, seed=2)
    q = torch.zeros(2, 4, 4)
    q[:, *torch.triu_indices(4, 4, 1)] = skew
    q = q - q.transpose(1, 2)
    series = torch.eye(4) + 2 * q + 2 * q @ q + 2 * q @ q @ q
    for halved, last in ((False, 2), (True, 1)):
        r = torch.block_diag(*(series + last * q @ q @ q @ q))
        delta = InputRotation(skew, 5, halved)
        torch.testing.assert_close(weight + delta.difference(weight, None), weight @ r.T, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_oft_of_a_fused_matrix_in_one_tensor_or_in_parts(tmp_path: Path) -> None:
    """sd-scripts' `oft_flux` has one tensor for each of q, k and v; LyCORIS one for the fused matrix."""
    flux, names = small_flux(), [f"transformer_blocks.0.attn.to_{one}" for one in "qkv"]
    fused = torch.cat([flux.get_submodule(name).weight.detach() for name in names])
    whole, parts = random(12, 4, 4, seed=1), [random(2, 8, 8, seed=number) for number in range(3)]
    alpha = 1e-2
    cases = {
        "lora_unet_double_blocks_0_img_attn_qkv": (
            {"oft_blocks": whole, "alpha": torch.tensor(alpha)},
            rotated(fused, kohya_blocks(whole, 48 * alpha)),
        ),
        "oft_unet_double_blocks_0_img_attn_qkv": (
            {f"oft_blocks.{number}": part for number, part in enumerate(parts)} | {"alpha": torch.tensor(alpha)},
            torch.cat([
                rotated(fused[16 * number : 16 * number + 16], kohya_blocks(part, 16 * alpha))
                for number, part in enumerate(parts)
            ]),
        ),
    }  # fmt: skip
    for layer, (tensors, expected) in cases.items():
        file = write(tmp_path / "a.safetensors", {f"{layer}.{name}": value for name, value in tensors.items()})
        adapters = Adapters(flux, {})
        (report,) = adapters.use([AdapterUse(file, "a")])
        assert (report.matched, report.note) == (1, "")
        got = torch.cat([flux.get_submodule(name).weight.detach() for name in names])
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
        adapters.detach()
    crossing = write(
        tmp_path / "b.safetensors", {"lora_unet_double_blocks_0_img_attn_qkv.oft_blocks": random(2, 24, 24)}
    )
    (report,) = Adapters(flux, {}).use([AdapterUse(crossing, "b")])
    assert report.matched == 0 and "has no effect" in report.note


@pytest.mark.parametrize(
    "tensors",
    [
        {"oft_blocks": random(4, 4, 5)},
        {"oft_blocks": random(3, 4, 4)},
        {"oft_blocks": random(2, 3, 4, 4)},
        {"oft_blocks": random(5, 4, 4, 4)},
        {"oft_blocks": random(1, 4, 4, 3)},
        {"oft_blocks": random(4, 4, 4), "rescale": random(3)},
        {"oft_R.weight": random(2, 5)},
        {"oft_R.weight": random(5, 1)},
        {"oft_R.weight": random(6)},
        {"boft_R": random(1, 3, 4, 4)},
        {"boft_R": random(3, 3, 2, 2)},
        {"boft_R": random(3, 2, 2)},
    ],
)
def test_rotations_of_other_shapes_are_left_out(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", {f"lora_unet_c.{name}": value for name, value in tensors.items()})
    module = module_of(0)
    before = module.weight.detach().clone()
    (report,) = Adapters(nn.ModuleDict({"c": module}), {}).use([AdapterUse(file, "a")])
    assert report.matched == 0 and "its layer has another shape" in report.note
    assert torch.equal(module.weight, before)


def test_rotations_that_change_nothing_are_zeros(tmp_path: Path) -> None:
    module = module_of(0)
    for tensors in ({"oft_blocks": torch.zeros(4, 4, 4)}, {"oft_R.weight": torch.zeros(2, 3)},
                    {"boft_R": torch.zeros(1, 2, 3, 3), "boft_s": torch.ones(16, 1)},
                    {"oft_blocks": torch.zeros(2, 4, 4, 4)}):  # fmt: skip
        file = write(tmp_path / "a.safetensors", {f"lora_unet_c.{name}": value for name, value in tensors.items()})
        (report,) = Adapters(nn.ModuleDict({"c": module}), {}).use([AdapterUse(file, "a")])
        assert "all zeros" in report.note
