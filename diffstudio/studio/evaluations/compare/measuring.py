"""Measures the runs and other subjects of a comparison: an Entry for each, with its image files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diffstudio.atomic import atomic_write, make_folder, write_text
from diffstudio.errors import CheckpointDamaged, DiffstudioError
from diffstudio.evaluation.classifier import train_classifier
from diffstudio.evaluation.even_spacing import spread
from diffstudio.evaluation.features.feature_arrays import FeatureArray
from diffstudio.evaluation.interval import Interval, share_interval
from diffstudio.evaluation.memorisation import Copies
from diffstudio.evaluation.report import FEWEST, REAL, GeneratedImages, RealImages, Row, memorisation, real_row, row
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.compare.counts import Counts, images_to_generate
from diffstudio.studio.evaluations.compare.result import IMAGES, Entry, Likelihood, OfClass, Pair
from diffstudio.studio.evaluations.evaluate import kind_of_labels
from diffstudio.studio.evaluations.folders.checks import check_conditioning
from diffstudio.studio.evaluations.folders.equal_images import digest_and_flatness, digests_and_flatness
from diffstudio.studio.evaluations.folders.notes import duplicate_notes, notes_on_compared
from diffstudio.studio.evaluations.folders.real_folder import GeneratedFolder, RealFolder, labels_of
from diffstudio.studio.evaluations.likelihood.likelihood import bound_of_held_out
from diffstudio.studio.evaluations.measure import FeatureFiles, View, batches_of, counted, loss_gaps, with_labels
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.samples import CheckpointSamples, as_tensor
from diffstudio.studio.evaluations.subjects import CheckpointSubject
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.run.sample_sheets import image_grid

FORMAT = 2  # of the stored measurements of each subject
_PAIRS = 6
_GRID, _COLUMNS = 48, 12  # images of a sheet
_GAP = 2  # px around each image of a sheet
_SHOWN_SIDE = 48  # px to which smaller images are enlarged in sheets
_FEWEST_OF_CLASS = 2
_LIKELIHOOD_NOTES = {
    ObjectiveName.DIFFUSION: "Of diffusion models: the variational bound on the likelihood of held-out images.",
    ObjectiveName.VAE: "Of VAEs: the ELBO of held-out images.",
    ObjectiveName.GAN: "A GAN has no likelihood.",
}


@dataclass(frozen=True)
class Measuring:
    """Measures subjects against the real images that all subjects of a comparison share."""

    real: RealFolder
    features: RealImages
    files: FeatureFiles
    views: Sequence[View]
    device: torch.device
    out: Path
    counts: Counts
    seed: int
    too_few: bool  # too few images for a table
    classes: Mapping[str, int]  # numbers of the folder's classes; empty with fewer than two
    class_of: Mapping[str, str]  # class of each image of the folder, by its path
    check: Callable[[], None]
    on_progress: OnProgress

    # ---- subjects ----------------------------------------------------------------------------------------------------

    def real_entry(self) -> Entry:
        """The entry of the training part, measured like generated images."""
        kind = Conditioning.CLASS if self._has_classes() else Conditioning.NONE
        found = real_row(
            with_labels(self.features, self.real, kind),
            count=self.counts.compared,
            check=counted(self.check, self.on_progress, REAL),
        )
        figures = dict(found.figures)
        labels = self._class_numbers(self.real.training)
        accuracy = self._accuracy(self.real.dataset.batch, self.real.training, labels)
        if accuracy is not None:
            figures["trained_on_synthetic"] = accuracy
        grid = self._save_grid("training part", self._shown(self.real.dataset.batch(self._some(self.real.training))))
        return Entry(
            REAL,
            REAL,
            count=len(self.real.training),
            compared=found.count,
            figures=figures,
            grid=grid,
            **_diversity(found),
        )

    def held_out_grid(self) -> str:
        return self._save_grid("held-out part", self._shown(self.real.dataset.batch(self._some(self.real.held_out))))

    def of_checkpoint(self, subject: CheckpointSubject, model: str, seed: int | None = None) -> Entry:
        """The entry of a checkpoint. DiffstudioError if it cannot be measured."""
        can_ask, note = check_conditioning(subject, self.real)
        self.on_progress(f"Loading {subject.name}", 0, 0)
        samples = CheckpointSamples.load(subject, self.device, self.check)
        count = images_to_generate(self.counts.to_generate, len(can_ask))
        kind = subject.checkpoint.conditioning
        asked_of = can_ask[spread(len(can_ask), count)]
        asked = self.real.labels(kind, asked_of)
        generated = _Generated(
            samples, asked or ("",) * count, self.seed, self.real.dataset.size, self._scratch(subject)
        )
        features = self.files.extract(
            _file_name(subject.name), f"Generating with {subject.name}", generated.batches(), count, self.views
        )
        gaps = loss_gaps(samples, self.real, self.on_progress)[1]
        numbers = self._class_numbers(asked_of) if kind is not Conditioning.NONE else None
        names = [f"seed {self.seed + index}" for index in range(count)]
        entry = self._measured(subject.name, model, features, asked, kind, names, generated.batch, numbers)
        figures = dict(entry.figures) | ({"loss_gap": gaps} if gaps is not None else {})
        return replace(
            entry,
            seed=seed,
            figures=figures,
            likelihood=self._likelihood(subject),
            seconds_per_image=generated.seconds / count,
            parameters=subject.checkpoint.parameters,
            sampling={"images": count, "seed": self.seed, "weights": "EMA"} | samples.settings,
            notes=tuple(filter(None, (note, *generated.notes(subject.name)))),
        )

    def of_folder(self, found: GeneratedFolder) -> Entry:
        """The entry of a folder of generated images, which are read in the same way as the real ones."""
        dataset, name = found.dataset, found.name
        everything = np.arange(len(dataset))
        features = self.files.extract(
            _file_name(name), f"Comparing {name}", batches_of(dataset.batch, everything), len(dataset), self.views
        )
        kind = kind_of_labels(self.real, dataset.captions, dataset.classes)
        asked = labels_of(dataset, kind, everything)
        known = [self.classes.get(label, -1) for label in labels_of(dataset, Conditioning.CLASS, everything)]
        numbers = np.array(known) if self.classes and min(known, default=-1) >= 0 else None
        names = [path.as_posix() for path in dataset.paths]
        entry = self._measured(name, name, features, asked, kind, names, dataset.batch, numbers)
        notes = notes_on_compared(found, self.real, self.on_progress, self.check)
        notes += duplicate_notes(name, digests_and_flatness(name, dataset, self.on_progress, self.check))
        unknown = Likelihood(None, "A folder of images has no likelihood.")
        return replace(entry, notes=tuple(notes), likelihood=unknown)

    def kept(self, name: str, key: Mapping[str, Any], measure: Callable[[], Entry]) -> Entry:
        """The result of `measure`, or the stored one of an earlier process with the same `key`."""
        path = self.out / "measured" / f"{_file_name(name)}.json"
        key = {"format": FORMAT, "counts": asdict(self.counts), "seed": self.seed} | dict(key)
        key |= {"features": self.files.network.label(), "folder": self.real.dataset.file.name}
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            if before["key"] == key:
                return Entry.from_json(before["entry"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # not measured yet, or damaged
        entry = measure()
        make_folder(path.parent)
        write_text(path, json.dumps({"key": key, "entry": entry.to_json()}))
        return entry

    # ---- figures -----------------------------------------------------------------------------------------------------

    def _measured(
        self,
        name: str,
        model: str,
        features: FeatureArray,
        asked: Sequence[str],
        kind: Conditioning,
        names: Sequence[str],
        batch: Callable[[NDArray[np.int64]], Tensor],
        numbers: NDArray[np.int64] | None,
    ) -> Entry:
        width = self.files.network.width
        generated = GeneratedImages(
            name,
            features[0, :, :width],
            asked,
            self.files.network.label(),
            features[..., :width],
            features[..., width:],
        )
        real = with_labels(self.features, self.real, kind)
        found: Row | None = None
        chosen: Sequence[int] = range(len(names))
        if self.too_few or len(names) < FEWEST:
            figures, copied = memorisation(generated, real)
        else:
            found = row(generated, real, count=self.counts.compared, check=counted(self.check, self.on_progress, name))
            figures, copied, chosen = dict(found.figures), found.copies, found.chosen
        if numbers is not None:
            accuracy = self._accuracy(batch, np.arange(len(numbers)), numbers)
            if accuracy is not None:
                figures["trained_on_synthetic"] = accuracy
        follows = found.agreement if found is not None else None
        return Entry(
            name,
            model,
            count=len(names),
            compared=found.count if found is not None else 0,
            figures=figures,
            agreement_chance=follows.chance if follows is not None else None,
            pairs=self._pairs(name, copied, [names[index] for index in chosen], batch, chosen),
            called_copies=len(copied.indices()),
            grid=self._save_grid(name, self._shown(batch(self._some(np.arange(len(names)))))),
            **(_diversity(found) if found is not None else {}),
        )

    def _accuracy(
        self,
        batch: Callable[[NDArray[np.int64]], Tensor],
        indices: NDArray[np.int64],
        numbers: NDArray[np.int64] | None,
    ) -> Interval | None:
        """The accuracy on held-out images of a classifier trained on these images, as many as in each row.

        None without classes.
        """
        held_out = self._class_numbers(self.real.held_out)
        count = self.counts.classified
        if numbers is None or held_out is None or len(np.unique(numbers)) < _FEWEST_OF_CLASS or len(indices) < count:
            return None
        chosen = spread(len(indices), count)
        classifier = train_classifier(
            lambda part: batch(indices[chosen[part]]),
            numbers[chosen],
            len(self.classes),
            device=self.device,
            check=self.check,
        )
        dataset = self.real.dataset
        right = classifier.predict(lambda part: dataset.batch(self.real.held_out[part]), len(held_out)) == held_out
        return share_interval(int(right.sum()), len(right))

    def _likelihood(self, subject: CheckpointSubject) -> Likelihood:
        """A likelihood bound on the same held-out images, for kinds of models that have one."""
        kind = subject.recipe.objective.kind
        if kind is ObjectiveName.GAN:
            return Likelihood(None, _LIKELIHOOD_NOTES[kind])
        try:
            value = bound_of_held_out(subject, self.real, self.device, self.check, self.on_progress)
        except DiffstudioError as error:
            return Likelihood(None, str(error))
        return Likelihood(value, _LIKELIHOOD_NOTES[kind])

    def _class_numbers(self, indices: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """The class number of each of these images; None if the folder has fewer than two classes."""
        if not self.classes:
            return None
        names = (self.class_of[self.real.dataset.paths[index].as_posix()] for index in indices)
        return np.array([self.classes[name] for name in names], np.int64)

    def _has_classes(self) -> bool:
        return len(set(self.real.labels(Conditioning.CLASS, self.real.held_out))) > 1

    # ---- images ------------------------------------------------------------------------------------------------------

    def _scratch(self, subject: CheckpointSubject) -> Path:
        return self.files.folder / f"{_file_name(subject.name)}-pixels.npy"

    def _some(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return indices[spread(len(indices), min(_GRID, len(indices)))]

    def _shown(self, images: Tensor) -> Tensor:
        """Images [N,C,H,W] as RGB, with small ones enlarged."""
        rgb = self.real.data.output.to_rgb(images)
        factor = ceil(_SHOWN_SIDE / max(rgb.shape[-2:]))
        return rgb.repeat_interleave(factor, -1).repeat_interleave(factor, -2) if factor > 1 else rgb

    def _save_grid(self, name: str, images: Tensor) -> str:
        spaced = F.pad(images, (_GAP, _GAP, _GAP, _GAP), value=1.0)  # white
        return self._save_image(f"{_file_name(name)}.png", image_grid(spaced, min(_COLUMNS, max(1, len(images)))))

    def _save_image(self, name: str, image: Image.Image) -> str:
        make_folder(self.out / IMAGES)
        with atomic_write(self.out / IMAGES / name) as file:
            image.save(file, "PNG")
        return f"{IMAGES}/{name}"

    def _pairs(
        self,
        name: str,
        copied: Copies,
        names: Sequence[str],
        batch: Callable[[NDArray[np.int64]], Tensor],
        chosen: Sequence[int],
    ) -> tuple[Pair, ...]:
        """The images nearest to a training image by the test's own measure, whether or not they count as copies."""
        called = set(copied.indices().tolist())
        training = self.real.training
        pairs = []
        for number, index in enumerate(np.argsort(copied.ratios, kind="stable")[:_PAIRS].tolist()):
            original = int(training[copied.nearest[index]])
            shown = (batch(np.array([chosen[index]])), self.real.dataset.batch([original]))
            files = [
                self._save_image(f"{_file_name(name)}-pair-{number}-{what}.png", image_grid(self._shown(one), 1))
                for what, one in zip(("generated", "training"), shown, strict=True)
            ]
            path = self.real.dataset.paths[original].as_posix()
            pairs.append(Pair(names[index], path, float(copied.ratios[index]), index in called, *files))
        return tuple(pairs)


