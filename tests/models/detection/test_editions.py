"""Editions of a family with the same tensors, and the settings that each is recommended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.models.detection.detect import detect
from diffstudio.models.detection.editions import EDITIONS, is_unclear, named_edition
from diffstudio.models.detection.families_table import FAMILIES, recommended_settings
from diffstudio.models.library.overrides import Overrides
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.recommended import recommended_values
from tests.models import headers
from tests.models.headers import write_header


@pytest.mark.parametrize(
    ("name", "edition"),
    [
        ("z_image_turbo_bf16", "Turbo"),
        ("zImageTurbo_v10", "Turbo"),
        ("style_ZIT_v2", "Turbo"),
        ("z_image_bf16", "Base"),  # as Comfy-Org calls Base
        ("Z-Image", "Base"),
        ("Tongyi-MAI/Z-Image", "Base"),
        ("z-image-Q4_K_M", "Base"),
        ("z_image_base_fp8_scaled", "Base"),
        ("zImageBase_base", "Base"),
        ("Z-Image-Omni-Base", "Omni"),
        ("moodyMix_v3", ""),
        ("z_image_finetune", ""),
        ("database", ""),
    ],
)
def test_editions_by_name(name: str, edition: str) -> None:
    assert named_edition("z_image", name) == edition
    assert named_edition("z_image", "Z-Image-Turbo", name) == "Turbo"  # the first text that says so
    assert named_edition("sdxl", name) == "" and is_unclear("z_image", edition) == (edition == "")


def test_every_edition_is_of_a_known_family() -> None:
    assert set(EDITIONS) <= set(FAMILIES) and all(len(set(names)) == len(names) > 1 for names in EDITIONS.values())


@pytest.mark.parametrize(
    ("family", "edition", "steps", "guidance"),
    [
        ("z_image", "Turbo", 9, 0.0),
        ("z_image", "", 9, 0.0),
        ("z_image", "Base", 50, 5.0),
        ("z_image", "Omni", 50, 5.0),
        ("flux", "schnell", 4, 0.0),
        ("flux", "dev", 28, 3.5),
        ("sd3", "3.5 large Turbo", 4, 1.0),
        ("sd3", "3.5 large", 28, 4.5),
        ("sdxl", "Turbo", 4, 1.0),
        ("sdxl", "Lightning", 8, 1.0),
        ("sdxl", "LCM", 8, 1.5),
        ("qwen_image", "Lightning", 8, 1.0),
    ],
)
def test_settings_of_editions(family: str, edition: str, steps: int, guidance: float) -> None:
    usual = recommended_settings(family, edition)
    assert usual is not None and (usual.steps, usual.guidance) == (steps, guidance)


def test_a_chosen_base_is_believed_over_the_name() -> None:
    assert recommended_settings("sdxl", "Base", "my-turbo-mix") == FAMILIES["sdxl"]


def test_files_say_their_edition_by_metadata_name_and_tensors(tmp_path: Path) -> None:
    shapes = headers.comfy_z_image()
    base = read_checkpoint(write_header(tmp_path / "z_image_bf16.safetensors", shapes))
    assert base.edition == "Base"
    assert recommended_values(base) == recommended_values(base) | {"steps": 50, "guidance": 5.0}
    said = write_header(tmp_path / "mix.safetensors", shapes, metadata={"modelspec.architecture": "Z-Image-Turbo"})
    assert read_checkpoint(said).edition == "Turbo"
    unclear = read_checkpoint(write_header(tmp_path / "other.safetensors", shapes))
    assert unclear.edition == "" and unclear.reason.endswith("says whether it is Turbo or Base.")
    omni = detect(shapes | {"siglip_embedder.1.weight": (3840, 1152), "siglip_pad_token": (1, 3840)}, {})
    assert (omni.family, omni.edition) == ("z_image", "Omni")


@pytest.mark.parametrize(
    ("pipeline", "family", "edition"),
    [
        ("ZImageOmniPipeline", "z_image", "Omni"),
        ("ZImagePipeline", "z_image", "Base"),
        ("QwenImageEditPlusPipeline", "qwen_image", "Edit"),
    ],
)
def test_folders_say_their_edition(tmp_path: Path, pipeline: str, family: str, edition: str) -> None:
    folder = tmp_path / "Z-Image"
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    read = read_checkpoint(folder)
    assert (read.family, read.edition) == (family, edition)


def test_an_edition_can_be_set_and_must_be_known(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_header(tmp_path / "mix.safetensors", headers.comfy_z_image()))
    overrides = Overrides(tmp_path / "models.json")
    overrides.put(checkpoint, edition="Base")
    now = Overrides(tmp_path / "models.json").applied(checkpoint)
    assert (now.family, now.edition, now.reason) == ("z_image", "Base", "Set by you: Base.")
    with pytest.raises(BadRequest, match="no edition called 'Ultra'"):
        overrides.put(checkpoint, edition="Ultra")


def test_a_value_of_another_type_is_named(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"format": 1, "files": {"/mix.safetensors": {"family": "sd1", "sha256": 3}}}))
    with pytest.raises(CheckpointDamaged, match="sha256 is 3, and it must be text"):
        Overrides(file)
