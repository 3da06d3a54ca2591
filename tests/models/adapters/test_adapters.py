from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffstudio.errors import CheckpointDamaged, CheckpointMissing, Interrupted
from diffstudio.models.adapters.adapters import Adapters, AdapterUse
from tests.models import small
from tests.models.adapter_files import kohya, layers, lora_for, random, small_flux, write

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # diffusers', with NumPy 2


@pytest.fixture
def sd1() -> Any:
    return small.small_sd1()


@pytest.fixture
def sdxl() -> Any:
    return small.small_sdxl()


def adapters_of(pipe: Any) -> Adapters:
    encoders = {
        name: getattr(pipe, name)
        for name in ("text_encoder", "text_encoder_2", "text_encoder_3")
        if getattr(pipe, name, None) is not None
    }
    return Adapters(pipe.unet if hasattr(pipe, "unet") else pipe.transformer, encoders)


def picture(pipe: Any, prompt: str = "a red apple") -> Tensor:
    """[1,3,64,64], by diffusers' own pipeline, whatever its weights are now."""
    generator = torch.Generator().manual_seed(7)
    made: Tensor = pipe(
        prompt,
        negative_prompt="ugly",
        num_inference_steps=2,
        guidance_scale=3.0,
        height=64,
        width=64,
        generator=generator,
        output_type="pt",
    ).images
    return made


def weights_of(pipe: Any) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": value.clone()
        for part in ("unet", "text_encoder", "text_encoder_2")
        if getattr(pipe, part, None)
        for name, value in getattr(pipe, part).state_dict().items()
    }


