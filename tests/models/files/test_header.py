"""One header for every format, read once and passed on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffstudio.errors import CheckpointDangerous, CheckpointMissing
from diffstudio.models.files import header as module
from diffstudio.models.files.gguf_header import GgufHeader
from diffstudio.models.files.header import Header, Headers, read_header
from diffstudio.models.files.pickle_scan import PickleScan
from diffstudio.models.files.quantized_reader import GgufWeights, open_rows
from diffstudio.models.files.safetensors_header import SafetensorsHeader
from diffstudio.models.files.weights_reader import PickleWeights, SafetensorsWeights, load_weights, open_weights
from tests.models.headers import write_header

SHAPES = {"a.weight": (2, 3), "b": (4,)}


def in_format(suffix: str, folder: Path) -> Path:
    path = folder / f"model{suffix}"
    match suffix:
        case ".gguf":
            import gguf
            import numpy as np

            writer = gguf.GGUFWriter(path, "test")
            for name, shape in SHAPES.items():
                writer.add_tensor(name, np.zeros(shape, np.float32))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
        case ".ckpt":
            torch.save({"state_dict": {name: torch.zeros(shape) for name, shape in SHAPES.items()}}, path)
        case _:
            write_header(path, SHAPES, "F32")
    return path


@pytest.mark.parametrize(
    ("suffix", "content"), [(".safetensors", SafetensorsHeader), (".gguf", GgufHeader), (".ckpt", PickleScan)]
)
def test_a_header_is_read_by_the_suffix(suffix: str, content: type, tmp_path: Path) -> None:
    path = in_format(suffix, tmp_path)
    header = read_header(path)
    assert type(header.content) is content and header.path == path
    assert dict(header.shapes) == SHAPES and header.stamp.size_bytes == path.stat().st_size
    header.check()
    assert header.is_of(path) and not header.is_of(tmp_path)
    path.write_bytes(path.read_bytes() + b"x")
    assert not header.is_of(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing):
        read_header(tmp_path / "none.safetensors")


def test_a_dangerous_pickle_is_read_and_refused_when_it_is_checked(tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    header = read_header(tmp_path / "bad.pt")
    with pytest.raises(CheckpointDangerous, match="os.system"):
        header.check()


def test_headers_are_read_once_while_their_files_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = in_format(".safetensors", tmp_path), list[Path]()

    def counted(path: Path) -> Header:
        read.append(path)
        return read_header(path)

    monkeypatch.setattr(module, "read_header", counted)
    headers = Headers()
    assert headers.of(path) is headers.of(path) and read == [path]
    assert Headers([headers.of(path)]).of(path) is headers.of(path) and read == [path]
    write_header(path, {"c": (1,)}, "F32")
    assert dict(headers.of(path).shapes) == {"c": (1,)} and read == [path, path]


def test_weights_are_opened_with_a_header_that_was_read(tmp_path: Path) -> None:
    for suffix, kind in ((".safetensors", SafetensorsWeights), (".ckpt", PickleWeights)):
        path = in_format(suffix, tmp_path)
        with open_weights(path, read_header(path)) as file:
            assert type(file) is kind and {name: file.shape(name) for name in file.names()} == SHAPES
        assert dict(open_rows(path, read_header(path)).shapes) == SHAPES
    path = in_format(".gguf", tmp_path)
    rows = open_rows(path, read_header(path))
    assert isinstance(rows, GgufWeights) and dict(rows.shapes) == SHAPES


def test_a_header_of_a_file_that_changed_is_not_used(tmp_path: Path) -> None:
    path = in_format(".safetensors", tmp_path)
    stale = read_header(path)
    write_header(path, {"c": (7,)}, "F32")
    assert {name: tuple(tensor.shape) for name, tensor in load_weights(path, stale).items()} == {"c": (7,)}
    other = read_header(path)
    pickle = in_format(".ckpt", tmp_path)
    assert set(load_weights(pickle, other)) == set(SHAPES)  # nor that of another file
