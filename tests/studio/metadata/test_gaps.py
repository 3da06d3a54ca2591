"""Which fields of a request an image holds, whichever program wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffstudio.studio.gallery.source_files import gaps_of
from diffstudio.studio.metadata import import_settings
from diffstudio.studio.metadata.gaps import NO_GAPS, Gaps
from diffstudio.studio.metadata.import_settings import ImportedSettings

_WHOLE = "Steps: 20, Sampler: Euler, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 64x48, Model: m"


def read(texts: dict[str, str]) -> ImportedSettings:
    found = import_settings.read_texts(texts, 64, 64)
    assert found is not None
    return found


def not_held(fields: str) -> frozenset[str]:
    return read({"parameters": f"a cat\n{fields}"}).not_held


def test_whole_settings_leave_nothing_open() -> None:
    assert not_held(_WHOLE) == frozenset()
    assert not Gaps() and Gaps(not_imported=("the mask",)) and Gaps(frozenset({"seed"}))


def test_a_prompt_alone_says_nothing_about_the_rest() -> None:
    alone = read({"parameters": "just a prompt"})
    assert alone.request.prompt == "just a prompt" and "prompt" not in alone.not_held
    assert {
        "negative",
        "checkpoint",
        "seed",
        "count",
        "steps",
        "width",
        "enlarge",
        "controls",
        "init",
    } <= alone.not_held
    assert "negative" not in read({"parameters": "a cat\nNegative prompt: blurry"}).not_held


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("Seed: 1", "Seed: -1", {"seed", "count"}),
        ("Steps: 20", "Steps: 0", {"steps"}),
        ("CFG scale: 7", "CFG scale: 9e+99", {"guidance"}),
        ("Sampler: Euler", "Sampler: Odd", {"sampler"}),
        ("Schedule type: Karras", "Schedule type: Odd", {"spacing", "times", "curve"}),
        ("Sampler: Euler, Schedule type: Karras, ", "", {"sampler", "spacing", "times", "curve"}),
        ("Schedule type: Karras, ", "", set()),  # a sampler that is named alone has its usual one
        ("Size: 64x48", "Size: 999999x48", {"width", "height"}),
        (", Size: 64x48", "", set()),  # the image has it
        (", Model: m", "", {"checkpoint"}),
        ("Model: m", "Model: m, Denoising strength: 0.5", set()),  # its own init image, not that of the panel
    ],
)
def test_what_is_missing_or_cannot_be_used_is_left_open(before: str, after: str, expected: set[str]) -> None:
    assert before in _WHOLE and not_held(_WHOLE.replace(before, after)) == expected


def test_of_a_file(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", "a cat\n" + _WHOLE.replace("Seed: 1", "Seed: -1"))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert gaps_of(tmp_path / "a.png") == Gaps(frozenset({"seed", "count"}), ("the seed -1",))
    assert gaps_of(tmp_path / "gone.png") == NO_GAPS


_GRAPH: dict[str, Any] = {
    "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["4", 1]}},
    "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 5, "steps": 9, "sampler_name": "euler", "positive": ["1", 0], "latent_image": ["2", 0]},
    },
}


@pytest.mark.parametrize(
    "texts",
    [
        {"prompt": json.dumps(_GRAPH)},
        {"invokeai_metadata": json.dumps({"positive_prompt": "a fox", "seed": 5, "steps": 9, "scheduler": "euler"})},
    ],
)
def test_other_programs_leave_open_what_they_do_not_write(texts: dict[str, str]) -> None:
    found = read(texts)
    assert (found.request.prompt, found.request.seed, found.request.steps) == ("a fox", 5, 9)
    assert {"checkpoint", "guidance"} <= found.not_held
    assert found.not_held.isdisjoint({"prompt", "seed", "steps", "sampler", "enlarge"})
