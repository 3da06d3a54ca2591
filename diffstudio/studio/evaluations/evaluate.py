"""evaluate(): folder, split, augmentation and checkpoint become the table of an evaluation. Read this first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.atomic import make_folder, write_text
from diffstudio.errors import BadRequest, DiffstudioError
from diffstudio.evaluation.even_spacing import spread
from diffstudio.evaluation.features.feature_arrays import FeatureArray
from diffstudio.evaluation.features.feature_network import FeatureNetwork
from diffstudio.evaluation.interval import Interval
from diffstudio.evaluation.memorisation import Copies
from diffstudio.evaluation.report import (
    FEWEST,
    GeneratedImages,
    RealImages,
    Row,
    check_counts,
    drawn,
    memorisation,
    real_row,
    row,
    too_few,
)
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.feature_choice import feature_network
from diffstudio.studio.evaluations.folders.checks import check_conditioning, check_no_real_images, check_varied
from diffstudio.studio.evaluations.folders.equal_images import digest_and_flatness, digests_and_flatness, pixels_of
from diffstudio.studio.evaluations.folders.notes import duplicate_notes, notes_on_compared, repeated_notes
from diffstudio.studio.evaluations.folders.reading import read_generated, read_real
from diffstudio.studio.evaluations.folders.real_folder import RealFolder, labels_of
from diffstudio.studio.evaluations.folders.stored_split import with_split_of_run
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.kept_images import KeptImages, closest, save_image
from diffstudio.studio.evaluations.measure import (
    FeatureFiles,
    View,
    batches_of,
    counted,
    features_of_real,
    loss_gaps,
    views_of,
    with_labels,
)
from diffstudio.studio.evaluations.place import check_place, scratch_folder
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.request import EvaluateRequest
from diffstudio.studio.evaluations.result import Evaluation, NearestImage, SubjectResult
from diffstudio.studio.evaluations.samples import CheckpointSamples, as_tensor
from diffstudio.studio.evaluations.subjects import (
    CheckpointSubject,
    FolderSubject,
    Subject,
    data_recipe,
    find_subjects,
    folder_of,
    image_folders,
    run_of,
    unknown_split,
)
from diffstudio.studio.runs.runs import file_name
from diffstudio.training.run.setup import left_out

RESULT = "evaluation.json"  # in the request's `out`
_MOST_BY_DEFAULT = 1000  # images generated with a checkpoint
_FEWEST_FOR_COPIES = 3  # training images, without which not even copies can be told
_COPIES_LISTED = 20


def evaluate(
    request: EvaluateRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Measure checkpoints and folders of generated images against a folder of real ones; writes `out`, if one is named.

    Holds the accelerator, and releases it while images are generated. DiffstudioError for what cannot be measured;
    Interrupted when `cancelled` returns True or the control file in `out` says stop. Where a part of the folder has fewer
    than 100 images, `problem` of the result says so, and it has the tests for copies alone.
    """
    check_place(request.out, (request.folder, *image_folders(request.subjects)))
    if request.out is not None:
        make_folder(request.out)
    job_control = EvaluationJobControl(Lease(), cancelled, request.out, on_wait)
    subjects = find_subjects(request.subjects, library)
    device = choose_device(request.device)
    real = read_real(request.folder, data_recipe(subjects), on_progress, job_control.check)
    real, note = with_split_of_run(real, subjects, on_progress, job_control.check)
    check_folder(real, on_progress, job_control.check)
    with scratch_folder("evaluation") as path, job_control.taken(f"evaluating {request.folder.name}"):
        network = feature_network(request.features, real, library.folders, device, on_progress, job_control.check)
        files = FeatureFiles(network, real.dataset.channels, Path(path), on_progress, job_control.check)
        result = _Evaluation(request, real, network, files, device, job_control.check, on_progress).result(
            subjects, note
        )
    if request.out is not None:
        write_text(request.out / RESULT, json.dumps(result.to_json(), ensure_ascii=False, indent=1))
    return result


def check_folder(real: RealFolder, report: OnProgress, check: Callable[[], None]) -> None:
    """BadRequest where not even copies can be told; BadRequest where all images of a part are equal."""
    if len(real.training) >= _FEWEST_FOR_COPIES:
        check_varied(real, report, check)
    if len(real.training) < _FEWEST_FOR_COPIES or not len(real.held_out):
        check_counts(len(real.training), len(real.held_out))


@dataclass(frozen=True)
class _Generated:
    """Generated images with their features and what they were asked for."""

    name: str
    features: FeatureArray  # [V,S,D + P], pixels after the features
    asked: tuple[str, ...]
    names: Sequence[str]  # the seed or the path of each
    kind: Conditioning
    sampling: Mapping[str, object]
    gaps: Sequence[tuple[float, Interval]] = ()
    gap: Interval | None = None
    images: Callable[[int], NDArray[Any]] | None = None  # one image [H,W,C], if images are kept for the result


