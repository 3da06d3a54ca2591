"""The layer and the role in the keys of every naming, and that such files are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffstudio.errors import CheckpointUnknown
from diffstudio.models.adapters.adapter_file import read_adapter
from diffstudio.models.adapters.adapters import Adapters, AdapterUse
from diffstudio.models.adapters.key_names import split_name
from diffstudio.models.detection.detect_adapters import control_lora
from diffstudio.models.detection.types import Role
from diffstudio.models.library.library import Library
from diffstudio.models.library.lookup import find_model
from tests.models.adapter_files import random, small_flux, write

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize(
    ("key", "layer", "role"),
    [
        ("lora_unet_mid_block_proj_in.lora_down.weight", "lora_unet_mid_block_proj_in", "down"),
        ("unet.mid.attn1.processor.to_q_lora.up.weight", "unet.mid.attn1.to_q", "up"),
        ("unet.mid.attn1.to_q.lora.down.weight", "unet.mid.attn1.to_q", "down"),
        ("transformer.x.lora_A.default.weight", "transformer.x", "down"),
        ("base_model.model.x.lora_B.bias", "base_model.model.x", "up_bias"),
        ("base_model.model.x.lora_magnitude_vector", "base_model.model.x", "magnitude"),
        ("base_model.model.x.lora_magnitude_vector.default.weight", "base_model.model.x", "magnitude"),
        ("base_model.model.x.lora_embedding_A", "base_model.model.x", "embedding_down"),
        ("base_model.model.x.hada_w1_a.default", "base_model.model.x", "hada_w1_a"),
        ("base_model.model.x.oft_R.default.weight", "base_model.model.x", "oft_R"),
        ("base_model.model.x.modules_to_save.default.weight", "base_model.model.x", "weight"),
        ("base_model.model.x.base_layer.bias", "base_model.model.x", "bias"),
        ("base_model.model.x.original_module.weight", "base_model.model.x", "original"),
        ("double_blocks.3.processor.qkv_lora2.up.weight", "double_blocks.3.qkv2", "up"),
        ("single_blocks.3.processor.proj_lora.down.weight", "single_blocks.3.proj", "down"),
        ("unet:12:down", "unet:12", "down"),
        ("oft_unet_x.oft_blocks.2", "oft_unet_x", "oft_blocks.2"),
        ("lora_unet_x.on_input", "lora_unet_x", "on_input"),
        ("lora_unet_x.bm.weight", "lora_unet_x", "bm"),
        (".lora_down.weight", ".lora_down.weight", ""),
        ("weight", "weight", ""),
        ("lora_unet_x.unheard_of", "lora_unet_x.unheard_of", ""),
    ],
)
def test_a_key_is_a_layer_and_a_role(key: str, layer: str, role: str) -> None:
    assert split_name(key) == (layer, role)


@pytest.mark.parametrize(
    "layer",
    [
        "lora_unet__a_c",
        "lora_unet_a__c",
        "lora_unet_a_c_",
        "_lora_unet_a_c",
        "lora_unet_.a.c",
        "base_model.model..a.c",
        "base_model.model.unet.a.c",
        "base_model.model.diffusion_model.a.c",
        "a.c.",
    ],
)
def test_stray_underscores_and_dots_do_not_matter(layer: str, tmp_path: Path) -> None:
    net = nn.ModuleDict({"a": nn.ModuleDict({"c": nn.Linear(4, 6)})})
    before = net.state_dict()["a.c.weight"].clone()
    down, up = random(2, 4, seed=1), random(6, 2, seed=2)
    tensors = {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up, f"{layer}.alpha": torch.tensor(2.0)}
    (report,) = Adapters(net, {}).use([AdapterUse(write(tmp_path / "a.safetensors", tensors), "a")])
    assert report.matched == report.layers == 1
    torch.testing.assert_close(net.state_dict()["a.c.weight"], before + up @ down)


def test_the_flux_naming_of_xlabs_is_that_of_diffusers_conversion(tmp_path: Path) -> None:
    from diffusers.loaders.lora_conversion_utils import _convert_xlabs_flux_lora_to_diffusers

    flux = small_flux()
    tensors: dict[str, Tensor] = {}
    for number, (layer, outs) in enumerate(
        {
            "double_blocks.0.processor.qkv_lora1": 48,
            "double_blocks.0.processor.qkv_lora2": 48,
            "double_blocks.0.processor.proj_lora1": 16,
            "double_blocks.0.processor.proj_lora2": 16,
            "single_blocks.0.processor.qkv_lora": 48,
            "single_blocks.0.processor.proj_lora": 16,
        }.items()
    ):
        ins = 80 if layer.startswith("single") and "proj" in layer else 16
        tensors |= {
            f"{layer}.down.weight": random(2, ins, seed=number),
            f"{layer}.up.weight": random(outs, 2, seed=50 + number),
        }
    before = {name: value.clone() for name, value in flux.state_dict().items()}
    write(tmp_path / "xlabs.safetensors", tensors)
    lora = Library([tmp_path]).find("xlabs")
    assert (lora.role, lora.family) == (Role.LORA, "flux")
    (report,) = Adapters(flux, {}).use([AdapterUse(lora.path, "a", header=lora.header)])
    assert (report.matched, report.layers, report.note) == (6, 6, "")
    theirs: dict[str, Any] = _convert_xlabs_flux_lora_to_diffusers(dict(tensors))
    changed = {name.removeprefix("transformer.").rpartition(".lora_")[0] for name in theirs}
    assert len(changed) == 3 + 3 + 2 + 3 + 1
    for path in changed:
        change = theirs[f"transformer.{path}.lora_B.weight"] @ theirs[f"transformer.{path}.lora_A.weight"]
        torch.testing.assert_close(flux.state_dict()[f"{path}.weight"], before[f"{path}.weight"] + change, msg=path)
    for name in before:
        assert name.removesuffix(".weight") in changed or torch.equal(flux.state_dict()[name], before[name])


@pytest.mark.parametrize(
    "layer",
    [
        "img_in.lora_A",
        "transformer.x_embedder.lora_A",
        "lora_unet_img_in.lora_down",
        "base_model.model.x_embedder.lora_A",
    ],
)
def test_control_loras_of_flux_are_refused_by_name(layer: str, tmp_path: Path) -> None:
    """Black Forest Labs' Canny and Depth LoRAs, whose first layer takes the latents of a control image too."""
    up = layer.replace("lora_A", "lora_B").replace("lora_down", "lora_up")
    tensors = {
        f"{layer}.weight": random(4, 128),
        f"{up}.weight": random(64, 4),
        "double_blocks.0.img_attn.qkv.lora_A.weight": random(4, 16),
        "double_blocks.0.img_attn.qkv.lora_B.weight": random(48, 4),
        "double_blocks.0.img_attn.norm.key_norm.scale": random(8),
    }
    file = write(tmp_path / "flux1-canny-dev-lora.safetensors", tensors)
    with pytest.raises(CheckpointUnknown, match="Control LoRA"):
        read_adapter(file)
    library = Library([tmp_path])
    assert library.find("flux1-canny-dev-lora").role is Role.UNKNOWN
    with pytest.raises(Exception, match=r"no LoRA.*Control LoRA of FLUX\.1"):
        find_model(library, "flux1-canny-dev-lora", (Role.LORA,), "LoRA")


