"""The line that says what a run is doing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.studio.runs.runs import RunSummary
from diffstudio.training.run.run_folder import RunFolder, Status
from diffstudio.ui.train.room import TrainRoom
from diffstudio.ui.train.run.view import status_line
from diffstudio.ui.train.runs_list import status_text

TRAINING = RunSummary(
    RunFolder(Path("birds")), Status.TRAINING, step=3437, steps=3437, images_per_second=190.4, progress=1.0
)


@pytest.mark.parametrize(
    ("summary", "line", "card"),
    [
        (replace(TRAINING, step=80, left_seconds=125.0, progress=0.5),
         "Step 80 of 3,437  ·  190 images/s  ·  2 min 5 s left", "training · 50%"),
        (TRAINING, "Step 3,437 of 3,437  ·  drawing final samples", "training · 100%"),
        (replace(TRAINING, step=120, steps=0, images_per_second=None, progress=None),
         "Step 120  ·  preparing to train", "training · 0%"),
        (replace(TRAINING, compared=0.0), "Step 3,437 of 3,437  ·  comparing checkpoints, 0%", "comparing · 0%"),
        (replace(TRAINING, compared=0.4), "Step 3,437 of 3,437  ·  comparing checkpoints, 40%", "comparing · 40%"),
        (replace(TRAINING, status=Status.PAUSED), "Step 3,437 of 3,437  ·  paused", "paused · 100%"),
        (replace(TRAINING, status=Status.STARTING, prepared=0.25), "Preparing images, 25%…", "preparing · 25%"),
    ],
)  # fmt: skip
def test_the_status_of_a_run(summary: RunSummary, line: str, card: str) -> None:
    assert (status_line(summary), status_text(summary)) == (line, card)


def test_nothing_is_asked_of_a_run_that_compares_checkpoints(room: TrainRoom) -> None:
    view = room.run_view
    for summary, asked in ((TRAINING, True), (replace(TRAINING, compared=0.4), False)):
        view.show_run(summary, None, "", has_prompts=True)
        assert [button.isVisibleTo(view) for button in (view.sample_now, view.save_now, view.prompts)] == 3 * [asked]
        assert view.stop.isVisibleTo(view)
