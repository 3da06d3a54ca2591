"""Rows of tensors: of fp8 with its scales, of GGUF's blocks, packed where they can be and dequantized where not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.files.quantized import QuantizedTensor
from diffstudio.models.files.quantized_reader import FileWeights, GgufWeights, combine_rows, open_rows
from tests.models.hostile import gguf_file, gguf_tensor

Kind = gguf.GGMLQuantizationType
FP8 = torch.float8_e4m3fn


def numbers(*shape: int) -> Tensor:
    """Such as fp8 has exactly."""
    return torch.arange(torch.Size(shape).numel()).remainder(15).sub(7).reshape(shape).float()


def safetensors_rows(folder: Path, tensors: Mapping[str, Tensor]) -> FileWeights:
    safetensors.torch.save_file(dict(tensors), folder / "a.safetensors")
    rows = open_rows(folder / "a.safetensors")
    assert isinstance(rows, FileWeights)
    return rows


def gguf_rows(folder: Path, tensors: Mapping[str, tuple[np.ndarray[Any, Any], Kind]]) -> GgufWeights:
    """The arrays are of bytes, already packed, unless they are F32, F16 or F64."""
    writer = gguf.GGUFWriter(folder / "a.gguf", "flux")
    for name, (value, kind) in tensors.items():
        writer.add_tensor(name, value, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    rows = open_rows(folder / "a.gguf")
    assert isinstance(rows, GgufWeights)
    return rows


def same(found: object, expected: Tensor) -> bool:
    return isinstance(found, Tensor) and found.dtype == expected.dtype and torch.equal(found, expected)


# ---- safetensors -----------------------------------------------------------------------------------------------------


def test_plain_tensors_by_rows(tmp_path: Path) -> None:
    rows = safetensors_rows(tmp_path, {"m.weight": numbers(6, 4), "v": numbers(5).half(), "s": torch.tensor(2)})
    assert rows.shapes == {"m.weight": (6, 4), "v": (5,), "s": ()}
    assert same(rows.rows("m.weight", 0, 6), numbers(6, 4)) and same(rows.rows("m.weight", 2, 3), numbers(6, 4)[2:3])
    assert same(rows.rows("m.weight", 1, 6), numbers(6, 4)[1:]) and same(rows.rows("v", 0, 2), numbers(5).half()[:2])
    assert same(rows.rows("s", 0, 0), torch.tensor(2))


@pytest.mark.parametrize("suffix", ["scale_weight", "weight_scale"])
def test_fp8_with_one_scale(tmp_path: Path, suffix: str) -> None:
    tensors = {"m.weight": numbers(6, 4).to(FP8), f"m.{suffix}": torch.tensor([2.0]).bfloat16()}
    rows = safetensors_rows(tmp_path, tensors | {"plain.weight": numbers(2, 2).to(FP8)})
    assert rows.shapes == {"m.weight": (6, 4), "plain.weight": (2, 2)}
    found = rows.rows("m.weight", 2, 5)
    assert isinstance(found, QuantizedTensor) and found.kind is FP8 and found.stored.dtype is torch.uint8
    assert found.scale is not None and found.scale.shape == () and found.scale.dtype is torch.float32
    assert torch.equal(found.dense(torch.float32), 2 * numbers(6, 4)[2:5])
    plain = rows.rows("plain.weight", 0, 2)
    assert isinstance(plain, QuantizedTensor) and plain.scale is None
    assert torch.equal(plain.dense(torch.float32), numbers(2, 2))


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_fp8_with_a_scale_per_row(tmp_path: Path, shape: tuple[int, ...]) -> None:
    scale = torch.arange(1.0, 7.0)
    tensors = {"m.weight": numbers(6, 4).to(FP8), "m.scale_weight": scale.reshape(shape)}
    found = safetensors_rows(tmp_path, tensors).rows("m.weight", 2, 5)
    assert isinstance(found, QuantizedTensor) and found.scale is not None and found.scale.shape == (3, 1)
    assert torch.equal(found.dense(torch.float32), (numbers(6, 4) * scale[:, None])[2:5])


def test_fp8_that_is_not_a_matrix_is_dequantized(tmp_path: Path) -> None:
    scale = torch.arange(1.0, 4.0)
    tensors = {
        "conv.weight": numbers(3, 2, 2, 2).to(FP8),
        "conv.scale_weight": scale,
        "norm.weight": numbers(3).to(FP8),
        "norm.scale_weight": torch.tensor(0.5),
        "bias": numbers(3).to(FP8),
    }
    rows = safetensors_rows(tmp_path, tensors)
    assert same(rows.rows("conv.weight", 1, 3), (numbers(3, 2, 2, 2) * scale[:, None, None, None])[1:])
    assert same(rows.rows("norm.weight", 0, 3), numbers(3) / 2)
    bias = rows.rows("bias", 0, 3)
    assert isinstance(bias, Tensor) and bias.dtype is FP8 and torch.equal(bias.float(), numbers(3))


def test_scaled_weights_of_another_dtype_are_multiplied(tmp_path: Path) -> None:
    tensors = {"m.weight": numbers(6, 4).half(), "m.scale_weight": torch.tensor(3.0)}
    assert same(safetensors_rows(tmp_path, tensors).rows("m.weight", 0, 2), 3 * numbers(6, 4)[:2])


def quantized_as(folder: Path, description: bytes) -> FileWeights:
    tensors = {"m.weight": numbers(2, 2).to(FP8), "m.comfy_quant": torch.tensor(list(description), dtype=torch.uint8)}
    return safetensors_rows(folder, tensors)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_descriptions_of_plain_fp8(tmp_path: Path, name: str) -> None:
    rows = quantized_as(tmp_path, json.dumps({"format": name}).encode())
    assert rows.shapes == {"m.weight": (2, 2)} and isinstance(rows.rows("m.weight", 0, 2), QuantizedTensor)


@pytest.mark.parametrize("quantization", ["nvfp4", "n" * 100, None, ["float8_e4m3fn"]])
def test_descriptions_of_other_quantizations(tmp_path: Path, quantization: Any) -> None:
    rows = quantized_as(tmp_path, json.dumps({"format": quantization}).encode())
    with pytest.raises(CheckpointUnknown) as raised:
        rows.rows("m.weight", 0, 2)
    assert str(raised.value) == (
        f"a.safetensors has an unsupported quantization: its weights are quantized as {str(quantization)[:40]}. "
        "Download it in fp16, bf16 or fp8."
    )


@pytest.mark.parametrize("description", [b"", b"{", b"{}", b"[]", b"3", b"\xff\xfe\0", b"[" * 100_000])
def test_descriptions_that_are_none(tmp_path: Path, description: bytes) -> None:
    rows = quantized_as(tmp_path, description)
    with pytest.raises(
        CheckpointDamaged, match="a.safetensors cannot be read: it has no valid quantization format for m"
    ):
        rows.rows("m.weight", 0, 2)


# ---- GGUF ------------------------------------------------------------------------------------------------------------


def test_floats_of_a_gguf_file(tmp_path: Path) -> None:
    values = numbers(6, 4).numpy()
    bits = numbers(6, 4).bfloat16().view(torch.uint8).numpy()
    rows = gguf_rows(
        tmp_path,
        {
            "f32": (values, Kind.F32),
            "f16": (values.astype(np.float16), Kind.F16),
            "f64": (values.astype(np.float64), Kind.F64),
            "bf16": (bits, Kind.BF16),
            "kernel": (values.reshape(6, 2, 2), Kind.F32),
            "bf16 kernel": (bits.reshape(6, 2, 4), Kind.BF16),
            "vector": (values[0], Kind.F32),
        },
    )
    assert rows.shapes["f32"] == (6, 4) and rows.shapes["bf16 kernel"] == (6, 2, 2) and rows.shapes["vector"] == (4,)
    for name, dtype in (
        ("f32", torch.float32),
        ("f16", torch.float16),
        ("f64", torch.float64),
        ("bf16", torch.bfloat16),
    ):
        assert same(rows.rows(name, 1, 4), numbers(6, 4).to(dtype)[1:4])
    assert same(rows.rows("kernel", 4, 6), numbers(6, 2, 2)[4:])
    assert same(rows.rows("bf16 kernel", 0, 1), numbers(6, 2, 2).bfloat16()[:1])
    assert same(rows.rows("vector", 1, 3), numbers(4)[1:3])


def test_rows_are_copies(tmp_path: Path) -> None:
    rows = gguf_rows(tmp_path, {"a": (numbers(2, 2).numpy(), Kind.F32)})
    found = rows.rows("a", 0, 2)
    assert isinstance(found, Tensor)
    found.zero_()
    assert same(rows.rows("a", 0, 2), numbers(2, 2))


def test_blocks_stay_packed_by_rows_and_only_there(tmp_path: Path) -> None:
    values = torch.randn(6, 64, generator=torch.Generator().manual_seed(1)).numpy()
    blocks = gguf.quants.quantize(values, Kind.Q8_0)
    expected = torch.tensor(gguf.quants.dequantize(blocks, Kind.Q8_0))
    rows = gguf_rows(tmp_path, {"m": (blocks, Kind.Q8_0), "cube": (blocks.reshape(3, 2, -1), Kind.Q8_0)})
    packed = rows.rows("m", 2, 5)
    assert isinstance(packed, QuantizedTensor) and (packed.kind, packed.rows) == (int(Kind.Q8_0), 3)
    assert torch.equal(packed.dense(torch.float32), expected[2:5])
    assert same(rows.rows("cube", 1, 3), expected.reshape(3, 2, 64)[1:])


def test_blocks_that_only_the_package_gguf_dequantizes(tmp_path: Path) -> None:
    values = torch.randn(4, 256, generator=torch.Generator().manual_seed(1)).numpy()
    blocks = gguf.quants.quantize(values, Kind.TQ2_0)
    rows = gguf_rows(tmp_path, {"m": (blocks, Kind.TQ2_0)})
    assert same(rows.rows("m", 1, 3), torch.tensor(gguf.quants.dequantize(blocks, Kind.TQ2_0))[1:3])


def test_blocks_that_nothing_dequantizes(tmp_path: Path) -> None:
    rows = gguf_rows(tmp_path, {"m": (np.zeros((2, 4), np.int8), Kind.I8)})
    with pytest.raises(CheckpointUnknown) as raised:
        rows.rows("m", 0, 2)
    assert str(raised.value) == (
        "a.gguf has an unsupported quantization: m is quantized as I8. Download it in another quantization, Q8_0 or Q4_K."
    )


def test_a_scalar_of_a_gguf_file(tmp_path: Path) -> None:
    data = gguf_file(1, 0, gguf_tensor(b"s", ()))
    data += bytes(-len(data) % 32) + np.float32(2.5).tobytes()
    (tmp_path / "a.gguf").write_bytes(data)
    rows = open_rows(tmp_path / "a.gguf")
    assert rows.shapes == {"s": ()} and same(rows.rows("s", 0, 0), torch.tensor(2.5))


def test_helper_tensors_of_a_gguf_file_are_left_out(tmp_path: Path) -> None:
    one = numbers(2, 2).numpy()
    rows = gguf_rows(tmp_path, {"a": (one, Kind.F32), "a.comfy_quant": (one, Kind.F32)})
    assert rows.shapes == {"a": (2, 2)}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gguf_file(1, 0, gguf_tensor(sides=(1000,)), bytes(103)), "cannot reshape array"),
        (gguf_file(1, 0, gguf_tensor(sides=(1000,)), bytes(102)), "of the last axis of the array. Download it again"),
        (gguf_file(1, 0, gguf_tensor(kind=99), bytes(100)), r"99\)? is not a valid GGMLQuantizationType"),
        (gguf_file(1, 0, gguf_tensor(b"\xff"), bytes(100)), "codec can't decode"),
    ],
)
def test_what_the_package_gguf_refuses(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "a.gguf").write_bytes(data)
    with pytest.raises(CheckpointDamaged, match=f"a.gguf cannot be read: .*{why}"):
        open_rows(tmp_path / "a.gguf")


# ---- combining -------------------------------------------------------------------------------------------------------


def packed(value: Tensor, scale: Tensor | None = None, kind: torch.dtype = FP8) -> QuantizedTensor:
    return QuantizedTensor(value.to(kind).view(torch.uint8), kind, scale)


def test_packed_rows_stay_packed_together() -> None:
    pieces: list[Tensor | QuantizedTensor] = [packed(numbers(2, 4)), packed(numbers(3, 4))]
    found = combine_rows(pieces, torch.float32, packed=True)
    expected = torch.cat((numbers(2, 4), numbers(3, 4)))
    assert isinstance(found, QuantizedTensor) and torch.equal(found.dense(torch.float32), expected)
    assert same(combine_rows(pieces, torch.float16, packed=False), expected.half())
    scaled: list[Tensor | QuantizedTensor] = [packed(numbers(2, 4), torch.tensor(2.0)) for _ in range(2)]
    found = combine_rows(scaled, torch.float32, packed=True)
    assert isinstance(found, QuantizedTensor)
    assert torch.equal(found.dense(torch.float32), 2 * torch.cat((numbers(2, 4),) * 2))


@pytest.mark.parametrize(
    "other",
    [numbers(2, 4), packed(numbers(2, 4), torch.tensor(1.0)), packed(numbers(2, 4), kind=torch.float8_e5m2)],
    ids=["plain", "scaled", "another type"],
)
def test_what_differs_is_dequantized_together(other: Tensor | QuantizedTensor) -> None:
    for pieces in ([packed(numbers(2, 4)), other], [other, packed(numbers(2, 4))]):
        assert same(combine_rows(pieces, torch.float16, packed=True), torch.cat((numbers(2, 4),) * 2).half())


def test_one_piece_and_integers() -> None:
    assert same(combine_rows([numbers(2, 4)], torch.bfloat16, packed=True), numbers(2, 4).bfloat16())
    assert same(combine_rows([torch.arange(3)], torch.bfloat16, packed=True), torch.arange(3))
    only = packed(numbers(2, 4))
    assert combine_rows([only], torch.float16, packed=True) is only
    assert same(combine_rows([only], torch.float16, packed=False), numbers(2, 4).half())
