"""Quantized weights that cannot be read are named, whatever network they are of; those that can be read are not."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from diffstudio.models.detection.detect import detect
from diffstudio.models.detection.quantization import comfy_formats, quantization_of_config
from diffstudio.models.detection.types import Role
from diffstudio.models.library.records import read_checkpoint
from tests.models import headers
from tests.models.headers import Shapes, below

_LAYER = "double_blocks.0.img_attn.qkv"  # of FLUX.1, [9216, 3072]
_NF4: Shapes = {
    f"{_LAYER}.weight": (9216 * 3072 // 2, 1),
    f"{_LAYER}.weight.absmax": (442368,),
    f"{_LAYER}.weight.quant_map": (16,),
    f"{_LAYER}.weight.quant_state.bitsandbytes__nf4": (82,),
}
_NUNCHAKU: Shapes = {
    f"{block}.qkv_proj.{name}": shape
    for block in ("transformer_blocks.0", "transformer_blocks.1")
    for name, shape in {
        "qweight": (9216, 1536),
        "wscales": (48, 9216),
        "smooth": (3072,),
        "lora_down": (3072, 32),
        "lora_up": (9216, 32),
    }.items()
}
_SDNQ: Shapes = {
    f"transformer_blocks.{index}.attn.to_q.{name}": shape
    for index in range(4)
    for name, shape in {"weight": (3072, 3072), "scale": (3072, 1), "bias": (3072,)}.items()
}
BY_NAMES: dict[str, tuple[Shapes, Role, str]] = {
    "NF4": (_NF4, Role.NETWORK, "NF4"),
    "NF4 checkpoint": (below("model.diffusion_model.", _NF4) | {"vae.decoder.a": (1,)}, Role.CHECKPOINT, "NF4"),
    "FP4": ({name.replace("nf4", "fp4"): shape for name, shape in _NF4.items()}, Role.NETWORK, "FP4"),
    "int8 of bitsandbytes": (
        {"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096), "encoder.block.0.layer.0.q.SCB": (4096,)},
        Role.TEXT_ENCODER,
        "int8",
    ),
    "Nunchaku": (_NUNCHAKU, Role.NETWORK, "Nunchaku"),
    "NVFP4": (
        {
            "layers.0.attention.qkv.weight": (11520, 1920),
            "noise_refiner.0.attention.qkv.weight": (11520, 1920),
            "layers.0.attention.qkv.weight_scale": (11520, 240),
            "layers.0.attention.qkv.weight_scale_2": (),
        },
        Role.NETWORK,
        "NVFP4",
    ),
    "SDNQ": (_SDNQ, Role.NETWORK, "SDNQ"),
    "SDNQ with SVD": (
        {"transformer_blocks.0.attn.to_q.svd_up": (3072, 32), "transformer_blocks.0.attn.to_q.svd_down": (32, 3072)},
        Role.NETWORK,
        "SDNQ",
    ),
    "GPTQ": ({"model.layers.0.q_proj.qweight": (448, 3584), "model.layers.0.q_proj.qzeros": (28, 448)},)
    + (Role.TEXT_ENCODER, "GPTQ"),
    "quanto": ({"transformer_blocks.0.attn.to_q.weight._data": (3072, 3072)}, Role.NETWORK, "quanto"),
}


@pytest.mark.parametrize("which", BY_NAMES)
def test_a_quantization_is_named_by_the_tensors_it_adds(which: str) -> None:
    shapes, role, title = BY_NAMES[which]
    found = detect(shapes, {})
    assert (found.role, found.family) == (role, "unknown")
    assert f"quantized to {title}" in found.reason and found.reason.endswith("which is not supported.")


_CONVROT = {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 256}
BY_METADATA: dict[str, tuple[Mapping[str, str], str]] = {
    "Nunchaku": ({"model_class": "NunchakuFluxTransformer2dModel"}, "Nunchaku"),
    "SDNQ": ({"quantization_config": json.dumps({"quant_method": "sdnq", "weights_dtype": "int8"})}, "SDNQ"),
    "NVFP4": ({"_quantization_metadata": json.dumps({"layers": {_LAYER: {"format": "nvfp4"}}})}, "NVFP4"),
    "ConvRot": ({"_quantization_metadata": json.dumps({"layers": {_LAYER: _CONVROT}})}, "ConvRot int8"),
}


@pytest.mark.parametrize("which", BY_METADATA)
def test_a_quantization_is_named_by_metadata(which: str) -> None:
    metadata, title = BY_METADATA[which]
    assert f"quantized to {title}" in detect(headers.bfl_flux(), metadata).reason


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"layers": 4}', '{"layers": {"a": {"format": "float8_e4m3fn"}, "b": 1}}']
)
def test_fp8_and_metadata_that_says_nothing_leave_the_family(text: str) -> None:
    assert detect(headers.bfl_flux(), {"_quantization_metadata": text}).family == "flux"
    assert detect(headers.bfl_flux(), {"quantization_config": "[1]"}).family == "flux"


def _with_formats(path: Path, formats: list[bytes]) -> Path:
    """A safetensors file of FLUX.1 whose layers have ComfyUI's formats beside them."""
    shapes = headers.bfl_flux()
    values = {f"double_blocks.{index}.img_mlp.0.comfy_quant": value for index, value in enumerate(formats)}
    shapes = shapes | {name: (len(value),) for name, value in values.items()}
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + (len(values[name]) if name in values else 0)
        header[name] = (
            {"dtype": "U8", "shape": list(shape), "data_offsets": [start, end]}
            if name in values
            else {"dtype": "U8", "shape": [0, *shape], "data_offsets": [start, end]}
        )
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(values.values()))
    return path


