"""What was found in an untrusted file: JSON with limits, numbers, names of files, sizes."""

from __future__ import annotations

from typing import Any

import pytest

from diffstudio.studio.metadata.readers import found_settings
from diffstudio.studio.metadata.readers.found_settings import (
    FoundSettings,
    as_list,
    as_object,
    is_number,
    json_object,
    json_value,
    size,
    stem,
)


def test_loras() -> None:
    found = FoundSettings("a program")
    found.add_lora("folder\\style.safetensors", 0.8)
    found.add_lora("other", None)
    assert found.loras == ["<lora:style:0.8>", "<lora:other:1>"]
    assert found.not_imported == ["the weight of the LoRA other"]


@pytest.mark.parametrize(
    ("file", "name"), [("a/b.GGUF", "b"), ("c:\\d.ckpt", "d"), ("model_v1.5", "model_v1.5"), ("", ""), (".pt", "")]
)
def test_names_of_files(file: str, name: str) -> None:
    assert stem(file) == name


@pytest.mark.parametrize("value", [True, None, "1", float("nan"), float("inf"), 10**400, [1]])
def test_what_is_not_a_number(value: Any) -> None:
    assert not is_number(value) and is_number(1) and is_number(-0.5)


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json_object('{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
    deep = "[" * 99 + "]" * 99
    assert json_value(deep) is not None
    for text in ("{", "[" * 100_000, f"[{deep}]", "1" * 5000, "", None, "[1]", "null"):
        assert json_object(text) is None
    assert json_value(f"[[{deep}]]") is None and json_value("[1]") == [1]
    monkeypatch.setattr(found_settings, "LARGEST_JSON_CHARACTERS", 3)
    assert json_object("{  }") is None


def test_objects_and_lists() -> None:
    assert as_object({"a": 1}) == {"a": 1} and as_object([1]) == {} and as_list([1]) == [1] and as_list("ab") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("832x1216", (832, 1216)),
        ("(64, 48)", (64, 48)),
        ("8 × 9", (8, 9)),
        (None, None),
        ("wide", None),
        ([8, 9], None),
    ],
)
def test_sizes(value: Any, expected: tuple[int, int] | None) -> None:
    assert size(value) == expected
