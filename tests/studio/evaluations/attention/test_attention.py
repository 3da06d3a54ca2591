"""Following the words of a prompt: the same image, files, the deletion test, and what is said and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointMissing, DiffstudioError, Interrupted
from diffstudio.models import loading
from diffstudio.models.fitted_steps.stored import store
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.attention.attention import attention
from diffstudio.studio.evaluations.attention.request import AttentionRequest
from diffstudio.studio.evaluations.attention.result import AttentionResult
from tests.models.families.test_one_call import written
from tests.models.fitted_steps.some_ladders import ladder
from tests.models.tiny import write_tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny_checkpoint(path)
    return path


def run(checkpoint: Path, prompt: str, out: Path, **options: Any) -> AttentionResult:
    few = {"steps": 3, "device": "cpu"}
    return attention(AttentionRequest(str(checkpoint), prompt, out, **(few | options)), Library())


def test_the_image_is_the_one_that_is_generated(checkpoint: Path, tmp_path: Path) -> None:
    found = run(checkpoint, "red apple", tmp_path / "out", seed=4, tested=1, guidance=2.0)
    model = loading.load(read_checkpoint(checkpoint), torch.device("cpu"))
    options = SampleOptions(
        seeds=[4], steps=3, guidance=2.0, sampler=str(found.settings["sampler"]), spacing=str(found.settings["spacing"])
    )
    *_, last = sample(model, model.encode_prompt("red apple"), options)
    expected = ((model.decode(last.x)[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    with Image.open(tmp_path / "out" / found.picture) as image:
        assert np.array_equal(np.asarray(image), expected)
    with np.load(tmp_path / "out" / found.arrays, allow_pickle=False) as arrays:
        assert arrays["maps"].shape == (2, 1, 3, 16, 16) and np.isfinite(arrays["maps"]).all()
        assert list(arrays["words"]) == ["red", "apple"] and list(arrays["layers"]) == ["block 0"]
        assert np.array_equal(arrays["picture"], expected) and (np.diff(arrays["times"]) < 0).all()
    red, apple = found.words
    assert red.test is not None and apple.test is None and apple.masked == ""
    assert (tmp_path / "out" / red.overlay).is_file() and (tmp_path / "out" / red.masked).is_file()
    assert found.notes == ["1 more word was not masked: choose a larger number to test them."]
    stored = json.loads((tmp_path / "out" / "attention.json").read_text())
    assert AttentionResult.from_json(stored) == found
    assert "red" in found.text() and "random" in found.text() and found.verdict in found.text()


def test_fitted_steps_are_used_where_generate_would_use_them(checkpoint: Path, tmp_path: Path) -> None:
    fitted = read_checkpoint(shutil.copy(checkpoint, tmp_path / "fitted.safetensors"))
    best = ladder("heun", 2, recommended=True)
    store(fitted, [best])
    found = run(fitted.path, "apple", tmp_path / "out", steps=None, tested=0)
    model = loading.load(read_checkpoint(fitted.path), torch.device("cpu"))
    options = SampleOptions(seeds=[0], steps=2, sampler="heun", spacing="fitted", times=best.times)
    *_, last = sample(model, model.encode_prompt("apple"), options)
    expected = ((model.decode(last.x)[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    with Image.open(tmp_path / "out" / found.picture) as image:
        assert np.array_equal(np.asarray(image), expected)
    assert found.times == pytest.approx(best.times, abs=1e-6)
    assert run(fitted.path, "apple", tmp_path / "more", tested=0).settings["spacing"] != "fitted"  # three steps


def test_what_the_checkpoint_cannot_do_with_the_prompt_is_said(checkpoint: Path, tmp_path: Path) -> None:
    found = run(checkpoint, "red (blue:1.5)", tmp_path / "out", tested=0)
    assert any("so (blue:1.5) is read as text" in note for note in found.notes)


def test_masking_a_word_is_generating_without_its_tokens(checkpoint: Path, tmp_path: Path) -> None:
    """The only word is masked: the image of an empty prompt, whose tokens are padding too."""
    found = run(checkpoint, "apple", tmp_path / "one")
    (word,) = found.words
    with Image.open(tmp_path / "one" / word.masked) as image:
        masked = np.asarray(image)
    model = loading.load(read_checkpoint(checkpoint), torch.device("cpu"))
    options = SampleOptions(
        seeds=[0],
        steps=3,
        guidance=float(str(found.settings["guidance"])),
        sampler=str(found.settings["sampler"]),
        spacing=str(found.settings["spacing"]),
    )
    *_, last = sample(model, model.encode_prompt(""), options)
    expected = ((model.decode(last.x)[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(masked, expected)


def test_words_that_change_from_step_to_step(checkpoint: Path, tmp_path: Path) -> None:
    found = run(checkpoint, "[red:purple:2] apple AND rocket", tmp_path / "out", maps="outputs", tested=9)
    assert [word.text for word in found.words] == ["red", "apple", "rocket", "purple"] and found.maps == "outputs"
    with np.load(tmp_path / "out" / found.arrays, allow_pickle=False) as arrays:
        known = ~np.isnan(arrays["maps"]).any(axis=(1, 3, 4))
    assert known.tolist() == [[True, True, False], [True] * 3, [True] * 3, [False, False, True]]
    assert all(word.test is not None for word in found.words)


def test_words_beyond_the_text_encoder_are_named(checkpoint: Path, tmp_path: Path) -> None:
    found = run(checkpoint, "apple " * 30 + "rocket", tmp_path / "out", tested=0)
    assert len(found.words) < 31 and "rocket" in found.notes[0] and "No word was masked" in found.verdict


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"prompt": " "}, BadRequest, "The prompt is empty"),
        ({"prompt": ". , !"}, BadRequest, "The prompt has no words"),
        ({"prompt": "<lora:x:1> cat"}, BadRequest, "LoRA tags and wildcards"),
        ({"prompt": "{a|b} cat"}, BadRequest, "LoRA tags and wildcards"),
        ({"guidance": 0.0}, BadRequest, "The CFG scale is 0"),
        ({"width": 17}, BadRequest, "17"),
        ({"maps": "gradients"}, BadRequest, "gradients"),
        ({"seed": -1}, BadRequest, "The seed is -1"),
        ({"checkpoint": "nothing"}, CheckpointMissing, "nothing"),
    ],
)
def test_mistakes_are_named(
    options: dict[str, Any], error: type[DiffstudioError], said: str, checkpoint: Path, tmp_path: Path
) -> None:
    values: dict[str, Any] = {"checkpoint": str(checkpoint), "prompt": "apple", "out": tmp_path / "out", "steps": 2}
    with pytest.raises(error) as raised:
        attention(AttentionRequest(**(values | options)), Library())
    assert said in str(raised.value)


def test_models_without_text_are_refused(tmp_path: Path) -> None:
    for conditioning, said in ((Conditioning.CLASS, "the name of a class"), (Conditioning.NONE, "noise alone")):
        path = tmp_path / f"{conditioning.name}.safetensors"
        write_tiny_checkpoint(path, conditioning=conditioning)
        with pytest.raises(BadRequest, match=said):
            run(path, "apple", tmp_path / "out")


@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_models_of_one_call_are_refused(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"{kind}.safetensors", kind, Conditioning.TEXT)
    with pytest.raises(BadRequest, match="has no attention"):
        run(path, "apple", tmp_path / "out")


def test_what_is_not_finite_is_said(tmp_path: Path) -> None:
    path = tmp_path / "spoilt.safetensors"
    write_tiny_checkpoint(path, spoil=True)
    with pytest.raises(CheckpointDamaged):
        run(path, "apple", tmp_path / "out")


def test_it_can_be_stopped(checkpoint: Path, tmp_path: Path) -> None:
    calls = iter([False] * 5 + [True] * 1000)
    with pytest.raises(Interrupted):
        attention(
            AttentionRequest(str(checkpoint), "apple", tmp_path / "out", steps=9, device="cpu"),
            Library(),
            cancelled=lambda: next(calls),
        )
    assert not (tmp_path / "out" / "attention.json").exists()
