"""Every state-dict key of version 0.1 has one current name, and nothing else is renamed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from diffstudio import paths
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.state_dict_keys import KEYS_OF_V0_1, current_key, in_stored_order, with_current_keys
from diffstudio.networks.transformer import PixelTransformer
from diffstudio.networks.transformer_config import TransformerConfig
from tests.networks.test_transformer import small

OLD = Path(__file__).parents[1] / "data" / "v0_1_keys"


def keys_in(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


def network_of(conditioning: Conditioning) -> PixelTransformer:
    return PixelTransformer(small(conditioning=conditioning, num_classes=3, vocab_size=9, text_tokens=4, augment_dim=6))


def test_the_map_is_one_to_one_and_no_current_key_is_an_old_one() -> None:
    assert len(set(KEYS_OF_V0_1.values())) == len(KEYS_OF_V0_1)
    assert not set(KEYS_OF_V0_1.values()) & set(KEYS_OF_V0_1)


def test_the_map_has_exactly_the_keys_of_the_networks_of_version_0_1() -> None:
    expected = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
    written = {key.replace("blocks.0.", "blocks.*.") for one in expected.values() for key in one["keys"]}
    assert written == set(KEYS_OF_V0_1)


def test_every_key_of_the_starter_is_one_of_its_network() -> None:
    with safe_open(paths.starter(), "pt") as file:
        header = json.loads(file.metadata()["diffstudio.network"])
    network = PixelTransformer(TransformerConfig.from_json({k: v for k, v in header.items() if k != "kind"}))
    assert {current_key(key) for key in keys_in(paths.starter())} == set(network.state_dict())


@pytest.mark.parametrize("conditioning", [Conditioning.CLASS, Conditioning.TEXT])
def test_every_key_of_an_old_checkpoint_is_one_of_its_network(conditioning: Conditioning) -> None:
    old = keys_in(OLD / f"{conditioning}.safetensors")
    with safe_open(OLD / f"{conditioning}.safetensors", "pt") as file:
        header = json.loads(file.metadata()["diffstudio.network"])
    network = PixelTransformer(TransformerConfig.from_json({k: v for k, v in header.items() if k != "kind"}))
    assert {current_key(key) for key in old} == set(network.state_dict())
    assert not set(old) & set(network.state_dict())


@pytest.mark.parametrize(
    ("old", "current"),
    [
        ("blocks.12.query_key_value.weight", "blocks.12.attn.qkv.weight"),
        ("module.blocks.3.hidden.weight", "module.blocks.3.mlp.w3.weight"),
        ("module.positions", "module.pos_embed"),
        ("n_averaged", "n_averaged"),
        ("blocks.0.unknown", "blocks.0.unknown"),
        ("model.positions", "model.positions"),
    ],
)
def test_blocks_and_averages(old: str, current: str) -> None:
    assert current_key(old) == current


@pytest.mark.parametrize("conditioning", list(Conditioning))
def test_current_keys_stay_as_they_are(conditioning: Conditioning) -> None:
    state_dict = network_of(conditioning).state_dict()
    assert list(with_current_keys(state_dict)) == list(state_dict)


@pytest.mark.parametrize("conditioning", [Conditioning.CLASS, Conditioning.TEXT])
def test_optimiser_states_number_parameters_as_version_0_1_did(conditioning: Conditioning) -> None:
    expected = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))[str(conditioning)]["parameter_order"]
    network = network_of(conditioning)  # of two blocks; the old one has one
    names = [name for name, _ in in_stored_order(network.named_parameters())]
    first = [current_key(name) for name in expected if not name.startswith(("last_", "write_"))]
    assert names[: len(first)] == first
    block = [name for name in first if name.startswith("blocks.")]
    second = names[len(first) : len(first) + len(block)]
    assert second == [name.replace("blocks.0.", "blocks.1.") for name in block]
    assert names[len(first) + len(block) :] == [current_key(n) for n in expected if n.startswith(("last_", "write_"))]
