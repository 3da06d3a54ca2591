"""Textual inversions in a request: found by name, shown to the model, and said where they cannot be."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffstudio.models.conditioning.textual_inversion import TextualInversions
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.library.library import Library
from diffstudio.studio.generation.textual_inversions import RequestTextualInversions, textual_inversion_files
from tests.models import small
from tests.models.adapter_files import random, write
from tests.models.pickles import RAN, attack

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # diffusers', with NumPy 2


@pytest.fixture
def library(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models" / "embeddings"
    write(folder / "mine.safetensors", {"emb_params": random(2, 768)})
    write(folder / "wide.safetensors", {"emb_params": random(1, 1024)})
    torch.save({"string_to_param": {"*": random(1, 768)}, "name": "old"}, folder / "old.pt")
    (folder / "evil.pt").write_bytes(pickle.dumps({"string_to_param": attack()}))
    (tmp_path / "models" / "cut.safetensors").write_bytes(b"short")
    return Library((tmp_path / "models",))


def model() -> Any:
    return SimpleNamespace(textual_inversions=TextualInversions({"text_encoder": small.small_clip(768, 1)}))


def test_those_named_are_shown_and_told(library: Library) -> None:
    words, shown = RequestTextualInversions(textual_inversion_files(library)), model()
    assert words.attach(shown, ["a cat by mine", "old"]) == ()
    assert set(shown.textual_inversions.known) == {"mine", "old"}
    stored = {one["name"]: one["hash"] for one in words.metadata()["embeddings"]}
    assert stored == {name: sha256_of(library.find(name).path)[:12] for name in ("mine", "old")}
    assert words.attach(shown, ["a cat"]) == () and words.metadata() == {}


def test_what_cannot_be_shown_is_said_once_and_stays_a_word(library: Library) -> None:
    words, shown = RequestTextualInversions(textual_inversion_files(library)), model()
    dangerous, unfit = words.attach(shown, ["wide evil cat", "cut"])
    assert "wide does not fit this checkpoint" in unfit
    assert "The embedding evil is read as plain text" in dangerous and "would have run" in dangerous
    assert shown.textual_inversions.known == () and words.attach(shown, ["evil wide"]) == () and not Path(RAN).exists()


def test_the_weaker_model_of_autoguidance_reads_the_same_embeddings(library: Library) -> None:
    embeddings, strong, weak = RequestTextualInversions(textual_inversion_files(library)), model(), model()
    narrow: Any = SimpleNamespace(textual_inversions=TextualInversions({"text_encoder": small.small_clip(1024, 1)}))
    prompts = ["a cat by mine, wide"]
    (unfit,) = embeddings.attach(strong, prompts)
    assert "wide does not fit this checkpoint" in unfit
    assert embeddings.attach_to_weaker(weak, prompts) == ()  # what was said of the strong one is not repeated
    assert weak.textual_inversions.known == ("mine",)
    (other,) = embeddings.attach_to_weaker(narrow, prompts)  # which knows `wide` alone
    assert other.startswith("The weaker model of autoguidance: The embedding mine does not fit")
    assert [one["name"] for one in embeddings.metadata()["embeddings"]] == ["mine"]


def test_unknown_embeddings_are_all_counted(library: Library) -> None:
    embeddings, shown = RequestTextualInversions(textual_inversion_files(library)), model()
    prompt = " ".join(f"embedding:{name}" for name in "abcde")
    assert embeddings.attach(shown, [prompt]) == (
        "There is no such embedding: embedding:a, embedding:b, embedding:c and 2 more are read as plain text.",
    )
