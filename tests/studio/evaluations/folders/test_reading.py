"""Folders read as their run read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffstudio.errors import FolderProblem, Interrupted
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.anomalies.anomalies import anomalies
from diffstudio.studio.evaluations.anomalies.request import AnomaliesRequest
from diffstudio.studio.evaluations.evaluate import evaluate
from diffstudio.studio.evaluations.folders import reading
from diffstudio.studio.evaluations.folders.reading import read_generated, read_real
from diffstudio.studio.evaluations.image_map.image_map import image_map
from diffstudio.studio.evaluations.image_map.request import MapRequest
from diffstudio.studio.evaluations.request import EvaluateRequest
from diffstudio.training.data.dataset import build_dataset
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.data.inspect_folder import finish_inspection
from tests.studio.evaluations.folders.small_folders import go_on, no_progress, read
from tests.studio.evaluations.small_models import RECIPE, write_images


def test_the_parts_are_those_of_training(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "real", 40, seed=0)
    real = read(folder)
    trained_on = build_dataset(real.report, RECIPE.data, tmp_path / "cache")
    assert list(real.training) == list(trained_on.training_indices)
    assert list(real.held_out) == list(trained_on.held_out_indices) and len(real.held_out) > 5
    np.testing.assert_array_equal(real.dataset.images, trained_on.images)
    assert set(real.labels(Conditioning.CLASS, real.held_out)) == {"red", "blue"}
    assert real.labels(Conditioning.NONE, real.held_out) == ()


def test_without_a_checkpoint_the_folder_is_halved_at_its_own_size(tmp_path: Path) -> None:
    real = read_real(write_images(tmp_path / "real", 60, seed=0), None, no_progress, go_on)
    assert real.dataset.size == (16, 16) and 20 <= len(real.held_out) <= 40
    made = read_generated(write_images(tmp_path / "made", 30, seed=1), real, no_progress, go_on).dataset
    assert len(made) == 30 and not made.held_out.any()


def test_folders_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderProblem, match="There is nothing to measure in .*empty: the folder is empty"):
        read(tmp_path / "empty")
    with pytest.raises(FolderProblem, match="does not exist"):
        read(tmp_path / "nowhere")

    def stop() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        read_real(write_images(tmp_path / "real", 20, seed=0), RECIPE.data, no_progress, stop)


def test_captions_that_a_network_reads_alike_are_one(tmp_path: Path) -> None:
    """Agreement compares captions: `Red` and `red ` ask for the same."""
    write_images(tmp_path / "real", 4, seed=0)
    for path, caption in zip(sorted((tmp_path / "real").rglob("*.png")), ("Red", "red ", "blue", "RED"), strict=True):
        path.with_suffix(".txt").write_text(caption)
    real = read(tmp_path / "real")
    assert sorted(real.labels(Conditioning.TEXT, range(4))) == ["Red", "Red", "Red", "blue"]


def evaluated(real: Path, made: Path, **job: Any) -> None:
    evaluate(EvaluateRequest((str(made),), real, device="cpu"), Library(), **job)


def mapped(real: Path, made: Path, **job: Any) -> None:
    image_map(MapRequest((str(made),), real, device="cpu"), Library(), **job)


def searched(real: Path, made: Path, **job: Any) -> None:
    anomalies(AnomaliesRequest(real, made, device="cpu"), Library(), **job)


@pytest.mark.parametrize("verb", [evaluated, mapped, searched])
def test_generated_images_are_inspected_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: Callable[..., None]
) -> None:
    """Also where there are notes on them."""
    real, made = (write_images(tmp_path / name, 40, seed) for seed, name in enumerate(("real", "made")))
    read: list[str] = []
    seen: list[str] = []

    def inspect(folder: Path, on_progress: Any) -> FolderReport:
        read.append(folder.name)
        return finish_inspection(folder, on_progress)

    def notes_are_made() -> bool:
        return bool(seen) and seen[-1].startswith(("Comparing made", "Scoring"))

    monkeypatch.setattr(reading, "finish_inspection", inspect)
    with pytest.raises(Interrupted):
        verb(real, made, on_progress=lambda what, *_: seen.append(what), cancelled=notes_are_made)
    assert read == ["real", "made"]