def test_loras_of_flux_2_are_no_control_loras() -> None:
    """FLUX.2 takes 128 inputs by itself, and SwiGLU's two halves in its single blocks."""
    plain = {"img_in.lora_A.weight": (4, 128), "img_in.lora_B.weight": (3072, 4)}
    single, text = "single_blocks.0.linear1.lora_{}.weight", "txt_in.lora_A.weight"
    assert control_lora(plain | {single.format("A"): (4, 3072), single.format("B"): (7 * 3072, 4), text: (4, 4096)})
    for other in (
        {single.format("A"): (4, 3072), single.format("B"): (9 * 3072, 4)},
        {text: (4, 7680)},
        {"double_stream_modulation_img.lin.lora_A.weight": (4, 3072)},
    ):
        assert control_lora(plain | other) == ""
    assert control_lora({"img_in.lora_A.weight": (4, 64)}) == ""


def test_what_is_not_applied_is_named(tmp_path: Path) -> None:
    net = nn.ModuleDict({"a": nn.Linear(4, 6), "b": nn.Linear(4, 6)})
    lora = {"down": random(2, 4, seed=1), "up": random(6, 2, seed=2)}
    tensors = {f"lora_unet_{name}.lora_{side}.weight": value for name in "abxyzvw" for side, value in lora.items()}
    tensors |= {"emb_params": random(2, 4), "lora_unet_a.weight": random(6, 4), "lora_unet_q.alpha": torch.tensor(1.0)}
    (report,) = Adapters(net, {}).use([AdapterUse(write(tmp_path / "a.safetensors", tensors), "mine")])
    assert report.matched == 2 and "2 of its 8 layers" in report.note
    for named in ("lora_unet_v", "lora_unet_w", "3 more", "emb_params", "lora_unet_a.weight"):
        assert named in report.note


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"x.lora_A.weight": random(2, 4), "x.lora_B.weight": random(4, 2), "x.lora_E": random(2, 1)}, "AdaLoRA"),
        ({"x.oft_r": random(2, 4, 4)}, "before 0.14"),
        ({"x.lora_A.weight": random(2, 4)}, "one of its two matrices"),
        ({"x.ia3_l": random(1, 4, 1, 1)}, "inputs or outputs"),
        ({"x.a1.weight": random(2, 4), "x.b1.weight": random(2, 4)}, "one of its two matrices"),
        ({"x.boft_s": random(4, 1)}, "one of its two matrices"),
        ({"x.on_input": torch.tensor(1)}, "one of its two matrices"),
        ({"x.lora_embedding_A": random(2, 4)}, "one of its two matrices"),
        ({"x.lora_A.weight": random(2, 4), "x.lora_B.weight": random(4, 3)}, "shapes of its matrices"),
        ({"x.alpha": torch.tensor(1.0), "x.dora_scale": random(4, 1)}, "kind is not supported"),
        ({"x.diff": random(4, 4), "x.alpha": torch.tensor(torch.inf)}, "alpha is not a number"),
    ],
)
def test_a_file_of_which_nothing_can_be_used_is_refused_with_the_reason(
    tensors: dict[str, Tensor], why: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointUnknown) as raised:
        read_adapter(write(tmp_path / "a.safetensors", tensors))
    assert why in raised.value.why
