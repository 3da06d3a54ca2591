from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffstudio import paths
from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.diffusion.noise_curve import CurveSpacing
from diffstudio.diffusion.spacing import SPACINGS, sampling_times
from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.families import pixel
from diffstudio.models.families.scheduler_config import scheduling_of
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.curves.models import has_noise_schedule, model_noise
from diffstudio.studio.curves.noise_levels import TrainingLevels

CURVE = NoiseCurve(((0.0, 8.0), (0.4, 1.0), (1.0, -9.0)))


STARTER = read_checkpoint(paths.starter())


@pytest.fixture
def starter() -> Checkpoint:
    return STARTER


def record(path: Path, family: str, prediction: str = "") -> Checkpoint:
    return replace(STARTER, path=path, family=family, prediction=prediction, metadata={})


def test_the_steps_of_a_model_trained_here_are_its_own(starter: Checkpoint) -> None:
    noise = model_noise(starter)
    model = pixel.load(starter, torch.device("cpu"), torch.float32)
    for spacing in (name for name in SPACINGS if name != "align_your_steps"):
        for steps in (1, 4, 10, 33):
            expected = model.times(steps, spacing, 1.0, 64, 64).numpy()
            np.testing.assert_allclose(noise.times(steps, spacing), expected, rtol=1e-6, atol=1e-9)
    expected = sampling_times(model.schedule, 7, CurveSpacing(CURVE)).numpy()
    np.testing.assert_allclose(noise.times(7, CURVE), expected, rtol=1e-6, atol=1e-9)
    assert noise.prediction == "x0" and noise.levels == TrainingLevels("logit_normal", 0.6, 0.9) and not noise.note


def test_adaptive_noise_levels_are_no_fixed_distribution(starter: Checkpoint) -> None:
    recipe = json.dumps({"objective": {"noise_levels": "adaptive", "mean": 0.6, "deviation": 0.9}})
    noise = model_noise(replace(starter, metadata={**starter.metadata, "diffstudio.recipe": recipe}))
    assert noise.levels is None and "adaptive noise levels" in noise.note


def folder_of(tmp_path: Path, **config: object) -> Path:
    (tmp_path / "scheduler").mkdir(parents=True, exist_ok=True)
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    "config",
    [
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500, "steps_offset": 1},
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02, "rescale_betas_zero_snr": True},
        {"prediction_type": "v_prediction"},
    ],
)
def test_a_folder_has_the_schedule_of_its_config(tmp_path: Path, config: dict[str, object]) -> None:
    folder = folder_of(tmp_path, **config)
    noise = model_noise(record(folder, "sdxl"))
    scheduling = scheduling_of(FolderComponents(folder), "x", aligned_xl=True)
    for spacing in SPACINGS:
        for steps in (3, 20):
            expected = scheduling.times(steps, spacing, 1.0).numpy()
            np.testing.assert_allclose(noise.times(steps, spacing), expected, rtol=1e-6, atol=1e-9)
    assert noise.prediction == scheduling.prediction and not noise.note


def test_what_a_file_does_not_say_is_assumed_and_said(tmp_path: Path) -> None:
    noise = model_noise(record(tmp_path / "sd.safetensors", "sd1", prediction="eps"))
    assert "is assumed" in noise.note and noise.prediction == "eps" and noise.offset == 0
    assert noise.schedule.t_max == 1000 and noise.levels == TrainingLevels()
    flow = model_noise(record(tmp_path / "flux.safetensors", "flux"))
    assert "without this shift" in flow.note and flow.levels is None and flow.prediction == "flow"
    shifted = model_noise(record(folder_of(tmp_path / "sd3", shift=3.0), "sd3"))
    assert not shifted.note and shifted.times(4, "uniform")[1] == pytest.approx(0.9)


def test_damaged_headers(starter: Checkpoint, tmp_path: Path) -> None:
    headers = dict(starter.metadata)
    for broken in ("no JSON", "[]", '{"kind": "unknown"}'):
        with pytest.raises(BadRequest, match="cannot be shown"):
            model_noise(replace(starter, metadata=headers | {"diffstudio.schedule": broken}))
    vague = replace(starter, metadata=headers | {"diffstudio.guidance": "{}", "diffstudio.recipe": "no JSON"})
    assert model_noise(vague).levels is None and model_noise(vague).second_time == 0.95
    folder = folder_of(tmp_path)
    for text in ("no JSON", "[]"):
        (folder / "scheduler" / "scheduler_config.json").write_text(text)
        assert "is assumed" in model_noise(record(folder, "sd1")).note


def test_which_checkpoints_have_a_schedule(starter: Checkpoint, tmp_path: Path) -> None:
    assert has_noise_schedule(starter)
    for family, expected in (("sd1", True), ("flux", True), ("vae", False), ("gan", False), ("diffusers", False)):
        assert has_noise_schedule(record(tmp_path / "one.safetensors", family)) is expected


@pytest.mark.parametrize("top", [10**400, float("nan"), 0, -1])
def test_any_guidance_interval_gives_a_second_time(starter: Checkpoint, top: float) -> None:
    values = {**starter.metadata, "diffstudio.guidance": json.dumps({"interval": [0, top]})}
    assert model_noise(replace(starter, metadata=values)).second_time in (0.9, 0.95)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "rectified_flow", "shift": 10**400},
        {"kind": "rectified_flow", "shift": 1e308},
        {"kind": "variance_exploding", "sigma_min": 1, "sigma_max": 10**400},
    ],
    ids=["shift", "infinite", "sigma"],
)
def test_numbers_too_large_for_a_schedule_are_named(starter: Checkpoint, values: dict[str, object]) -> None:
    metadata = {**starter.metadata, "diffstudio.schedule": json.dumps(values)}
    with pytest.raises(BadRequest, match="cannot be shown"):
        model_noise(replace(starter, metadata=metadata))


def test_a_shift_too_large_for_a_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="cannot be shown"):
        model_noise(record(folder_of(tmp_path / "sd3", shift=10**400), "sd3"))
