"""compare(): trains models on one folder for the same time, and compares them with other checkpoints and images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from diffstudio.atomic import make_folder, write_text
from diffstudio.errors import DiffstudioError
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.studio.evaluations.compare.counts import counts_of
from diffstudio.studio.evaluations.compare.figures import save_plots
from diffstudio.studio.evaluations.compare.history import history
from diffstudio.studio.evaluations.compare.measuring import Measuring, checkpoint_stamp
from diffstudio.studio.evaluations.compare.page import write_page
from diffstudio.studio.evaluations.compare.plan import PlannedRun, check_models, prepare, total_sentence
from diffstudio.studio.evaluations.compare.request import CompareRequest
from diffstudio.studio.evaluations.compare.result import RESULT, Comparison, Entry
from diffstudio.studio.evaluations.compare.training import train_runs
from diffstudio.studio.evaluations.compare.verdict import verdict
from diffstudio.studio.evaluations.evaluate import check_folder, too_few_real
from diffstudio.studio.evaluations.feature_choice import check_feature_network, feature_network
from diffstudio.studio.evaluations.folders.checks import check_no_real_images
from diffstudio.studio.evaluations.folders.notes import repeated_notes
from diffstudio.studio.evaluations.folders.reading import inspected, read_generated, read_real
from diffstudio.studio.evaluations.folders.real_folder import GeneratedFolder, RealFolder
from diffstudio.studio.evaluations.folders.stored_split import with_split_of_run, with_stored_dataset
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.measure import FeatureFiles, features_of_real, views_of
from diffstudio.studio.evaluations.place import check_place, default_out, scratch_folder
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.subjects import (
    CHOSEN_BY_HELD_OUT,
    CheckpointSubject,
    FolderSubject,
    Subject,
    check_same_reading,
    data_recipe,
    find_subjects,
    image_folders,
    was_chosen_by_held_out,
)
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.recipe_choice import read_choice
from diffstudio.training.run.setup import left_out

_MEMORY = "memory.json"  # in the folder of the comparison: peak memory in bytes, by the name of the run


def compare(
    request: CompareRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Comparison:
    """Train the models of the request, measure them and the other subjects, and write the page into `out`.

    Finished runs in `out` are not trained again, and stopped ones are resumed. The first progress message says how long
    everything takes. DiffstudioError for what cannot be trained or measured, if possible before any training;
    Interrupted when `cancelled` returns True or the control file in `out` says stop. If a part of the folder has fewer
    than 100 images, `problem` of the result says so, and only the tests for copies are done.
    """
    out = request.out if request.out is not None else default_out(request.folder)
    check_place(out, (request.folder, *image_folders(request.subjects)))
    make_folder(out)
    check_models(request.models)
    on_progress(total_sentence(request), 0, 0)
    job_control = EvaluationJobControl(Lease(), cancelled, out, on_wait)
    device = choose_device(request.device)
    compared = _prepared(request, library, out, device, on_progress, job_control)
    memory = _memory(out) | train_runs(
        compared.runs,
        request.folder,
        request.minutes,
        out,
        on_progress=on_progress,
        on_wait=on_wait,
        cancelled=cancelled,
    )
    write_text(out / _MEMORY, json.dumps(memory))
    compared, note = compared.as_trained(on_progress, job_control.check)
    with job_control.taken(f"comparing models of {request.folder.name}"):
        found = _measured(request, library, compared, note, memory, out, device, on_progress, job_control)
    verdicts = [verdict(model, found.of_model(model), found.real) for model in found.models]
    found = replace(found, verdicts=tuple(one for one in verdicts if one.findings))
    save_plots(found, out)
    write_page(found, out)
    write_text(out / RESULT, json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    return found


@dataclass(frozen=True)
class _Compared:
    """What is compared."""

    report: FolderReport
    real: RealFolder
    runs: Sequence[PlannedRun]
    subjects: Sequence[Subject]
    folders: Mapping[str, GeneratedFolder]  # of the subjects that are folders, by name

    def as_trained(self, report: OnProgress, check: Callable[[], None]) -> tuple[_Compared, str]:
        """With the images held out that the runs or the other subjects held out; and a note about it."""
        if self.runs:
            real, note = with_stored_dataset(self.real, self.runs[0].run, report, check)
        else:
            real, note = with_split_of_run(self.real, self.subjects, report, check)
        return replace(self, real=real), note


def _prepared(
    request: CompareRequest,
    library: Library,
    out: Path,
    device: torch.device,
    on_progress: OnProgress,
    job_control: EvaluationJobControl,
) -> _Compared:
    """Read the folder and the subjects, plan the runs, and check that all can be compared."""
    subjects = find_subjects(request.subjects, library)
    report = inspected(request.folder, on_progress, job_control.check)
    given = data_recipe(subjects)
    runs = prepare(request, out, report, given, accelerator=device.type != "cpu")
    data = read_choice(runs[0].recipe_file).recipe.data if runs else given
    _check_subjects(subjects, data)
    real = read_real(request.folder, data, on_progress, job_control.check)
    check_folder(real, on_progress, job_control.check)
    if runs:
        check_feature_network(request.features, real, library.folders, device)
    if runs and (too_few := too_few_real(real)) is not None:
        on_progress(f"{too_few} The models are trained and tested for copies, without a table.", 0, 0)
    folders = {one.name: _images_of(one, real, on_progress, job_control) for one in subjects if _is_folder(one)}
    return _Compared(report, real, runs, subjects, folders)


def _measured(
    request: CompareRequest,
    library: Library,
    compared: _Compared,
    note: str,
    memory: Mapping[str, int],
    out: Path,
    device: torch.device,
    on_progress: OnProgress,
    job_control: EvaluationJobControl,
) -> Comparison:
    """The table, without verdicts."""
    real, runs, subjects = compared.real, compared.runs, compared.subjects
    with scratch_folder("comparison") as path:
        network = feature_network(request.features, real, library.folders, device, on_progress, job_control.check)
        files = FeatureFiles(network, real.dataset.channels, Path(path), on_progress, job_control.check)
        views = views_of(real.data)
        problem = too_few_real(real)
        numbers, class_of = _classes(compared.report, real)
        measuring = Measuring(
            real,
            features_of_real(real, files, views),
            files,
            views,
            device,
            out,
            counts_of([*_subjects_of(runs), *subjects], compared.folders, real, request.count),
            request.seed,
            problem is not None,
            numbers,
            class_of,
            job_control.check,
            on_progress,
        )
        first = measuring.kept("real", {}, measuring.real_entry) if problem is None else None
        entries = _Entries(measuring, memory).of(runs, subjects, compared.folders)
        grid = measuring.held_out_grid()
    return Comparison(
        str(compared.report.folder),
        request.minutes,
        total_sentence(request),
        network.name,
        network.resizing,
        len(real.training),
        len(real.held_out),
        first,
        tuple(entries),
        notes=(
            *left_out(compared.report, real.dataset.skipped, real.dataset.unfit),
            *_notes(real, numbers, note),
            *repeated_notes(real, on_progress, job_control.check),
            *((CHOSEN_BY_HELD_OUT,) if runs or any(map(was_chosen_by_held_out, subjects)) else ()),
        ),
        problem=problem,
        held_out_grid=grid,
    )


@dataclass(frozen=True)
class _Entries:
    """The rows of the table after the first."""

    measuring: Measuring
    memory: Mapping[str, int]

    def of(
        self, runs: Sequence[PlannedRun], subjects: Sequence[Subject], folders: Mapping[str, GeneratedFolder]
    ) -> list[Entry]:
        models = dict.fromkeys(planned.model for planned in runs)  # the seeds of one model are measured together
        found = [self._of_run(planned) for model in models for planned in runs if planned.model == model]
        for subject in subjects:
            found.append(self._of_subject(subject, folders))
        return found

    def _of_run(self, planned: PlannedRun) -> Entry:
        events, _ = planned.run.events()
        trained = history(events)
        path = planned.run.latest_checkpoint
        entry = Entry(planned.name, planned.model, planned.seed, problem=trained.ended)
        if path.is_file():
            entry = self._measured(
                planned.name,
                planned.model,
                planned.seed,
                checkpoint_stamp(path),
                lambda: self.measuring.of_checkpoint(_subject_of(planned), planned.model, planned.seed),
            )
        return replace(
            entry,
            training=trained,
            parameters=trained.parameters or entry.parameters,
            memory_bytes=self.memory.get(planned.name),
        )

    def _of_subject(self, subject: Subject, folders: Mapping[str, GeneratedFolder]) -> Entry:
        if isinstance(subject, FolderSubject):
            found = folders[subject.name]
            return self._measured(
                subject.name, subject.name, None, [found.dataset.file.name], lambda: self.measuring.of_folder(found)
            )
        return self._measured(
            subject.name,
            subject.name,
            None,
            checkpoint_stamp(subject.checkpoint.path),
            lambda: self.measuring.of_checkpoint(subject, subject.name),
        )

    def _measured(
        self, name: str, model: str, seed: int | None, stamp: Sequence[object], measure: Callable[[], Entry]
    ) -> Entry:
        """The entry of a subject; if it cannot be measured, its row says why, and the others keep the table."""
        try:
            return self.measuring.kept(name, {"of": list(stamp)}, measure)
        except DiffstudioError as error:
            return Entry(name, model, seed, problem=str(error))


def _subject_of(planned: PlannedRun) -> CheckpointSubject:
    """The checkpoint of a run that is measured. DiffstudioError if it cannot be read."""
    checkpoint = read_checkpoint(planned.run.latest_checkpoint)
    return CheckpointSubject(planned.name, checkpoint, read_choice(planned.recipe_file).recipe)


def _subjects_of(runs: Sequence[PlannedRun]) -> list[CheckpointSubject]:
    """The checkpoints that can be read; the rows of the others say why they cannot."""
    found = []
    for planned in runs:
        if planned.run.latest_checkpoint.is_file():
            with suppress(DiffstudioError):
                found.append(_subject_of(planned))
    return found


def _is_folder(subject: Subject) -> bool:
    return isinstance(subject, FolderSubject)


def _images_of(
    subject: Subject, real: RealFolder, on_progress: OnProgress, job_control: EvaluationJobControl
) -> GeneratedFolder:
    """The images of a folder of generated images. FolderProblem if some of them are real images."""
    assert isinstance(subject, FolderSubject)
    found = read_generated(subject.folder, real, on_progress, job_control.check, name=subject.name)
    check_no_real_images(found, real, on_progress, job_control.check)
    return found


def _check_subjects(subjects: Sequence[Subject], data: DataRecipe | None) -> None:
    for subject in subjects:
        if isinstance(subject, CheckpointSubject) and data is not None:
            check_same_reading("The comparison", data, subject.name, subject.recipe.prepared)


def _classes(report: FolderReport, real: RealFolder) -> tuple[dict[str, int], dict[str, str]]:
    """The numbers of the classes that both parts have, and the class of each image; empty with fewer than two."""
    by_path = {record.path.as_posix(): record.group for record in report.images}
    names = [by_path.get(path.as_posix(), "") for path in real.dataset.paths]
    parts = [{names[index] for index in part} for part in (real.training, real.held_out)]
    if len(parts[0]) < 2 or len(parts[1]) < 2:
        return {}, {}
    known = sorted(set(names))
    return {name: number for number, name in enumerate(known)}, {
        path.as_posix(): name for path, name in zip(real.dataset.paths, names, strict=True)
    }


def _notes(real: RealFolder, classes: Mapping[str, int], note: str) -> list[str]:
    notes = [note] if note else []
    if not classes:
        kinds = {real.dataset.classes[label] for label in real.dataset.labels}
        why = "All images have one class" if len(kinds - {""}) == 1 else "The folder has no classes"
        notes.append(f"{why}, so no classifier is trained on generated images, and nothing is measured per class.")
    return notes


def _memory(out: Path) -> dict[str, int]:
    try:
        values = json.loads((out / _MEMORY).read_text(encoding="utf-8"))
        return {str(name): int(value) for name, value in values.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