@dataclass(frozen=True)
class _Evaluation:
    """One evaluation in progress."""

    request: EvaluateRequest
    real: RealFolder
    network: FeatureNetwork
    files: FeatureFiles
    device: torch.device
    check: Callable[[], None]
    on_progress: OnProgress

    def result(self, subjects: Sequence[Subject], note: str = "") -> Evaluation:
        views = views_of(self.real.data)
        notes = self._notes(subjects) + ([note] if note else [])
        generated = []
        for number, subject in enumerate(subjects):
            generated.append(self._generated(number, subject, views, notes))
        features = features_of_real(self.real, self.files, views)
        problem = too_few_real(self.real)
        count = min([features.count, *(len(one.names) for one in generated if len(one.names) >= FEWEST)])
        kind = next((one.kind for one in generated if one.kind is not Conditioning.NONE), Conditioning.NONE)
        first = None
        if problem is None:
            first = real_row(
                with_labels(features, self.real, kind),
                count=count,
                check=counted(self.check, self.on_progress, "the real images"),
            )
        results = []
        for one in generated:
            results.append(self._measured(one, with_labels(features, self.real, one.kind), count, problem))
        problem = problem or next(
            (too_few(f"images of {one.name}", len(one.names)) for one in generated if len(one.names) < FEWEST), None
        )
        self._note_labels(kind, notes)
        return Evaluation(
            str(self.real.report.folder),
            self.network.name,
            self.network.resizing,
            len(self.real.training),
            len(self.real.held_out),
            first,
            results,
            notes,
            problem,
        )

    # ---- features ----------------------------------------------------------------------------------------------------

    def _generated(self, number: int, subject: Subject, views: Sequence[View], notes: list[str]) -> _Generated:
        if isinstance(subject, FolderSubject):
            return self._images_of_folder(number, subject, views, notes)
        return self._samples_of_checkpoint(number, subject, views, notes)

    def _images_of_folder(
        self, number: int, subject: FolderSubject, views: Sequence[View], notes: list[str]
    ) -> _Generated:
        found = read_generated(subject.folder, self.real, self.on_progress, self.check, name=subject.name)
        dataset = found.dataset
        check_no_real_images(found, self.real, self.on_progress, self.check)
        notes += notes_on_compared(found, self.real, self.on_progress, self.check)
        notes += duplicate_notes(
            subject.name, digests_and_flatness(subject.name, dataset, self.on_progress, self.check)
        )
        chosen = self._compared(len(dataset))
        if len(chosen) < len(dataset):
            notes.append(
                f"{len(chosen):,} of the {len(dataset):,} images of {subject.name}, drawn at random, are compared: as many as "
                "the smaller part of the real images has."
            )
        features = self.files.extract(
            f"generated-{number}", f"Comparing {subject.name}", batches_of(dataset.batch, chosen), len(chosen), views
        )
        kind = kind_of_labels(self.real, dataset.captions, dataset.classes)
        return _Generated(
            subject.name,
            features,
            labels_of(dataset, kind, chosen),
            [dataset.paths[index].as_posix() for index in chosen],
            kind,
            {},
            images=lambda index: next(pixels_of(dataset, [chosen[index]])),
        )

    def _compared(self, count: int) -> NDArray[np.int64]:
        """Which of so many generated images are compared: no more than each part has real ones, if these make a table."""
        most = min(len(self.real.training), len(self.real.held_out))
        if most < FEWEST or count <= most:
            return np.arange(count)
        return np.array(drawn(count, most))

    def _samples_of_checkpoint(
        self, number: int, subject: CheckpointSubject, views: Sequence[View], notes: list[str]
    ) -> _Generated:
        can_ask, note = check_conditioning(subject, self.real)
        notes += [note] if note else []
        self.on_progress(f"Loading {subject.name}", 0, 0)
        samples = CheckpointSamples.load(subject, self.device, self.check)
        count = self.request.count or min(max(len(can_ask), FEWEST), _MOST_BY_DEFAULT)
        kind = subject.checkpoint.conditioning
        asked = self.real.labels(kind, can_ask[spread(len(can_ask), count)])
        prompts = asked or ("",) * count
        seeds = [self.request.seed + index for index in range(count)]
        generated: list[tuple[bytes, bool]] = []
        kept = KeptImages(self.files.folder / f"generated-{number}.pixels") if self.request.out is not None else None

        def batches() -> Iterator[Tensor]:
            for batch in samples.batches(prompts, self.request.seed, self.real.dataset.size):
                generated.extend(map(digest_and_flatness, batch))
                if kept is not None:
                    kept.add(batch)
                yield as_tensor(batch)

        features = self.files.extract(f"generated-{number}", f"Generating with {subject.name}", batches(), count, views)
        notes += duplicate_notes(subject.name, generated)
        gaps, gap = loss_gaps(samples, self.real, self.on_progress)
        sampling = {"images": count, "seed": self.request.seed, "weights": "EMA"} | samples.settings
        return _Generated(
            subject.name,
            features,
            asked,
            [f"seed {seed}" for seed in seeds],
            kind,
            sampling,
            gaps,
            gap,
            kept.__getitem__ if kept is not None else None,
        )

    # ---- figures -----------------------------------------------------------------------------------------------------

    def _measured(
        self, one: _Generated, real: RealImages, count: int, problem: DiffstudioError | None
    ) -> SubjectResult:
        features, pixels = one.features[..., : self.network.width], one.features[..., self.network.width :]
        generated = GeneratedImages(one.name, features[0], one.asked, self.network.label(), features, pixels)
        found: Row | None = None
        if problem is None and len(one.names) >= FEWEST:
            found = row(generated, real, count=count, check=counted(self.check, self.on_progress, one.name))
            figures, copied, chosen = dict(found.figures), found.copies, found.chosen
        else:
            figures, copied = memorisation(generated, real)
            chosen = range(len(one.names))
        if one.gap is not None:
            figures["loss_gap"] = one.gap
        near = self._nearest(one, copied, chosen)
        called = copied.indices()
        in_words = [pair for pair in near if pair.is_copy]
        follows = found.agreement if found is not None else None
        return SubjectResult(
            one.name,
            len(one.names),
            figures,
            found,
            one.sampling,
            in_words,
            len(called),
            len(copied.ratios),
            one.gaps,
            {str(label): share for label, share in follows.by_label.items()} if follows is not None else {},
            follows.chance if follows is not None else None,
            near,
        )

    def _nearest(self, one: _Generated, copied: Copies, chosen: Sequence[int]) -> list[NearestImage]:
        """The images that are most similar to a training image, whether or not they count as copies."""
        training, out, near = self.real.training, self.request.out, []
        for place, index in enumerate(closest(copied.ratios, _COPIES_LISTED), 1):
            number, file = int(chosen[index]), ""
            if out is not None and one.images is not None:
                file = save_image(one.images(number), out, f"{file_name(one.name)}-{place:02d}")
            near.append(
                NearestImage(
                    one.names[number],
                    self.real.dataset.paths[int(training[copied.nearest[index]])].as_posix(),
                    float(copied.ratios[index]),
                    bool(copied.ratios[index] < copied.threshold),
                    file,
                )
            )
        return near

    # ---- notes -------------------------------------------------------------------------------------------------------

    def _notes(self, subjects: Sequence[Subject]) -> list[str]:
        notes = left_out(self.real.report, self.real.dataset.skipped, self.real.dataset.unfit)
        notes += repeated_notes(self.real, self.on_progress, self.check)
        if not any(isinstance(subject, CheckpointSubject) for subject in subjects):
            notes.append(
                "No checkpoint says which images were held out, so the folder was split in half by file name. "
                "The tests for copies only search the half used as training images."
            )
        for subject in subjects:
            if unknown := unknown_split(subject):
                notes.append(unknown)
            run = run_of(subject)
            other = folder_of(run) if run is not None else None
            if other not in (None, self.real.report.folder.resolve()):
                notes.append(f"{subject.name} was trained on {other}: its held-out images may be others than here.")
        return notes

    def _note_labels(self, kind: Conditioning, notes: list[str]) -> None:
        if kind is Conditioning.NONE:
            return
        labels = set(self.real.labels(kind, self.real.held_out))
        if len(labels) == 1:
            what = "class" if kind is Conditioning.CLASS else "caption"
            notes.append(f"All held-out images have the same {what}, so agreement cannot be measured.")


def too_few_real(real: RealFolder) -> DiffstudioError | None:
    try:
        check_counts(len(real.training), len(real.held_out))
    except BadRequest as error:
        return error
    return None


def kind_of_labels(real: RealFolder, captions: Sequence[str], classes: Sequence[str]) -> Conditioning:
    """By what generated and real images are both labelled: captions, else classes."""
    known = set(real.labels(Conditioning.TEXT, real.held_out)) - {""}
    if known & set(captions):
        return Conditioning.TEXT
    return Conditioning.CLASS if len(set(classes) & set(real.dataset.classes) - {""}) > 1 else Conditioning.NONE
