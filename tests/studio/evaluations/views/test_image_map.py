"""The view of a map: which image a point is, and what lies between two samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffstudio.errors import RunProblem
from diffstudio.studio.evaluations.image_map.result import MapLayout, MapPart, MapResult, PartKind
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.latents.tasks import InterpolateSeeds
from diffstudio.studio.evaluations.views.image_map import CLASSES, PARTS, read_image_map

TRAINING, HELD_OUT, SAMPLES = 12, 4, 4


def example(folder: Path, checkpoint: Path, layouts: int = 2) -> dict[str, Any]:
    """A map of 20 images on a grid, whose samples are the last row."""
    names = [f"red/{place:02d}.png" for place in range(TRAINING)], [f"blue/{place}.png" for place in range(HELD_OUT)]
    parts = [
        MapPart(
            "Training images", PartKind.TRAINING, 40, str(folder), "", tuple(names[0]), ("red",) * 12, ("red",) * 12
        ),
        MapPart(
            "Held-out images", PartKind.HELD_OUT, 4, str(folder), "", tuple(names[1]), ("blue",) * 4, ("blue",) * 4
        ),
        MapPart(
            "tiny",
            PartKind.SAMPLES,
            4,
            "",
            str(checkpoint),
            ("images/1.png", "images/2.png", "images/3.png", ""),
            ("red", "red", "blue", "blue"),
            ("red", "red", "blue", "blue"),
            (7, 8, 9, 10),
        ),
    ]
    x, y = np.arange(20) % 4, np.arange(20) // 4
    grid = np.stack([x, -y], axis=1).astype(np.float64)
    made = [MapLayout("pca", "PCA", "About the PCA.", grid, 0.912, 9, 20)]
    made += [MapLayout("umap", "UMAP", "About UMAP.", grid[:, ::-1].copy(), None, 0, 20)] if layouts > 1 else []
    result = MapResult(str(folder), "a network", parts, made, {"seed": 7}, ["Few images."])
    values: dict[str, Any] = json.loads(json.dumps(result.to_json()))
    return values


def test_every_point_is_its_image(tmp_path: Path) -> None:
    view = read_image_map(JobFolder(tmp_path / "job"), example(tmp_path / "photos", tmp_path / "tiny.safetensors"))
    assert view.summary.startswith("20 images by the features of a network. Training images: 12 of 40, Held-out")
    assert view.file(0) == tmp_path / "photos" / "red" / "00.png"
    assert view.file(12) == tmp_path / "photos" / "blue" / "0.png" and view.part(15).name == "Held-out images"
    assert view.file(16) == tmp_path / "job" / "images" / "1.png" and view.file(19) is None
    assert (view.name(17), view.label(17), view.in_words(17)) == ("seed 8", "red", "tiny · seed 8 · red")
    assert set(view.colours) == {PARTS, CLASSES} and view.notes == ("Few images.",)
    assert view.scatter(view.layouts[0], CLASSES).group.tolist() == [1] * 12 + [0] * 4 + [1, 1, 0, 0]


def test_two_samples_of_one_checkpoint_have_images_between_them(tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.safetensors"
    view = read_image_map(JobFolder(tmp_path), example(tmp_path, checkpoint))
    assert "no longer exists" in str(view.between(16, 19))
    checkpoint.touch()
    assert view.between(16, 19) == InterpolateSeeds(str(checkpoint), (7, 10), ("red", "blue"))
    assert (
        view.between(0, 19)
        == view.between(19, 12)
        == ("Choose two samples of one checkpoint to see the images between them.")
    )


def test_a_map_without_classes_has_the_colours_of_its_parts(tmp_path: Path) -> None:
    values = example(tmp_path, tmp_path / "tiny.safetensors")
    for part in values["parts"]:
        part["classes"] = part["labels"] = []
    view = read_image_map(JobFolder(tmp_path), values)
    assert set(view.colours) == {PARTS} and view.label(3) == "" and view.in_words(3) == "Training images · red/03.png"


def test_damage_and_newer_formats_are_named(tmp_path: Path) -> None:
    values = example(tmp_path, tmp_path / "tiny.safetensors")
    for broken in (
        {name: value for name, value in values.items() if name != "parts"},
        values | {"layouts": [{"name": "pca"}]},
        values | {"parts": [values["parts"][0] | {"kind": "other"}]},
    ):
        with pytest.raises(RunProblem, match="damaged"):
            read_image_map(JobFolder(tmp_path), broken)
    with pytest.raises(RunProblem, match="Update diffstudio"):
        read_image_map(JobFolder(tmp_path), values | {"format": 2})
