"""Headers, folders and tokenizers built to attack: refused in a sentence, at once, in little memory, with nothing run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffstudio.errors import (
    CheckpointDamaged,
    CheckpointDangerous,
    CheckpointProblem,
    CheckpointUnknown,
    DiffstudioError,
)
from diffstudio.models import loading
from diffstudio.models.files.folder_check import check_folder
from diffstudio.models.files.quantized_reader import open_rows
from diffstudio.models.files.safetensors_header import read_safetensors_header
from diffstudio.models.files.weights_reader import load_weights
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.tools.export import export
from tests.models import small, small_flow
from tests.models.hostile import (
    gguf_entry,
    gguf_file,
    gguf_string,
    gguf_tensor,
    refused,
    safetensors_entry,
    safetensors_file,
)
from tests.models.pickles import RAN, attack

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with NumPy 2


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / RAN).exists(), "something was run"


# ---- safetensors -----------------------------------------------------------------------------------------------------


_HERE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_SOUND = safetensors_file(
    {
        "__metadata__": {"title": "x"},
        "cat": safetensors_entry(0, 24, (2, 3)),
        "b": safetensors_entry(24, 26, (1,), "F16"),
        "empty": safetensors_entry(26, 26, (0, 4), "BF16"),
    },
    26,
)


@_HERE
@given(st.data())
def test_headers_with_bytes_changed(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(_SOUND)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(
            st.integers(0, 255) | st.sampled_from(b'0123456789[]{}",:\\-')
        )
    whole += data.draw(st.binary(max_size=3))
    _only_our_errors(tmp_path / "a.safetensors", bytes(whole))


@_HERE
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "a"]) | st.text(max_size=3), inner
            )
        ),
    ),
    st.integers(0, 20),
)
def test_headers_of_any_json(tmp_path: Path, value: Any, data: int) -> None:
    _only_our_errors(tmp_path / "a.safetensors", safetensors_file(json.dumps(value).encode(), data))


def _only_our_errors(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        assert read_checkpoint(path).name == path.stem
        for value in load_weights(path).values():
            value.float().sum()
    except DiffstudioError as error:
        assert str(error)


# ---- GGUF ------------------------------------------------------------------------------------------------------------


@_HERE
@given(st.data())
def test_gguf_with_bytes_changed(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(
        gguf_file(
            2,
            1,
            gguf_entry(b"general.architecture", 8, gguf_string(b"flux")),
            gguf_tensor(b"x", (4, 2)),
            gguf_tensor(b"y", (32,), 8, 64),
            bytes(200),
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.gguf"
    path.write_bytes(bytes(whole))
    try:
        read_checkpoint(path)
        stored = open_rows(path)
        for name, shape in stored.shapes.items():
            stored.rows(name, 0, shape[0] if shape else 0)
    except DiffstudioError as error:
        assert str(error)


# ---- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sd"
    small.small_sd1(folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    import shutil

    return Path(shutil.copytree(sound, tmp_path / "sd"))


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def loaded(folder: Path) -> Any:
    return loading.load(read_checkpoint(folder), CPU)


def test_a_sound_folder_passes(folder: Path) -> None:
    check_folder(folder)
    assert loaded(folder).network is not None


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (["os", "system"], CheckpointDangerous),
        (["subprocess", "Popen"], CheckpointDangerous),
        (["builtins", "eval"], CheckpointDangerous),
        (["evil_module", "Thing"], CheckpointUnknown),
        (["unet.evil", "Thing"], CheckpointDamaged),
        (["diffusers"], CheckpointDamaged),
        (["diffusers", 3], CheckpointDamaged),
        (["../evil", "X"], CheckpointDamaged),
        (["diffusers", "os.system"], CheckpointDangerous),
    ],
)
@pytest.mark.parametrize("pipeline", ["StableDiffusionPipeline", "PixArtAlphaPipeline"])
def test_classes_of_others_are_never_imported(
    folder: Path, message: list[Any], kind: type[DiffstudioError], pipeline: str
) -> None:
    (folder / "evil_module.py").write_text(f"import pathlib; pathlib.Path({RAN!r}).touch()\nclass Thing: pass\n")
    edit_json(folder / "model_index.json", unet=message, _class_name=pipeline)
    with pytest.raises(kind):
        loaded(folder)
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize(
    "name", [["pipeline", "Mine"], "Mine", "../Mine", None, "DiffusionPipeline", "OnnxRuntimeModel"]
)
def test_pipelines_of_others_are_never_run(folder: Path, name: Any) -> None:
    (folder / "pipeline.py").write_text(f"import pathlib; pathlib.Path({RAN!r}).touch()\nclass Mine: pass\n")
    edit_json(folder / "model_index.json", _class_name=name, custom_pipeline="pipeline", trust_remote_code=True)
    with pytest.raises(CheckpointUnknown):
        loaded(folder)


def test_code_in_a_configuration_is_never_run(folder: Path) -> None:
    (folder / "text_encoder" / "modeling.py").write_text(f"import pathlib; pathlib.Path({RAN!r}).touch()\n")
    edit_json(folder / "text_encoder" / "config.json", auto_map={"AutoModel": "modeling.Mine"}, trust_remote_code=True)
    with pytest.raises(CheckpointUnknown, match="needs its own program code"):
        loaded(folder)


@pytest.mark.parametrize(
    "piece", ["../../secret.safetensors", "/etc/passwd", "..", "a/b.safetensors", "C:evil", "..\\x"]
)
@pytest.mark.parametrize("index", ["unet/diffusion_pytorch_model", "text_encoder/model"])
def test_pieces_that_lie_elsewhere(folder: Path, piece: str, index: str) -> None:
    (folder / f"{index}.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"conv_in.weight": piece}})
    )
    with pytest.raises(CheckpointDangerous, match="outside the folder"):
        loaded(folder)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("unet", "cross_attention_dim", 10**9),
        ("unet", "in_channels", 10**9),
        ("unet", "block_out_channels", [10**9] * 4),
        ("unet", "layers_per_block", 10**9),
        ("unet", "layers_per_block", 10**5),
        ("unet", "sample_size", -(10**9)),
        ("vae", "latent_channels", 10**9),
        ("vae", "block_out_channels", [8] * 10**6),
        ("text_encoder", "hidden_size", 10**9),
        ("text_encoder", "num_hidden_layers", 10**9),
        ("text_encoder", "vocab_size", 10**12),
    ],
)
def test_absurd_sizes_take_no_room(folder: Path, part: str, key: str, value: Any) -> None:
    edit_json(folder / part / "config.json", **{key: value})
    assert "does not match the weights" in refused(lambda: check_folder(folder))
    with pytest.raises(CheckpointDamaged):
        loaded(folder)


@pytest.mark.parametrize("steps", [10**9, 10**30])
def test_a_schedule_without_end_takes_no_room(folder: Path, steps: int) -> None:
    edit_json(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=steps)
    with pytest.raises(CheckpointUnknown, match="it has 1,000,000,000"):
        loaded(folder)


def test_nothing_is_made_of_a_folder_that_reaches_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / "unet" / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"conv_in.weight": "/etc/passwd"}})
    )
    with pytest.raises(CheckpointDangerous, match="outside the folder"):
        list(export(read_checkpoint(folder), tmp_path / "exported"))
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("value", [float("nan"), "x", None, [], {}, -1, 0, True, [[]]])
@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("unet", "cross_attention_dim"),
        ("unet", "block_out_channels"),
        ("text_encoder", "hidden_size"),
        ("vae", "latent_channels"),
        ("scheduler", "num_train_timesteps"),
        ("unet", "down_block_types"),
    ],
)
def test_configurations_that_make_no_sense(folder: Path, part: str, key: str, value: Any) -> None:
    path = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    edit_json(path, **{key: value})
    try:
        loaded(folder)
    except DiffstudioError as error:
        assert str(error)


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/tokenizer.json",
    ],
)
@pytest.mark.parametrize(
    "data", [b"", b"[]", b"3", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe\0", b'"\\ud800"', b"null"]
)
def test_json_that_is_none(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    try:
        loaded(folder)
    except DiffstudioError as error:
        assert str(error)


TOKENIZERS: dict[str, Any] = {
    "nothing in it": {},
    "no model": {"version": "1.0"},
    "an unknown model": {"version": "1.0", "model": {"type": "Evil"}},
    "no words": {"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}},
    "merges of no words": {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["x y"]}},
    "numbers beyond all": {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 10**12}, "merges": []}},
    "an expression that never ends": {
        "version": "1.0",
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "(a+)+$" * 20 + "("},
            "behavior": "Isolated",
            "invert": False,
        },
    },
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers(folder: Path, name: str) -> None:
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(TOKENIZERS[name]))
    try:
        loaded(folder).encode_prompt("a cat", "", 1)
    except DiffstudioError as error:
        assert str(error)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links(folder: Path, tmp_path: Path) -> None:
    """As the hub's cache has them, links are followed; what they lead to is a file of weights or nothing."""
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    moved = tmp_path / "blob"
    path.rename(moved)
    path.symlink_to(moved)
    assert loaded(folder).network is not None
    for target in ("/dev/zero", "/etc/hostname", str(path), str(tmp_path)):
        path.unlink()
        path.symlink_to(target)
        with pytest.raises(CheckpointProblem):
            loaded(folder)
    config = folder / "unet" / "config.json"
    config.unlink()
    os.mkfifo(config)
    with pytest.raises(CheckpointProblem):
        loaded(folder)


