"""A diffusers folder is checked before anything in it is used: its classes, its sizes, its files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from diffstudio.errors import (
    CheckpointDamaged,
    CheckpointDangerous,
    CheckpointMissing,
    CheckpointUnknown,
    DiffstudioError,
)
from diffstudio.models.files import folder_check
from diffstudio.models.files.folder_check import check_folder, read_json
from diffstudio.models.files.header import Headers, read_header
from tests.models.headers import write_header

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The least that is a model."""
    folder = tmp_path / "sd"
    write_header(folder / "unet" / WEIGHTS, {"conv.weight": (16, 4, 3, 3), "conv.bias": (16,)})
    config(folder, layers_per_block=2, block_out_channels=[16, 32])
    index(folder, _class_name="StableDiffusionPipeline", unet=["diffusers", "UNet2DConditionModel"])
    return folder


def index(folder: Path, **values: Any) -> None:
    (folder / "model_index.json").write_text(json.dumps(values))


def config(folder: Path, **values: Any) -> None:
    (folder / "unet" / "config.json").write_text(json.dumps(values))


# ---- classes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named",
    [
        ["diffusers", "UNet2DConditionModel"],
        ["transformers", "CLIPTextModel"],
        ["stable_diffusion", "StableDiffusionSafetyChecker"],  # in diffusers/pipelines
        [None, None],
        [None, "Thing"],
    ],
)
def test_classes_that_may_be_imported(folder: Path, named: list[Any]) -> None:
    index(folder, _class_name=["os", "system"], unet=named, requires_safety_checker=True)
    check_folder(folder)


@pytest.mark.parametrize(
    ("named", "error", "message"),
    [
        (
            ["os", "system"],
            CheckpointDangerous,
            "sd is dangerous and was not opened: opening it would have imported os",
        ),
        (["diffusers", "os.system"], CheckpointDangerous, "would have imported diffusers.os.system"),
        (["os"], CheckpointDangerous, r"would have imported os\.\. "),
        (["os", "system", "x"], CheckpointDangerous, "would have imported os.system"),
        (["evil", "Thing"], CheckpointUnknown, "its unet is evil.Thing, which is neither from diffusers nor from tra"),
        (["stable_diffusio", "Thing"], CheckpointUnknown, "sd cannot be used: its unet is stable_diffusio.Thing"),
        (["diffusers"], CheckpointDamaged, "model_index.json cannot be read: it has no valid class for its unet"),
        (["diffusers", "UNet", "x"], CheckpointDamaged, "it has no valid class for its unet"),
        ([], CheckpointDamaged, "it has no valid class for its unet"),
        (["diffusers", 3], CheckpointDamaged, "it has no valid class for its unet"),
        (["diffusers", None], CheckpointDamaged, "it has no valid class for its unet"),
        (["../evil", "X"], CheckpointDamaged, "it has no valid class for its unet"),
    ],
)
def test_classes_that_are_never_imported(
    folder: Path, named: list[Any], error: type[DiffstudioError], message: str
) -> None:
    index(folder, unet=named)
    with pytest.raises(error, match=message):
        check_folder(folder)


def test_long_names_are_shortened(folder: Path) -> None:
    index(folder, **{"u" * 50: ["x" * 300, "X" * 300]})  # too long for a file name, too
    with pytest.raises(CheckpointUnknown, match=f": its {'u' * 40} is {'x' * 80}.{'X' * 80}, which"):
        check_folder(folder)
    index(folder, unet=["os", "x" * 300])
    with pytest.raises(CheckpointDangerous, match=f"have imported os.{'x' * 80}. Delete"):
        check_folder(folder)
    index(folder, **{"u" * 50: ["x y" * 300, "X"]})
    with pytest.raises(CheckpointDamaged, match=f"for its {'u' * 40}. "):
        check_folder(folder)


def test_pipelines_are_those_of_the_installed_diffusers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index(folder, unet=["stable_diffusion", "Thing"])
    check_folder(folder)
    monkeypatch.setattr(folder_check, "find_spec", lambda name: None)
    with pytest.raises(CheckpointUnknown, match="its unet is stable_diffusion.Thing"):
        check_folder(folder)


