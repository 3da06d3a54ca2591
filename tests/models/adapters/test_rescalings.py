"""IA3 and GLoRA as LyCORIS defines them; whole weights; and all of them on packed weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffstudio.models.adapters.adapters import Adapters, AdapterUse
from diffstudio.models.files.quantized import QuantizedLinear, QuantizedTensor
from tests.models.adapter_files import random, write
from tests.models.adapters.test_rotations import applied, module_of


@pytest.mark.parametrize("kernel", [0, 3], ids=["linear", "3x3"])
def test_ia3_of_lycoris_scales_inputs_or_outputs(kernel: int, tmp_path: Path) -> None:
    """`weight * multiplier + 1` times the layer's weight: ia3.py, `make_weight`."""
    module = module_of(kernel)
    weight, ones = module.weight.detach().clone(), [1] * (2 if kernel else 0)
    ins, outs = random(6, seed=1), random(16, seed=2)
    for values, on_input, axis in ((ins, 1, [1, 6, *ones]), (outs, 0, [16, 1, *ones])):
        stored = values.view(1, -1, 1, 1) if kernel else values
        tensors = {"weight": stored, "on_input": torch.tensor(on_input)}
        for factor in (1.0, 0.7):
            expected = weight * (1 + factor * values.view(axis))
            torch.testing.assert_close(applied(module, tensors, tmp_path, factor), expected)


@pytest.mark.parametrize("kernel", [0, 1, 3], ids=["linear", "1x1", "3x3"])
def test_glora_adds_what_the_weight_and_two_small_matrices_make(kernel: int, tmp_path: Path) -> None:
    """f(x) = W x + W A x + B x: glora.py of LyCORIS, tried on an input instead of on the weight."""
    module, r, alpha = module_of(kernel), 3, 2.0
    tail = [1, 1] if kernel else []
    a1, a2 = random(6, r, *tail, seed=1), random(r, 6, *tail, seed=2)
    b1, b2 = random(16, r, *tail, seed=3), random(r, 6, *([kernel, kernel] if kernel else []), seed=4)
    tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2, "alpha": torch.tensor(alpha)}
    x = random(2, 6, 5, 5, seed=5) if kernel else random(2, 6, seed=5)
    call = nn.functional.conv2d if kernel else nn.functional.linear
    weight = module.weight.detach().clone()
    a = call(call(x, a2), a1)  # the matrix a1 a2 stands to the right of W: W (a1 a2) x
    scale = alpha / r
    expected = call(x, weight) + scale * (call(a, weight) + call(call(x, b2), b1))
    for factor in (1.0, 0.7):
        got = call(x, applied(module, tensors, tmp_path, factor))
        torch.testing.assert_close(got, call(x, weight) + factor * (expected - call(x, weight)), rtol=1e-4, atol=1e-5)


def test_glora_of_early_lycoris_has_the_matrices_the_other_way_round(tmp_path: Path) -> None:
    """`(wb2 @ wb1) + ((orig @ wa2) @ wa1)`: LyCORIS before 1.9, and AUTOMATIC1111."""
    module = module_of(0)
    weight = module.weight.detach().clone()
    a1, a2, b1, b2 = random(3, 6, seed=1), random(6, 3, seed=2), random(3, 6, seed=3), random(16, 3, seed=4)
    tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2}
    torch.testing.assert_close(applied(module, tensors, tmp_path), weight + b2 @ b1 + weight @ a2 @ a1)


def test_glora_with_a_core(tmp_path: Path) -> None:
    module = module_of(3)
    weight = module.weight.detach().clone()
    a1, a2, b1, b2 = random(6, 2), torch.zeros(2, 6), random(16, 2, 1, 1, seed=3), random(2, 6, 1, 1, seed=4)
    core, x = random(2, 2, 3, 3, seed=5), random(1, 6, 5, 5, seed=6)
    tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2, "bm.weight": core}
    conv = nn.functional.conv2d
    got = conv(x, applied(module, tensors, tmp_path))
    torch.testing.assert_close(got, conv(x, weight) + conv(conv(conv(x, b2), core), b1), rtol=1e-4, atol=1e-5)


