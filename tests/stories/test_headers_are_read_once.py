"""Between finding a checkpoint in the library and the loaded model, each file's header is read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diffstudio import paths
from diffstudio.models import loading
from diffstudio.models.files import gguf_header, header, pickle_scan, safetensors_header
from diffstudio.models.files import quantized_reader as rows
from diffstudio.models.files import weights_reader as weights
from diffstudio.models.library.library import Library
from diffstudio.models.library.overrides import Overrides
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.tools import convert
from tests.models.small_files import made, small_world
from tests.models.tiny import write_tiny_checkpoint

__all__ = ["small_world"]
CPU = torch.device("cpu")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often each file's header was read, by its path."""
    count: Counter[Path] = Counter()
    for name, real in (
        ("read_safetensors_header", safetensors_header.read_safetensors_header),
        ("read_gguf_header", gguf_header.read_gguf_header),
        ("scan_pickle", pickle_scan.scan_pickle),
    ):

        def counted(path: Path, real: Callable[[Path], object] = real) -> object:
            count[path] += 1
            return real(path)

        for module in (header, weights, rows):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, counted)
    return count


def test_a_file_that_was_found_for_the_first_time(reads: Counter[Path]) -> None:
    cats = write_tiny_checkpoint(paths.checkpoints() / "cats.safetensors")
    dogs = write_tiny_checkpoint(paths.checkpoints() / "dogs.safetensors")
    library = Library()
    loading.load(library.find("cats"), CPU)
    assert reads[cats] == reads[dogs] == 1
    assert all(not checkpoint.headers for checkpoint in library.scan())  # a thousand of them would fill the memory
    reads.clear()
    loading.load(library.find("cats"), CPU)
    loading.load(library.find(dogs), CPU)
    assert reads == {cats: 1, dogs: 1}
    reads.clear()
    loading.load(Library().find("dogs"), CPU)  # the next start, which remembers both records
    assert reads == {dogs: 1}


def test_a_file_that_changed_after_it_was_found_is_read_again(reads: Counter[Path]) -> None:
    path = write_tiny_checkpoint(paths.checkpoints() / "cats.safetensors")
    found = Library().find("cats")
    write_tiny_checkpoint(path, width=32)
    known = header.Headers(found.headers)
    assert found.header is not None and known.of(path) != found.header
    assert known.of(path) is known.of(path) and reads[path] == 2


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt", "folder"])
def test_a_latent_model_in_one_file_or_in_a_folder(
    suffix: str, reads: Counter[Path], small_world: Callable[[str], Path]
) -> None:
    folder = small_world("sd1")
    if suffix == "folder":
        path = paths.checkpoints() / "small"
        path.parent.mkdir(parents=True)
        path.symlink_to(folder, target_is_directory=True)
    else:
        path = paths.checkpoints() / "small.safetensors"
        path.parent.mkdir(parents=True)
        made(convert.convert(read_checkpoint(folder), path))
        if suffix == "ckpt":
            from safetensors.torch import load_file

            torch.save({"state_dict": load_file(path)}, path.with_suffix(".ckpt"))
            path.unlink()
            path = path.with_suffix(".ckpt")
        Overrides().put(read_checkpoint(path), family="sd1")
    reads.clear()
    loading.load(Library().find("small"), CPU, torch.float32)
    assert reads and set(reads.values()) == {1}, reads