@pytest.mark.parametrize(
    ("formats", "title"),
    [
        ([json.dumps(_CONVROT).encode()], "ConvRot int8"),
        ([b'{"format": "float8_e4m3fn"}', b'{"format": "nvfp4"}'], "NVFP4"),
        ([b'{"format": "convrot_w4a4", "convrot_groupsize": 256}'], "ConvRot int4"),
        ([b'{"format": "int8_tensorwise"}'], "int8"),
        ([b'{"format": "something_new"}'], "something_new"),
    ],
)
def test_formats_that_comfyui_writes_beside_the_weights_are_read(
    tmp_path: Path, formats: list[bytes], title: str
) -> None:
    read = read_checkpoint(_with_formats(tmp_path / "a.safetensors", formats))
    assert not read.can_generate and f"quantized to {title}," in read.reason


def test_damaged_formats_are_left_to_the_loader(tmp_path: Path) -> None:
    read = read_checkpoint(_with_formats(tmp_path / "a.safetensors", [b'{"format": "float8']))
    assert "quantized" not in read.reason
    assert comfy_formats(tmp_path / "missing.safetensors", {}, 0) == {}


@pytest.mark.parametrize(
    ("config", "title"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "NF4 (bitsandbytes)"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8 (bitsandbytes)"),
        ({"quant_method": "sdnq"}, "SDNQ"),
        ({"quant_method": "brand_new"}, "brand_new"),
        ({}, "a format that it does not name"),
        (None, ""),
    ],
)
def test_the_config_of_a_component_names_its_quantization(config: object, title: str) -> None:
    assert quantization_of_config({"quantization_config": config}) == title


def test_a_folder_with_a_quantized_component_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    config = tmp_path / "transformer" / "config.json"
    config.write_text(json.dumps({"quantization_config": {"quant_method": "sdnq"}}))
    read = read_checkpoint(tmp_path)
    assert not read.can_generate and "Its transformer is quantized to SDNQ, which is not supported." in read.reason
    config.write_text("{}")
    assert read_checkpoint(tmp_path).family == "flux"
