"""`diffstudio train FOLDER --dry-run`: the report of the inspection, as in the window, and the recipe; nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path

from diffstudio.cli.terminal import StopFlag, printable, progress, stop_signals
from diffstudio.errors import Interrupted
from diffstudio.studio.jobs.device_guess import seems_accelerated
from diffstudio.training.data.folder_report import FolderReport, InspectionProgress
from diffstudio.training.data.inspect_folder import finish_inspection
from diffstudio.training.data.usable_images import no_usable_images, usable_images
from diffstudio.training.recipe_choice import check_recipe_name, choose_recipe


def dry_run(
    folder: Path,
    recipe_name: str,
    minutes: float | None,
    start_from: str | None = None,
    *,
    steps: int | None = None,
    as_json: bool,
) -> int:
    """Print the report on standard output, as lines or as one JSON object.

    FolderProblem, also after the report if the recipe can use none of the images; RunProblem.
    """
    check_recipe_name(recipe_name)
    with stop_signals() as stop:
        report = _inspected(folder, stop)
    choice = choose_recipe(
        recipe_name,
        report,
        accelerator=seems_accelerated(),
        minutes=minutes,
        start_from=start_from,
        cross_validate=steps is None,
    )
    usable, unfit = usable_images(report, choice.recipe.data)
    if as_json:
        recipe = choice.recipe.to_json() | {"why": choice.why}
        print(json.dumps(report.to_json(unfit) | {"recipe": recipe}, indent=1), flush=True)
    else:
        for line in (*report.lines(unfit), f"Recipe: {choice.recipe.name}. {choice.why}"):
            print(printable(line), flush=True)
    if not usable:
        raise no_usable_images(report, unfit, choice.recipe.data)
    return 0


def _inspected(folder: Path, stop: StopFlag) -> FolderReport:
    def show(item: InspectionProgress) -> None:
        if stop.requested:
            raise Interrupted("The inspection was stopped", "What was read is kept: start it again to go on")
        counted = f"{item.done:,} of {item.total:,}" if item.total else f"{item.done:,}"
        progress(printable(f"inspecting image {counted}: {item.path}"))

    report = finish_inspection(folder, show)
    progress("", last=True)
    return report