# ---- JSON ------------------------------------------------------------------------------------------------------------


def test_objects_and_lists_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, table in (('{"a": 1}', {"a": 1}), ("[1, 2]", {"": [1, 2]}), ("[]", {"": []}), ("{}", {})):
        path.write_text(text)
        assert read_json(path) == table


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"3", "it is not a JSON object"),
        (b"null", "it is not a JSON object"),
        (b'"text"', "it is not a JSON object"),
        (b"{", "it is not valid JSON"),
        (b"\xff\xfe\0", "it is not text in UTF-8"),
        (b"[" * 100_000, "its values are nested too deeply"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(CheckpointDamaged, match=rf"a.json cannot be read: .*{why}.*\. Download it again"):
        read_json(tmp_path / "a.json")


def test_json_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_check, "_LARGEST_JSON_BYTES", 8)
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    (tmp_path / "a.json").write_text('{"a": 12}')
    with pytest.raises(CheckpointDamaged, match="it is too large"):
        read_json(tmp_path / "a.json")


def test_json_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "a.json", tmp_path / "file" / "a.json"):
        with pytest.raises(CheckpointMissing, match=r"a.json does not exist\. Download the folder again"):
            read_json(path)
    with pytest.raises(CheckpointDamaged, match="it is a folder"):
        read_json(tmp_path)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_every_json_file_of_a_component_is_read(folder: Path) -> None:
    (folder / "unet" / "other.json").write_text("{")
    with pytest.raises(CheckpointDamaged, match="other.json cannot be read"):
        check_folder(folder)


def test_files_beside_the_components_do_not_matter(folder: Path) -> None:
    (folder / "README.md").write_text("read me")
    (folder / "unet" / "notes.txt").write_text("read me")
    (folder / "unet" / "folder").mkdir()
    (folder / "empty").mkdir()
    check_folder(folder)


def test_a_configuration_is_a_file_with_an_object(folder: Path) -> None:
    path = folder / "unet" / "config.json"
    path.write_text("[]")
    with pytest.raises(CheckpointDamaged, match="config.json cannot be read: it is not a JSON object"):
        check_folder(folder)
    path.unlink()
    check_folder(folder)  # a tokenizer has none
    path.mkdir()
    with pytest.raises(CheckpointDamaged, match="config.json is not a weights file: it is a folder"):
        check_folder(folder)


def test_a_configuration_is_checked_wherever_it_is_in_a_full_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config(folder, auto_map={"AutoModel": "modeling.Mine"})
    monkeypatch.setattr(folder_check, "_MOST_FILES", 0)
    with pytest.raises(CheckpointUnknown, match="sd needs its own program code: custom code is never run"):
        check_folder(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights and there are no pipes")
def test_links_are_followed_and_pipes_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "unet" / "gone.txt").symlink_to(tmp_path / "nothing")
    (folder / "unet" / WEIGHTS).rename(tmp_path / "blob")
    (folder / "unet" / WEIGHTS).symlink_to(tmp_path / "blob")
    check_folder(folder)
    os.mkfifo(folder / "unet" / "pipe")
    with pytest.raises(CheckpointDamaged, match="pipe is not a weights file: it is not a plain file"):
        check_folder(folder)


def test_a_folder_that_cannot_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, why in ((PermissionError(13, "Permission denied"), "permission denied"), (OSError("Odd"), "odd")):
        monkeypatch.setattr(Path, "iterdir", Mock(side_effect=error))
        with pytest.raises(CheckpointDamaged, match=f"sd cannot be read: {why}. Download it again"):
            check_folder(folder)


# ---- shards ----------------------------------------------------------------------------------------------------------


def shards(folder: Path, value: Any) -> None:
    (folder / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps(value))


