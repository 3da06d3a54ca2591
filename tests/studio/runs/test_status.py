"""What a run is doing, from its events."""

from __future__ import annotations

from pathlib import Path

from diffstudio.studio.runs.status import RunProgress
from diffstudio.training.run.events import (
    RunCheckpointChosen,
    RunComparing,
    RunEvent,
    RunFinished,
    RunPaused,
    RunResumed,
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


def test_a_run_that_compares_checkpoints_says_how_far_it_is(tmp_path: Path) -> None:
    step = RunStep(80, 80, 640, 0.25, 1.5, 6e-4, 91.0, 7.0, 0.0)
    progress = after(tmp_path, step)
    assert progress.compared is None
    for event in (RunComparing(80, 32, 512), RunPaused(80), RunResumed(80)):
        RunFolder(tmp_path).append(event)
        progress.read(RunFolder(tmp_path))
        assert progress.compared == 1 / 16
    assert progress.status is Status.TRAINING and progress.step == 80


def test_it_no_longer_compares_once_one_is_chosen(tmp_path: Path) -> None:
    chosen = RunCheckpointChosen(80, 4, "That of step 4 is kept", (4, 80), (0.2, 0.3), (0, 0), 256)
    assert after(tmp_path, RunComparing(80, 512, 512), chosen).compared is None
    finished = after(tmp_path, RunFinished(80, "checkpoints/latest.safetensors", True, "It is learning"))
    assert finished.status is Status.FINISHED and finished.compared is None
