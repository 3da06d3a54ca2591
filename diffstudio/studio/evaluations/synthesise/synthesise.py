"""synthesise(): generates a folder of labelled images without near-copies of the checkpoint's training images."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from diffstudio.atomic import atomic_write, make_folder, write_text
from diffstudio.diffusion.guidance import ConditionAnnealing
from diffstudio.errors import BadRequest, DiffstudioError
from diffstudio.imaging.exact_files import EXACT_SUFFIX, write_png, write_tiff
from diffstudio.models import loading
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.guidance_options import GuidanceOptions, WeakModel
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.models.model import Model
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.feature_choice import feature_network
from diffstudio.studio.evaluations.folders.checks import check_varied
from diffstudio.studio.evaluations.folders.notes import duplicate_notes
from diffstudio.studio.evaluations.folders.reading import read_real
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.folders.stored_split import with_split_of_run
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.measure import FeatureFiles, features_of_real, views_of
from diffstudio.studio.evaluations.place import scratch_folder
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.samples import CheckpointSamples, as_tensor
from diffstudio.studio.evaluations.subjects import CheckpointSubject, folder_of, run_of, unknown_split
from diffstudio.studio.evaluations.synthesise.checkpoints import check_autoguidance, generating_checkpoint
from diffstudio.studio.evaluations.synthesise.folder_proof import proof_on_folder
from diffstudio.studio.evaluations.synthesise.near_copies import Near, NearCopies
from diffstudio.studio.evaluations.synthesise.records import RESULT, Record, SyntheticFolder
from diffstudio.studio.evaluations.synthesise.request import CADS_BY_DEFAULT, SynthesiseRequest
from diffstudio.studio.evaluations.synthesise.result import Synthesis
from diffstudio.studio.evaluations.synthesise.stratified import stratified_order
from diffstudio.studio.generation.finished_images import FinishedImage, finished_images
from diffstudio.studio.metadata.full_range import pixels_text

_AT_ONCE = 64  # candidates between two records
_TRIES, _MORE_TRIES = 4, 20  # at most 4 n + 20 candidates for n images of a label
_FEWEST_REAL = 3  # training images that the test for copies needs


def synthesise(
    request: SynthesiseRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Synthesis:
    """Generate the images that are not in `out` yet, with captions and records, and prove their benefit if requested.

    Attempt a for label l of L has the seed `seed` + a L + l, independent of other images: the same request gives the same
    folder, even if it was stopped and resumed. DiffstudioError if the images cannot be generated; Interrupted when
    `cancelled` returns True or the control file in `out` says stop.
    """
    _check_place(request.out, request.folder)
    out = make_folder(request.out)
    job_control = EvaluationJobControl(Lease(), cancelled, out, on_wait)
    subject = generating_checkpoint(request.checkpoint, library)
    check_autoguidance(request.autoguidance, subject, library)
    device = choose_device(request.device)
    real = read_real(request.folder, subject.recipe.prepared, on_progress, job_control.check)
    real, note = with_split_of_run(real, [subject], on_progress, job_control.check)
    _check_training_images(subject, real, on_progress, job_control.check)
    wanted = _requested_counts(request, subject, real)
    hashed = sha256_of(subject.checkpoint.path, cancelled=cancelled)
    with (
        scratch_folder("synthetic") as path,
        job_control.taken(f"generating synthetic images of {request.folder.name}"),
    ):
        network = feature_network(request.features, real, library.folders, device, on_progress, job_control.check)
        views = views_of(real.data)
        files = FeatureFiles(network, real.dataset.channels, Path(path), on_progress, job_control.check)
        features = features_of_real(real, files, views)
        on_progress(f"Loading {subject.name}", 0, 0)
        samples = CheckpointSamples.load(subject, device, job_control.check)
        guidance = _Guidance.of(request, samples, library, device)
        folder = SyntheticFolder(out)
        made_of = {"checkpoint": hashed, "folder": real.dataset.file.name, "features": network.label()}
        settings = made_of | _settings(request, samples, guidance)
        folder.open(settings, request.force, _subfolders(subject, wanted))
        making = _Making(
            request,
            real,
            samples,
            guidance,
            folder,
            NearCopies.of_training(network, views, features),
            NearCopies.of_held_out(network, views, features),
            on_progress,
        )
        made = making.run(wanted)
        folder.write_metadata(subject.checkpoint.conditioning is Conditioning.TEXT)
        found = _synthesis(making, made, wanted, hashed, network.label(), note)
        if request.prove:
            found = _proved(found, request, real, folder, device, job_control, on_progress)
    write_text(out / RESULT, json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    return found


@dataclass(frozen=True)
class _Guidance:
    """CADS and autoguidance, which keep the images diverse."""

    annealing: ConditionAnnealing | None
    weak: Model | None
    scale: float
    settings: dict[str, object]

    @classmethod
    def of(
        cls, request: SynthesiseRequest, samples: CheckpointSamples, library: Library, device: torch.device
    ) -> _Guidance:
        """The guidance of a request. BadRequest for options that the checkpoint does not support."""
        checkpoint = samples.subject.checkpoint
        can = samples.model.own_sampler is None and checkpoint.conditioning is not Conditioning.NONE
        guided = float(str(samples.settings["guidance"])) > samples.model.unguided_scale
        cads = request.cads if request.cads is not None else CADS_BY_DEFAULT * (can and guided)
        if cads and not can:
            raise BadRequest(
                f"CADS cannot be used with {samples.subject.name}",
                "it is not a diffusion model with classes or captions",
                "Turn CADS off",
            )
        settings: dict[str, object] = {"CADS": cads} if cads else {}
        weak = None
        if request.autoguidance:
            earlier = library.find(request.autoguidance)
            weak = loading.load(earlier, device)
            settings |= {"autoguidance": earlier.name, "autoguidance scale": request.autoguidance_scale}
        return cls(ConditionAnnealing(cads) if cads else None, weak, request.autoguidance_scale, settings)

    def options(self, prompts: Sequence[str]) -> GuidanceOptions:
        weak = WeakModel(self.weak, self.weak.encode_prompt(prompts), self.scale) if self.weak is not None else None
        return GuidanceOptions(None, weak, self.annealing)


@dataclass(frozen=True)
class _Making:
    """Generates candidates until every label has the requested number of images."""

    request: SynthesiseRequest
    real: RealFolder
    samples: CheckpointSamples
    guidance: _Guidance
    folder: SyntheticFolder
    training: NearCopies
    held_out: NearCopies | None
    on_progress: OnProgress

    def run(self, wanted: Mapping[str, int]) -> int:
        """Generate the images; returns the number in the folder at the end."""
        total, labels = sum(wanted.values()), list(wanted)
        numbers = {label: number for number, label in enumerate(labels)}
        while candidates := self._next(wanted, numbers):
            self._make(candidates)
            self.on_progress("Generating synthetic images", len(self.folder.kept), total)
        return len(self.folder.kept)

    def _next(self, wanted: Mapping[str, int], numbers: Mapping[str, int]) -> list[Record]:
        """The next batch of candidates: as many of each label as are still missing."""
        known = {record.seed for record in self.folder.records}
        kept = Counter(record.label for record in self.folder.kept)
        found: list[Record] = []
        for label, count in wanted.items():
            missing = count - kept[label]
            for attempt in range(_TRIES * count + _MORE_TRIES if missing > 0 else 0):
                seed = self.request.seed + attempt * len(numbers) + numbers[label]
                if seed in known:
                    continue
                found.append(Record(seed, label, attempt))
                missing -= 1
                if missing <= 0 or len(found) >= _AT_ONCE:
                    break
            if len(found) >= _AT_ONCE:
                break
        return found

    def _make(self, candidates: Sequence[Record]) -> None:
        """Generate candidates, write those that are not near-copies, then record all of them."""
        prompts = [record.label for record in candidates]
        seeds = [record.seed for record in candidates]
        rest = iter(candidates)
        output = self.samples.subject.recipe.data.output
        batches = self.samples.batches(prompts, 0, self.real.dataset.size, seeds=seeds, guidance=self.guidance.options)
        for batch in batches:
            images = as_tensor(batch)
            near = self.training.of(images)
            others = self.held_out.of(images) if self.held_out is not None else [None] * len(images)
            finished = finished_images(images, output)
            records = [
                self._kept(next(rest), one, other, image)
                for one, other, image in zip(near, others, finished, strict=True)
            ]
            self.folder.append(records)

    def _kept(self, record: Record, near: Near, other: Near | None, image: FinishedImage) -> Record:
        dataset = self.real.dataset
        original = dataset.paths[int(self.real.training[near.index])].as_posix()
        if near.is_copy:
            return replace(record, copy_of=original, ratio=near.ratio)
        held_out = ""
        if other is not None and other.is_copy:
            held_out = dataset.paths[int(self.real.held_out[other.index])].as_posix()
        return replace(record, file=self._write(record, image), ratio=near.ratio, near_held_out=held_out)

    def _write(self, record: Record, image: FinishedImage) -> str:
        """Write an image into the subfolder of its class, or with a caption file; returns its name in the folder."""
        kind = self.samples.subject.checkpoint.conditioning
        suffix = EXACT_SUFFIX if image.exact is not None and not image.exact.as_png else ".png"
        place = self.folder.path / _folder_name(record.label) if kind is Conditioning.CLASS else self.folder.path
        path = make_folder(place) / f"{record.seed:09d}{suffix}"
        with atomic_write(path) as file:
            if suffix == EXACT_SUFFIX and image.exact is not None:
                write_tiff(file, image.exact)
            else:
                write_png(file, image.image, pixels_text(self.samples.subject.recipe.data.output), image.exact)
        if kind is Conditioning.TEXT:
            write_text(path.with_suffix(".txt"), record.label)
        return path.relative_to(self.folder.path).as_posix()


def _synthesis(
    making: _Making, made: int, wanted: Mapping[str, int], hashed: str, features: str, note: str
) -> Synthesis:
    """The numbers of the generated images, without a proof of their benefit."""
    samples, folder, real = making.samples, making.folder, making.real
    return Synthesis(
        str(folder.path),
        samples.subject.name,
        hashed,
        str(real.report.folder),
        made,
        sum(wanted.values()),
        sum(not record.file for record in folder.records),
        sum(bool(record.near_held_out) for record in folder.kept),
        dict(Counter(record.label for record in folder.kept)),
        {"seed": making.request.seed, "weights": "EMA"} | samples.settings | making.guidance.settings,
        features,
        notes=tuple(filter(None, (note, *_notes(made, wanted, folder, real, samples.subject)))),
    )


def _settings(request: SynthesiseRequest, samples: CheckpointSamples, guidance: _Guidance) -> dict[str, object]:
    """What a resumed folder must have been started with, besides its checkpoint and images."""
    return {
        "seed": request.seed,
        "sampling": samples.settings | guidance.settings,
        "wanted": [request.count, request.per_class],
    }


def _subfolders(subject: CheckpointSubject, labels: Iterable[str]) -> set[str]:
    """Where the images are written: one folder for each class, or the folder itself."""
    by_class = subject.checkpoint.conditioning is Conditioning.CLASS
    return {_folder_name(label) for label in labels} if by_class else {""}


def _check_training_images(
    subject: CheckpointSubject, real: RealFolder, report: OnProgress, check: Callable[[], None]
) -> None:
    if len(real.training) < _FEWEST_REAL:
        raise BadRequest(
            f"There are too few training images in {real.report.folder.name}",
            f"the test for near-copies needs {_FEWEST_REAL}, and there are {len(real.training):,}",
            f"Use the folder that {subject.name} was trained on",
        )
    check_varied(real, report, check, held_out=False)


def _check_place(out: Path, folder: Path) -> None:
    if out.resolve().is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(out.resolve()):
        raise BadRequest(
            f"Synthetic images cannot be written to {out}",
            "they would be mixed with the real ones",
            "Choose a folder elsewhere",
        )


def _requested_counts(request: SynthesiseRequest, subject: CheckpointSubject, real: RealFolder) -> dict[str, int]:
    """The requested number of images for each class of the checkpoint, or for each caption of the training images."""
    kind = subject.checkpoint.conditioning
    if kind is Conditioning.NONE:
        if request.count is None:
            raise BadRequest(
                f"{subject.name} has no classes and no captions",
                "it was trained without any",
                "Give the number of images in all",
            )
        return {"": request.count}
    labels = list(subject.checkpoint.classes)
    if kind is Conditioning.TEXT:
        captions = [caption for caption in real.labels(kind, real.training) if caption.strip()]
        labels = list(dict.fromkeys(captions))
        if request.count is not None and captions:  # in proportion to the training images
            everything, rest = divmod(request.count, len(captions))
            drawn = Counter(captions[index] for index in stratified_order(captions)[:rest])
            drawn.update({label: everything * count for label, count in Counter(captions).items()})
            return {label: drawn[label] for label in labels if drawn[label]}
    if not labels:
        raise BadRequest(
            f"The training images of {real.report.folder.name} have no captions",
            f"{subject.name} generates from captions, and takes them from there",
            "Use the folder that it was trained on",
        )
    if request.per_class is not None:
        return dict.fromkeys(labels, request.per_class)
    assert request.count is not None
    share, rest = divmod(request.count, len(labels))
    counts = {label: share + (number < rest) for number, label in enumerate(labels)}
    return {label: count for label, count in counts.items() if count}


def _notes(
    made: int, wanted: Mapping[str, int], folder: SyntheticFolder, real: RealFolder, subject: CheckpointSubject
) -> Iterator[str]:
    run = run_of(subject)
    trained_on = folder_of(run) if run is not None else None
    if trained_on not in (None, real.report.folder.resolve()):
        yield (
            f"{subject.name} was trained on {trained_on}, and near-copies are only looked for among the images of "
            f"{real.report.folder}: copies of other training images are not found."
        )
    elif unknown := unknown_split(subject):
        yield unknown
    classes = subject.checkpoint.classes
    if classes and not {name.casefold() for name in real.dataset.classes} & {name.casefold() for name in classes}:
        yield (
            f"{real.report.folder} has none of the classes of {subject.name}, such as {classes[0]}: it was probably trained on "
            "another folder, and copies of those images are not found."
        )
    total = sum(wanted.values())
    if made < total:
        kept = Counter(record.label for record in folder.kept)
        short = [label or "images" for label, count in wanted.items() if kept[label] < count]
        yield (
            f"Only {made:,} of {total:,} images were kept: nearly all others of {', '.join(short[:3])} are near-copies of "
            "training images. The checkpoint has memorised them."
        )
    yield from duplicate_notes(
        folder.path.name,
        ((hashlib.sha256((folder.path / one.file).read_bytes()).digest(), False) for one in folder.kept),
    )
    if not len(real.held_out):
        yield "No image was held out, so the test for near-copies is not calibrated on this folder."


def _proved(
    found: Synthesis,
    request: SynthesiseRequest,
    real: RealFolder,
    folder: SyntheticFolder,
    device: torch.device,
    job_control: EvaluationJobControl,
    on_progress: OnProgress,
) -> Synthesis:
    try:
        return replace(found, proof=proof_on_folder(request, real, folder, device, job_control.check, on_progress))
    except DiffstudioError as error:  # the images are finished, and the result reports the problem
        return replace(found, problem=error)


def _folder_name(label: str) -> str:
    """The folder name of a class, the same as in the training folder: nested classes contain slashes."""
    parts = [part for part in Path(label).parts if part not in ("..", "/", "\\")]
    return "/".join(parts) or "images"
