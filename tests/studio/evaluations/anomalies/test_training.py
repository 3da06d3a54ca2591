"""What is refused before a model of the normal images is trained, and how many of them are held out for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import BadRequest, FolderProblem, Interrupted
from diffstudio.models.library.library import Library
from diffstudio.studio.evaluations.anomalies import training
from diffstudio.studio.evaluations.anomalies.anomalies import anomalies
from diffstudio.studio.evaluations.anomalies.request import AnomaliesRequest
from diffstudio.studio.evaluations.folders.reading import inspected
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe_choice import read_choice
from tests.studio.evaluations.small_models import RECIPE, write_images


@pytest.fixture(scope="module")
def normals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("normals"), 60, seed=0, classes=False)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes of the runs that were started; none of them gets further."""
    recipes: list[Recipe] = []

    def train(path: Path, folder: Path, *, recipe: str, **given: Any) -> None:
        recipes.append(read_choice(Path(recipe)).recipe)
        raise Interrupted("no further")

    monkeypatch.setattr(training, "train", train)
    return recipes


@pytest.mark.parametrize(
    ("false_alarm", "count", "error", "expected"),
    [
        (
            0.001,
            60,
            BadRequest,
            r"rate of 0.001 needs more normal images: \d+ were held out, which support rates of 0.03",
        ),
        (None, 9, FolderProblem, "There are too few normal images in few: 8 different ones must be held out"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_any_training(
    tmp_path: Path,
    asked: list[Recipe],
    normals: Path,
    false_alarm: float | None,
    count: int,
    error: type[Exception],
    expected: str,
) -> None:
    folder = normals if count == 60 else write_images(tmp_path / "few", count, seed=0, classes=False)
    searched = write_images(tmp_path / "searched", 3, seed=1)
    request = AnomaliesRequest(
        folder, searched, minutes=1.0, false_alarm=false_alarm, device="cpu", out=tmp_path / "out"
    )
    with pytest.raises(error, match=expected):
        anomalies(request, Library())
    assert not asked


def test_a_folder_that_cannot_be_searched_is_said_before_any_training(
    tmp_path: Path, asked: list[Recipe], normals: Path
) -> None:
    (tmp_path / "empty").mkdir()
    request = AnomaliesRequest(normals, tmp_path / "empty", minutes=1.0, device="cpu", out=tmp_path / "out")
    with pytest.raises(FolderProblem, match="There is nothing to measure in .*empty"):
        anomalies(request, Library())
    with pytest.raises(Interrupted, match="The search was stopped"):
        anomalies(request, Library(), cancelled=lambda: True)
    assert not asked


def test_enough_images_are_held_out_for_the_rate(tmp_path: Path, asked: list[Recipe], normals: Path) -> None:
    """Also in a folder so small that its steps would be cross-validated, with no image held out in the end."""
    searched = write_images(tmp_path / "searched", 3, seed=1)
    with pytest.raises(Interrupted, match="no further"):
        anomalies(AnomaliesRequest(normals, searched, minutes=1.0, device="cpu", out=tmp_path / "out"), Library())
    (recipe,) = asked
    report = inspected(normals, lambda *_: None, lambda: None)
    assert not recipe.data.cross_splits and training.count_held_out(report, recipe.data) >= 19  # for 0.05


def test_no_more_is_held_out_than_needed_and_at_most_half(normals: Path) -> None:
    report, data = inspected(normals, lambda *_: None, lambda: None), replace(RECIPE.data, held_out=0.25)
    found, count = training.with_held_out(data, report, 0.5)
    assert found is data and count >= 8
    more, larger = training.with_held_out(data, report, 0.05)
    assert more.held_out > 0.25 and 19 <= larger <= 24
    most, largest = training.with_held_out(data, report, 0.001)
    assert most.held_out <= 0.5 and larger < largest < 40