def test_shards_beside_their_index(folder: Path) -> None:
    shards(folder, {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
    check_folder(folder)
    shards(folder, {"metadata": {}})
    check_folder(folder)


@pytest.mark.parametrize("shard", ["", ".", "..", "../x", "/etc/passwd", "a\\b", "C:x", "a\0b"])
def test_shards_elsewhere(folder: Path, shard: str) -> None:
    shards(folder, {"weight_map": {"a": "model.safetensors", "b": shard}})
    with pytest.raises(CheckpointDangerous) as raised:
        check_folder(folder)
    assert raised.value.what == "sd is dangerous and was not opened"
    assert raised.value.why == f"unet/{WEIGHTS}.index.json names the file {shard!r}, which is outside the folder"


@pytest.mark.parametrize("weight_map", [[], "x", None, {"a": 3}, {"a": "x", "b": None}])
def test_an_index_without_a_list_of_files(folder: Path, weight_map: Any) -> None:
    shards(folder, {"weight_map": weight_map})
    with pytest.raises(CheckpointDamaged, match=r"index.json cannot be read: it has no valid list of weights files"):
        check_folder(folder)


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "most"),
    [("cross_attention_dim", 4096), ("num_layers", 16), ("down_blocks", 16), ("depth", 16), ("sample_size", 4096)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_sizes_up_to_what_goes_with_the_weights(folder: Path, key: str, most: int, sign: int) -> None:
    config(folder, **{key: sign * most})
    check_folder(folder)
    config(folder, **{key: sign * (most + 1)})
    why = f"config.json cannot be read: {key} is {sign * (most + 1):,}, which does not match the weights next to it"
    with pytest.raises(CheckpointDamaged, match=why):
        check_folder(folder)


def test_larger_weights_allow_larger_sizes(folder: Path) -> None:
    write_header(folder / "unet" / WEIGHTS, {"embedding.weight": (1000, 4), **{f"b{i}": () for i in range(19)}})
    config(folder, dim=8000, num_layers=20)
    check_folder(folder)
    for key, value in (("dim", 8001), ("num_layers", 21)):
        config(folder, **{key: value})
        with pytest.raises(CheckpointDamaged, match=f"{key} is {value:,}"):
            check_folder(folder)


def test_sizes_within_lists_and_objects(folder: Path) -> None:
    for value in ([8, 5000], {"inner": 5000}, [[{"a": [5000]}]], [0] * 5000):
        config(folder, channels=value)
        with pytest.raises(CheckpointDamaged, match=r"(channels|inner|a) is 5,000, which does not match"):
            check_folder(folder)
    deep: Any = 5000
    for _ in range(8):
        deep = [deep]
    config(folder, channels=deep)  # nine levels with the object around them: nothing that a model would use
    check_folder(folder)
    config(folder, channels=deep[0])
    with pytest.raises(CheckpointDamaged, match="channels is 5,000"):
        check_folder(folder)


@pytest.mark.parametrize("key", ["rope_theta", "bos_token_id", "seed", "max_position_embeddings", "sliding_window"])
def test_numbers_that_are_not_sizes(folder: Path, key: str) -> None:
    config(folder, **{key: 10**9, "flag": True, "float": 1e9, "text": "x", "nothing": None})
    check_folder(folder)


def test_sizes_are_not_checked_without_weights(folder: Path) -> None:
    (folder / "unet" / WEIGHTS).unlink()
    config(folder, dim=10**9)
    check_folder(folder)
    write_header(folder / "unet" / WEIGHTS, {"scalar": ()})
    with pytest.raises(CheckpointDamaged, match="dim is 1,000,000,000"):
        check_folder(folder)


def test_headers_that_were_read_are_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = Headers([read_header(folder / "unet" / WEIGHTS)])
    monkeypatch.setattr("diffstudio.models.files.header.read_header", lambda path: pytest.fail(f"read {path} again"))
    check_folder(folder, headers)


def test_variants_that_were_not_downloaded_do_not_matter(folder: Path) -> None:
    """After `git clone` without Git LFS, when only one variant was downloaded."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"
    for name in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors"):
        (folder / "unet" / name).write_text(pointer)
    check_folder(folder)
    config(folder, dim=10**9)
    with pytest.raises(CheckpointDamaged, match="dim is 1,000,000,000"):
        check_folder(folder)
    (folder / "unet" / WEIGHTS).write_text(pointer)
    with pytest.raises(CheckpointDamaged, match="Git LFS pointer"):
        check_folder(folder)
