"""Trains a model on normal images, held out so that the scores can be calibrated; what cannot work is refused before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path

from diffstudio.atomic import make_folder
from diffstudio.errors import FolderProblem, Interrupted
from diffstudio.evaluation.anomalies.calibration import check_rate
from diffstudio.models.memory.devices import choose_device
from diffstudio.studio.evaluations.anomalies.request import AnomaliesRequest
from diffstudio.studio.evaluations.folders.reading import inspected
from diffstudio.studio.evaluations.job_runs import RunControl, State, check_plan, resume_remedy, state_of
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.data.split import count_held_out
from diffstudio.training.loop import train
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.recipe_choice import AUTO, choose_recipe
from diffstudio.training.run.events import RunEvent, RunStep, RunWaiting
from diffstudio.training.run.run_folder import RunFolder

RUN, RECIPE = "run", "recipe.toml"  # in the request's `out`
FEWEST_NORMALS = 8  # held-out normal images that calibration needs
MOST_HELD_OUT = 500  # of which scores are calibrated
DEFAULT_RATE = 0.05  # of false alarms
_MOST_OF_FOLDER = 50  # percent that may be held out


def trained(
    request: AnomaliesRequest,
    out: Path,
    on_progress: OnProgress,
    on_wait: Callable[[], None],
    cancelled: Callable[[], bool],
) -> Path:
    """The folder of a finished run on the normal images, trained now or resumed from an earlier call with this `out`.

    BadRequest if `out` has a run on other images or with another time, and, before any training, if too few images can
    be held out for the false-alarm rate; FolderProblem if one of the folders cannot be used; Interrupted when training is
    stopped, with its state saved; DiffstudioError if training fails.
    """
    minutes = request.minutes or 0.0
    run = RunFolder(out / RUN)
    check_plan(out, request.normals, minutes, "search for anomalies", run)
    if state_of(run) is State.FINISHED:
        return run.path
    with RunControl(run, out, cancelled) as control:

        def on_event(event: RunEvent) -> None:
            control.show(event)
            if isinstance(event, RunWaiting):
                on_wait()
            if isinstance(event, RunStep):
                on_progress("Training on the normal images, seconds", round(event.elapsed_seconds), round(60 * minutes))

        def stopped() -> bool:
            return control.stopped

        if state_of(run) is State.NEW:
            recipe = str(_write_recipe(request, out, on_progress, cancelled))
            train(run.path, request.normals, recipe=recipe, minutes=minutes, on_event=on_event, cancelled=stopped)
        else:
            train(run.path, resume=True, on_event=on_event, cancelled=stopped)
    if control.stopped or state_of(run) is not State.FINISHED:
        raise Interrupted("The training was stopped", resume_remedy(out))
    return run.path


def check_count(folder: Path, held_out: int, images: int) -> None:
    """FolderProblem unless enough of a folder's normal images are held out."""
    if held_out < FEWEST_NORMALS or held_out >= images:
        raise FolderProblem(
            f"There are too few normal images in {folder.name}",
            f"{FEWEST_NORMALS} different ones must be held out to calibrate the scores, and {held_out} of {images} are",
            "Add normal images, or hold out more of them in the recipe",
        )


def _write_recipe(request: AnomaliesRequest, out: Path, on_progress: OnProgress, cancelled: Callable[[], bool]) -> Path:
    """The recipe of the run, with enough images held out. BadRequest and FolderProblem as in `trained`."""

    def check() -> None:
        if cancelled():
            raise Interrupted("The search was stopped")

    report = inspected(request.normals, on_progress, check)
    inspected(request.folder, on_progress, check)
    choice = choose_recipe(
        AUTO,
        report,
        accelerator=choose_device(request.device).type != "cpu",
        minutes=request.minutes,
        cross_validate=False,
    )
    rate = request.false_alarm if request.false_alarm is not None else DEFAULT_RATE
    data, count = with_held_out(choice.recipe.data, report, rate)
    check_count(request.normals, count, len(report.images))
    if request.false_alarm is not None:
        check_rate(min(count, MOST_HELD_OUT), rate)
    recipe = replace(choice.recipe, data=data)
    make_folder(out)
    replace(choice, recipe=recipe).write(out / RECIPE)
    return out / RECIPE


def with_held_out(data: DataRecipe, report: FolderReport, rate: float) -> tuple[DataRecipe, int]:
    """The data section with enough held-out images for a false-alarm rate, if at most half are, and how many there are."""
    needed = max(FEWEST_NORMALS, ceil(1 / rate - 1 - 1e-9))
    count = count_held_out(report, data)
    for percent in range(ceil(100 * data.held_out), _MOST_OF_FOLDER + 1):
        if count >= needed:
            break
        found = replace(data, held_out=percent / 100)
        if (more := count_held_out(report, found)) > count:
            data, count = found, more
    return data, count