def as_kohya_names(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """With the `text_model` that transformers has left out since version 5, and trainers have not."""
    return {f"text_model.{path.removeprefix('text_model.')}": module for path, module in encoder.items()}


def trained(pipe: Any, folder: Path) -> Path:
    """A LoRA of U-Net and text encoders, made and saved by diffusers and PEFT."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    saved: dict[str, Any] = {}
    parts = {
        "unet": ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1"],
        "text_encoder": ["q_proj", "out_proj", "fc1"],
        "text_encoder_2": ["q_proj", "out_proj", "fc1"],
    }
    for number, (part, targets) in enumerate(parts.items()):
        module = getattr(pipe, part, None)
        if module is None:
            continue
        config = LoraConfig(r=4, lora_alpha=6, target_modules=targets)
        module.add_adapter(config, "mine")
        saved[f"{part}_lora_adapter_metadata"] = {"r": 4, "lora_alpha": 6, "target_modules": targets}
        torch.manual_seed(number)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.3)
        state = get_peft_model_state_dict(module, adapter_name="mine")
        key = f"{part}_lora_layers"
        saved[key] = state if part == "unet" else convert_state_dict_to_diffusers(state)
    pipe.save_lora_weights(folder, **saved)
    return folder / "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize("make", [small.small_sd1, small.small_sdxl])
def test_the_picture_is_that_of_diffusers_with_a_lora_of_peft(make: Callable[[], Any], tmp_path: Path) -> None:
    file = trained(make(), tmp_path)
    theirs, ours = make(), make()
    theirs.load_lora_weights(file)
    (report,) = adapters_of(ours).use([AdapterUse(file, "mine")])
    assert (report.matched, report.note) == (report.layers, "") and report.layers > 30
    plain = picture(make())
    assert (picture(theirs) - plain).abs().max() > 0.02
    torch.testing.assert_close(picture(ours), picture(theirs), rtol=0, atol=2e-4)


@pytest.mark.parametrize("make", [small.small_sd1, small.small_sdxl])
def test_the_picture_is_that_of_diffusers_with_a_lora_of_kohya(make: Callable[[], Any], tmp_path: Path) -> None:
    theirs, ours = make(), make()
    tensors = kohya("lora_unet", layers(theirs.unet, "to_q", "to_v", "to_out.0", "ff.net.0.proj", "proj_out"), seed=1)
    two = getattr(theirs, "text_encoder_2", None) is not None
    for prefix, part in (("lora_te1" if two else "lora_te", "text_encoder"), ("lora_te2", "text_encoder_2")):
        if getattr(theirs, part, None) is not None:
            # Not the attention: diffusers 0.42 drops kohya's `self_attn_q_proj` on encoders of transformers 5. Below it
            # is checked.
            tensors |= kohya(prefix, as_kohya_names(layers(getattr(theirs, part), "fc1", "fc2")), seed=500)
    file = write(tmp_path / "kohya.safetensors", tensors)
    theirs.load_lora_weights(file)
    (report,) = adapters_of(ours).use([AdapterUse(file, "kohya")])
    assert (report.matched, report.note) == (report.layers, "") and report.layers == len(tensors) / 3
    torch.testing.assert_close(picture(ours), picture(theirs), rtol=0, atol=2e-4)
    assert (picture(ours) - picture(make())).abs().max() > 0.02


def test_the_original_names_of_a_u_net_are_all_known(sdxl: Any, sd1: Any) -> None:
    """Every layer under the name that diffusers' own conversion of single files gives it, read backwards."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    from diffstudio.models.adapters.layer_matching import LayerIndex

    for pipe in (sdxl, sd1):
        names = LayerIndex(pipe.unet, {})
        known = original_unet_names(pipe.unet)
        numbered = {name: torch.tensor(index) for index, name in enumerate(known)}
        backwards = convert_ldm_unet_checkpoint(numbered, dict(pipe.unet.config))
        assert len(backwards) == len(known)
        for ours, index in backwards.items():
            path, _, kind = ours.rpartition(".")
            if kind == "weight":
                layer = known[int(index)].rpartition(".")[0].removeprefix("model.diffusion_model.")
                (place,) = names.match("lora_unet_" + layer.replace(".", "_"))
                assert place.module == path
                assert names.match(f"diffusion_model.{layer}") == (place,)


def original_unet_names(unet: nn.Module) -> list[str]:
    """Those of `sgm`, built up block by block as its U-Net is: Podell et al. 2023, `openaimodel.py`."""
    names: list[str] = []
    resnet = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }

    def block(theirs: str, ours: str, is_resnet: bool) -> None:
        for path, _ in unet.named_parameters():
            if path.startswith(ours + "."):
                inner = path.removeprefix(ours + ".")
                head, _, kind = inner.rpartition(".")
                names.append(f"{theirs}.{resnet[head]}.{kind}" if is_resnet else f"{theirs}.{inner}")

    number, modules = 1, dict(unet.named_modules())
    for theirs, ours in (
        ("time_embed.0", "time_embedding.linear_1"),
        ("time_embed.2", "time_embedding.linear_2"),
        ("label_emb.0.0", "add_embedding.linear_1"),
        ("label_emb.0.2", "add_embedding.linear_2"),
        ("input_blocks.0.0", "conv_in"),
        ("out.0", "conv_norm_out"),
        ("out.2", "conv_out"),
    ):
        if ours in modules:
            block(theirs, ours, False)
    config: Any = unet.config
    for level in range(len(config.block_out_channels)):
        for layer in range(config.layers_per_block):
            block(f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{layer}", True)
            block(f"input_blocks.{number}.1", f"down_blocks.{level}.attentions.{layer}", False)
            number += 1
        if f"down_blocks.{level}.downsamplers" in modules:
            block(f"input_blocks.{number}.0.op", f"down_blocks.{level}.downsamplers.0.conv", False)
            number += 1
    for place, (ours, is_resnet) in enumerate((("resnets.0", True), ("attentions.0", False), ("resnets.1", True))):
        block(f"middle_block.{place}", f"mid_block.{ours}", is_resnet)
    number = 0
    for level in range(len(config.block_out_channels)):
        for layer in range(config.layers_per_block + 1):
            block(f"output_blocks.{number}.0", f"up_blocks.{level}.resnets.{layer}", True)
            attended = f"up_blocks.{level}.attentions.{layer}" in modules
            block(f"output_blocks.{number}.1", f"up_blocks.{level}.attentions.{layer}", False)
            if layer == config.layers_per_block and f"up_blocks.{level}.upsamplers" in modules:
                block(f"output_blocks.{number}.{1 + attended}.conv", f"up_blocks.{level}.upsamplers.0.conv", False)
            number += 1
    return [f"model.diffusion_model.{name}" for name in names]


def test_detaching_leaves_every_bit_as_it_was(sd1: Any, tmp_path: Path) -> None:
    adapters, before = adapters_of(sd1), weights_of(sd1)
    file = write(tmp_path / "a.safetensors", kohya("lora_unet", layers(sd1.unet)))
    other = write(tmp_path / "b.safetensors", kohya("lora_te", as_kohya_names(layers(sd1.text_encoder))))
    for _ in range(3):
        adapters.use([AdapterUse(file, "a", 0.3), AdapterUse(other, "b")])
        assert any(
            not torch.equal(value, before[name])
            for name, value in weights_of(sd1).items()
            if name.startswith("text_encoder")
        )
        adapters.use([AdapterUse(file, "a", -2.0)])
    adapters.use([])
    assert all(torch.equal(value, before[name]) for name, value in weights_of(sd1).items())


def test_half_precision_is_summed_in_full_and_detached_to_the_bit(tmp_path: Path) -> None:
    unet = small.small_unet().to(torch.bfloat16)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    modules = layers(unet, "attn1.to_q")
    file = write(tmp_path / "a.safetensors", kohya("lora_unet", modules, rank=2, alpha=1.0))
    adapters = Adapters(unet, {})
    adapters.use([AdapterUse(file, "a", 0.7)])
    for number, (path, module) in enumerate(modules.items()):
        down, up = lora_for(module, 2, 2 * number)
        exact = before[f"{path}.weight"].float() + 0.7 * 0.5 * (up @ down)
        torch.testing.assert_close(module.weight.float(), exact.to(torch.bfloat16).float(), rtol=2**-8, atol=1e-6)
    adapters.detach()
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def test_several_are_added_each_with_its_own_weights_for_network_and_text_encoder(sd1: Any, tmp_path: Path) -> None:
    query = layers(sd1.unet, "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    (module,) = query.values()
    text_path = "encoder.layers.0.self_attn.q_proj"
    text = sd1.text_encoder.get_submodule(text_path)
    weight, text_weight = module.weight.clone(), text.weight.clone()
    files = [
        write(
            tmp_path / f"{seed}.safetensors",
            kohya("lora_unet", query, seed=seed, alpha=4.0)
            | kohya("lora_te", {f"text_model.{text_path}": text}, seed=seed + 50),
        )
        for seed in (10, 20)
    ]
    adapters = adapters_of(sd1)
    adapters.use([AdapterUse(files[0], "a", 0.8, 0.5), AdapterUse(files[1], "b", -0.3, 0.0)])
    (down_a, up_a), (down_b, up_b) = lora_for(module, seed=10), lora_for(module, seed=20)
    torch.testing.assert_close(module.weight, weight + 0.8 * 2 * up_a @ down_a - 0.3 * 2 * up_b @ down_b)
    down, up = lora_for(text, seed=60)
    torch.testing.assert_close(text.weight, text_weight + 0.5 * 0.5 * up @ down)
    held = module.weight.data_ptr()
    adapters.use([AdapterUse(files[0], "a", 0.8, 0.1), AdapterUse(files[1], "b", -0.3, 0.0)])
    assert module.weight.data_ptr() == held  # only what differs is worked out again
    torch.testing.assert_close(text.weight, text_weight + 0.1 * 0.5 * up @ down)


# The other kinds, against what PEFT's own modules work out


def peft_layer(kind: str, base: nn.Module, **config: Any) -> tuple[Any, dict[str, Tensor]]:
    """PEFT's layer around `base` with random factors, and its tensors by their names in a file."""
    import peft

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = base

    model = peft.get_peft_model(Holder(), getattr(peft, f"{kind}Config")(target_modules=["layer"], **config))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "base_layer" not in name:
                parameter.copy_(
                    0.3 * torch.randn(parameter.shape, generator=generator) + (1.0 if "magnitude" in name else 0.0)
                )
    state = peft.get_peft_model_state_dict(model)
    return model.base_model.model.layer, {
        name.removeprefix("base_model.model.layer."): value for name, value in state.items()
    }


@pytest.mark.parametrize("kernel", [0, 1, 3], ids=["linear", "1x1", "3x3"])
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Lora", {"r": 3, "lora_alpha": 5}),
        ("Lora", {"r": 3, "lora_alpha": 5, "use_dora": True}),
        ("LoHa", {"r": 3, "alpha": 5}),
        ("LoHa", {"r": 3, "alpha": 5, "use_effective_conv2d": True}),
        ("LoKr", {"r": 2, "alpha": 5, "decompose_both": True}),
        ("LoKr", {"r": 2, "alpha": 5}),
        ("LoKr", {"r": 2, "alpha": 5, "use_effective_conv2d": True, "decompose_factor": 4}),
    ],
    ids=["LoRA", "DoRA", "LoHa", "LoHa-tucker", "LoKr-both", "LoKr", "LoKr-tucker"],
)
def test_each_kind_changes_a_weight_as_peft_does(
    kind: str, config: dict[str, Any], kernel: int, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    base = nn.Conv2d(16, 24, kernel, padding=kernel // 2) if kernel else nn.Linear(16, 24)
    net = nn.ModuleDict({"block": nn.Conv2d(16, 24, kernel, padding=kernel // 2) if kernel else nn.Linear(16, 24)})
    net.load_state_dict({f"block.{name}": value.clone() for name, value in base.state_dict().items()})
    layer, tensors = peft_layer(kind, base, **config)
    tensors = {f"lora_unet_block.{name}": value for name, value in tensors.items()}
    file = write(tmp_path / "a.safetensors", tensors | {"lora_unet_block.alpha": torch.tensor(5.0)})
    adapters = Adapters(net, {})
    (report,) = adapters.use([AdapterUse(file, "a")])
    assert (report.matched, report.layers, report.note) == (1, 1, "")
    assert (
        report.kinds[0] == "DoRA" if config.get("use_dora") else report.kinds[0].lower()[:4] in (kind.lower(), "loco")
    )
    before = layer.get_base_layer().weight.clone()
    layer.merge()
    merged = layer.get_base_layer().weight
    assert (merged - before).abs().max() > 0.1
    torch.testing.assert_close(net["block"].weight, merged, rtol=1e-4, atol=1e-5)
    adapters.detach()
    assert torch.equal(net["block"].weight, before)


def test_a_tucker_core_is_the_three_convolutions_that_it_was_trained_as(tmp_path: Path) -> None:
    conv = nn.Conv2d(6, 10, 3, padding=1, bias=False)
    weight, x = conv.weight.detach().clone(), random(1, 6, 8, 8, seed=5)
    down, core, up = random(2, 6, 1, 1, seed=1), random(2, 2, 3, 3, seed=2), random(10, 2, 1, 1, seed=3)
    file = write(
        tmp_path / "a.safetensors",
        {
            "lora_unet_c.lora_down.weight": down,
            "lora_unet_c.lora_mid.weight": core,
            "lora_unet_c.lora_up.weight": up,
            "lora_unet_c.alpha": torch.tensor(1.0),
        },
    )
    Adapters(nn.ModuleDict({"c": conv}), {}).use([AdapterUse(file, "a", 0.6)])
    through = nn.functional.conv2d(nn.functional.conv2d(nn.functional.conv2d(x, down), core, padding=1), up)
    expected = nn.functional.conv2d(x, weight, padding=1) + 0.6 * 0.5 * through
    torch.testing.assert_close(conv(x), expected, rtol=1e-5, atol=1e-5)


def test_dora_by_input_and_in_part(tmp_path: Path) -> None:
    """LyCORIS' older files give one length for each input; a factor of one half goes half the way."""
    linear = nn.Linear(5, 4)
    weight = linear.weight.detach().clone()
    down, up, lengths = random(2, 5, seed=1), random(4, 2, seed=2), 1 + random(1, 5, seed=3)
    file = write(
        tmp_path / "a.safetensors",
        {"lora_unet_c.lora_down.weight": down, "lora_unet_c.lora_up.weight": up, "lora_unet_c.dora_scale": lengths},
    )
    Adapters(nn.ModuleDict({"c": linear}), {}).use([AdapterUse(file, "a", 0.5)])
    moved = weight + up @ down
    there = moved * lengths / moved.norm(dim=0, keepdim=True)
    torch.testing.assert_close(linear.weight, weight + 0.5 * (there - weight))


def test_whole_differences_of_weights_biases_and_norms(tmp_path: Path) -> None:
    net = nn.ModuleDict({"c": nn.Conv2d(3, 4, 3), "n": nn.GroupNorm(2, 4)})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    differences = {
        "c.diff": random(4, 3, 3, 3, seed=1),
        "c.diff_b": random(4, seed=2),
        "n.w_norm": random(4, seed=3),
        "n.b_norm": random(4, seed=4),
    }
    file = write(tmp_path / "a.safetensors", {f"lycoris_{name}": value for name, value in differences.items()})
    adapters = Adapters(net, {})
    (report,) = adapters.use([AdapterUse(file, "a", 0.5)])
    assert (report.matched, report.layers) == (2, 2)
    for ours, theirs in (
        ("c.weight", "c.diff"),
        ("c.bias", "c.diff_b"),
        ("n.weight", "n.w_norm"),
        ("n.bias", "n.b_norm"),
    ):
        torch.testing.assert_close(net.state_dict()[ours], before[ours] + 0.5 * differences[theirs])
    adapters.detach()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_weight_that_the_next_adapter_leaves_alone_is_restored(tmp_path: Path) -> None:
    """The second changes only the bias of the layer whose weight the first changed."""
    net = nn.ModuleDict({"c": nn.Linear(3, 4)})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    weight = write(tmp_path / "w.safetensors", {"lycoris_c.diff": random(4, 3, seed=1)})
    bias = write(tmp_path / "b.safetensors", {"lycoris_c.diff_b": random(4, seed=2)})
    adapters = Adapters(net, {})
    adapters.use([AdapterUse(weight, "w")])
    adapters.use([AdapterUse(bias, "b")])
    assert torch.equal(net.state_dict()["c.weight"], before["c.weight"])
    torch.testing.assert_close(net.state_dict()["c.bias"], before["c.bias"] + random(4, seed=2))
    adapters.use([AdapterUse(weight, "w")])
    assert torch.equal(net.state_dict()["c.bias"], before["c.bias"])


# Transformers


def test_fused_matrices_of_flux_are_split_into_the_modules_of_diffusers(tmp_path: Path) -> None:
    from diffusers.loaders.lora_conversion_utils import swap_scale_shift

    flux, d = small_flux(guidance_embeds=True), 16
    before = {name: value.clone() for name, value in flux.state_dict().items()}
    double, single = "transformer_blocks.0", "single_transformer_blocks.0"
    # kohya's name -> the rows of its matrix that belong to each module, as diffusers' conversion of whole checkpoints
    # has it
    split: dict[str, dict[str, slice]] = {
        "double_blocks_0_img_attn_qkv": {
            f"{double}.attn.to_{one}": slice(i * d, (i + 1) * d) for i, one in enumerate("qkv")
        },
        "double_blocks_0_txt_attn_qkv": {
            f"{double}.attn.add_{one}_proj": slice(i * d, (i + 1) * d) for i, one in enumerate("qkv")
        },
        "double_blocks_0_txt_attn_proj": {f"{double}.attn.to_add_out": slice(None)},
        "double_blocks_0_img_mlp_0": {f"{double}.ff.net.0.proj": slice(None)},
        "double_blocks_0_txt_mod_lin": {f"{double}.norm1_context.linear": slice(None)},
        "single_blocks_0_linear1": {f"{single}.attn.to_{one}": slice(i * d, (i + 1) * d) for i, one in enumerate("qkv")}
        | {f"{single}.proj_mlp": slice(3 * d, 7 * d)},
        "single_blocks_0_linear2": {f"{single}.proj_out": slice(None)},
        "time_in_in_layer": {"time_text_embed.timestep_embedder.linear_1": slice(None)},
        "guidance_in_out_layer": {"time_text_embed.guidance_embedder.linear_2": slice(None)},
        "img_in": {"x_embedder": slice(None)},
        "final_layer_adaLN_modulation_1": {"norm_out.linear": slice(None)},
    }
    tensors: dict[str, Tensor] = {}
    expected = dict(before)
    for number, (layer, modules) in enumerate(split.items()):
        sides = [flux.get_submodule(path).weight.shape for path in modules]
        down, up = random(2, sides[0][1], seed=number), random(sum(side[0] for side in sides), 2, seed=100 + number)
        tensors |= {f"lora_unet_{layer}.lora_down.weight": down, f"lora_unet_{layer}.lora_up.weight": up}
        for path, rows in modules.items():
            delta = (up @ down)[rows]
            if path == "norm_out.linear":
                delta = swap_scale_shift(delta)
            expected[f"{path}.weight"] = before[f"{path}.weight"] + delta
    adapters = Adapters(flux, {})
    (report,) = adapters.use([AdapterUse(write(tmp_path / "a.safetensors", tensors), "a")])
    assert (report.matched, report.layers, report.note) == (11, 11, "")
    for name, value in flux.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)
    adapters.detach()
    assert all(torch.equal(value, before[name]) for name, value in flux.state_dict().items())


# What is not as a person would expect is said


def test_what_changes_nothing_says_so_and_touches_nothing(sd1: Any, sdxl: Any, tmp_path: Path) -> None:
    adapters, before = adapters_of(sd1), weights_of(sd1)
    zeros = {
        name: torch.zeros_like(value) if "up" in name else value
        for name, value in kohya("lora_unet", layers(sd1.unet, "to_q")).items()
    }
    files = {
        "zeros": zeros,
        "flux": {
            "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": random(2, 8),
            "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": random(24, 2),
        },
        "sdxl": kohya("lora_unet", layers(sdxl.unet, "to_k")),
        "oft": {"lora_unet_mid_block_attentions_0_proj_in.oft_blocks": random(2, 4, 4)},
    }
    uses = [
        AdapterUse(write(tmp_path / f"{name}.safetensors", tensors), name, family="sdxl" if name == "sdxl" else "")
        for name, tensors in files.items()
    ]
    notes = [report.note for report in adapters.use(uses)]
    assert "zeros is all zeros" in notes[0]
    assert "flux does not fit" in notes[1] and "its only layer does not exist in this checkpoint" in notes[1]
    assert "sdxl does not fit" in notes[2] and "other shapes" in notes[2] and "Stable Diffusion XL" in notes[2]
    assert "oft does not fit" in notes[3] and "its layer has another shape" in notes[3]
    assert all(torch.equal(value, before[name]) for name, value in weights_of(sd1).items())


def test_one_that_fits_in_part_says_in_how_many_layers(sd1: Any, tmp_path: Path) -> None:
    tensors = kohya("lora_unet", layers(sd1.unet, "mid_block.attentions.0.proj_in"))
    tensors |= {name.replace("mid_block", "far_block"): value for name, value in tensors.items()}
    (report,) = adapters_of(sd1).use([AdapterUse(write(tmp_path / "a.safetensors", tensors), "half")])
    assert (report.matched, report.layers) == (1, 2) and "1 of its 2 layers" in report.note


def test_files_that_cannot_be_believed_are_refused_and_nothing_stays_attached(sd1: Any, tmp_path: Path) -> None:
    adapters, before = adapters_of(sd1), weights_of(sd1)
    good = AdapterUse(write(tmp_path / "good.safetensors", kohya("lora_unet", layers(sd1.unet, "to_q"))), "good")
    spoilt = {name: value.clone() for name, value in kohya("lora_unet", layers(sd1.unet, "to_q")).items()}
    next(iter(spoilt.values()))[0, 0] = torch.nan
    other = write(tmp_path / "other.safetensors", {"weights": random(3, 3)})
    nan = write(tmp_path / "nan.safetensors", spoilt)
    for path, kind, why in (
        (nan, CheckpointDamaged, "NaN or Inf"),
        (other, CheckpointDamaged, "not a LoRA"),
        (tmp_path / "gone.safetensors", CheckpointMissing, "no checkpoint"),
    ):
        adapters.use([good])
        with pytest.raises(kind, match=why):
            adapters.use([good, AdapterUse(path, "bad")])
        assert adapters.attached == ()
        assert all(torch.equal(value, before[name]) for name, value in weights_of(sd1).items())
    with pytest.raises(Interrupted):
        adapters.use([good], lambda: True)
    assert all(torch.equal(value, before[name]) for name, value in weights_of(sd1).items())


def test_matrices_that_do_not_belong_together_are_left_out_with_a_note(tmp_path: Path) -> None:
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 4)})
    tensors = {
        "a.lora_A.weight": random(2, 4),
        "a.lora_B.weight": random(4, 2),
        "b.lora_A.weight": random(2, 4),
        "c.hada_w1_a": random(4, 2),
        "c.hada_w1_b": random(3, 4),
        "c.hada_w2_a": random(4, 2),
        "c.hada_w2_b": random(2, 4),
    }
    (report,) = Adapters(net, {}).use([AdapterUse(write(tmp_path / "a.safetensors", tensors), "mine")])
    assert (report.matched, report.layers) == (1, 3)


def test_packed_weights_stay_as_they_are_and_say_the_change_besides(tmp_path: Path) -> None:
    class QuantizedTensor(nn.Linear):
        """A layer whose weight is stored in eight bits and unpacked for every call."""

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.weight.to(x.dtype), self.bias)

    def net() -> nn.ModuleDict:
        torch.manual_seed(0)
        made = nn.ModuleDict({"a": QuantizedTensor(8, 6), "b": QuantizedTensor(8, 6)})
        for layer in made.values():
            layer.weight = nn.Parameter(layer.weight.data.to(torch.float8_e4m3fn), requires_grad=False)
        return made

    packed, x = net(), random(3, 8, seed=9)
    plain = {name: layer(x) for name, layer in packed.items()}
    tensors = {
        "a.lora_A.weight": random(2, 8, seed=1),
        "a.lora_B.weight": random(6, 2, seed=2),
        "b.hada_w1_a": random(6, 2, seed=3),
        "b.hada_w1_b": random(2, 8, seed=4),
        "b.hada_w2_a": random(6, 2, seed=5),
        "b.hada_w2_b": random(2, 8, seed=6),
    }
    adapters = Adapters(packed, {})
    (report,) = adapters.use([AdapterUse(write(tmp_path / "a.safetensors", tensors), "mine", 0.5)])
    assert report.matched == 2
    a = tensors["a.lora_B.weight"] @ tensors["a.lora_A.weight"]
    b = (tensors["b.hada_w1_a"] @ tensors["b.hada_w1_b"]) * (tensors["b.hada_w2_a"] @ tensors["b.hada_w2_b"])
    torch.testing.assert_close(packed["a"](x), plain["a"] + 0.5 * x @ a.T)
    torch.testing.assert_close(packed["b"](x), plain["b"] + 0.5 * x @ b.T)
    adapters.detach()
    assert all(torch.equal(packed[name](x), plain[name]) for name in plain)
