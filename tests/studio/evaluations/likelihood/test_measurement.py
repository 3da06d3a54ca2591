"""Which images of a folder are measured, and the figures of a part, whatever the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.studio.evaluations.folders.reading import read_real
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.likelihood.measurement import BOUNDING, PROBING, Measurement, finite
from diffstudio.studio.evaluations.likelihood.request import LikelihoodRequest
from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_subjects
from tests.studio.evaluations.small_models import RECIPE, write_checkpoint, write_images


class Numbered(Measurement):
    """Each image needs as many bits as its place in the folder."""

    def bits_of(self, indices: NDArray[np.int64]) -> tuple[Mapping[str, Tensor], Tensor | None]:
        return {"place": finite(torch.from_numpy(indices).double(), self.subject)}, None

    def formulas(self, dimensions: int) -> dict[str, str]:
        return {"place": f"of {dimensions}: {self.steps}"}

    def settings(self, dimensions: int) -> dict[str, object]:
        return {}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> CheckpointSubject:
    from diffstudio.models.library.library import Library

    path = write_checkpoint(tmp_path_factory.mktemp("models") / "squares.safetensors")
    (found,) = find_subjects((str(path),), Library(()))
    assert isinstance(found, CheckpointSubject)
    return found


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> RealFolder:
    folder = write_images(tmp_path_factory.mktemp("real"), 40, seed=0)
    return read_real(folder, RECIPE.data, lambda what, done, total: None, lambda: None)


def numbered(real: RealFolder, subject: CheckpointSubject, count: int) -> Numbered:
    model: Any = SimpleNamespace(device=torch.device("cpu"))
    request = LikelihoodRequest("squares", Path("real"), count)
    return Numbered(request, real, subject, model, lambda: None, lambda what, done, total: None)


def test_images_are_evenly_spread_and_each_is_measured_once(real: RealFolder, subject: CheckpointSubject) -> None:
    result = numbered(real, subject, 19).result(["a note"])
    for part, indices in zip(result.parts, (real.held_out, real.training), strict=True):
        places = [int(image.bits["place"]) for image in part.images]
        assert len(places) == min(19, len(indices)) and set(places) <= set(indices.tolist())
        assert places[0] == indices[0] and places == sorted(set(places)) and part.available == len(indices)
        assert part.means["place"].value == pytest.approx(np.mean(places))
        assert [image.path for image in part.images] == [real.dataset.paths[place].as_posix() for place in places]
    means = [part.means["place"].value for part in result.parts]
    assert result.gaps["place"].value == pytest.approx(means[0] - means[1])
    assert result.smallest_noise is None and result.formulas["place"].startswith(
        "of 768: discrete values 2 / 255 apart"
    )
    assert "a note" in result.notes


def test_random_numbers_differ_by_what_they_are_for(real: RealFolder, subject: CheckpointSubject) -> None:
    one = numbered(real, subject, 2)
    seeds = {one.generator(purpose, number).initial_seed() for purpose in (PROBING, BOUNDING) for number in (0, 16)}
    assert len(seeds) == 4 and one.generator(PROBING, 16).initial_seed() in seeds


def test_values_that_are_not_finite_are_refused(real: RealFolder, subject: CheckpointSubject) -> None:
    with pytest.raises(CheckpointDamaged, match="The likelihood of squares cannot be computed"):
        finite(torch.tensor([1.0, torch.inf]), subject)
    with pytest.raises(BadRequest, match="The number of images is 1"):
        numbered(real, subject, 1)
