"""A model is renamed with everything that belongs to it, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio import atomic, paths
from diffstudio.errors import BadRequest, StorageProblem
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.detection.types import Role
from diffstudio.models.library.library import Library
from diffstudio.models.library.overrides import Overrides
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio import settings
from diffstudio.studio.library import model_files
from diffstudio.studio.library.model_files import name_problem, own_path, rename, run_of, sidecars_of, why_not_renamed
from diffstudio.studio.settings import Settings
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
        ("con.v2", "cannot be used"),
        ("n" * 300, "cannot be used"),
        ("水" * 100, "cannot be used"),  # 300 bytes
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
    real = atomic.rename

    def fails(source: Path, target: Path) -> None:
        if source.name == "ink.yaml":
            raise OSError(13, "Permission denied")
        real(source, target)

    monkeypatch.setattr(atomic, "rename", fails)
    before = names(ink.path.parent)
    with pytest.raises(StorageProblem, match="Permission denied"):
        rename(ink, "brush")
    assert names(ink.path.parent) == before


def test_a_file_that_appears_meanwhile_is_not_overwritten(ink: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "name_problem", lambda checkpoint, name: "")  # it was free when that was checked
    taken = ink.path.with_name("brush.txt")
    taken.write_text("another program's")
    before = names(ink.path.parent)
    with pytest.raises(BadRequest, match=r"brush\.txt already exists"):
        rename(ink, "brush")
    assert names(ink.path.parent) == before and taken.read_text() == "another program's"


@pytest.mark.parametrize("other", ["twin.ckpt", "twin/model_index.json"])
def test_sidecars_stay_where_another_model_has_the_same_name(tmp_path: Path, other: str) -> None:
    twin = write_header(tmp_path / "loras" / "twin.safetensors", LORA)
    for name in ("twin.png", "twin.vae.pt"):
        (twin.parent / name).write_text("")
    assert [path.name for path in sidecars_of(twin)] == ["twin.png", "twin.vae.pt"]
    (twin.parent / other).parent.mkdir(exist_ok=True)
    (twin.parent / other).write_text("")
    assert sidecars_of(twin) == [] and sidecars_of(twin.parent / other.partition("/")[0]) == []
    new = rename(read_checkpoint(twin), "brush")
    assert {"brush.safetensors", "twin.png", "twin.vae.pt"} < set(names(new.parent))


PEFT = "base_model.model.mid_block.attentions.0.proj_in"


def peft_adapter(folder: Path) -> Path:
    path = write_header(
        folder / "adapter_model.safetensors", {f"{PEFT}.lora_A.weight": (4, 1280), f"{PEFT}.lora_B.weight": (1280, 4)}
    )
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 4}))
    return path


def test_the_folder_of_an_adapter_is_what_is_moved(tmp_path: Path) -> None:
    path = peft_adapter(tmp_path / "loras" / "cats")
    for name in ("README.md", "adapter_model.png", "adapter_model.bin", "training_args.bin"):
        (path.parent / name).write_text("")
    assert own_path(path) == path.parent and sidecars_of(path) == [], "they are inside what is moved"


@pytest.mark.parametrize(
    ("folder", "other"),
    [
        ("loras", ""),
        ("mine", "ink.safetensors"),
        ("mine", "flowers/ink.safetensors"),
        ("mine", "flowers/deeper/ink.gguf"),
        ("mine", "sdxl/model_index.json"),
        ("mine", "model_index.json"),
    ],
)
def test_an_adapter_beside_other_models_does_not_take_their_folder_along(
    tmp_path: Path, folder: str, other: str
) -> None:
    path = peft_adapter(tmp_path / folder)
    if other:
        (path.parent / other).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / other).write_text("")
    (path.parent / "adapter_model.png").write_text("")
    assert own_path(path) == path
    assert sidecars_of(path) == [path.with_name("adapter_config.json"), path.with_name("adapter_model.png")]


def test_an_adapter_in_a_folder_that_is_searched_does_not_take_it_along(tmp_path: Path) -> None:
    for folder in (paths.checkpoints(), tmp_path / "added", tmp_path):
        settings.save(Settings(model_folders=(tmp_path / "added",)))
        path = peft_adapter(folder)
        assert own_path(path) == path
        new = rename(read_checkpoint(path), "brush")
        assert names(folder)[0] == "adapter_config.json" and new == folder / "brush.safetensors"
        assert read_checkpoint(new).supported
        new.unlink()


def test_an_adapter_that_would_lose_its_config_is_not_renamed(tmp_path: Path) -> None:
    path = peft_adapter(tmp_path / "loras")
    write_header(path.with_name("ink.safetensors"), LORA)
    before = names(path.parent)
    with pytest.raises(BadRequest, match=r"adapter_config\.json, which belongs to adapter_model\.safetensors"):
        rename(read_checkpoint(path), "brush")
    assert names(path.parent) == before


def test_when_its_type_cannot_be_saved_nothing_is_renamed(ink: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Overrides, old: Path, new: Path) -> None:
        raise StorageProblem("models.json cannot be written")

    monkeypatch.setattr(Overrides, "moved", fails)
    before = names(ink.path.parent)
    with pytest.raises(StorageProblem):
        rename(ink, "brush")
    assert names(ink.path.parent) == before


def test_a_peft_adapter_and_a_diffusers_folder_are_renamed_as_folders(tmp_path: Path) -> None:
    assert (
        rename(read_checkpoint(peft_adapter(tmp_path / "loras" / "cats")), "dogs")
        == tmp_path / "loras" / "dogs" / "adapter_model.safetensors"
    )
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
    assert "comes with the program" in why_not_renamed(replace(ink, origin=Origin.INCLUDED)) and not why_not_renamed(
        ink
    )
    with pytest.raises(BadRequest, match="the run shapes"):
        rename(of_run, "x")


def test_the_library_finds_it_under_the_new_name(ink: Checkpoint) -> None:
    rename(ink, "brush")
    assert {one.name for one in Library((ink.path.parent,)).scan()} >= {"brush", "ink.v2"}


def test_only_the_case_can_change(ink: Checkpoint) -> None:
    assert rename(ink, "Ink").name == "Ink.safetensors"