def test_pickles_in_a_folder(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"a": torch.ones(2), "x": attack()}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointDangerous, match="would have run"):
        loaded(folder)


def test_pickles_in_a_folder_that_draws_itself(tmp_path: Path) -> None:
    """diffusers' own loading is told never to open one."""
    folder = tmp_path / "aura"
    small_flow.small_auraflow(folder)
    for part in ("text_encoder", "transformer", "vae"):
        for path in (folder / part).glob("*.safetensors"):
            path.unlink()
            torch.save({"a": torch.ones(2), "x": attack()}, path.with_suffix(".bin"))
            torch.save(attack(), folder / part / "pytorch_model.bin")
    with pytest.raises(CheckpointDangerous):
        loaded(folder)
    with pytest.raises(DiffstudioError):
        loading.load(replace(read_checkpoint(small_folder_of(tmp_path)), path=folder), CPU)


def small_folder_of(tmp_path: Path) -> Path:
    small_flow.small_auraflow(tmp_path / "sound")
    return tmp_path / "sound"


def test_headers_are_what_a_record_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(_SOUND)
    entries, metadata, _ = read_safetensors_header(tmp_path / "a.safetensors")
    assert metadata == {"title": "x"} and entries["cat"].shape == (2, 3) and entries["empty"].shape == (0, 4)
    assert read_checkpoint(tmp_path / "a.safetensors").parameters == 7
