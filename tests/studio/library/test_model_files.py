"""A model is renamed with everything that belongs to it, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio import paths
from diffstudio.errors import BadRequest, StorageProblem
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.detection.types import Role
from diffstudio.models.library.library import Library
from diffstudio.models.library.overrides import Overrides
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.library.model_files import name_problem, rename, run_of, sidecars_of, why_not_renamed
from tests.models.headers import write_header

LAYER = "lora_unet_mid_block_attentions_0_proj_in"
LORA = {f"{LAYER}.lora_down.weight": (4, 1280), f"{LAYER}.lora_up.weight": (1280, 4)}
SIDECARS = (".preview.png", ".json", ".civitai.info", ".txt", ".yaml", ".vae.safetensors")


@pytest.fixture
def ink(tmp_path: Path) -> Checkpoint:
    """With sidecars of every kind, beside another model whose name begins alike."""
    folder = tmp_path / "loras"
    path = write_header(folder / "ink.safetensors", LORA)
    write_header(folder / "ink.v2.safetensors", LORA)
    for ending in (*SIDECARS, ".v2.preview.png", ".v2.json", "well.txt"):
        (folder / f"ink{ending}").write_text("{}")
    return read_checkpoint(path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_sidecars_are_those_of_this_model_alone(ink: Checkpoint) -> None:
    assert [path.name for path in sidecars_of(ink.path)] == sorted(f"ink{ending}" for ending in SIDECARS)
    assert [path.name for path in sidecars_of(ink.path.with_name("ink.v2.safetensors"))] == [
        "ink.v2.json",
        "ink.v2.preview.png",
    ]
    assert sidecars_of(ink.path.with_name("none") / "a.ckpt") == []


def test_a_model_is_renamed_with_its_sidecars_and_its_type(ink: Checkpoint) -> None:
    Overrides().put(ink, family="sdxl")
    new = rename(ink, " brush ")
    assert new == ink.path.with_name("brush.safetensors") and new.is_file()
    expected = [f"brush{ending}" for ending in (".safetensors", *SIDECARS)]
    assert names(new.parent) == sorted(
        [*expected, "ink.v2.safetensors", "ink.v2.preview.png", "ink.v2.json", "inkwell.txt"]
    )
    stored = json.loads(paths.overrides().read_text())["files"]
    assert list(stored) == [str(new)] and stored[str(new)]["family"] == "sdxl"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "Enter a name"),
        ("a/b", "must not contain"),
        (".hidden", "must not contain"),
        ("end.", "must not contain"),
        ("a\nb", "must not contain"),
        ("aux", "cannot be used"),
        ("n" * 300, "cannot be used"),
        ("ink.v2", "ink.v2.safetensors already exists"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_with_the_reason(ink: Checkpoint, name: str, why: str) -> None:
    before = names(ink.path.parent)
    assert why in name_problem(ink, name)
    with pytest.raises(BadRequest, match=why.replace(".", r"\.")):
        rename(ink, name)
    assert names(ink.path.parent) == before


def test_a_sidecar_in_the_way_keeps_everything_as_it_is(ink: Checkpoint) -> None:
    ink.path.with_name("brush.json").write_text("another's")
    assert name_problem(ink, "brush") == "brush.json already exists. Choose another name."


def test_when_one_file_cannot_be_renamed_none_is(ink: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name == "ink.yaml":
            raise OSError(13, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    before = names(ink.path.parent)
    with pytest.raises(StorageProblem, match="Permission denied"):
        rename(ink, "brush")
    assert names(ink.path.parent) == before


def test_when_its_type_cannot_be_saved_nothing_is_renamed(ink: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Overrides, old: Path, new: Path) -> None:
        raise StorageProblem("models.json cannot be written")

    monkeypatch.setattr(Overrides, "moved", fails)
    before = names(ink.path.parent)
    with pytest.raises(StorageProblem):
        rename(ink, "brush")
    assert names(ink.path.parent) == before


def test_a_peft_adapter_and_a_diffusers_folder_are_renamed_as_folders(tmp_path: Path) -> None:
    adapter = tmp_path / "loras" / "cats"
    key = "base_model.model.mid_block.attentions.0.proj_in"
    write_header(
        adapter / "adapter_model.safetensors", {f"{key}.lora_A.weight": (4, 1280), f"{key}.lora_B.weight": (1280, 4)}
    )
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 4}))
    assert rename(read_checkpoint(adapter), "dogs") == tmp_path / "loras" / "dogs" / "adapter_model.safetensors"
    assert names(tmp_path / "loras") == ["dogs"]
    folder = tmp_path / "sdxl"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    (tmp_path / "sdxl.preview.png").write_text("")
    record = replace(read_checkpoint(tmp_path / "loras" / "dogs"), path=folder, name="sdxl", role=Role.CHECKPOINT)
    assert rename(record, "xl") == tmp_path / "xl"
    assert (tmp_path / "xl" / "model_index.json").is_file() and (tmp_path / "xl.preview.png").is_file()


def test_the_starter_and_the_checkpoint_of_a_run_keep_their_names(ink: Checkpoint) -> None:
    of_run = replace(ink, path=paths.runs() / "shapes" / "checkpoints" / "latest.safetensors")
    assert run_of(of_run.path) == paths.runs() / "shapes" and run_of(ink.path) is None
    assert "the run shapes" in why_not_renamed(of_run)
    assert "starter" in why_not_renamed(replace(ink, origin=Origin.STARTER)) and not why_not_renamed(ink)
    with pytest.raises(BadRequest, match="the run shapes"):
        rename(of_run, "x")


def test_the_library_finds_it_under_the_new_name(ink: Checkpoint) -> None:
    rename(ink, "brush")
    assert {one.name for one in Library((ink.path.parent,)).scan()} >= {"brush", "ink.v2"}


def test_only_the_case_can_change(ink: Checkpoint) -> None:
    assert rename(ink, "Ink").name == "Ink.safetensors"