class _Generated:
    """The images of a checkpoint in a file, with their generation time and the number of identical ones."""

    def __init__(
        self, samples: CheckpointSamples, prompts: Sequence[str], seed: int, size: tuple[int, int], path: Path
    ) -> None:
        self._samples, self._prompts, self._seed, self._size, self._path = samples, prompts, seed, size, path
        self._pixels: NDArray[Any] = np.empty(0, np.uint8)
        self._digests: list[tuple[bytes, bool]] = []
        self.seconds = 0.0

    def batches(self) -> Iterator[Tensor]:
        found = self._samples.batches(self._prompts, self._seed, self._size)
        while True:
            started = time.perf_counter()
            batch = next(found, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            if not self._digests:
                shape = (len(self._prompts), *batch.shape[1:])
                self._pixels = np.lib.format.open_memmap(self._path, mode="w+", dtype=batch.dtype, shape=shape)
            self._pixels[len(self._digests) : len(self._digests) + len(batch)] = batch
            self._digests += map(digest_and_flatness, batch)
            yield as_tensor(batch)

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        return as_tensor(self._pixels[indices])

    def notes(self, name: str) -> list[str]:
        return duplicate_notes(name, self._digests)


def _diversity(found: Row) -> dict[str, Any]:
    """The measures of a row per class, as fields of an Entry."""
    if found.classes is None:
        return {}
    by_class = {
        str(label): OfClass(one.vendi, one.real_vendi, one.coverage) for label, one in found.classes.by_class.items()
    }
    return {"by_class": by_class, "missing_classes": tuple(map(str, found.classes.missing))}


def checkpoint_stamp(path: Path) -> list[int]:
    """A stamp that changes with the file. CheckpointDamaged if it cannot be read."""
    try:
        about = path.stat()
    except OSError as error:
        raise CheckpointDamaged(f"{path.name} cannot be measured", error.strerror or str(error)) from error
    return [about.st_size, about.st_mtime_ns]


def _file_name(name: str) -> str:
    """A name without characters that file names may not contain."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)[:80] or "images"
