"""Every place that takes a model's name finds it the same way, and suggests similar names where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diffstudio import paths
from diffstudio.errors import CheckpointMissing
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.library import Library
from diffstudio.models.library.lookup import find_vae, similar_names, stem_of
from diffstudio.studio.generation.controlnets import find_controlnet
from diffstudio.studio.generation.loras import find_lora
from diffstudio.studio.generation.upscaler_lookup import find_upscaler
from tests.models import headers
from tests.models.headers import write_header
from tests.models.tiny import write_tiny_checkpoint

Find = Callable[[Library, str], Checkpoint | None]
ESRGAN = {
    "conv_first.weight": (64, 3, 3, 3),
    "body.0.rdb1.conv1.weight": (32, 64, 3, 3),
    "conv_last.weight": (3, 64, 3, 3),
}
LORA = {
    "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (4, 320, 1, 1),
    "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": (320, 4, 1, 1),
}
# the function, the name of the model on the disk, the remedy where there is none
LOOKUPS: dict[str, tuple[Find, str, str]] = {
    "LoRA": (find_lora, "Ink Style", "Put its .safetensors file into a models folder"),
    "ControlNet": (find_controlnet, "canny-edges", "Put its file into a models folder"),
    "upscaler": (lambda library, name: find_upscaler(name, library), "4x-sharp", "Choose one of: lanczos"),
    "VAE": (find_vae, "clear-vae", "Put its file into a models folder"),
}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setattr(paths, "starter", lambda: tmp_path / "no-starter.safetensors")
    folder = paths.checkpoints()
    folder.mkdir(parents=True)
    write_header(folder / "Ink Style.safetensors", LORA, metadata={"ss_output_name": "ink-by-training"})
    write_header(folder / "canny-edges.safetensors", headers.controlnet("sd1"))
    write_header(folder / "4x-sharp.safetensors", ESRGAN)
    write_header(folder / "clear-vae.safetensors", headers.ldm_vae())
    write_header(folder / "letters.safetensors", headers.clip())
    return Library()


@pytest.mark.parametrize("kind", LOOKUPS)
def test_a_model_is_found_by_its_name_in_any_case_and_by_its_path(kind: str, library: Library) -> None:
    find, name, _ = LOOKUPS[kind]
    path = paths.checkpoints() / f"{name}.safetensors"
    for called in (name, name.upper(), name.lower(), str(path)):
        found = find(library, called)
        assert found is not None and found.path == path


@pytest.mark.parametrize("kind", LOOKUPS)
def test_a_name_that_stands_for_nothing_suggests_those_that_are_similar(kind: str, library: Library) -> None:
    find, name, _ = LOOKUPS[kind]
    with pytest.raises(CheckpointMissing, match=f"There is no {kind} called '{name[:-1]}x'.*Choose one of: {name}"):
        find(library, f"{name[:-1]}x")
    with pytest.raises(CheckpointMissing, match=f"There is no {kind} called 'qqq'.*Choose one of: {name}"):
        find(library, "qqq")  # similar to none, so all that there are
    with pytest.raises(CheckpointMissing, match=f"There is no {kind} called ''"):
        find(library, "")


@pytest.mark.parametrize("kind", LOOKUPS)
def test_a_model_of_another_kind_is_not_taken(kind: str, library: Library) -> None:
    find, name, _ = LOOKUPS[kind]
    article = "an" if kind == "upscaler" else "a"
    with pytest.raises(CheckpointMissing, match=f"'letters': letters is not {article} {kind}. Choose one of: {name}"):
        find(library, "letters")


@pytest.mark.parametrize("kind", LOOKUPS)
def test_where_there_is_none_it_is_said_how_to_get_one(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, name, remedy = LOOKUPS[kind]
    monkeypatch.setattr(paths, "starter", lambda: tmp_path / "no-starter.safetensors")
    with pytest.raises(CheckpointMissing, match=f"There is no {kind} called '{name}'. {remedy}"):
        find(Library([tmp_path]), name)


def test_a_checkpoint_is_found_by_its_name_and_suggested(library: Library) -> None:
    with pytest.raises(CheckpointMissing, match="There is no checkpoint called 'dgos'. Train one"):
        library.find("dgos")
    write_tiny_checkpoint(paths.checkpoints() / "dogs.safetensors")
    assert library.find("dogs").family == "pixel"
    with pytest.raises(CheckpointMissing, match="There is no checkpoint called 'dgos'. Choose one of: dogs"):
        library.find("dgos")


def test_a_lora_is_also_found_by_the_name_that_its_trainer_gave_it(library: Library) -> None:
    assert find_lora(library, "Ink-By-Training").name == "Ink Style"


def test_a_vae_may_be_that_of_a_whole_checkpoint(library: Library) -> None:
    write_header(paths.checkpoints() / "whole.safetensors", headers.whole("sd1"))
    assert find_vae(library, "whole").family == "sd1"


def test_names_are_compared_by_their_letters() -> None:
    assert similar_names("dgos", ["cats", "dogs", "dogs 2"]) == ["dogs", "dogs 2"]
    assert similar_names("dgos", ["cats", "dogs", "dogs 2"], most=1) == ["dogs"]
    assert similar_names("", ["cats"]) == []
    assert stem_of(r"..\far\Ink Style.safetensors") == "Ink Style"
