"""Adapters that PEFT saved change a model as PEFT's own `merge_and_unload` does, through the program's own way in."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.adapters.adapter_file import read_adapter
from diffstudio.models.adapters.adapters import Adapters, AdapterUse, Attached
from diffstudio.models.adapters.settings import FileSettings, PeftConfig
from diffstudio.models.detection.types import Role
from diffstudio.models.library.library import Library
from tests.models import small
from tests.models.adapter_files import kohya, layers, small_flux, write

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore:__array__ implementation:DeprecationWarning"
)

ATTENTION = ["to_q", "to_v", "to_out.0"]


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    """Never changed: tests work on copies. Inputs and outputs of cross-attention differ in width."""
    return small.small_unet(
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def saved_by_peft(base: nn.Module, config: Any, folder: Path, *, scale: float = 0.1) -> dict[str, Tensor]:
    """Wraps a copy of `base`, randomises the adapter, saves it to `folder`; the weights that PEFT's merge gives."""
    model = peft.get_peft_model(copy.deepcopy(base), config)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "original_module" not in name:
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(str(folder))
    merged: Any = model.merge_and_unload()
    return {name: value.detach().clone() for name, value in merged.state_dict().items()}


def attached_from(folder: Path, network: nn.Module, encoders: dict[str, nn.Module], weight: float = 1.0) -> Attached:
    """Found in the library under the folder's name, then applied."""
    lora = Library([folder.parent]).find(folder.name)
    assert lora.role is Role.LORA
    (report,) = Adapters(network, encoders).use(
        [AdapterUse(lora.path, lora.name, weight, weight, lora.family, lora.header)]
    )
    return report


def assert_equal_weights(model: nn.Module, expected: dict[str, Tensor]) -> None:
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5, msg=name)


