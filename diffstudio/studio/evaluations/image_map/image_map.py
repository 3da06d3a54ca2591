"""image_map(): images of a folder and samples laid out by their features. Read this first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.atomic import make_folder, write_text
from diffstudio.errors import BadRequest
from diffstudio.evaluation.even_spacing import evenly_spaced, spread
from diffstudio.evaluation.features.feature_arrays import FeatureArray
from diffstudio.evaluation.maps.layouts import TITLES, Layout, check_installed, neighbour_layout, pca_layout
from diffstudio.evaluation.maps.trustworthiness import NEIGHBOURS, trustworthiness
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.networks.conditioning import Conditioning
from diffstudio.plurals import by_number
from diffstudio.studio.evaluations.feature_choice import feature_network
from diffstudio.studio.evaluations.folders.checks import check_conditioning
from diffstudio.studio.evaluations.folders.equal_images import digest_and_flatness, shared_images
from diffstudio.studio.evaluations.folders.notes import duplicate_notes
from diffstudio.studio.evaluations.folders.reading import read_generated, read_real
from diffstudio.studio.evaluations.folders.real_folder import RealFolder, labels_of
from diffstudio.studio.evaluations.folders.stored_split import with_split_of_run
from diffstudio.studio.evaluations.image_map.plots import save_plots
from diffstudio.studio.evaluations.image_map.request import MapRequest
from diffstudio.studio.evaluations.image_map.result import FEWEST_JUDGED, MapLayout, MapPart, MapResult, PartKind
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.kept_images import save_image
from diffstudio.studio.evaluations.measure import FeatureFiles, batches_of
from diffstudio.studio.evaluations.place import check_place, scratch_folder
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.samples import CheckpointSamples, as_tensor
from diffstudio.studio.evaluations.subjects import (
    CheckpointSubject,
    FolderSubject,
    Subject,
    data_recipe,
    find_subjects,
    image_folders,
    unknown_split,
)
from diffstudio.studio.runs.runs import file_name
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.run.setup import left_out

RESULT = "map.json"  # in the request's `out`
_FEW = 20  # images
JUDGED = 2000  # images whose neighbours are looked at: the time grows with the square of their number


def image_map(
    request: MapRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> MapResult:
    """Lay out the images of a folder, of other folders, and samples of checkpoints; writes `out`, if one is named.

    Holds the accelerator while a network runs, and releases it while images are generated. DiffstudioError for what cannot
    be read or laid out; Interrupted when `cancelled` returns True or the control file in `out` says stop.
    """
    check_place(request.out, (request.folder, *image_folders(request.subjects)))
    for name in request.others:
        check_installed(name)  # before anything takes time
    if request.out is not None:
        make_folder(request.out)
    job_control = EvaluationJobControl(Lease(), cancelled, request.out, on_wait)
    subjects = find_subjects(request.subjects, library)
    device = choose_device(request.device)
    real = read_real(request.folder, data_recipe(subjects), on_progress, job_control.check)
    real, note = with_split_of_run(real, subjects, on_progress, job_control.check)
    with scratch_folder("map") as path:
        with job_control.taken(f"mapping {request.folder.name}"):
            network = feature_network(request.features, real, library.folders, device, on_progress, job_control.check)
            files = FeatureFiles(network, real.dataset.channels, Path(path), on_progress, job_control.check)
            mapping = _Mapping(request, real, files, device, job_control.check, on_progress)
            parts, features = mapping.parts(subjects)
        layouts = [mapping.judged(layout, features) for layout in mapping.layouts(features)]
    notes = [*mapping.notes, *([note] if note else []), *_warnings(features)]
    settings: dict[str, object] = {"seed": request.seed, "samples": request.count, "most": request.most}
    result = MapResult(str(real.report.folder), network.label(), parts, layouts, settings, notes)
    if request.out is not None:
        write_text(request.out / RESULT, json.dumps(result.to_json(), ensure_ascii=False))
        save_plots(result, request.out)
    return result


class _Mapping:
    """The images of one map and their features."""

    def __init__(
        self,
        request: MapRequest,
        real: RealFolder,
        files: FeatureFiles,
        device: torch.device,
        check: Callable[[], None],
        on_progress: OnProgress,
    ) -> None:
        self._request, self._real, self._files, self._device = request, real, files, device
        self._check, self._on_progress = check, on_progress
        self.notes = left_out(real.report, real.dataset.skipped, real.dataset.unfit)

    def parts(self, subjects: Sequence[Subject]) -> tuple[list[MapPart], FeatureArray]:
        """What is laid out, in the order of the points, and the features [N,D] of all of it."""
        real, found = self._real, []
        name = real.report.folder.name
        if any(isinstance(subject, CheckpointSubject) for subject in subjects):
            self.notes += filter(None, map(unknown_split, subjects))
            found.append(self._of_folder("Training images", PartKind.TRAINING, real.dataset, real.training))
            found.append(self._of_folder("Held-out images", PartKind.HELD_OUT, real.dataset, real.held_out))
        else:  # which images a model was trained on is not known
            found.append(
                self._of_folder(f"Images of {name}", PartKind.IMAGES, real.dataset, np.arange(len(real.dataset)))
            )
        for number, subject in enumerate(subjects):
            found.append(self._of_subject(number, subject))
        found = [(part, features) for part, features in found if len(part)]
        return [part for part, _ in found], np.concatenate([features for _, features in found])

    def _of_subject(self, number: int, subject: Subject) -> tuple[MapPart, FeatureArray]:
        if isinstance(subject, CheckpointSubject):
            return self._samples(number, subject)
        return self._generated(subject)

    def _generated(self, subject: FolderSubject) -> tuple[MapPart, FeatureArray]:
        found = read_generated(subject.folder, self._real, self._on_progress, self._check, name=subject.name)
        dataset = found.dataset
        self.notes += found.notes
        if shared := shared_images(subject.name, dataset, self._real, self._on_progress, self._check):
            self.notes.append(
                f"{len(shared):,} of {len(dataset):,} images of {subject.name} {by_number(len(shared), 'is', 'are')} also in "
                f"{self._real.report.folder.name}, such as {shared[0][0]}, and "
                f"{by_number(len(shared), 'has', 'have')} the same point there."
            )
        return self._of_folder(subject.name, PartKind.FOLDER, dataset, np.arange(len(dataset)), subject.folder)

    def _of_folder(
        self, name: str, kind: PartKind, dataset: ImageDataset, indices: NDArray[np.int64], folder: Path | None = None
    ) -> tuple[MapPart, FeatureArray]:
        chosen = indices[evenly_spaced(len(indices), self._request.most)]
        features = self._extracted(
            f"Comparing {name[:1].lower()}{name[1:]}", batches_of(dataset.batch, chosen), len(chosen)
        )
        classes = labels_of(dataset, Conditioning.CLASS, chosen) if len(dataset.classes) > 1 else ()
        captions = labels_of(dataset, Conditioning.TEXT, chosen)
        part = MapPart(
            name,
            kind,
            len(indices),
            str((folder or self._real.report.folder).resolve()),
            names=tuple(dataset.paths[int(index)].as_posix() for index in chosen),
            labels=captions if any(captions) else classes,
            classes=classes,
        )
        return part, features

    def _samples(self, number: int, subject: CheckpointSubject) -> tuple[MapPart, FeatureArray]:
        """Asked for what the held-out images are, or the training images where there are none."""
        kind, count, seed = subject.checkpoint.conditioning, self._request.count, self._request.seed
        can_ask, note = check_conditioning(subject, self._real)
        self.notes += [note] if note else []
        if not len(can_ask):
            can_ask = self._real.training
        asked = self._real.labels(kind, can_ask[spread(len(can_ask), count)])
        self._on_progress(f"Loading {subject.name}", 0, 0)
        samples = CheckpointSamples.load(subject, self._device, self._check)
        names: list[str] = []
        seen: list[tuple[bytes, bool]] = []

        def batches() -> Iterator[Tensor]:
            for batch in samples.batches(asked or ("",) * count, seed, self._real.dataset.size):
                for image in batch:
                    names.append(self._kept(image, f"{file_name(subject.name)}-{number + 1}-{seed + len(names)}"))
                    seen.append(digest_and_flatness(image))
                yield as_tensor(batch)

        features = self._extracted(f"Generating with {subject.name}", batches(), count)
        self.notes += duplicate_notes(subject.name, seen)
        part = MapPart(
            subject.name,
            PartKind.SAMPLES,
            count,
            checkpoint=str(subject.checkpoint.path.resolve()),
            names=tuple(names),
            labels=asked,
            classes=asked if kind is Conditioning.CLASS else (),
            seeds=tuple(range(seed, seed + count)),
        )
        return part, features

    def _kept(self, image: NDArray[np.generic], name: str) -> str:
        """The path of a sample in the folder of the result; empty without one."""
        return save_image(image, self._request.out, name) if self._request.out is not None else ""

    def _extracted(self, what: str, batches: Iterator[Tensor], count: int) -> FeatureArray:
        width = self._files.network.width
        if not count:
            return np.zeros((0, width), np.float32)
        found = self._files.extract("features", what, batches, count, [lambda images: images])
        return np.array(found[0, :, :width], np.float32)  # a copy of the file that the next part is written to

    def layouts(self, features: FeatureArray) -> Iterator[Layout]:
        """The PCA, and what else was asked for; a note where that cannot lay out these images."""
        yield pca_layout(features)
        for name in self._request.others:
            self._check()
            self._on_progress(f"Laying out by {TITLES[name]}", 0, 0)
            try:
                yield neighbour_layout(name, features, self._request.seed)
            except BadRequest as error:
                self.notes.append(str(error))

    def judged(self, layout: Layout, features: FeatureArray) -> MapLayout:
        """A layout with its trustworthiness, of some of the images where there are many."""
        self._check()
        self._on_progress(f"Judging the {TITLES[layout.name]}", 0, 0)
        some = evenly_spaced(len(features), JUDGED)
        neighbours = min(NEIGHBOURS, (len(some) - 1) // 2)
        judged, trusted = features[some], None
        if len(np.unique(judged, axis=0)) >= FEWEST_JUDGED:
            trusted = trustworthiness(judged, layout.coordinates[some], neighbours)
        return MapLayout(
            str(layout.name), TITLES[layout.name], layout.about, layout.coordinates, trusted, neighbours, len(some)
        )


def _warnings(features: FeatureArray) -> list[str]:
    """What a reader of the map has to know about few or equal images."""
    different = len(np.unique(features, axis=0))
    if len(features) == 1:
        return ["One image is too few for a map."]
    if different == 1:
        return [f"All {len(features):,} images have the same features, so the map is a single point."]
    notes = []
    if different < len(features):
        notes.append(
            f"{len(features) - different:,} of {len(features):,} images "
            f"{by_number(len(features) - different, 'has', 'have')} the same features as another one and "
            f"{by_number(len(features) - different, 'lies', 'lie')} on its point."
        )
    if len(features) < _FEW:
        notes.append(f"{len(features):,} images are few for a map: their positions mean little.")
    return notes
