"""Files brought in: linked or copied, never twice, never over another, nothing left half."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import torch

from diffstudio import paths
from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointUnknown, StorageProblem
from diffstudio.models.components.tokenizers import tokenizer_files, tokenizer_folders, tokenizer_in
from diffstudio.models.library.library import Library
from diffstudio.studio.library import importing
from diffstudio.studio.library.importing import import_file
from tests.models.headers import write_header
from tests.models.hostile import gguf_entry, gguf_file, gguf_string


def weights(path: Path, content: bytes = b"\0" * 4000) -> Path:
    header = json.dumps(
        {
            "lora_unet_a.lora_down.weight": {
                "dtype": "F16",
                "shape": [len(content) // 2],
                "data_offsets": [0, len(content)],
            }
        }
    ).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + content)
    return path


def brought(path: Path, folder: Path) -> Path:
    *_, last = import_file(path, folder)
    assert isinstance(last, Path)
    return last


@pytest.fixture(params=["linked", "copied"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "copied":

        def refused(source: Path, target: Path) -> None:
            raise OSError("another disk")

        monkeypatch.setattr(os, "link", refused)
        monkeypatch.setattr(importing, "_CHUNK_BYTES", 1000)
    return str(request.param)


def test_brought_once(tmp_path: Path, way: str) -> None:
    source, folder = weights(tmp_path / "down" / "one.safetensors"), tmp_path / "models"
    target = brought(source, folder)
    assert target.parent == folder / "loras" and target.read_bytes() == source.read_bytes()
    assert (target.stat().st_ino == source.stat().st_ino) == (way == "linked")
    assert brought(source, folder) == target
    assert brought(target, folder) == target  # it lies there already
    assert [path.name for path in (folder / "loras").iterdir()] == ["one.safetensors"]


def test_what_comes_with_the_program_is_not_brought_again(tmp_path: Path) -> None:
    included = paths.included_checkpoints()[1]
    (tmp_path / "linked.safetensors").symlink_to(included)
    assert brought(included, tmp_path / "models") == included
    assert brought(tmp_path / "linked.safetensors", tmp_path / "models") == included
    assert not (tmp_path / "models").exists()


def test_another_of_that_name_gets_a_number(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "models"
    first = brought(weights(tmp_path / "a" / "one.safetensors"), folder)
    second = brought(weights(tmp_path / "b" / "one.safetensors", b"\1" * 4000), folder)
    assert second.name == "one-2.safetensors" and first.read_bytes() != second.read_bytes()
    assert brought(tmp_path / "b" / "one.safetensors", folder) == second


def test_given_up_in_the_middle_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "link", lambda *_: False)
    monkeypatch.setattr(importing, "_CHUNK_BYTES", 1000)
    steps = import_file(weights(tmp_path / "one.safetensors"), tmp_path / "models")
    fraction = next(steps)
    assert isinstance(fraction, float) and 0 < fraction < 1
    steps.close()
    assert list((tmp_path / "models" / "loras").iterdir()) == []


def test_what_is_no_model_or_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointDamaged):
        brought(tmp_path / "text.safetensors", tmp_path / "models")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageProblem, match="cannot be imported"):
        brought(weights(tmp_path / "one.safetensors"), tmp_path / "file")


def test_a_folder_stays_where_it_is(tmp_path: Path) -> None:
    weights(tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "model" / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(BadRequest, match="model is a folder.*in Settings"):
        brought(tmp_path / "model", tmp_path / "models")
    assert brought(tmp_path / "model", tmp_path) == tmp_path / "model"


def adapter(folder: Path, alpha: int, content: bytes = b"\0" * 4000) -> Path:
    """As PEFT saves one: the strength is in the config."""
    tensors = {
        f"base_model.model.x.lora_{side}.weight": [side, shape] for side, shape in (("A", [2, 500]), ("B", [500, 2]))
    }
    half = len(content) // 2
    header = json.dumps(
        {
            name: {"dtype": "F16", "shape": shape, "data_offsets": [half * (side == "B"), half * (1 + (side == "B"))]}
            for name, (side, shape) in tensors.items()
        }
    ).encode()
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": alpha}))
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + content[: 2 * half])
    return folder


def test_an_adapter_of_peft_is_brought_with_its_config(tmp_path: Path, way: str) -> None:
    folder, source = tmp_path / "models", adapter(tmp_path / "a" / "inkwash", 32)
    target = brought(source, folder)
    assert target == folder / "loras" / "inkwash" / "adapter_model.safetensors"
    assert target.with_name("adapter_config.json").read_text() == (source / "adapter_config.json").read_text()
    assert brought(source / "adapter_model.safetensors", folder) == target
    stronger = brought(adapter(tmp_path / "b" / "inkwash", 64), folder)  # the same weights, another config
    assert stronger.parent.name == "inkwash-2"
    assert brought(tmp_path / "b" / "inkwash", folder) == stronger
    assert brought(source, folder) == target
    assert sorted(path.name for path in target.parent.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_an_adapter_given_up_in_the_middle_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "link", lambda *_: False)
    monkeypatch.setattr(importing, "_CHUNK_BYTES", 1000)
    steps = import_file(adapter(tmp_path / "inkwash", 32), tmp_path / "models")
    next(steps)
    steps.close()
    assert list((tmp_path / "models" / "loras").iterdir()) == []


UNUSABLE: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "a classifier": ({"layer1.0.conv1.weight": (64, 64, 3, 3), "fc.weight": (9, 64)}, "ResNet, which classifies"),
    "unknown names": ({"a": (3,)}, "none of its tensor names is known"),
    "a measure": ({"lin0.model.1.weight": (1, 64, 1, 1)}, "LPIPS"),
    "a VAE of another model": (
        {"decoder.conv_in.weight": (8, 8, 3, 3), "decoder.mid.block_1.conv1.weight": (8, 8, 3, 3)},
        "8 latent channels, like that of no supported model",
    ),
    "a video VAE": ({"decoder.conv_in.weight": (8, 12, 3, 3, 3)}, "a video VAE"),
    "an encoder of previews": (
        {"0.weight": (64, 3, 3, 3), "1.conv.0.weight": (64, 64, 3, 3)},
        "previews need its decoder",
    ),
    "a ControlNet of another model": (
        {"controlnet_blocks.0.weight": (8, 8), "controlnet_x_embedder.weight": (8, 64)},
        "a ControlNet for FLUX.1, which is not supported",
    ),
    "a ControlNet of an unknown model": (
        {"input_hint_block.0.weight": (16, 3, 3, 3)},
        "a ControlNet for an unknown model, which is not supported",
    ),
    "a ControlNet with an unknown checkpoint": (
        {"control_model.input_blocks.0.0.weight": (8, 4, 3, 3), "model.diffusion_model.input_blocks.0.0.weight": (8, 4)},
        "a ControlNet and a complete checkpoint in one file",
    ),
    "a Control-LoRA": ({"lora_controlnet": (0,)}, "a ControlNet stored as a LoRA, which is not supported"),
    "a union ControlNet": (
        {"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), "task_embedding": (6, 320)},
        "a union ControlNet for an unknown model",
    ),
    "SwinIR": ({"layers.0.residual_group.blocks.0.norm1.weight": (8,)}, "SwinIR or HAT: an upscaler that needs the"),
    "PLKSR": ({"feats.1.channe_mixer.0.weight": (8, 8, 3, 3)}, "the blocks of a PLKSR"),
    "GFPGAN": ({"stylegan_decoder.style_mlp.1.weight": (8, 8)}, "restore faces"),
    "a language model": ({"model.embed_tokens.weight": (128_256, 4096)}, "a text encoder that no supported model has"),
    "previews of another model": (
        {"1.weight": (64, 32, 3, 3), "3.conv.0.weight": (64, 64, 3, 3), "19.weight": (3, 64, 3, 3)},
        "the previews of no supported model",
    ),
    "a quantized text encoder": (
        {"model.layers.0.mlp.down_proj.weight.quant_state.bitsandbytes__nf4": (9,), "model.embed_tokens.weight": (9, 9)},
        "quantized to NF4",
    ),
    "a network": ({"double_blocks.0.img_attn.qkv.weight": (9, 9), "distilled_guidance_layer.a": (1,)}, "Chroma"),
    "a LoRA": (
        {f"transformer.single_transformer_blocks.{index}.attn.to_qkv_mlp_proj.lora_{side}.weight": (4, 4)
         for index in range(48) for side in "AB"},
        "FLUX.2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_nothing_here_can_use_is_not_imported_but_named(name: str, tmp_path: Path) -> None:
    shapes, expected = UNUSABLE[name]
    source = write_header(tmp_path / "down" / "model.safetensors", shapes)
    with pytest.raises(CheckpointUnknown) as raised:
        brought(source, tmp_path / "models")
    assert raised.value.what == "model.safetensors cannot be used by diffstudio"
    assert expected.lower() in raised.value.why.lower() and raised.value.remedy
    assert not (tmp_path / "models").exists()


def test_upscalers_of_other_architectures_are_imported_where_spandrel_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "find_spec", lambda name: name == "spandrel")
    source = write_header(tmp_path / "down" / "4x.safetensors", UNUSABLE["SwinIR"][0])
    assert brought(source, tmp_path / "models").parent.name == "upscale_models"


USABLE: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "ESRGAN": ({"conv_first.weight": (8, 3, 3, 3), "body.0.rdb1.conv1.weight": (4, 8, 3, 3)}, "upscale_models"),
    "a ControlNet": (
        {
            "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        },
        "controlnet",
    ),
    "a VAE": ({"decoder.conv_in.weight": (8, 4, 3, 3), "decoder.mid.block_1.conv1.weight": (8, 8, 3, 3)}, "vae"),
    "a tiny VAE": ({"1.weight": (64, 16, 3, 3), "3.conv.0.weight": (64, 64, 3, 3), "19.weight": (3, 64, 3, 3)}, "vae"),
    "a text encoder": ({"model.embed_tokens.weight": (151_936, 2560)}, "text_encoders"),
    "an embedding": ({"emb_params": (4, 768)}, "embeddings"),
    "a LoRA of an unknown model": ({"lora_unet_a.lora_down.weight": (4, 4)}, "loras"),
}


@pytest.mark.parametrize("name", USABLE)
def test_what_can_be_used_goes_where_it_belongs(name: str, tmp_path: Path) -> None:
    shapes, folder = USABLE[name]
    source = write_header(tmp_path / "down" / "model.safetensors", shapes)
    assert brought(source, tmp_path / "models") == tmp_path / "models" / folder / source.name


def test_a_text_encoder_in_a_gguf_file_is_not_imported(tmp_path: Path) -> None:
    source = tmp_path / "qwen3-4b.gguf"
    source.write_bytes(gguf_file(0, 1, gguf_entry(b"general.architecture", 8, gguf_string(b"qwen3"))))
    with pytest.raises(CheckpointUnknown, match="a text encoder. It is supported as a safetensors file only"):
        brought(source, tmp_path / "models")


TOKENIZER_FILES: dict[str, bytes] = {
    "tokenizer.json": b'{"version": "1.0", "truncation": null, "padding": null, "added_tokens": []}',
    "spiece.model": b"\n\x0e\n\x05<pad>\x15\0\0\0\0\x18\x03\n\x0e\n\x05</s>",
    "vocab.json": b'{"!": 0, "a": 1, "b": 2}',
    "merges.txt": b"#version: 0.2\ni n\nt h\n",
}


@pytest.mark.parametrize("name", TOKENIZER_FILES)
def test_files_of_a_tokenizer_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TOKENIZER_FILES[name])
    with pytest.raises(CheckpointUnknown, match=f"^{name} is not a weights file: it is part of a tokenizer"):
        brought(tmp_path / name, tmp_path / "models")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("model", "model.safetensors"), ("m.safetensors.1", "m.safetensors.1.safetensors"), ("m.SFT", "m.SFT")],
)
def test_the_library_finds_what_was_imported_under_any_name(
    name: str, expected: str, tmp_path: Path, home: Path
) -> None:
    target = brought(weights(tmp_path / "down" / name), tmp_path / "models")
    assert target.name == expected and Library([tmp_path / "models"]).find(target.stem).path == target
    assert brought(tmp_path / "down" / name, tmp_path / "models") == target
    torch.save({"emb_params": torch.zeros(4, 768)}, tmp_path / "down" / "pickle.zip")
    assert brought(tmp_path / "down" / "pickle.zip", tmp_path / "models").name == "pickle.zip.ckpt"


def test_a_list_of_names_without_weights_is_not_imported(tmp_path: Path) -> None:
    torch.save({"a.weight": "b.weight"}, tmp_path / "keys.pt")
    with pytest.raises(CheckpointUnknown, match=r"keys.pt cannot be used by diffstudio: there are no weights in it"):
        brought(tmp_path / "keys.pt", tmp_path / "models")


TOKENIZERS = {
    "t5": {"model": {"vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["a", -1.0]]}, "added_tokens": []},
    "qwen": {
        "model": {"vocab": {"a": 0, "b": 1}, "merges": []},
        "added_tokens": [{"id": 2, "content": "<|im_start|>"}],
    },
}


def tokenizer(folder: Path, kind: str) -> Path:
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZERS[kind]))
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("kind", ["t5", "qwen"])
def test_a_tokenizer_goes_where_checkpoints_look_for_it(tmp_path: Path, kind: str) -> None:
    source = tokenizer(tmp_path / "downloads", kind)
    (source / "notes.txt").write_text("mine")
    models = tmp_path / "models"
    found = brought(source / "tokenizer.json", models)
    assert found == models / "tokenizers" / kind / "tokenizer.json"
    known = tokenizer_in(found.parent)
    assert known is not None and known.kind == kind and found.parent in tokenizer_folders(tmp_path, [], [models])
    assert sorted(one.name for one in found.parent.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    assert brought(source, models) == found and brought(found, models) == found  # its folder, and again
    changed = json.loads((source / "tokenizer.json").read_text()) | {"version": "2.0"}
    (source / "tokenizer.json").write_text(json.dumps(changed))
    assert brought(source, models) == models / "tokenizers" / f"{kind}-2" / "tokenizer.json"


def test_a_tokenizer_of_two_files_and_what_is_no_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tokenizer(tmp_path / "downloads", "qwen")
    (source / "tokenizer.json").unlink()
    (source / "vocab.json").write_text(json.dumps(TOKENIZERS["qwen"]["model"]["vocab"]))
    (source / "merges.txt").write_text("a b")
    added = {"2": {"content": "<|im_start|>"}}
    (source / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    found = brought(source / "merges.txt", tmp_path / "models")
    assert found == tmp_path / "models" / "tokenizers" / "qwen" / "vocab.json"
    assert (found.parent / "merges.txt").is_file()
    weights(source / "model.safetensors")
    for path in (source, weights(source / "other.safetensors")):  # a whole text encoder; a file beside a tokenizer
        assert tokenizer_files(path) is None
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}, "added_tokens": []}')  # of another model
    with pytest.raises(CheckpointUnknown, match="other tokenizers are not needed"):
        brought(tmp_path / "tokenizer.json", tmp_path / "models")

    def full(*_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importing, "_copied", full)
    (source / "model.safetensors").unlink()
    with pytest.raises(StorageProblem, match=r"cannot be imported to .*tokenizers"):
        brought(source / "vocab.json", tmp_path / "others")
