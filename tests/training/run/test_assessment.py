"""Which copies a run is to blame for. Whole assessments are tested where runs are: tests/training/test_loop.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from diffstudio.training.recipe import Recipe
from diffstudio.training.run.assessment import Assessment
from diffstudio.training.run.events import RunVerdict
from diffstudio.training.run.run_folder import RunFolder


def copied_at_start(run: RunFolder, step: int, copied: int, start_from: str = "starter") -> int | None:
    """As found by a process that judges 32 images, 8 of which make a step, for the first time at `step`."""
    context = SimpleNamespace(
        run=run,
        recipe=Recipe.from_json({"run": {"start_from": start_from, "batch": 8}}),
        dataset=SimpleNamespace(training_indices=np.arange(32)),
        trainer=SimpleNamespace(step_number=step),
    )
    return Assessment(context, ())._copied_by_start(copied)  # type: ignore[arg-type]


def test_copies_before_each_image_was_seen_once_come_from_the_checkpoint_that_the_run_started_from(
    tmp_path: Path,
) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe(), tmp_path)
    assert copied_at_start(run, 4, 9) == 9
    assert copied_at_start(run, 5, 9) is None  # a second epoch may have made them
    assert copied_at_start(run, 4, 9, start_from="") is None
    run.append(RunVerdict(3, "copying", "", (), None, ("a.png", "a.png")))
    run.append(RunVerdict(4, "copying", "", (), None, ("a.png",) * 7))
    assert copied_at_start(run, 50, 9) == 2  # of a resumed run
    late = RunFolder.create(tmp_path / "late", Recipe(), tmp_path)
    late.append(RunVerdict(5, "copying", "", (), None, ("a.png",)))
    assert copied_at_start(late, 50, 9) is None
