"""A checkpoint that was distilled to few steps in the rest of the program: drawn with, shown, and refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from diffstudio.errors import BadRequest
from diffstudio.models.families import pixel_file
from diffstudio.models.fitted_steps.distilled import KEY, Distilled
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.recommended import recommended_values
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import PixelTransformer
from diffstudio.networks.transformer_config import TransformerConfig
from diffstudio.studio.evaluations.anomalies.anomalies import anomalies
from diffstudio.studio.evaluations.anomalies.request import AnomaliesRequest
from diffstudio.studio.evaluations.fitted_steps.fitting import fit_steps
from diffstudio.studio.evaluations.fitted_steps.request import FitStepsRequest
from diffstudio.studio.evaluations.likelihood.likelihood import likelihood
from diffstudio.studio.evaluations.likelihood.request import LikelihoodRequest
from diffstudio.studio.evaluations.restore.restore import restoring_checkpoint
from diffstudio.studio.evaluations.reverse.request import ReverseRequest
from diffstudio.studio.evaluations.reverse.reverse import reverse
from diffstudio.training.recipe import DataRecipe, Recipe
from diffstudio.ui.models.model_info import model_rows, tuned_text
from tests.ui.samples import checkpoint as record


@pytest.fixture
def few(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = TransformerConfig(8, 4, 0, 8, 16, 1, 2, 16, Conditioning.CLASS, 2)
    pixel_file.save(
        tmp_path / "few.safetensors",
        PixelTransformer(config),
        title="few",
        classes=("disc", "square"),
        guidance={"scale": 1.0},
        sampling={"sampler": "lcm", "spacing": "uniform", "steps": 2},
        recipe=Recipe(data=DataRecipe(size=8)).to_json(),
        distilled=Distilled("cats", "606b1be2694f9d7f", 3.0),
    )
    return tmp_path / "few.safetensors"


def test_its_header_says_what_it_was_tuned_from_and_how_to_use_it(few: Path) -> None:
    checkpoint = read_checkpoint(few)
    assert recommended_values(checkpoint) == {"sampler": "lcm", "spacing": "uniform", "steps": 2, "guidance": 1.0}
    shown = dict(model_rows(checkpoint))["Distilled from"]
    assert shown == "cats (hash 606b1be269), with a CFG scale of 3 built in"
    assert tuned_text(record()) == tuned_text(record(metadata={KEY: "{"})) == ""
    plain = record(metadata={KEY: '{"teacher": "cats", "sha256": "", "guidance": 1.0}'})
    assert tuned_text(plain) == "cats"


def test_what_needs_the_expected_image_refuses_it_by_name(few: Path, tmp_path: Path) -> None:
    folder, library = tmp_path / "images", Library([tmp_path])
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "one.png")
    (tmp_path / "searched").mkdir()
    name = str(few)
    asked: dict[str, Callable[[], Any]] = {
        "likelihoods": lambda: likelihood(LikelihoodRequest(name, folder), library),
        "restoring images": lambda: restoring_checkpoint(name, library),
        "a film of scores": lambda: reverse(ReverseRequest(name, "disc", tmp_path / "film"), library),
        "denoising errors": lambda: anomalies(AnomaliesRequest(folder, tmp_path / "searched", name), library),
        "fitting steps": lambda: fit_steps(FitStepsRequest(name), library),
    }
    for what, ask in asked.items():
        with pytest.raises(BadRequest, match=f"few cannot be used for {what}: it was distilled to few steps.*cats"):
            ask()
