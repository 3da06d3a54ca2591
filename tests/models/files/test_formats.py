"""The format of a file by its content; what is no weights is named for what it is; variants by file names."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from diffstudio.errors import (
    CheckpointDamaged,
    CheckpointDangerous,
    CheckpointMissing,
    CheckpointProblem,
    CheckpointUnknown,
)
from diffstudio.models.files.formats import (
    PICKLES,
    SAFETENSORS,
    SUFFIXES,
    WeightsFormat,
    as_text,
    variant,
    weights_format,
)
from diffstudio.models.files.header import read_header
from diffstudio.models.files.weights_reader import load_weights


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.safetensors", ""),
        ("model.fp16.safetensors", "fp16"),
        ("model-00001-of-00002.safetensors", ""),
        ("diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "fp16"),
        ("model-00001-of-00002.fp16.safetensors", "fp16"),
        ("model.non_ema.fp16.bin", "non_ema.fp16"),
        ("model-1-of-2.bin", ""),
    ],
)
def test_the_variant_of_a_file(name: str, expected: str) -> None:
    assert variant(Path("unet") / name) == expected


def test_every_suffix_once() -> None:
    assert set(SUFFIXES) == {*SAFETENSORS, *PICKLES, ".gguf"} and len(set(SUFFIXES)) == len(SUFFIXES)


# ---- weights under any name ------------------------------------------------------------------------------------------


def as_safetensors(path: Path) -> None:
    safetensors.torch.save_file({"a": torch.arange(3.0)}, path)


def as_pickle(path: Path) -> None:
    torch.save({"a": torch.arange(3.0)}, path)


def as_old_pickle(path: Path) -> None:
    torch.save({"a": torch.arange(3.0)}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("suffix", [*SUFFIXES, "", ".weights"])
@pytest.mark.parametrize(
    ("save", "expected"),
    [
        (as_safetensors, WeightsFormat.SAFETENSORS),
        (as_pickle, WeightsFormat.PICKLE),
        (as_old_pickle, WeightsFormat.PICKLE),
    ],
)
def test_weights_are_read_by_content(
    save: Callable[[Path], None], expected: WeightsFormat, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"model{suffix}"
    save(path)
    assert weights_format(path) is expected
    assert dict(read_header(path).shapes) == {"a": (3,)}
    assert load_weights(path)["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GGUF\3\0\0\0", WeightsFormat.GGUF),
        *((pickle.dumps({"a": 1}, protocol), WeightsFormat.PICKLE) for protocol in range(6)),
        (b"ccollections\nOrderedDict\n(tR.", WeightsFormat.PICKLE),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_formats_by_first_bytes(data: bytes, expected: WeightsFormat, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(data)
    assert weights_format(tmp_path / f"a{suffix}") is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.safetensors", WeightsFormat.SAFETENSORS),
        ("a.SFT", WeightsFormat.SAFETENSORS),
        ("a.gguf", WeightsFormat.GGUF),
        ("a.pth", WeightsFormat.PICKLE),
    ],
)
def test_the_suffix_decides_where_the_content_does_not_tell(name: str, expected: WeightsFormat, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\xf0\x9f\xff" * 30)
    assert weights_format(tmp_path / name) is expected


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing):
        weights_format(tmp_path / "none.pt")
    (tmp_path / "a.xyz").write_bytes(b"\xf0\x9f\xff" * 30)
    with pytest.raises(CheckpointUnknown, match=r"a.xyz is not a weights file: its format is not known\. Choose"):
        weights_format(tmp_path / "a.xyz")


# ---- files without weights -------------------------------------------------------------------------------------------


def zipped(names: Iterable[str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return file.getvalue()


def tarred(name: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 7
        archive.addfile(entry, io.BytesIO(b"content"))
    return file.getvalue()


def numpy_file(save: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    save(file, np.zeros(4))
    return file.getvalue()


def delimited(tag: int, content: bytes) -> bytes:
    """A field of a protobuf message."""
    length, prefix = len(content), b""
    while length >= 0x80:
        prefix, length = prefix + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([tag]) + prefix + bytes([length]) + content


SIGN_IN = "“Sign in”.*sign in first"
TOKENIZER = "part of a tokenizer and has no weights. Put the tokenizer.json of T5 or Qwen into `tokenizers/t5`"
ONNX, CORE_ML, TENSORFLOW = "an ONNX model", "a Core ML model", "a TensorFlow model"
FAILED = {  # what a server or Git leaves in place of the weights
    "Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
        "Git LFS.*git lfs pull",
    ),
    "older pointer": (b"version https://hawser.github.com/spec/v1\noid sha256:ab\nsize 9\n", "Git LFS pointer"),
    "web page": (b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title>", f"web page that.*{SIGN_IN}"),
    "web page without doctype": (b"<HTML>\r\n<BODY>Not found", "web page that a server sent"),
    "XHTML": (b'<?xml version="1.0"?>\n<!-- a -->\n<!DOCTYPE html PUBLIC>', "web page"),
    "web page with a byte order mark": (b"\xef\xbb\xbf<!doctype html><title>Sign in</title>", SIGN_IN),
    "web page in UTF-16": ("\ufeff<html><title>Sign in</title>".encode("utf-16-le"), SIGN_IN),
    "storage error": (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message>",
        "Denied",
    ),
    "JSON error": (b'{"error":"Repository not found"}', "JSON text.*“Repository not found”"),
    "JSON error with a code": (b'{\n "code": 401, "message": "Unauthorized"}', "“Unauthorized”"),
    "JSON error in a list": (b'{"errors":[{"detail":"The creator requires you to be logged in"}]}', "logged in”"),
    "text": (b"Entry not found", "begins “Entry not found”. Download it again if a server sent that.*another file"),
    "sentence": (b"Invalid username or password.", "it is a text that begins"),
    "word": (b"Unauthorized.", "it is a text that begins"),
    "sentences": (b"Access to this model is restricted.\nSign in and accept its licence.", "it is a text that begins"),
    "nothing": (b"", "it is empty"),
    "zeros": (bytes(9000), "begins with zeros"),
}
OTHERS = {
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(range(99)), "a 7z archive. Unpack it"),
    "RAR": (b"Rar!\x1a\x07\1\0" + bytes(range(99)), "a RAR archive"),
    "gzip": (gzip.compress(b"weights" * 99), "a gzip archive"),
    "bzip2": (bz2.compress(b"weights" * 99), "a bzip2 archive"),
    "xz": (lzma.compress(b"weights" * 99), "an? xz archive"),
    "Zstandard": (b"\x28\xb5\x2f\xfd\4\0" + bytes(range(99)), "a Zstandard archive"),
    "zip": (zipped(["read.me"]), "a zip file, but not one of PyTorch's"),
    "zip of weights": (zipped(["read.me", "a/dream.safetensors"]), "a zip file with a/dream.safetensors in it. Unpack"),
    "tar": (tarred("read.me"), "a tar file, but not one of PyTorch's"),
    "tar of weights": (tarred("dream.ckpt"), "a tar file with dream.ckpt in it. Unpack it"),
    "npz": (numpy_file(np.savez), "a file of NumPy arrays, which is not supported"),
    "npy": (numpy_file(np.save), "a NumPy array"),
    "keras": (zipped(["metadata.json", "config.json", "model.weights.h5"]), "a Keras model.*as a safetensors file"),
    "mlpackage": (zipped(["a.mlpackage/Data/com.apple.CoreML/model.mlmodel"]), CORE_ML),
    "h5": (b"\x89HDF\r\n\x1a\n" + bytes(88), "a Keras model or another HDF5 file"),
    "ncnn param": (b"7767517\n75 83\nInput data 0 1 data\n", "an ncnn model"),
    "ncnn binary param": (b"\x9d\x85\x76\0" + bytes(99), "an ncnn model"),
    "ncnn weights": (b"\x47\x6b\x30\1" + bytes(range(99)), "an ncnn model"),
    "ONNX": (b"\x08\x08" + delimited(0x12, b"pytorch") + delimited(0x1A, b"2.1.0") + b":\x80\1", ONNX),
    "ONNX without a producer": (b"\x08\x07\x3a\x90\x01" + bytes(range(99)), ONNX),
    "Core ML": (
        b"\x08\4" + delimited(0x12, delimited(0x0A, delimited(0x0A, b"image") + b"\x1a\0")) + bytes(9),
        CORE_ML,
    ),
    "SavedModel": (b"\x08\1" + delimited(0x12, delimited(0x0A, b"\x12\5serve" * 30)), TENSORFLOW),
    "graph": (delimited(0x0A, delimited(0x0A, b"input") + delimited(0x12, b"Placeholder")) + bytes(99), TENSORFLOW),
    "TensorFlow checkpoint": (bytes(range(200, 256)) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", TENSORFLOW),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3" + bytes(99), "a TensorFlow Lite model"),
    "OpenVINO": (b'<?xml version="1.0"?>\n<net name="unet" version="11">', "an OpenVINO model"),
    "GGML": (b"tjgg\3\0\0\0" + bytes(99), "a GGML file"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG image. Choose another file"),
    "WebP": (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP image"),
    "program": (b"MZ\x90\0\3" + bytes(99), "a program"),
    "index": (b'{"metadata": {}, "weight_map": {"a": "model-00001.safetensors"}}', "the index of a model in several"),
    "adapter config": (b'{"peft_type": "LORA", "r": 8}', "the configuration of an adapter"),
    "config": (b'{"_class_name": "UNet2DConditionModel"}', "the configuration of a model"),
    "workflow": (b'{"3": {"class_type": "KSampler"}}', "a ComfyUI workflow"),
    "JSON": (b'{"a.weight": "b.weight"}', "a JSON text. Choose another file"),
    "text": (b"Once upon a time there was a file. " * 99, "a text that begins “Once upon .*…”. Choose another file"),
    "text that is longer than what is read": (
        b"x" * 4095 + "ä".encode(),
        "a text that begins “x*…”. Choose another file",
    ),
    "BMP": (b"BM\x36\x30\0\0\0\0\0\0\x36\0\0\0" + bytes(range(99)), "a BMP image. Choose another file"),
    "TIFF": (b"II*\0\x08\0\0\0" + bytes(range(99)), "a TIFF image. Choose another file"),
    "Matroska": (b"\x1aE\xdf\xa3" + bytes(range(99)), "a video"),
    "text that begins like a BMP image": (b"BMW, and other words. " * 99, "a text that begins “BMW, and .*…”"),
    "text that begins like an MP3": (b"ID3 is about tags. " * 99, "a text that begins “ID3 is .*…”"),
    "MP3": (b"ID3\4\0" + bytes(range(99)), "an audio file"),
    "office document": (zipped(["[Content_Types].xml", "word/document.xml"]), "a zip file, but not one of PyTorch's"),
    "XML": (b"<?xml version='1.0'?><svg>", "an XML text. Choose"),
    "tokenizer.json": (json.dumps({"version": "1.0", "added_tokens": []}).encode(), TOKENIZER),
    "tokenizer_config.json": (b'{"tokenizer_class": "CLIPTokenizer"}', TOKENIZER),
    "special_tokens_map.json": (b'{"additional_special_tokens": ["<|im_start|>"]}', TOKENIZER),
    "vocab.json": (b'{"!": 0, "\\"": 1, "#": 2, "$": 3}', TOKENIZER),
    "merges.txt": (b"#version: 0.2\ni n\nt h\n", TOKENIZER),
    "merges.txt without a version": ("\u0120 \u0120\ni n\n".encode() * 20, TOKENIZER),
    "tiktoken": (b"IQ== 0\nIg== 1\n" * 20, TOKENIZER),
    "vocab.txt": (b"[PAD]\n[unused0]\n", TOKENIZER),
    "SentencePiece": (b"\n\x0e\n\x05<pad>\x15\0\0\0\0\x18\x03\n\x0e\n\x05</s>", TOKENIZER),
}


def named(path: Path) -> CheckpointProblem:
    with pytest.raises(CheckpointProblem) as raised:
        read_header(path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300
    assert raised.value.remedy and path.name in raised.value.what
    return raised.value


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".gguf", ".bin"])
@pytest.mark.parametrize("name", FAILED)
def test_a_failed_download_is_named(name: str, suffix: str, tmp_path: Path) -> None:
    data, expected = FAILED[name]
    (tmp_path / f"model{suffix}").write_bytes(data)
    problem = named(tmp_path / f"model{suffix}")
    assert isinstance(problem, CheckpointDamaged) and "ownload" in problem.remedy
    assert re.search(expected, str(problem)), str(problem)


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".bin"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_healthy_file_of_another_kind_is_named(name: str, suffix: str, tmp_path: Path) -> None:
    data, expected = OTHERS[name]
    (tmp_path / f"model{suffix}").write_bytes(data)
    problem = named(tmp_path / f"model{suffix}")
    assert isinstance(problem, CheckpointUnknown), str(problem)
    assert re.search(f"is not a weights file: it is {expected}", str(problem)), str(problem)


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf", ".ckpt"])
def test_of_a_file_of_no_known_kind_not_only_a_download_is_advised(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"\xf0\x9f\xff\xf0" * 30)
    problem = named(tmp_path / f"model{suffix}")
    assert problem.remedy == "Choose another file, or download it again if it was a model"


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        (".onnx", ONNX),
        (".pb", TENSORFLOW),
        (".msgpack", "a Flax model"),
        (".mlmodel", CORE_ML),
        (".mnn", "an MNN model"),
    ],
)
def test_other_formats_by_their_suffix(suffix: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"\xf0\x9f\xff" * 30)
    assert f"it is {expected}, which" in str(named(tmp_path / f"model{suffix}"))


@pytest.mark.parametrize(("neighbour", "expected"), [(".param", "an ncnn model"), (".xml", "an OpenVINO model")])
def test_bare_numbers_are_named_by_the_file_next_to_them(neighbour: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(np.linspace(1, 2, 99, dtype=np.float32).tobytes())
    assert "as a pickle" in str(named(tmp_path / "model.bin"))
    (tmp_path / f"model{neighbour}").write_bytes(b"")
    assert expected in str(named(tmp_path / "model.bin"))


def test_a_pickle_that_is_text_is_not_called_text(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"I1\n.")
    assert weights_format(tmp_path / "a.pt") is WeightsFormat.PICKLE
    (tmp_path / "a.pt").write_bytes(b"I1\n0cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(CheckpointDangerous, match=r"os\.system\('true'\)"):
        load_weights(tmp_path / "a.pt")


def test_texts_are_utf_8_or_utf_16_and_printable() -> None:
    assert as_text("käse\r\n".encode()) == as_text("\ufeffkäse".encode("utf-16-le")) == "käse"
    assert as_text(b"a\xff") == as_text(b"a\0b") == ""
