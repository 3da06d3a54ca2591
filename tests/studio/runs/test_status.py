"""What a run is doing, from its events."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio.studio.runs.status import RunProgress
from diffstudio.training.run.events import (
    RunCheckpointChosen,
    RunComparing,
    RunEvent,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStep,
)
from diffstudio.training.run.run_folder import RunFolder, Status


def after(folder: Path, *events: RunEvent) -> RunProgress:
    run = RunFolder(folder)
    for event in events:
        run.append(event)
    progress = RunProgress()
    progress.read(run)
    return progress


COMPARING = RunComparing(80, 32, 512)


def test_a_run_that_is_continued_has_no_speed_before_its_first_step(tmp_path: Path) -> None:
    step = RunStep(80, 80, 640, 0.25, 1.5, 6e-4, 91.0, 7.0, 0.0)
    assert after(tmp_path, step).images_per_second == 91.0
    progress = after(tmp_path, RunStarted(80, 0, 1, 1, 1, 1, "cpu", "float32", 1, ""))
    assert (progress.steps, progress.images_per_second, progress.progress) == (0, None, None)


def test_a_run_that_compares_checkpoints_says_how_far_it_is(tmp_path: Path) -> None:
    step = RunStep(80, 80, 640, 0.25, 1.5, 6e-4, 91.0, 7.0, 0.0)
    assert after(tmp_path, step).compared is None
    progress = after(tmp_path, COMPARING)
    assert (progress.status, progress.step, progress.compared) == (Status.TRAINING, 80, 1 / 16)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (RunCheckpointChosen(80, 4, "That of step 4 is kept", (4, 80), (0.2, 0.3), (0, 0), 256), Status.TRAINING),
        (RunFinished(80, "checkpoints/latest.safetensors", True, "It is learning"), Status.FINISHED),
        (RunPaused(80), Status.PAUSED),
        (RunResumed(80), Status.TRAINING),
    ],
)
def test_whatever_follows_ends_the_comparison(event: RunEvent, status: Status, tmp_path: Path) -> None:
    progress = after(tmp_path, RunStep(80, 80, 640, 0.25, 1.5, 6e-4, 91.0, 7.0, 0.0), COMPARING, event)
    assert progress.compared is None and progress.status is status
