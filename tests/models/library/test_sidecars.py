"""What other programs keep beside a model is found, understood as far as it goes, and never trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffstudio.models.library.sidecars import NO_SIDECAR, Sidecar, read_sidecar


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "ink.v2.safetensors"
    path.write_bytes(b"")
    return path


def write(model: Path, ending: str, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (model.parent / (model.stem + ending)).write_text(text)


def test_nothing_beside_it(model: Path) -> None:
    assert read_sidecar(model) == NO_SIDECAR
    (model.parent / "other.png").write_bytes(b"")
    assert read_sidecar(model) == NO_SIDECAR and read_sidecar(model.parent / "gone" / "x.safetensors") == NO_SIDECAR


def test_civitais_description(model: Path) -> None:
    write(
        model,
        ".civitai.info",
        {
            "trainedWords": ["inkwash, flowing", "inkwash"],
            "baseModel": "SDXL 1.0",
            "description": "<p>Ink &amp; <b>water</b></p><p>v2</p>",
            "model": {"name": "Ink wash", "type": "LORA", "tags": ["style", "ink"]},
        },
    )
    assert read_sidecar(model) == Sidecar(
        None, "Ink wash", "Ink & water\nv2", ("inkwash", "flowing"), ("style", "ink"), "SDXL 1.0"
    )


def test_a_persons_own_words_come_first(model: Path) -> None:
    write(model, ".civitai.info", {"trainedWords": ["theirs"], "description": "theirs", "baseModel": "SD 1.5"})
    write(
        model,
        ".json",
        {
            "activation text": "mine, too",
            "description": "",
            "notes": "use at 0.6",
            "preferred weight": 0.6,
            "sd version": "Unknown",
            "negative text": "blurry",
        },
    )
    found = read_sidecar(model)
    assert (found.trigger_words, found.description, found.lora_weight, found.base, found.negative) == (
        ("mine", "too"),
        "use at 0.6",
        0.6,
        "SD 1.5",
        "blurry",
    )


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (
            ".cm-info.json",
            {
                "ModelName": "Ink",
                "ModelDescription": "About it",
                "TrainedWords": ["ink"],
                "BaseModel": "SD 1.5",
                "Tags": ["a"],
            },
        ),
        (
            ".metadata.json",
            {
                "model_name": "Ink",
                "modelDescription": "About it",
                "base_model": "SD 1.5",
                "tags": ["a"],
                "civitai": {"trainedWords": ["ink"]},
            },
        ),
    ],
)
def test_other_programs_tables(model: Path, ending: str, content: Any) -> None:
    write(model, ending, content)
    assert read_sidecar(model) == Sidecar(None, "Ink", "About it", ("ink",), ("a",), "SD 1.5")


def test_pictures_and_texts(model: Path) -> None:
    write(model, ".jpg", "")
    assert read_sidecar(model).image == model.with_name("ink.v2.jpg")
    write(model, ".preview.png", "")
    assert read_sidecar(model).image == model.with_name("ink.v2.preview.png")
    write(model, ".txt", "Nice\n\n\nink  ")
    assert read_sidecar(model).description == "Nice\nink"


def test_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "pipe").mkdir()
    (tmp_path / "pipe.png").write_bytes(b"")
    assert read_sidecar(tmp_path / "pipe").image == tmp_path / "pipe.png"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        "null",
        '"text"',
        "{}",
        '{"trainedWords": {"a": 1}, "description": 3, "tags": [1, null]}',
        '{"preferred weight": 1e999, "civitai": "no table", "model": []}',
        '{"preferred weight": true}',
        "\x00\xff",
    ],
)
def test_what_is_nonsense_says_nothing(model: Path, content: str) -> None:
    for ending in (".json", ".civitai.info", ".cm-info.json"):
        write(model, ending, content)
    assert read_sidecar(model) == NO_SIDECAR


def test_there_is_an_end_to_everything(model: Path) -> None:
    write(
        model, ".civitai.info", {"description": "x" * 1_000_000, "trainedWords": [f"w{n}" * 500 for n in range(1000)]}
    )
    found = read_sidecar(model)
    assert (
        len(found.description) == 4000 and len(found.trigger_words) == 50 and max(map(len, found.trigger_words)) == 200
    )
    write(model, ".civitai.info", json.dumps({"description": "x" * (5 << 20)}))
    assert read_sidecar(model) == NO_SIDECAR