def test_dora_of_lycoris_on_other_kinds_by_output_and_by_input(tmp_path: Path) -> None:
    """`apply_weight_decompose` of LyCORIS with and without `wd_on_output`: any kind, any kernel."""
    module = module_of(3)
    weight = module.weight.detach().clone()
    factors = [random(16, 2, seed=1), random(2, 54, seed=2), random(16, 2, seed=3), random(2, 54, seed=4)]
    moved = weight + ((factors[0] @ factors[1]) * (factors[2] @ factors[3])).view(weight.shape)
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    for lengths, norm in (
        (1 + random(16, 1, 1, 1, seed=5), moved.flatten(1).norm(dim=1).view(16, 1, 1, 1)),
        (1 + random(1, 6, 1, 1, seed=6), moved.transpose(0, 1).flatten(1).norm(dim=1).view(1, 6, 1, 1)),
    ):
        tensors = dict(zip(names, factors, strict=True)) | {"dora_scale": lengths}
        torch.testing.assert_close(applied(module, tensors, tmp_path), moved * lengths / norm, rtol=1e-5, atol=1e-6)


def test_the_scalar_of_early_lycoris_and_an_alpha_of_zero(tmp_path: Path) -> None:
    """An alpha of 0 stands for the rank in sd-scripts and LyCORIS, so the scale is 1."""
    module, down, up = module_of(0), random(4, 6, seed=1), random(16, 4, seed=2)
    weight = module.weight.detach().clone()
    tensors = {"lora_down.weight": down, "lora_up.weight": up}
    zero = applied(module, tensors | {"alpha": torch.tensor(0.0)}, tmp_path)
    torch.testing.assert_close(zero, weight + up @ down)
    scaled = applied(module, tensors | {"alpha": torch.tensor(2.0), "scalar": torch.tensor(3.0)}, tmp_path)
    torch.testing.assert_close(scaled, weight + 0.5 * 3 * up @ down)


# Packed weights


def float8(seed: int = 0) -> tuple[nn.Linear, Tensor]:
    """A packed layer, and the matrix that it holds."""
    stored = random(16, 6, seed=seed, scale=1.0).to(torch.float8_e4m3fn)
    packed = QuantizedTensor(stored.view(torch.uint8), torch.float8_e4m3fn, torch.tensor(0.5))
    return QuantizedLinear(packed, random(16, seed=9), torch.float32), 0.5 * stored.float()


@pytest.mark.parametrize(
    "tensors",
    [
        {"oft_blocks": random(4, 4, 4, seed=3)},
        {"weight": random(6, seed=1), "on_input": torch.tensor(1)},
        {
            "lora_down.weight": random(2, 6, seed=1),
            "lora_up.weight": random(16, 2, seed=2),
            "dora_scale": 1 + random(16, 1),
        },
        {"diff_b": random(16, seed=4)},
    ],
    ids=["OFT", "IA3", "DoRA", "biases"],
)
def test_packed_weights_are_changed_as_unpacked_ones_are(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    packed, dense = float8()
    plain, x = nn.Linear(6, 16), random(3, 6, seed=8)
    plain.weight.data, plain.bias.data = dense, random(16, seed=9)
    before = packed(x)
    file = write(tmp_path / "a.safetensors", {f"lora_unet_c.{name}": value for name, value in tensors.items()})
    both = [Adapters(nn.ModuleDict({"c": module}), {}) for module in (packed, plain)]
    for adapters in both:
        (report,) = adapters.use([AdapterUse(file, "a", 0.6)])
        assert (report.matched, report.note) == (1, "")
    torch.testing.assert_close(packed(x), plain(x), rtol=1e-5, atol=1e-5)
    assert (packed(x) - before).abs().max() > 1e-2
    both[0].detach()
    assert torch.equal(packed(x), before)
