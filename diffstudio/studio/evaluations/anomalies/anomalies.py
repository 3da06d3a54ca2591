"""anomalies(): finds the images of a folder that are unlike normal ones, and where they differ. Read this first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from diffstudio.atomic import atomic_write, make_folder, write_text
from diffstudio.errors import BadRequest
from diffstudio.evaluation.anomalies.calibration import check_rate, outliers, p_values, smallest_rate, threshold
from diffstudio.evaluation.anomalies.denoising import LEVELS
from diffstudio.evaluation.anomalies.heat_maps import over_image
from diffstudio.evaluation.even_spacing import spread
from diffstudio.models import loading
from diffstudio.models.fitted_steps.distilled import check_denoises
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.models.model import Model
from diffstudio.plurals import by_number
from diffstudio.studio.evaluations.anomalies.choice import (
    Compared,
    check_detector,
    choose,
    choose_map,
    compare_detectors,
    note_on_overlooked,
)
from diffstudio.studio.evaluations.anomalies.detectors import Detectors, available
from diffstudio.studio.evaluations.anomalies.normals import notes_on_normals
from diffstudio.studio.evaluations.anomalies.request import AnomaliesRequest
from diffstudio.studio.evaluations.anomalies.result import COMBINED_LOCAL, AnomaliesResult, ScoredImage
from diffstudio.studio.evaluations.anomalies.training import DEFAULT_RATE, MOST_HELD_OUT, check_count, trained
from diffstudio.studio.evaluations.folders.checks import check_varied
from diffstudio.studio.evaluations.folders.equal_images import digests, digests_and_flatness, shared_images
from diffstudio.studio.evaluations.folders.notes import duplicate_notes, notes_on_compared
from diffstudio.studio.evaluations.folders.reading import read_generated, read_real
from diffstudio.studio.evaluations.folders.real_folder import GeneratedFolder, RealFolder
from diffstudio.studio.evaluations.folders.stored_split import with_split_of_run
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.place import check_place
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.subjects import (
    CHOSEN_BY_HELD_OUT,
    CheckpointSubject,
    find_subjects,
    folder_of,
    run_of,
    unknown_split,
    was_chosen_by_held_out,
)
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.run.setup import left_out

RESULT, TABLE, HEAT_MAPS = "anomalies.json", "anomalies.csv", "heat maps"  # in the request's `out`
_MOST_TRAINING = 2000
_AT_ONCE = 128  # images whose scores and heat maps are in memory at a time
_SELDOM = 0.995  # quantile of the normal images' heat at which the colours begin


def anomalies(
    request: AnomaliesRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> AnomaliesResult:
    """Score the images of a folder against normal ones; writes result, table and heat maps into `out`, if it is given.

    The scores are calibrated on held-out normal images, and the detector that is used is the best one on defects drawn
    into these. Holds the accelerator, and releases it while images are generated. DiffstudioError for data that cannot be
    read or compared; Interrupted when `cancelled` returns True or the control file in `out` says stop.
    """
    check_place(request.out, (request.normals, request.folder))
    _check_folders(request)
    if request.out is not None:
        make_folder(request.out)
    job_control = EvaluationJobControl(Lease(), cancelled, request.out, on_wait)
    name = request.checkpoint
    if request.minutes is not None and request.out is not None:
        name = str(trained(request, request.out, on_progress, on_wait, cancelled))
    subject = _subject(name, library) if name is not None else None
    device = choose_device(request.device)
    real = read_real(
        request.normals, subject.recipe.data if subject is not None else None, on_progress, job_control.check
    )
    real, note = with_split_of_run(real, [subject] if subject is not None else [], on_progress, job_control.check)
    real, copies_note = _without_copies(real, on_progress, job_control.check)
    _check_normals(real, on_progress, job_control.check)
    if request.false_alarm is not None:
        check_rate(min(len(real.held_out), MOST_HELD_OUT), request.false_alarm)
    found = read_generated(request.folder, real, on_progress, job_control.check, same_units=True)
    with job_control.taken(f"searching {request.folder.name}"):
        model, sentence = _model(subject, device, on_progress)
        search = _Search(request, real, found.dataset, model, device, job_control.check, on_progress)
        notes = _notes(real, found, subject, on_progress, job_control.check)
        result = search.result(sentence, [*filter(None, (note, copies_note)), *notes])
    if request.out is not None:
        write_text(request.out / RESULT, json.dumps(result.to_json(), ensure_ascii=False, indent=1))
        write_text(request.out / TABLE, result.csv())
    return result


@dataclass(frozen=True)
class _Search:
    """One search in progress."""

    request: AnomaliesRequest
    real: RealFolder
    images: ImageDataset
    model: Model | None
    device: torch.device
    check: Callable[[], None]
    on_progress: OnProgress

    def result(self, sentence: str, notes: list[str]) -> AnomaliesResult:
        request, real = self.request, self.real
        check_detector(request.detector, available(self.model, real.dataset.channels))
        training = real.training[spread(len(real.training), min(len(real.training), _MOST_TRAINING))]
        held_out = real.held_out[spread(len(real.held_out), min(len(real.held_out), MOST_HELD_OUT))]
        normals = real.dataset.batch(held_out, usual_size=True)
        detectors = Detectors.of(
            real.dataset.batch(training, usual_size=True),
            normals,
            self.model,
            request.draws,
            request.seed,
            real.data.form.bits,
            self.device,
            self.check,
            self._report("Scoring held-out normal images"),
        )
        compared = compare_detectors(detectors, normals, request.seed, self._report("Scoring drawn defects"))
        name, why = choose(compared.results, request.detector)
        shown, why_shown = choose_map(compared.results, request.detector)
        known = compared.scores_of_normals(name)
        rate, rate_notes = self._rate(len(known))
        limit = threshold(known, rate)
        scored = sorted(self._scored(compared, name, shown, known, rate), key=lambda one: (one.p_value, -one.score))
        suspicious = [real.dataset.paths[int(held_out[index])].as_posix() for index in outliers(known)]
        notes += note_on_overlooked(scored, name, len(known))
        notes += notes_on_normals(real, training, held_out, detectors, suspicious)
        return AnomaliesResult(
            str(request.folder),
            str(request.normals),
            sentence,
            len(training),
            len(held_out),
            compared.results,
            name,
            f"{why} {why_shown}",
            rate,
            smallest_rate(len(known)),
            limit,
            scored,
            suspicious,
            {"draws": request.draws, "noise levels": list(LEVELS), "seed": request.seed} if self.model else {},
            [*notes, *rate_notes],
            normal_scores=np.sort(known).tolist(),
        )

    def _scored(
        self, compared: Compared, name: str, shown: str, known: NDArray[np.float64], rate: float
    ) -> list[ScoredImage]:
        found = []
        maps, detectors = compared.maps_of_normals(shown), compared.detectors
        of_normals = {one: compared.scores_of_normals(one) for one in (*detectors.names, COMBINED_LOCAL)}
        usual = float(np.quantile(maps, _SELDOM))
        lowest = float(np.median(maps))
        for first in range(0, len(self.images), _AT_ONCE):
            indices = np.arange(first, min(first + _AT_ONCE, len(self.images)))
            batch = self.images.batch(indices, usual_size=True)
            scores, heat = detectors.score(
                batch, self._report(f"Scoring {self.request.folder.name}", first, len(self.images))
            )
            pixels = batch.numpy()
            decided = compared.scores(name, scores, heat, pixels)
            maps_shown = compared.maps(shown, heat, pixels)
            p = p_values(decided, known)
            each = {
                one: p_values(compared.scores(one, scores, heat, pixels), normal) for one, normal in of_normals.items()
            }
            for row, index in enumerate(indices):
                path = self.images.paths[int(index)]
                file = self._write_heat_map(path, pixels[row], maps_shown[row] - lowest, usual - lowest)
                found.append(
                    ScoredImage(
                        path.as_posix(),
                        float(decided[row]),
                        float(p[row]),
                        bool(p[row] <= rate + 1e-12),
                        {key: float(values[row]) for key, values in each.items()},
                        file,
                    )
                )
        return found

    def _write_heat_map(self, path: Path, image: NDArray[np.float32], heat: NDArray[np.float32], normal: float) -> str:
        """Write a heat map; returns its path in the folder of the result, empty if there is no such folder."""
        if self.request.out is None:
            return ""
        file = Path(HEAT_MAPS) / path.parent / f"{path.name}.png"
        make_folder((self.request.out / file).parent)
        with atomic_write(self.request.out / file, f"The heat map of {path.name} cannot be written") as out:
            Image.fromarray(over_image(image, heat, normal)).save(out, "PNG")
        return file.as_posix()

    def _rate(self, count: int) -> tuple[float, list[str]]:
        """The false-alarm rate, with a note if the default rate is not supported."""
        if self.request.false_alarm is not None:
            return self.request.false_alarm, []
        if smallest_rate(count) <= DEFAULT_RATE:
            return DEFAULT_RATE, []
        rate = smallest_rate(count)
        return rate, [f"The false-alarm rate is {rate:.3g}, the lowest that {count} held-out normal images support."]

    def _report(self, what: str, first: int = 0, total: int = 0) -> Callable[[int, int], None]:
        """`total` where what is counted is part of more; `first` of them are done."""

        def report(done: int, count: int) -> None:
            self.on_progress(what, first + done, total or count)

        return report


# ---- the model of the normal images ----------------------------------------------------------------------------------


def _subject(name: str, library: Library) -> CheckpointSubject:
    (subject,) = find_subjects((name,), library)
    if not isinstance(subject, CheckpointSubject):
        raise BadRequest(f"{name} is a folder of images, not a checkpoint", remedy="Name a checkpoint, a run, or none")
    check_denoises(subject.checkpoint, "denoising errors")
    return subject


def _model(
    subject: CheckpointSubject | None, device: torch.device, on_progress: OnProgress
) -> tuple[Model | None, str]:
    """The model in memory, and a sentence about it."""
    if subject is None:
        return (
            None,
            "No model of the normal images is used, only distances to them. A checkpoint of them, or one that is trained "
            "first, adds denoising errors and likelihoods.",
        )
    if subject.recipe.objective.kind is not ObjectiveName.DIFFUSION:
        return None, f"{subject.name} is not a diffusion model and has no denoising errors: only distances are used."
    on_progress(f"Loading {subject.name}", 0, 0)
    return loading.load(
        subject.checkpoint, device, torch.float32
    ), f"Model: {subject.name}, EMA weights, without a prompt."


# ---- checks and notes ------------------------------------------------------------------------------------------------


def _without_copies(real: RealFolder, report: OnProgress, check: Callable[[], None]) -> tuple[RealFolder, str]:
    """The folder without held-out images that are equal to one to compare with, and a note on them.

    Their distances are 0, so that new normal images would all look anomalous.
    """
    name = real.report.folder.name
    known = set(digests(real.dataset, real.training, name, report, check))
    found = digests(real.dataset, real.held_out, name, report, check)
    copies = [index for index, one in zip(real.held_out.tolist(), found, strict=True) if one in known]
    if not copies:
        return real, ""
    held_out = real.dataset.held_out.copy()
    held_out[copies] = False
    note = (
        f"{len(copies):,} of {len(real.held_out):,} held-out normal images are equal to images to compare with, such as "
        f"{real.dataset.paths[copies[0]].as_posix()}: the scores are calibrated without them."
    )
    return replace(real, dataset=replace(real.dataset, held_out=held_out)), note


def _check_normals(real: RealFolder, report: OnProgress, check: Callable[[], None]) -> None:
    """FolderProblem for too few different normal images; BadRequest if all images of a part are equal."""
    folder = real.report.folder
    different = set(digests(real.dataset, real.held_out, folder.name, report, check))
    check_count(folder, len(different), len(real.dataset))
    check_varied(real, report, check)


def _check_folders(request: AnomaliesRequest) -> None:
    """BadRequest if all searched images are normal images."""
    if request.folder.resolve().is_relative_to(request.normals.resolve()):
        raise BadRequest(
            f"The images of {request.folder} cannot be searched",
            f"they are in the folder of normal images, {request.normals}",
            "Choose folders that do not contain each other",
        )


def _notes(
    real: RealFolder,
    found: GeneratedFolder,
    subject: CheckpointSubject | None,
    report: OnProgress,
    check: Callable[[], None],
) -> list[str]:
    name, images = found.name, found.dataset
    notes = left_out(real.report, real.dataset.skipped, real.dataset.unfit)
    shared = shared_images(name, images, real, report, check)
    notes += notes_on_compared(found, real, report, check, "their scores mean nothing", alike=not shared)
    notes += duplicate_notes("the folder", digests_and_flatness(name, images, report, check))
    if shared:
        notes.append(
            f"{len(shared):,} of {len(images):,} images {by_number(len(shared), 'is', 'are')} also among the normal ones, such as "
            f"{shared[0][0]}: scores of known images mean nothing. "
            "Remove what was used for training or comparison from the folder."
        )
    if subject is not None and (unknown := unknown_split(subject)):
        notes.append(unknown)
    if subject is not None and was_chosen_by_held_out(subject):
        notes.append(CHOSEN_BY_HELD_OUT)
    run = run_of(subject) if subject is not None else None
    other = folder_of(run) if run is not None else None
    if subject is not None and other not in (None, real.report.folder.resolve()):
        notes.append(
            f"{subject.name} was trained on {other}, and may have seen the normal images that are held out here."
        )
    return notes
