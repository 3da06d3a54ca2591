"""PEFT's config beside an adapter: whose it is, and that it is read without trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio.errors import CheckpointDamaged, CheckpointMissing
from diffstudio.models.adapters.adapter_config import adapter_config_path, adapter_weights, read_adapter_config


def test_the_weights_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.bin").touch()
    assert adapter_weights(tmp_path) is None  # without a config
    (tmp_path / "adapter_config.json").touch()
    assert adapter_weights(tmp_path) == tmp_path / "adapter_model.bin"
    (tmp_path / "adapter_model.safetensors").touch()
    assert adapter_weights(tmp_path) == tmp_path / "adapter_model.safetensors"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "adapter_config.json").touch()
    assert adapter_weights(tmp_path / "empty") is None


def test_a_config_belongs_to_files_named_by_peft_or_alone_in_their_folder(tmp_path: Path) -> None:
    saved, other = tmp_path / "adapter_model.safetensors", tmp_path / "other.safetensors"
    other.touch()
    assert adapter_config_path(other) is None
    config = tmp_path / "adapter_config.json"
    config.touch()
    assert adapter_config_path(other) == config  # renamed, and the only one
    saved.touch()
    assert adapter_config_path(other) is None and adapter_config_path(saved) == config


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": ' * 20_000, "\udcff"])
def test_what_is_no_object_is_damaged(text: str, tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointDamaged, match="cannot be read"):
        read_adapter_config(path)


def test_an_object_is_read(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    path.write_text('{"r": 4}')
    assert read_adapter_config(path) == {"r": 4}
    with pytest.raises(CheckpointMissing, match="does not exist"):
        read_adapter_config(tmp_path / "missing.json")