CONFIGS: dict[str, Callable[[], Any]] = {
    "LoRA with alpha 32": lambda: peft.LoraConfig(r=4, lora_alpha=32, target_modules=ATTENTION),
    "LoRA of convolutions": lambda: peft.LoraConfig(r=4, lora_alpha=2, target_modules=["conv1", "conv2", "to_q"]),
    "rsLoRA": lambda: peft.LoraConfig(r=4, lora_alpha=32, use_rslora=True, target_modules=ATTENTION),
    "patterns": lambda: peft.LoraConfig(
        r=4,
        lora_alpha=32,
        target_modules=ATTENTION,
        rank_pattern={"mid_block.*to_q": 2, r"down_blocks\.\d+\..*\.to_v": 3},
        alpha_pattern={"to_q": 5, "attn2.to_v": 7, r"^up_blocks\.1.*to_out\.0": 11},
    ),
    "rsLoRA with patterns": lambda: peft.LoraConfig(
        r=4,
        lora_alpha=8,
        use_rslora=True,
        target_modules=ATTENTION,
        rank_pattern={"to_q": 2},
        alpha_pattern={"to_v": 3},
    ),
    "DoRA": lambda: peft.LoraConfig(r=4, lora_alpha=32, use_dora=True, target_modules=[*ATTENTION, "conv1"]),
    "biases and whole modules": lambda: peft.LoraConfig(
        r=4,
        lora_alpha=32,
        target_modules=["to_q", "to_out.0", "conv1"],
        bias="all",
        modules_to_save=["conv_out", "time_embedding.linear_1"],
    ),
    "a bias of LoRA's own": lambda: peft.LoraConfig(r=4, lora_alpha=32, lora_bias=True, target_modules=["to_out.0"]),
    "LoHa": lambda: peft.LoHaConfig(r=4, alpha=32, target_modules=[*ATTENTION, "conv1"]),
    "LoHa with cores and patterns": lambda: peft.LoHaConfig(
        r=4,
        alpha=32,
        use_effective_conv2d=True,
        target_modules=[*ATTENTION, "conv1"],
        rank_pattern={"to_q": 2},
        alpha_pattern={"conv1": 3},
    ),
    "LoKr": lambda: peft.LoKrConfig(r=2, alpha=32, target_modules=[*ATTENTION, "conv1"]),
    "LoKr of whole matrices": lambda: peft.LoKrConfig(
        r=16, alpha=32, target_modules=[*ATTENTION, "conv1"], rank_pattern={"to_q": 24}, alpha_pattern={"to_v": 4}
    ),
    "LoKr, both factored": lambda: peft.LoKrConfig(
        r=1,
        alpha=3,
        decompose_both=True,
        decompose_factor=4,
        use_effective_conv2d=True,
        target_modules=["to_q", "conv1"],
    ),
    "OFT": lambda: peft.OFTConfig(oft_block_size=4, target_modules=[*ATTENTION, "conv1"]),
    "exact OFT": lambda: peft.OFTConfig(
        oft_block_size=4, use_cayley_neumann=False, target_modules=[*ATTENTION, "conv1"]
    ),
    "OFT of three terms": lambda: peft.OFTConfig(
        oft_block_size=4, num_cayley_neumann_terms=3, target_modules=ATTENTION
    ),
    "constrained OFT, shared": lambda: peft.OFTConfig(
        r=2, oft_block_size=0, coft=True, eps=0.05, block_share=True, target_modules=ATTENTION
    ),
    "constrained OFT": lambda: peft.OFTConfig(oft_block_size=8, coft=True, eps=0.3, target_modules=ATTENTION),
    "BOFT": lambda: peft.BOFTConfig(boft_block_size=4, target_modules=[*ATTENTION, "conv1"], bias="boft_only"),
    "IA3": lambda: peft.IA3Config(
        target_modules=["to_k", "to_v", "to_out.0", "ff.net.2", "conv1"], feedforward_modules=["ff.net.2", "conv1"]
    ),
    "IA3 on outputs of convolutions": lambda: peft.IA3Config(target_modules=["to_v", "conv1"], feedforward_modules=[]),
    "IA3 by a regular expression": lambda: peft.IA3Config(
        target_modules=["to_v", "conv1"], feedforward_modules=r".*resnets\.\d+\.conv1"
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_folder_of_peft_changes_a_u_net_as_peft_merges_it(
    config: Callable[[], Any], unet: nn.Module, tmp_path: Path
) -> None:
    merged = saved_by_peft(unet, config(), tmp_path / "my adapter")
    ours = copy.deepcopy(unet)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    lora = Library([tmp_path]).find("my adapter")
    adapters = Adapters(ours, {})
    (report,) = adapters.use([AdapterUse(lora.path, lora.name, header=lora.header)])
    assert (report.matched, report.note) == (report.layers, "")
    assert max(float((merged[name] - before[name]).abs().max()) for name in before) > 0.01
    assert_equal_weights(ours, merged)
    adapters.use([AdapterUse(lora.path, lora.name, 0.7)])
    assert_equal_weights(ours, {name: before[name] + 0.7 * (merged[name] - before[name]) for name in before})
    adapters.detach()
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_text_encoders_are_told_apart_by_the_shapes_of_their_layers(tmp_path: Path) -> None:
    """PEFT calls every model `base_model.model`: an adapter of the second encoder of Stable Diffusion XL is its own."""
    pipe: Any = small.small_sdxl()
    encoders = {"text_encoder": pipe.text_encoder, "text_encoder_2": pipe.text_encoder_2}
    targets = ["q_proj", "fc1", "token_embedding"]
    for name, encoder in encoders.items():
        config = peft.LoraConfig(r=2, lora_alpha=16, target_modules=targets)
        merged = saved_by_peft(encoder, config, tmp_path / "adapters" / name)
        before = {
            part: {key: value.clone() for key, value in one.state_dict().items()} for part, one in encoders.items()
        }
        lora = Library([tmp_path]).find(f"adapters-{name}")
        adapters = Adapters(pipe.unet, encoders)
        (report,) = adapters.use([AdapterUse(lora.path, lora.name, 0.0, 1.0)])
        assert (report.matched, report.note) == (report.layers, "")
        assert_equal_weights(encoder, merged)
        adapters.detach()
        for part, one in encoders.items():
            assert all(torch.equal(value, before[part][key]) for key, value in one.state_dict().items())


def test_a_transformer_and_the_older_pickle_of_peft(tmp_path: Path) -> None:
    flux = small_flux()
    config = peft.LoraConfig(r=2, lora_alpha=16, target_modules=["to_q", "add_k_proj", "proj_mlp"])
    merged = saved_by_peft(flux, config, tmp_path / "both")
    (tmp_path / "pickled").mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (tmp_path / "pickled" / name).write_bytes((tmp_path / "both" / name).read_bytes())
    from safetensors.torch import load_file

    for folder in ("both", "pickled"):
        torch.save(load_file(tmp_path / "both" / "adapter_model.safetensors"), tmp_path / folder / "adapter_model.bin")
    (tmp_path / "pickled" / "adapter_model.safetensors").unlink()
    library = Library([tmp_path])
    assert sorted(model.name for model in library.scan() if model.role is Role.LORA) == ["both", "pickled"]
    for name, suffix in (("both", ".safetensors"), ("pickled", ".bin")):
        ours = copy.deepcopy(flux)
        lora = library.find(tmp_path / name)
        assert lora.path == tmp_path / name / f"adapter_model{suffix}"
        (report,) = Adapters(ours, {}).use([AdapterUse(lora.path, name, header=lora.header)])
        assert (report.matched, report.note) == (report.layers, "")
        assert_equal_weights(ours, merged)


def test_a_file_of_peft_without_its_config_says_what_was_assumed(unet: nn.Module, tmp_path: Path) -> None:
    saved_by_peft(unet, peft.LoraConfig(r=4, lora_alpha=32, target_modules=["to_q"]), tmp_path / "a")
    saved_by_peft(unet, peft.OFTConfig(oft_block_size=4, target_modules=["to_q"]), tmp_path / "b")
    for folder, what in (("a", "alpha equal to its rank"), ("b", "Cayley-Neumann")):
        alone = tmp_path / f"{folder}.safetensors"
        alone.write_bytes((tmp_path / folder / "adapter_model.safetensors").read_bytes())
        ours = copy.deepcopy(unet)
        (report,) = Adapters(ours, {}).use([AdapterUse(alone, "mine")])
        assert report.matched == report.layers and "adapter_config.json" in report.note and what in report.note
    factors = read_adapter(tmp_path / "a.safetensors").changes
    assert {change.delta.scale for change in factors.values()} == {1.0}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("prefix", "said"), [("", True), ("base_model.model.", True), ("unet.", False), ("diffusion_model.", False)]
)
def test_only_of_peft_alone_is_an_alpha_unknown(prefix: str, said: bool, unet: nn.Module, tmp_path: Path) -> None:
    """diffusers and ComfyUI save PEFT's names with a prefix, without a config, and then alpha is the rank."""
    tensors = {
        f"{prefix}conv_in.lora_A.weight": torch.ones(2, 4, 3, 3),
        f"{prefix}conv_in.lora_B.weight": torch.ones(16, 2, 1, 1),
    }
    for more, expected in (({}, said), ({f"{prefix}conv_in.alpha": torch.tensor(2.0)}, False)):
        file = write(tmp_path / "a.safetensors", tensors | more)
        (report,) = Adapters(copy.deepcopy(unet), {}).use([AdapterUse(file, "mine")])
        assert report.matched == 1 and ("adapter_config.json" in report.note) == expected


def test_the_config_names_the_base_model_and_the_hubs_cache_the_adapter(unet: nn.Module, tmp_path: Path) -> None:
    folder = tmp_path / "models--someone--inkwash" / "snapshots" / "0123abcd"
    saved_by_peft(unet, peft.LoraConfig(r=4, target_modules=["conv_in"]), folder)
    file, library = folder / "adapter_config.json", Library([tmp_path])
    assert (library.find("inkwash").role, library.find("inkwash").family) == (Role.LORA, "unknown")
    config = json.loads(file.read_text()) | {"base_model_name_or_path": "stabilityai/stable-diffusion-xl-base-1.0"}
    file.write_text(json.dumps(config))
    library.scan()
    assert library.find("inkwash").family == "sdxl"
    tensors = {"base_model.model.x.vera_lambda_b": torch.ones(4)}
    write(tmp_path / "other" / "adapter_model.safetensors", tensors)
    (tmp_path / "other" / "adapter_config.json").write_text('{"peft_type": "VERA"}')
    found = Library([tmp_path]).find("other")
    assert found.role is Role.UNKNOWN and "VERA" in found.reason


def test_a_changed_config_is_read_again(unet: nn.Module, tmp_path: Path) -> None:
    saved_by_peft(unet, peft.LoraConfig(r=4, lora_alpha=4, target_modules=["conv_in"]), tmp_path / "a")
    ours, file = copy.deepcopy(unet), tmp_path / "a" / "adapter_config.json"
    adapters, before = Adapters(ours, {}), unet.state_dict()["conv_in.weight"]
    use = AdapterUse(tmp_path / "a" / "adapter_model.safetensors", "a")
    adapters.use([use])
    once = ours.state_dict()["conv_in.weight"] - before
    file.write_text(file.read_text().replace('"lora_alpha": 4', '"lora_alpha": 12'))
    adapters.use([use])
    torch.testing.assert_close(ours.state_dict()["conv_in.weight"] - before, 3 * once)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"peft_type": "VERA"}, "VERA"),
        ({"layer_replication": [[0, 4], [2, 5]]}, "layer_replication"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16"),
        ({"alpha_pattern": {"(a+)+b": 3}}, "pattern that cannot be used"),
        ({"rank_pattern": {"[": 3}}, "pattern that cannot be used"),
        ({"feedforward_modules": "(.*)*x"}, "pattern that cannot be used"),
    ],
)
def test_what_cannot_be_applied_is_refused_by_name(
    changes: dict[str, Any], why: str, unet: nn.Module, tmp_path: Path
) -> None:
    saved_by_peft(unet, peft.LoraConfig(r=4, target_modules=["conv_in"]), tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(CheckpointUnknown, match="cannot be used as a LoRA") as raised:
        read_adapter(tmp_path / "a" / "adapter_model.safetensors")
    assert why in raised.value.why


def test_a_config_that_is_no_object_is_damaged(tmp_path: Path, unet: nn.Module) -> None:
    saved_by_peft(unet, peft.LoraConfig(r=4, target_modules=["conv_in"]), tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").write_text("[]")
    with pytest.raises(CheckpointDamaged, match="adapter_config.json"):
        read_adapter(tmp_path / "a" / "adapter_model.safetensors")


def test_values_of_wrong_types_count_as_missing() -> None:
    config = PeftConfig({"peft_type": 3, "lora_alpha": "x", "r": None, "alpha_pattern": [1], "use_rslora": "yes"})
    settings = config.of("a.b")
    assert config.problem == "" and (settings.alpha, settings.rank, settings.rslora) == (8.0, 8, False)
    assert PeftConfig({"alpha_pattern": {"b": float("nan")}, "lora_alpha": 3}).of("a.b").alpha == 3
    assert PeftConfig({"alpha_pattern": {"b": 5}, "lora_alpha": 3}).of("a." + "b" * 400).alpha == 3


def test_diffusers_metadata_decides_each_component_and_bare_files() -> None:
    """`save_lora_weights` puts the component before each key, `save_lora_adapter` does not."""
    stored = {"unet.lora_alpha": 32, "unet.r": 4, "text_encoder.lora_alpha": 2, "text_encoder.use_rslora": True}
    settings = FileSettings(None, {"lora_adapter_metadata": json.dumps(stored)}, False, ())
    assert settings.of("unet.a.to_q").scale(4) == 8
    assert settings.of("text_encoder.a.q_proj").scale(4) == 1
    assert settings.of("transformer.a.to_q").scale(4) == 1
    bare = FileSettings(None, {"lora_adapter_metadata": json.dumps({"lora_alpha": 32, "r": 4})}, False, ())
    assert bare.of("down_blocks.0.to_q").scale(4) == 8
    for text in ("[1]", "{", "[" * 100_000):
        assert FileSettings(None, {"lora_adapter_metadata": text}, False, ()).of("a.b").scale(4) == 1


def test_kohyas_metadata_count_only_where_the_file_has_no_alpha(unet: nn.Module, tmp_path: Path) -> None:
    metadata = {"ss_network_alpha": "8.0", "ss_network_args": json.dumps({"conv_alpha": "2"})}
    tensors = kohya("lora_unet", layers(unet, "mid_block.attentions.0.proj_in", "mid_block.resnets.0.conv1"), rank=4)
    without = {name: value for name, value in tensors.items() if not name.endswith("alpha")}
    for held, scales in ((tensors, [0.25, 0.25]), (without, [2.0, 0.5])):
        file = read_adapter(write(tmp_path / "a.safetensors", held, metadata))
        by_layer = {layer: change.delta.scale for layer, change in file.changes.items()}  # type: ignore[union-attr]
        assert [by_layer[name] for name in sorted(by_layer)] == scales
    for unusable in ("None", "0", "nan", ""):
        file = read_adapter(write(tmp_path / "a.safetensors", without, {"ss_network_alpha": unusable}))
        assert {change.delta.scale for change in file.changes.values()} == {1.0}  # type: ignore[union-attr]
