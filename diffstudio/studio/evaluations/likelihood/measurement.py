"""Measurement: measures the parts of a folder; subclasses add the methods of each kind of model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.evaluation.even_spacing import spread
from diffstudio.evaluation.interval import difference_interval, mean_interval
from diffstudio.models.model import Model
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.likelihood.request import FEWEST_IMAGES, LikelihoodRequest
from diffstudio.studio.evaluations.likelihood.result import ImageLikelihood, LikelihoodResult, PartLikelihood
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.subjects import CheckpointSubject
from diffstudio.training.run.setup import left_out

DEQUANTISING, PROBING, BOUNDING = range(3)  # purposes of random numbers
_PURPOSES = 3
_NAMED = 3  # classes that a message names
_BATCH = 16  # images measured together; with a diffusion model they share the steps of the ODE solver


@dataclass(frozen=True)
class Measurement(ABC):
    """One measurement in progress: both parts of a folder, by the methods of a kind of model."""

    request: LikelihoodRequest
    real: RealFolder
    subject: CheckpointSubject
    model: Model
    check: Callable[[], None]
    on_progress: OnProgress

    @property
    def bits(self) -> int:
        return self.real.data.form.bits

    @property
    def steps(self) -> str:
        """The discrete values of images, as named in formulas."""
        return f"discrete values 2 / {2**self.bits - 1:,} apart in [-1, 1]"

    @property
    def smallest_noise(self) -> float | None:
        """The sigma / alpha at which the likelihood of a diffusion model starts; None for other models."""
        return None

    @abstractmethod
    def bits_of(self, indices: NDArray[np.int64]) -> tuple[Mapping[str, Tensor], Tensor | None]:
        """Bits per dimension [B] by each method, and the standard error [B] due to the probes, or None."""

    @abstractmethod
    def formulas(self, dimensions: int) -> dict[str, str]:
        """The formula of each method, with its offset."""

    @abstractmethod
    def settings(self, dimensions: int) -> dict[str, object]:
        """Other settings that the results depend on."""

    def result(self, notes: list[str], training: bool = True) -> LikelihoodResult:
        """The result for held-out and, if `training`, for training images. CheckpointDamaged, BadRequest."""
        real, parts = self.real, []
        too_few: list[str] = []
        for name, indices in (("held-out images", real.held_out), ("training images", real.training)):
            if indices is real.training and not training:
                continue
            if not len(indices):
                notes.append(f"There are no {name}, so only one part is measured and no difference.")
                continue
            chosen, note = self.with_known_class(indices, name)
            notes += [note] if note else []
            if len(chosen) < FEWEST_IMAGES:
                too_few.append(
                    f"of {len(indices):,} {name}, {len(chosen)} can be measured, and {FEWEST_IMAGES} are needed"
                )
                notes.append(f"Of {len(indices):,} {name}, {len(chosen)} can be measured: they are left out.")
                continue
            chosen = chosen[spread(len(chosen), min(len(chosen), self.request.count))]
            parts.append(self._part(name, chosen, len(indices)))
        if not parts:
            raise BadRequest(
                not_measured(real.report.folder.name),
                "; ".join([*too_few, *self._asked_for()]) or "it has no images",
                "Use the folder that the checkpoint was trained on",
            )
        gaps = {}
        if len(parts) == 2:
            gaps = {name: difference_interval(*(_column(part, name) for part in parts)) for name in parts[0].means}
        dimensions = self.batch(real.training[:1])[0].numel() if len(real.training) else 0
        dimensions = dimensions or self.batch(real.held_out[:1])[0].numel()
        return LikelihoodResult(
            self.subject.name,
            str(real.report.folder),
            self._condition_sentence(),
            dimensions,
            self.bits,
            self.smallest_noise,
            parts,
            gaps,
            self.formulas(dimensions),
            self.settings(dimensions),
            [*left_out(real.report, real.dataset.skipped, real.dataset.unfit), *notes],
        )

    # ---- images ------------------------------------------------------------------------------------------------------

    def _part(self, name: str, chosen: NDArray[np.int64], available: int) -> PartLikelihood:
        images: list[ImageLikelihood] = []
        for first in range(0, len(chosen), _BATCH):
            indices = chosen[first : first + _BATCH]
            self.on_progress(f"Measuring the {name}", first, len(chosen))
            bits, errors = self.bits_of(indices)
            labels = self.labels(indices)
            for row, index in enumerate(indices):
                path = self.real.dataset.paths[int(index)].as_posix()
                error = float(errors[row]) if errors is not None else None
                images.append(
                    ImageLikelihood(path, labels[row], {key: float(found[row]) for key, found in bits.items()}, error)
                )
        self.on_progress(f"Measuring the {name}", len(chosen), len(chosen))
        means = {key: mean_interval([image.bits[key] for image in images]) for key in images[0].bits}
        return PartLikelihood(name, available, means, images)

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        return self.real.dataset.batch(indices, usual_size=True).to(self.model.device)

    def labels(self, indices: NDArray[np.int64]) -> Sequence[str]:
        """The class or caption that each image is conditioned on."""
        return self.real.labels(self.subject.checkpoint.conditioning, indices) or ("",) * len(indices)

    def generator(self, purpose: int, number: int) -> torch.Generator:
        """Random numbers that depend on the seed, their purpose, and the number of a batch's first image."""
        return torch.Generator().manual_seed((self.request.seed * _PURPOSES + purpose) * 1_000_003 + number)

    def with_known_class(self, indices: NDArray[np.int64], name: str) -> tuple[NDArray[np.int64], str]:
        """The images whose class a class-conditional checkpoint knows, and a note on the others."""
        kind = self.subject.checkpoint.conditioning
        if kind is not Conditioning.CLASS:
            return indices, ""
        classes = {known.casefold() for known in self.subject.checkpoint.classes}
        known = np.array([label.casefold() in classes for label in self.real.labels(kind, indices)], bool)
        left = int((~known).sum())
        note = f"{left:,} of {len(indices):,} {name} have a class that {self.subject.name} does not know: left out."
        return indices[known], note if left else ""

    def _asked_for(self) -> list[str]:
        """A clause on the classes that a class-conditional checkpoint knows."""
        known = self.subject.checkpoint.classes
        if self.subject.checkpoint.conditioning is not Conditioning.CLASS:
            return []
        shown = ", ".join(known[:_NAMED]) + (", …" if len(known) > _NAMED else "")
        return [f"{self.subject.name} knows only the classes {shown}"]

    # ---- notes -------------------------------------------------------------------------------------------------------

    def _condition_sentence(self) -> str:
        match self.subject.checkpoint.conditioning:
            case Conditioning.CLASS:
                return "Conditional: each image with its own class. EMA weights, no guidance."
            case Conditioning.TEXT:
                return "Conditional: each image with its own caption, or none. EMA weights, no guidance."
            case Conditioning.NONE:
                return "Unconditional. EMA weights, no guidance."


def not_measured(name: str) -> str:
    return f"The likelihood of {name} cannot be measured"


def _column(part: PartLikelihood, name: str) -> list[float]:
    return [image.bits[name] for image in part.images]


def finite(values: Tensor, subject: CheckpointSubject) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise not_finite(subject)
    return values


def not_finite(subject: CheckpointSubject) -> CheckpointDamaged:
    return CheckpointDamaged(
        f"The likelihood of {subject.name} cannot be computed",
        "its estimates are NaN or infinite",
        "Measure another checkpoint of its run",
    )
