"""How evaluations sample a checkpoint, and what their results say of it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from diffstudio.models.fitted_steps.stored import rewrite_metadata
from diffstudio.models.library.library import Library
from diffstudio.studio.evaluations.samples import CheckpointSamples
from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_subjects
from tests.studio.evaluations.small_models import write_checkpoint


def test_a_minimum_timestep_is_among_the_settings(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "own.safetensors")

    def settings() -> dict[str, object]:
        (subject,) = find_subjects((str(path),), Library())
        assert isinstance(subject, CheckpointSubject)
        return CheckpointSamples.load(subject, torch.device("cpu"), lambda: None).settings

    usual = settings()
    rewrite_metadata(path, {"diffstudio.sampling": json.dumps({"min_timestep": 0.2})}, "it cannot be changed")
    assert "min_timestep" not in usual and settings()["min_timestep"] == 0.2
