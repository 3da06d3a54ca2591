"""Weights in GGUF's blocks and in eighths: unpacked as their makers do, packed or not the same picture to the bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.files.quantized import QuantizedLinear, QuantizedTensor, can_dequantize, concatenate
from diffstudio.models.files.quantized_reader import open_rows
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.state_dicts.to_original import to_original
from tests.models import original_names, small
from tests.models.components.test_single_file import SmallWords
from tests.stories.test_flow_models_in_one_file import Made, pieces, saved

Kind = gguf.GGMLQuantizationType
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made("flux dev", tmp_path_factory.mktemp("flux") / "folder")


def fits(value: Tensor, kind: Kind) -> bool:
    return value.ndim == 2 and value.shape[1] % gguf.GGML_QUANT_SIZES[kind][0] == 0


def write_gguf(path: Path, tensors: State, kind: Kind, architecture: str = "flux") -> State:
    """The matrices in that kind, all else in F32, as city96's converter has it; what they come to when they are
    unpacked.
    """
    writer, come_to = gguf.GGUFWriter(path, architecture), State()
    for name, value in tensors.items():
        numbers = value.float().contiguous().numpy()
        if fits(value, kind):
            blocks = gguf.quants.quantize(numbers, kind)
            writer.add_tensor(name, blocks, raw_dtype=kind)
            come_to[name] = torch.tensor(gguf.quants.dequantize(blocks, kind))
        else:
            writer.add_tensor(name, numbers)
            come_to[name] = value.float()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return come_to


def packed_layers(model: Any) -> list[QuantizedLinear]:
    return [layer for part in model.modules.values() for layer in part.modules() if isinstance(layer, QuantizedLinear)]


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q5_1, Kind.Q4_0])
def test_gguf_draws_what_its_unpacked_weights_draw(flux: Made, tmp_path: Path, kind: Kind) -> None:
    models = tmp_path / "models"
    models.mkdir()
    pieces(models, flux)
    (models / "unet").mkdir()
    tensors = original_names.flux(flux.parts["transformer"])
    come_to = write_gguf(models / "unet" / "flux.gguf", tensors, kind)
    record = read_checkpoint(models / "unet" / "flux.gguf")
    assert (record.family, record.edition, record.layout, record.can_generate) == ("flux", "dev", Layout.GGUF, True)
    library = Library([models])
    reference = flux.drawn(flux.load(saved(tmp_path / "unpacked.safetensors", come_to), library))
    at_once = flux.load(models / "unet" / "flux.gguf", library)
    as_stored = flux.load(models / "unet" / "flux.gguf", library, dense_bytes=0)
    assert torch.equal(flux.drawn(at_once), reference) and torch.equal(flux.drawn(as_stored), reference)
    assert not packed_layers(at_once) and bool(packed_layers(as_stored)) is (kind not in (Kind.F16, Kind.BF16))


@pytest.mark.parametrize(
    "kind", [kind for kind in Kind if kind not in (Kind.F32, Kind.F16, Kind.F64) and can_dequantize(int(kind))]
)
def test_blocks_are_unpacked_as_ggml_does(kind: Kind) -> None:
    """Random bytes with scales that are numbers, against the reference of the package `gguf`."""
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(3).integers(0, 256, (6, 4 * size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = torch.tensor(gguf.quants.dequantize(blocks, kind))
    sound = expected.isfinite() & (expected.abs() < 1e6)
    packed = QuantizedTensor(torch.tensor(blocks), int(kind))
    assert (packed.rows, packed.columns) == (6, 4 * numbers) == tuple(expected.shape)
    found = packed.dense(torch.float32)
    assert bool(sound.any())
    torch.testing.assert_close(found[sound], expected[sound], rtol=1e-6, atol=0)
    slice_rows = concatenate([packed.slice_rows(4, 6), packed.slice_rows(0, 1)]).dense(torch.float32)
    assert torch.equal(slice_rows.nan_to_num(), torch.cat((found[4:6], found[:1])).nan_to_num())


def eighths(tensors: State, *, scaled: str = "") -> State:
    """As ComfyUI stores them: all of it cast, or the matrices with a scale beside each."""
    found: State = {}
    for name, value in tensors.items():
        if not scaled:
            found[name] = value.to(torch.float8_e4m3fn)
        elif value.ndim == 2:
            scale = value.abs().max() / 448
            found |= {name: (value / scale).to(torch.float8_e4m3fn), name.replace(".weight", scaled): scale}
        else:
            found[name] = value
    return found | ({"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)} if scaled == ".scale_weight" else {})


@pytest.mark.parametrize("scaled", ["", ".scale_weight", ".weight_scale"])
def test_eighths(flux: Made, tmp_path: Path, scaled: str) -> None:
    models = tmp_path / "models"
    models.mkdir()
    pieces(models, flux)
    path = saved(
        models / "diffusion_models" / "fp8.safetensors",
        eighths(original_names.flux(flux.parts["transformer"]), scaled=scaled),
    )
    library = Library([models])
    at_once, as_stored = flux.load(path, library), flux.load(path, library, dense_bytes=0)
    reference = flux.drawn(at_once)
    assert torch.equal(flux.drawn(as_stored), reference)
    assert 0 < ((reference - flux.image).norm() / flux.image.norm()).item() < 0.3
    layers = packed_layers(as_stored)
    assert layers and all(
        layer.weight.dtype is torch.uint8 and layer.weight.nbytes == layer.out_features * layer.in_features
        for layer in layers
    )
    as_stored.network.to(torch.bfloat16)  # whatever casts the module leaves the bytes alone
    assert all(layer.weight.dtype is torch.uint8 for layer in layers)


def test_a_lora_counts_beside_packed_weights(flux: Made, tmp_path: Path) -> None:
    from diffstudio.models.adapters.adapters import AdapterUse

    models = tmp_path / "models"
    models.mkdir()
    pieces(models, flux)
    path = saved(
        models / "diffusion_models" / "fp8.safetensors", eighths(original_names.flux(flux.parts["transformer"]))
    )
    model = flux.load(path, Library([models]), dense_bytes=0)
    plain = flux.drawn(model)
    layer = "transformer.transformer_blocks.0.attn.to_q"
    changes = {f"{layer}.lora_A.weight": torch.randn(4, 32), f"{layer}.lora_B.weight": torch.randn(32, 4)}
    lora = saved(tmp_path / "lora.safetensors", changes)
    model.adapters.use([AdapterUse(lora, "lora")])
    assert not torch.equal(flux.drawn(model), plain)
    model.adapters.detach()
    assert torch.equal(flux.drawn(model), plain)


def test_what_cannot_be_unpacked_is_said(flux: Made, tmp_path: Path) -> None:
    tensors = eighths({"a.weight": torch.randn(8, 8)}, scaled=".weight_scale")
    way = torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)
    weights = open_rows(saved(tmp_path / "odd.safetensors", tensors | {"a.comfy_quant": way}))
    with pytest.raises(CheckpointUnknown, match="quantized as nvfp4.*fp16, bf16 or fp8"):
        weights.rows("a.weight", 0, 8)
    way = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
    weights = open_rows(saved(tmp_path / "plain.safetensors", tensors | {"a.comfy_quant": way}))
    assert isinstance(weights.rows("a.weight", 2, 4), QuantizedTensor) and set(weights.shapes) == {"a.weight"}
    (tmp_path / "short.gguf").write_bytes(b"GGUF\x03\0\0\0")
    with pytest.raises(CheckpointDamaged, match="short.gguf"):
        open_rows(tmp_path / "short.gguf")
    writer = gguf.GGUFWriter(tmp_path / "reader.gguf", "t5encoder")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert read_checkpoint(tmp_path / "reader.gguf").role is Role.TEXT_ENCODER
    with pytest.raises(CheckpointUnknown, match="language models in GGUF files"):
        open_rows(tmp_path / "reader.gguf")


def test_a_convolution_stored_as_rows_has_its_own_shape_again(tmp_path: Path) -> None:
    """As city96's converter packs U-Nets: kernels laid flat, their shape said beside them."""
    kernel = torch.randn(4, 32, 3, 3)
    writer = gguf.GGUFWriter(tmp_path / "unet.gguf", "sd1")
    flat = kernel.reshape(-1, 32 * 9).numpy()
    writer.add_array("comfy.gguf.orig_shape.conv.weight", list(kernel.shape))
    writer.add_tensor("conv.weight", gguf.quants.quantize(flat, Kind.Q8_0), raw_dtype=Kind.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    weights = open_rows(tmp_path / "unet.gguf")
    found = weights.rows("conv.weight", 0, 4)
    assert weights.shapes["conv.weight"] == (4, 32, 3, 3) and isinstance(found, Tensor)
    assert found.shape == kernel.shape and (found - kernel).abs().max() < 0.02


def test_a_packed_layer_is_a_linear_layer() -> None:
    linear = nn.Linear(16, 8)
    packed = QuantizedTensor(
        linear.weight.data.to(torch.float8_e4m3fn).view(torch.uint8), torch.float8_e4m3fn, torch.tensor(2.0)
    )
    layer = QuantizedLinear(packed, linear.bias.data, torch.float32)
    x = torch.randn(3, 16)
    expected = nn.functional.linear(x, linear.weight.to(torch.float8_e4m3fn).float() * 2, linear.bias)
    assert torch.equal(layer(x), expected) and (layer.in_features, layer.out_features) == (16, 8)
    half = layer(x.bfloat16()) if layer.to(torch.bfloat16) else None
    assert half is not None and half.dtype is torch.bfloat16


def test_rows_of_packed_tensors() -> None:
    values = torch.arange(24.0).sub(8).reshape(6, 4)  # fp8 has them exactly
    stored = values.to(torch.float8_e4m3fn).view(torch.uint8)
    scales = torch.arange(1.0, 7.0)[:, None]
    for scale in (None, torch.tensor(0.5), scales):
        packed = QuantizedTensor(stored, torch.float8_e4m3fn, scale)
        expected = values if scale is None else values * scale
        assert (packed.rows, packed.columns) == (6, 4) and torch.equal(packed.dense(torch.float32), expected)
        part = packed.slice_rows(2, 5)
        assert torch.equal(part.dense(torch.float32), expected[2:5])
        joined = concatenate([part, packed.slice_rows(0, 1)])
        assert torch.equal(joined.dense(torch.float32), torch.cat((expected[2:5], expected[:1])))
        assert (joined.scale is None) is (scale is None) and concatenate([part]) is part
    shaped = QuantizedTensor(stored, torch.float8_e4m3fn, None, (6, 2, 2))
    assert shaped.dense(torch.float16).shape == (6, 2, 2) and shaped.dense(torch.float16).dtype is torch.float16
    assert shaped.slice_rows(0, 2).dense(torch.float32).shape == (2, 4)


def test_a_packed_layer_names_its_type() -> None:
    packed = QuantizedTensor(torch.zeros(8, 16, dtype=torch.uint8), torch.float8_e4m3fn)
    layer = QuantizedLinear(packed, None, torch.bfloat16)
    assert repr(layer) == "QuantizedLinear(in_features=16, out_features=8, bias=False, kind=torch.float8_e4m3fn)"
    assert layer.compute_dtype is torch.bfloat16 and not layer.weight.requires_grad


def test_a_unet_in_gguf_draws_what_its_unpacked_weights_draw(tmp_path: Path) -> None:
    """Under its makers' names, kernels whole; text encoder and autoencoder lent by a diffusers folder."""
    from diffstudio.models.families import stable_diffusion
    from tests.models.families.beside import CPU, checkpoint
    from tests.models.families.beside import ours as drawn

    small.small_sd1(tmp_path / "models" / "lender")
    unet = to_original("sd1", {"unet": small.small_unet().state_dict()})
    plain = {name.removeprefix("model.diffusion_model."): value for name, value in unet.items()}
    path = tmp_path / "models" / "sd1-Q8_0.gguf"
    come_to = saved(tmp_path / "unpacked.safetensors", write_gguf(path, plain, Kind.Q8_0, "sd1"))
    library = Library([tmp_path / "models"])

    def picture(path: Path, dense_bytes: float) -> tuple[Any, Tensor]:
        parts = SmallWords(checkpoint(path, "sd1"), tmp_path / "models" / "lender", library, dense_bytes=dense_bytes)
        model = stable_diffusion.load(checkpoint(path, "sd1"), parts, CPU, torch.float32)
        return model, drawn(model, steps=2, sampler="euler")

    reference = picture(come_to, math.inf)[1]
    as_stored, found = picture(path, 0)
    assert (
        packed_layers(as_stored)
        and torch.equal(found, reference)
        and torch.equal(picture(path, math.inf)[1], reference)
    )
