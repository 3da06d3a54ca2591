"""LoRAs from the prompt to the picture: tags, names, what is attached to the model that the worker keeps, what the file
says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffstudio import paths
from diffstudio.cli import main
from diffstudio.errors import CheckpointMissing
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.library.library import Library
from diffstudio.models.library.training_metadata import suggested_words
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.events import Failed, ImageSaved, Noted
from diffstudio.studio.generation.loras import autov3, find_lora, is_for_unsupported, misfit
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest
from tests.models import small
from tests.models.adapter_files import kohya, layers, write
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.a_studio import Studio

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # diffusers', with NumPy 2
REQUEST = GenerateRequest(prompt="a red apple", checkpoint="small", steps=2, sampler="euler", width=64, height=64)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pipe() -> Any:
    return small.small_sd1()


@pytest.fixture
def shelf(pipe: Any) -> Path:
    """A checkpoint of Stable Diffusion 1, and LoRAs beside it."""
    folder = paths.checkpoints()
    pipe.save_pretrained(folder / "small")
    message = {
        "format": 1,
        "files": {str((folder / "small").absolute()): {"family": "sd1"}},
    }  # it is smaller than any that is known
    paths.overrides().write_text(json.dumps(message), encoding="utf-8")
    tensors = kohya("lora_unet", layers(pipe.unet, "to_q", "to_v", "proj_in"), seed=3, alpha=8.0)
    write(
        folder / "loras" / "Style One.safetensors",
        tensors,
        {
            "ss_output_name": "style-by-training",
            "ss_tag_frequency": json.dumps({"1_a": {"sks": 9, "hat": 2}, "2_b": {"hat": 3}}),
        },
    )
    write(
        folder / "loras" / "other.safetensors",
        kohya("lora_unet", layers(pipe.unet, "ff.net.2"), seed=900, alpha=8.0),
        {"modelspec.trigger_phrase": "ohwx man, portrait"},
    )
    write(folder / "loras" / "zeros.safetensors", {name: torch.zeros_like(value) for name, value in tensors.items()})
    return folder


@pytest.fixture
def studio(shelf: Path) -> Iterator[Studio]:
    studio = Studio(previews=False)
    studio.worker.start()
    yield studio
    studio.close()


def test_a_lora_is_found_by_its_file_in_any_case_or_by_what_its_training_called_it(shelf: Path) -> None:
    library = Library()
    for name in ("Style One", "style one", "style-by-training", "../../Style One.safetensors", r"\\far\away\Style One"):
        assert find_lora(library, name).path == shelf / "loras" / "Style One.safetensors"
    for name, message in (("Style Two", "Style One"), ("small", "small is not a LoRA"), ("", "other")):
        with pytest.raises(CheckpointMissing, match=message):
            find_lora(library, name)


def test_what_to_write_for_a_lora_is_known_from_its_training(shelf: Path) -> None:
    library = Library()
    assert suggested_words(find_lora(library, "Style One").metadata) == ("sks", "hat")
    assert suggested_words(find_lora(library, "other").metadata) == ("ohwx man", "portrait")
    assert suggested_words(find_lora(library, "zeros").metadata) == ()


def test_the_worker_attaches_changes_and_detaches_on_the_model_that_it_keeps(studio: Studio) -> None:
    (plain,) = studio.pixels(studio.done(REQUEST))
    made: dict[str, np.ndarray] = {}
    for prompt in (
        "a red apple<lora:Style One:1>",
        "a red apple<lora:Style One:-0.5><lora:other:0.7>",
        "a <lora:other:0>red apple",
    ):
        job = studio.done(GenerateRequest.from_json(REQUEST.to_json() | {"prompt": prompt}))
        (made[prompt],) = studio.pixels(job)
        assert not [event for event in studio.of(job) if isinstance(event, Noted)]
        assert "Loading" not in studio.kinds(job)  # the checkpoint stays in memory
    with_one, with_two, with_none = made.values()
    assert not np.array_equal(with_one, plain) and not np.array_equal(with_two, with_one)
    assert np.array_equal(with_none, plain)
    (again,) = studio.pixels(studio.done(REQUEST))
    assert np.array_equal(again, plain)


def test_a_picture_carries_its_tags_and_their_hashes_and_comes_out_the_same_again(studio: Studio, shelf: Path) -> None:
    request = GenerateRequest.from_json(
        REQUEST.to_json() | {"prompt": "a red apple <lora:Style One:0.8>, <lora:other:0.5:1>"}
    )
    job = studio.done(request)
    path = next(event.path for event in studio.of(job) if isinstance(event, ImageSaved))
    settings = metadata.read(path)
    assert settings.asked == request
    hashes = []
    for name in ("Style One", "other"):
        data = (shelf / "loras" / f"{name}.safetensors").read_bytes()
        hashes.append(hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()[:12])
    assert settings.environment["loras"] == [
        {"name": "Style One", "hash": hashes[0], "network": 0.8, "text": 0.8},
        {"name": "other", "hash": hashes[1], "network": 1.0, "text": 0.5},
    ]
    text = metadata.parameters_text(request, settings.environment)
    assert text.startswith("a red apple <lora:Style One:0.8>, <lora:other:0.5:1>\n")
    assert f'Lora hashes: "Style One: {hashes[0]}, other: {hashes[1]}", Version' in text
    back = metadata.settings_from_parameters(text)
    assert (back.request.prompt, back.not_imported) == (request.prompt, ())
    (first,) = studio.pixels(job)
    (second,) = studio.pixels(studio.done(settings.request))
    assert np.array_equal(first, second)


def test_images_of_one_request_may_have_different_loras(studio: Studio) -> None:
    """Drawn by a wildcard: what is sampled together has the same LoRAs, and each image is what it would be alone."""
    request = GenerateRequest.from_json(
        REQUEST.to_json() | {"prompt": "a {<lora:other:1>|<lora:Style One:1>} heart", "count": 4}
    )
    job = studio.done(request)
    together = studio.pixels(job)
    stored = [
        metadata.read(event.path).environment["loras"][0]["name"]
        for event in studio.of(job)
        if isinstance(event, ImageSaved)
    ]
    assert set(stored) == {"other", "Style One"}
    for index, name in enumerate(stored):
        (alone,) = studio.pixels(
            studio.done(
                GenerateRequest.from_json(
                    request.to_json() | {"prompt": f"a <lora:{name}:1> heart", "count": 1, "seed": index}
                )
            )
        )
        assert np.abs(together[index].astype(int) - alone.astype(int)).max() <= 1


def test_a_name_that_stands_for_nothing_fails_before_anything_is_loaded(studio: Studio) -> None:
    job = studio.worker.submit(GenerateRequest.from_json(REQUEST.to_json() | {"prompt": "<lora:Style Own:1>"}))
    ending = studio.ending(job)
    assert isinstance(ending, Failed) and "Style One" in str(ending.error)
    assert "Loading" not in studio.kinds(job)


def test_one_that_does_nothing_is_noted_once_and_the_picture_is_made(studio: Studio) -> None:
    job = studio.done(GenerateRequest.from_json(REQUEST.to_json() | {"prompt": "<lora:zeros:1> {a|b} cat", "count": 2}))
    (note,) = [event for event in studio.of(job) if isinstance(event, Noted)]
    assert "all zeros" in note.text
    plain = studio.done(GenerateRequest.from_json(REQUEST.to_json() | {"prompt": " a cat"}))
    assert len(studio.pixels(plain)) == 1


def test_a_checkpoint_that_takes_no_loras_says_so(studio: Studio) -> None:
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    job = studio.done(GenerateRequest(prompt="red apple <lora:other:1>", checkpoint="tiny", steps=2))
    (note,) = [event for event in studio.of(job) if isinstance(event, Noted)]
    assert "does not support LoRAs" in note.text
    path = next(event.path for event in studio.of(job) if isinstance(event, ImageSaved))
    assert "loras" not in metadata.read(path).environment  # it had no effect


def test_the_command_line_takes_tags(shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.png"
    assert (
        main(
            [
                "generate",
                "a red apple <lora:other:0.9><lora:zeros:1>",
                "--checkpoint",
                "small",
                "--steps",
                "1",
                "--width",
                "64",
                "--height",
                "64",
                "--sampler",
                "euler",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    assert metadata.read(out).environment["loras"][0]["name"] == "other"
    assert "zeros is all zeros" in capsys.readouterr().err


def test_a_lora_of_a_model_that_is_not_supported_is_left_out(studio: Studio, shelf: Path, pipe: Any) -> None:
    """Kolors' metadata on layers that this checkpoint has: without the metadata they would be applied."""
    tensors = kohya("lora_unet", layers(pipe.unet, "proj_in"), seed=4, alpha=8.0)
    write(shelf / "loras" / "for-kolors.safetensors", tensors, {"ss_base_model_version": "kolors"})
    library = Library()
    lora, small_one = find_lora(library, "for-kolors"), library.find("small")
    assert lora.edition == "Kolors" and is_for_unsupported(lora, small_one)
    assert misfit(lora, small_one) == "Made for Kolors, and this checkpoint is Stable Diffusion 1"
    assert not is_for_unsupported(find_lora(library, "Style One"), small_one)
    (plain,) = studio.pixels(studio.done(REQUEST))
    job = studio.done(GenerateRequest.from_json(REQUEST.to_json() | {"prompt": "a red apple<lora:for-kolors:1>"}))
    (note,) = [event for event in studio.of(job) if isinstance(event, Noted)]
    assert note.text == "for-kolors was left out: it is for Kolors, which is not supported."
    assert np.array_equal(studio.pixels(job)[0], plain)


def test_autov3_of_a_pickle_is_the_hash_of_the_whole_file(tmp_path: Path) -> None:
    """Read as safetensors, its first bytes would give the length of a header beyond its end: the hash of nothing."""
    path = tmp_path / "style.pt"
    torch.save({"lora_up.weight": torch.zeros(4, 4)}, path)
    about = (path, "style", "style", "sd1", Conditioning.TEXT, (), 0, 0, 0, "F32", 0, Origin.IMPORTED, 0.0)
    lora = Checkpoint(*about, role=Role.LORA, layout=Layout.PICKLE)
    assert autov3(lora) == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    path.unlink()
    assert autov3(lora) == ""


def test_a_weight_that_is_no_number_is_reported_beside_the_image(studio: Studio) -> None:
    job = studio.done(dataclasses.replace(REQUEST, prompt="a red apple <lora:style one:0,8>"))
    notes = [event.text for event in studio.of(job) if isinstance(event, Noted)]
    assert notes == ["The weight 0,8 of the LoRA style one is not a number from -100 to 100; it is applied at 1."]
