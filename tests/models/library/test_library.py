"""The library: what is found, under which names, and what is said about the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffstudio import paths
from diffstudio.errors import CheckpointDamaged, CheckpointMissing
from diffstudio.models.checkpoint import Origin
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from tests.models.headers import controlnet, write_header
from tests.models.tiny import CLASSES, write_tiny_checkpoint


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = write_tiny_checkpoint(tmp_path / "resources" / "starter" / "starter.safetensors")
    monkeypatch.setattr(paths, "starter", lambda: path)
    return path


def test_the_starter_is_first_then_runs_and_files_with_their_origin(starter: Path) -> None:
    write_tiny_checkpoint(paths.runs() / "cats" / "checkpoints" / "latest.safetensors", conditioning=Conditioning.CLASS)
    write_tiny_checkpoint(paths.checkpoints() / "deep" / "folder" / "dogs.safetensors")
    found = {checkpoint.name: checkpoint for checkpoint in Library().scan()}
    assert next(iter(found)) == "starter" and set(found) == {"starter", "cats", "dogs"}
    assert found["starter"].origin is Origin.STARTER and found["starter"].path == starter
    assert found["cats"].origin is Origin.TRAINED and found["cats"].classes == CLASSES
    assert found["dogs"].family == "pixel" and (found["dogs"].width, found["dogs"].height) == (16, 16)


def test_what_else_is_included_follows_the_starter_and_keeps_its_name(starter: Path) -> None:
    other = write_tiny_checkpoint(starter.with_name("another.safetensors"))
    os.utime(other, (1, 1))
    write_tiny_checkpoint(paths.runs() / "another" / "checkpoints" / "latest.safetensors")
    library = Library()
    first, second, third = library.scan()
    assert (first.path, second.path) == (starter, other) and (first.origin, second.origin) == (
        Origin.STARTER,
        Origin.INCLUDED,
    )
    assert (first.name, second.name, third.name) == ("starter", "another", "another-2")
    assert library.find("another").path == other and library.find("another-2").origin is Origin.TRAINED


def test_a_run_inside_the_models_folder_is_listed_once(starter: Path) -> None:
    write_tiny_checkpoint(paths.runs() / "cats" / "checkpoints" / "latest.safetensors")
    write_tiny_checkpoint(paths.runs() / "cats" / "checkpoints" / "00000500.safetensors")
    names = [checkpoint.name for checkpoint in Library([paths.data(), paths.data()]).scan()]
    assert names == ["starter", "cats"]


def test_what_a_killed_export_left_is_no_model(starter: Path) -> None:
    left = paths.checkpoints() / "photographs-diffusers.part"
    write_tiny_checkpoint(left / "unet" / "diffusion_pytorch_model.safetensors")
    write_tiny_checkpoint(paths.checkpoints() / "whole" / "one.safetensors")
    assert [found.name for found in Library().scan()] == ["starter", "one"]
    (left / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    library = Library()
    assert [found.name for found in library.scan()] == ["starter", "one"] and not library.problems


def test_names_are_unique_and_find_gives_back_what_scan_named(starter: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_tiny_checkpoint(tmp_path / folder / "cats.safetensors")
    write_tiny_checkpoint(tmp_path / "one" / "starter.safetensors")
    write_tiny_checkpoint(paths.runs() / "cats" / "checkpoints" / "latest.safetensors")
    library = Library([tmp_path / "one", tmp_path / "two"])
    found = library.scan()
    assert sorted(checkpoint.name for checkpoint in found) == ["cats", "cats-2", "cats-3", "starter", "starter-2"]
    assert library.find("cats").origin is Origin.TRAINED
    for checkpoint in found:
        assert library.find(checkpoint.name) == checkpoint
        assert Library(library.folders).find(checkpoint.name).path == checkpoint.path
        assert library.find(str(checkpoint.path)).path == checkpoint.path


def test_files_that_are_all_called_alike_go_by_their_folders(starter: Path) -> None:
    folder = paths.checkpoints() / "control_canny"
    folder.mkdir(parents=True)
    write_header(folder / "diffusion_pytorch_model.fp16.safetensors", controlnet("sd1"))
    (folder / "config.json").write_text("{}")
    write_header(paths.checkpoints() / "model.safetensors", controlnet("sd1"))  # which is what somebody called it
    assert {found.name for found in Library().scan()} == {"starter", "control_canny", "model"}


def test_a_path_outside_all_folders_can_be_used(starter: Path, tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "elsewhere" / "mine.safetensors")
    assert Library().find(path).name == "mine"
    with pytest.raises(CheckpointMissing, match="There is no checkpoint at"):
        Library().find(tmp_path / "not there.safetensors")


def test_a_name_that_is_not_there_brings_up_near_ones(starter: Path) -> None:
    write_tiny_checkpoint(paths.checkpoints() / "blue cats.safetensors")
    with pytest.raises(CheckpointMissing, match="Choose one of: blue cats"):
        Library().find("blu cat")
    with pytest.raises(CheckpointMissing, match="Choose one of: starter, blue cats"):
        Library().find("zzzzzzz")
    for number in range(6):
        write_tiny_checkpoint(paths.checkpoints() / f"{number}{number}{number}.safetensors")
    with pytest.raises(CheckpointMissing, match=r"Choose another one, such as blue cats \(7 more\)"):
        Library().find("blu cat")
    with pytest.raises(CheckpointMissing, match=r"such as starter, .* \(3 more\)"):  # not the list of all
        Library().find("zzzzzzz")


def test_damaged_files_are_named_with_why_and_the_rest_is_listed(starter: Path) -> None:
    whole = write_tiny_checkpoint(paths.checkpoints() / "whole.safetensors").read_bytes()
    (paths.checkpoints() / "short.safetensors").write_bytes(whole[:-100])
    (paths.checkpoints() / "text.safetensors").write_text("not weights")
    (paths.checkpoints() / "empty.safetensors").write_bytes(b"")
    library = Library()
    assert [checkpoint.name for checkpoint in library.scan()] == ["starter", "whole"]
    assert sorted(path.stem for path, _ in library.problems) == ["empty", "short", "text"]
    assert all(isinstance(error, CheckpointDamaged) for _, error in library.problems)
    with pytest.raises(CheckpointDamaged, match="short.safetensors"):
        library.find("short")


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(
    starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_checkpoint(paths.checkpoints() / "cats.safetensors")
    library = Library()
    library.scan()
    from diffstudio.models.library import library as module

    read: list[Path] = []
    real = module.read_checkpoint
    monkeypatch.setattr(
        module, "read_checkpoint", lambda path, **options: (read.append(path), real(path, **options))[1]
    )
    library.scan()
    assert read == []
    write_tiny_checkpoint(path, conditioning=Conditioning.CLASS)
    os.utime(path, ns=(1, 1))
    assert library.scan()[-1].classes == CLASSES and read == [path]


def test_without_a_starter_the_name_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "starter", lambda: tmp_path / "starter.safetensors")
    assert Library().scan() == []
    with pytest.raises(CheckpointMissing, match="The starter checkpoint is not installed"):
        Library().find("starter")


def test_a_link_to_itself_does_not_end_the_scan(starter: Path, tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path / "models" / "a.safetensors")
    (tmp_path / "models" / "loop").symlink_to("loop")
    assert [found.name for found in Library([tmp_path / "models"]).scan()] == ["starter", "a"]


def test_a_list_of_model_folders_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "comfy" / "models" / "checkpoints").mkdir(parents=True)
    write_tiny_checkpoint(tmp_path / "elsewhere" / "a.safetensors")
    extra = tmp_path / "comfy" / "extra_model_paths.yaml"
    extra.write_text(f"mine:\n  checkpoints: {tmp_path / 'elsewhere'}\n")
    library = Library([tmp_path / "comfy"])
    assert "a" in [found.name for found in library.scan()] and not library.problems
    for damaged in ("mine: [", "\udcff"):
        extra.write_bytes(damaged.encode("utf-8", "surrogateescape"))
        assert "a" not in [found.name for found in library.scan()]
        ((path, error),) = library.problems
        assert path == extra and "the model folders that it names are missing here" in str(error)


def test_looking_through_folders_loads_no_torch() -> None:
    code = (
        "import sys; from diffstudio.models.library.library import Library; Library().scan(); import diffstudio.studio.worker; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
