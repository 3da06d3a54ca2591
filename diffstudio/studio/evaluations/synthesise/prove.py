"""Trains classifiers with and without synthetic images, and compares their accuracy on held-out real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from diffstudio.errors import BadRequest
from diffstudio.evaluation.classifier import (
    NO_AUGMENTATION,
    Batch,
    ClassicAugmentation,
    augmentations,
    train_classifier,
)
from diffstudio.evaluation.interval import Interval
from diffstudio.evaluation.paired import paired_difference
from diffstudio.plurals import by_number, count_of
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.synthesise.result import ALONE, AUGMENTED, REAL, Proof, Trained
from diffstudio.studio.evaluations.synthesise.stratified import stratified_order
from diffstudio.studio.number_text import signed

_TUNING_SEEDS = 2
_TUNED_ON = 5  # every fifth training image is used to choose the augmentation
_FEWEST = 10  # images in each part
_LEVEL = 0.95


@dataclass(frozen=True)
class Labelled:
    """Images with their class numbers."""

    batch: Batch
    labels: NDArray[np.int64]
    asked: Sequence[str] = ()  # the label each was generated with, if any

    def __len__(self) -> int:
        return len(self.labels)

    def chosen(self, indices: NDArray[np.int64]) -> Labelled:
        return Labelled(lambda part: self.batch(indices[part]), self.labels[indices])

    def and_also(self, other: Labelled) -> Labelled:
        """These images followed by the others."""
        first = len(self)

        def batch(part: NDArray[np.int64]) -> torch.Tensor:
            ours, theirs = part[part < first], part[part >= first] - first
            order = np.argsort(np.concatenate([np.flatnonzero(part < first), np.flatnonzero(part >= first)]))
            images = [source.batch(indices) for source, indices in ((self, ours), (other, theirs)) if len(indices)]
            return torch.cat(images)[torch.from_numpy(order)]

        return Labelled(batch, np.concatenate([self.labels, other.labels]))


@dataclass(frozen=True)
class Proving:
    """One proof: the real images, seeds and settings that all its classifiers share."""

    training: Labelled
    held_out: Labelled
    classes: int
    flips: bool
    device: torch.device
    seeds: int
    check: Callable[[], None]
    on_progress: OnProgress

    def prove(self, synthetic: Labelled, ratios: Sequence[float], left_out: int) -> Proof:
        """Train and compare the classifiers. BadRequest for too few real images, or only one class."""
        self._check()
        counts = {ratio: round(ratio * len(self.training)) for ratio in sorted(ratios)}
        usable = [
            ratio for ratio, count in counts.items() if count > 0 and ratio * len(self.training) <= len(synthetic)
        ]
        notes = [
            f"The ratio {ratio:g} needs {count_of(count, 'synthetic image')}, "
            f"and there {by_number(len(synthetic), 'is', 'are')} {len(synthetic):,}."
            if count
            else f"The ratio {ratio:g} is less than one synthetic image for {count_of(len(self.training), 'real one')}."
            for ratio, count in counts.items()
            if ratio not in usable
        ]
        if left_out:
            notes.append(
                f"{left_out:,} of the synthetic images are near-copies of held-out images and were not used in the proof."
            )
        if not usable:
            usable = [len(synthetic) / len(self.training)]
        order = stratified_order(synthetic.labels.tolist(), synthetic.asked)
        total = 4 * _TUNING_SEEDS + (3 + len(usable)) * self.seeds
        counter = _Counter(self.on_progress, total)
        augmentation = self._best_augmentation(counter)
        sets: list[tuple[str, float | None, Labelled, ClassicAugmentation]] = [
            (REAL, None, self.training, NO_AUGMENTATION),
            (AUGMENTED, None, self.training, augmentation),
        ]
        for ratio in usable:
            part = synthetic.chosen(order[: round(ratio * len(self.training))])
            sets.append((f"real + {ratio:.2g} x synthetic", ratio, self.training.and_also(part), augmentation))
        sets.append((ALONE, None, synthetic, augmentation))
        scores = {name: self._scores(images, kind, counter) for name, _, images, kind in sets}
        level = 1 - (1 - _LEVEL) / len(usable)  # Bonferroni correction for all ratios together
        rows = tuple(_row(name, ratio, len(images), scores, level) for name, ratio, images, _ in sets)
        sentence, best = _sentence([row for row in rows if row.ratio is not None])
        return Proof(
            rows,
            augmentation.name,
            len(self.held_out),
            self.seeds,
            left_out,
            sentence,
            best is not None,
            best,
            tuple(notes),
        )

    def _check(self) -> None:
        for what, part in (("training", self.training), ("held-out", self.held_out)):
            if len(part) < _FEWEST:
                raise BadRequest(
                    f"There are too few {what} images for a proof", f"it needs {_FEWEST}, and there are {len(part):,}"
                )
        if len(np.unique(self.training.labels)) < 2:
            raise BadRequest("The benefit of synthetic images cannot be proved", "all real images have the same class")

    def _best_augmentation(self, counter: _Counter) -> ClassicAugmentation:
        """The augmentation with the best accuracy on every fifth training image, after training on the others.

        Of equally good ones, the weakest.
        """
        order = np.random.default_rng(0).permutation(len(self.training))
        scored, others = self.training.chosen(np.sort(order[::_TUNED_ON])), np.ones(len(order), bool)
        others[order[::_TUNED_ON]] = False
        trained = self.training.chosen(np.flatnonzero(others))
        if len(np.unique(trained.labels)) < 2:
            return NO_AUGMENTATION
        found = []
        for kind in (NO_AUGMENTATION, *augmentations(self.flips)):
            right = [self._right(trained, kind, seed, scored, counter).mean() for seed in range(_TUNING_SEEDS)]
            found.append((float(np.mean(right)), kind))
        return max(found, key=lambda item: item[0])[1]

    def _scores(self, images: Labelled, kind: ClassicAugmentation, counter: _Counter) -> NDArray[np.bool_]:
        """Which held-out images the classifier of each seed gets right, [K,M]; none if the images have only one class."""
        if len(np.unique(images.labels)) < 2:
            return np.zeros((self.seeds, len(self.held_out)), bool)
        return np.stack([self._right(images, kind, seed, self.held_out, counter) for seed in range(self.seeds)])

    def _right(
        self, images: Labelled, kind: ClassicAugmentation, seed: int, scored: Labelled, counter: _Counter
    ) -> NDArray[np.bool_]:
        counter.next()
        classifier = train_classifier(
            images.batch,
            images.labels,
            self.classes,
            seed=seed,
            augmentation=kind,
            device=self.device,
            check=self.check,
        )
        right: NDArray[np.bool_] = classifier.predict(scored.batch, len(scored)) == scored.labels
        return right


class _Counter:
    """Reports the number of trained classifiers as progress."""

    def __init__(self, on_progress: OnProgress, total: int) -> None:
        self._on_progress, self._total, self._done = on_progress, total, 0

    def next(self) -> None:
        self._on_progress("Training classifiers", self._done, self._total)
        self._done += 1


def _row(name: str, ratio: float | None, images: int, scores: dict[str, NDArray[np.bool_]], level: float) -> Trained:
    means = scores[name].mean(axis=1)
    accuracy = Interval(float(means.mean()), float(means.min()), float(means.max()))
    over = {
        other: paired_difference(scores[other], scores[name], level=level) if other != name else None
        for other in (REAL, AUGMENTED)
    }
    over_augmented = over[AUGMENTED] if name != REAL else None
    return Trained(name, images, accuracy, ratio, over[REAL], over_augmented)


def _sentence(rows: Sequence[Trained]) -> tuple[str, float | None]:
    """A sentence about the differences from classic augmentation, and the ratio that helped most."""
    known = [(row, row.over_augmented) for row in rows if row.over_augmented is not None]
    best, gain = max(known, key=lambda item: (item[1].low > 0, item[1].value))
    if gain.low > 0:
        return (
            f"Synthetic images helped: with {best.ratio:.2g} for each real one, the accuracy is {gain.value:.3f} higher "
            f"than with classic augmentation alone ({gain.low:.3f} to {gain.high:.3f}).",
            best.ratio,
        )
    if all(one.high < 0 for _, one in known):
        return (
            f"Synthetic images did harm: even with {best.ratio:.2g} for each real one, the accuracy is {-gain.value:.3f} "
            f"lower than with classic augmentation alone ({-gain.high:.3f} to {-gain.low:.3f}).",
            None,
        )
    where = "0 lies in its interval" if gain.high >= 0 else "its interval lies below 0"  # and that of another has it
    return (
        f"Synthetic images did not help: with the best ratio, {best.ratio:.2g} for each real one, the accuracy differs by "
        f"{signed(gain.value)} from classic augmentation alone, and {where} ({signed(gain.low)} to {signed(gain.high)}).",
        None,
    )
