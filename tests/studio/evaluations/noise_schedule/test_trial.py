from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffstudio import paths
from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.errors import BadRequest, Interrupted
from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.studio.curves.saved import NamedCurve
from diffstudio.studio.evaluations.noise_schedule.trial import TrialImage
from diffstudio.studio.events import ImageSaved
from diffstudio.studio.requests import GenerateRequest, SamplerName, SpacingName
from tests.models.families.test_one_call import written
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.a_studio import Studio

CURVE = NoiseCurve(((0.0, 9.0), (0.3, 2.0), (1.0, -9.0)))
TRIAL = TrialImage("tiny", 4, "dpmpp_2m", CURVE, 3.0, "red apple", 5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = write_tiny_checkpoint(tmp_path_factory.mktemp("trial") / "tiny.safetensors")
    return loading.load(read_checkpoint(path), torch.device("cpu"))


def never() -> None:
    """Nobody interrupts."""


def test_it_is_the_image_that_generate_makes(model: Model) -> None:
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    studio = Studio()
    studio.worker.start()
    request = GenerateRequest(
        "red apple", checkpoint="tiny", steps=4, sampler=SamplerName.DPMPP_2M, seed=5, guidance=3.0,
        spacing=SpacingName.CUSTOM, curve=NamedCurve("a", CURVE),
    )  # fmt: skip
    try:
        (saved,) = [event for event in studio.of(studio.done(request)) if isinstance(event, ImageSaved)]
    finally:
        studio.close()
    assert np.array_equal(TRIAL.run(model, never), saved.image)


def test_spacings_and_times_instead_of_a_curve(model: Model) -> None:
    even = replace(TRIAL, spacing="uniform").run(model, never)
    assert np.array_equal(even, replace(TRIAL, spacing="uniform", times=(1.0, 0.75, 0.5, 0.25)).run(model, never))
    assert not np.array_equal(even, TRIAL.run(model, never))


def test_it_is_interrupted_between_two_calls(model: Model) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Interrupted("Replaced")

    with pytest.raises(Interrupted):
        TRIAL.run(model, check)


def test_a_model_that_samples_by_itself(tmp_path: Path) -> None:
    gan = loading.load(read_checkpoint(written(tmp_path / "gan.safetensors", "gan")), torch.device("cpu"))
    with pytest.raises(BadRequest, match="samples by itself"):
        TRIAL.run(gan, never)
