"""likelihood(): how many bits per dimension a checkpoint needs for held-out and training images. Read this first."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.atomic import make_folder, write_text
from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.likelihood import (
    LARGEST_EXACT,
    bits_per_dimension,
    dequantised,
    log_likelihood,
    noise_log_density,
    rademacher,
    reconstruction_loss,
    smallest_noise_of,
    spacing,
    variational_bound,
)
from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.evaluation.interval import Interval, difference_interval, mean_interval
from diffstudio.models import loading
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.models.model import Model
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.evaluate import folder_of, run_of, with_split_of_run
from diffstudio.studio.evaluations.folders import OnProgress, RealFolder, read_real, shared_images
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.likelihood.request import FEWEST_IMAGES, LikelihoodRequest
from diffstudio.studio.evaluations.likelihood.result import (
    BOUND,
    FLOW,
    ImageLikelihood,
    LikelihoodResult,
    PartLikelihood,
)
from diffstudio.studio.evaluations.measure import spread
from diffstudio.studio.evaluations.samples import CheckedDenoiser
from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_subjects
from diffstudio.training.recipe import ObjectiveName
from diffstudio.training.run.setup import left_out

RESULT = "likelihood.json"  # in the request's `out`
_TOLERANCE = 1e-3  # of the flow: 1e-4 changes 0.001 bits
_BATCH = 16  # images that are followed together; they share the steps of the solver
_CHOOSING, _CHOOSING_LEVELS = 16, 24  # training images and noise levels, by which the smallest noise is chosen
_NOISES = (0.01, 0.02, 0.05, 0.1)  # besides that of the schedule; a network is seldom trained below the first
_DEQUANTISING, _PROBING, _BOUNDING = range(3)  # what random numbers are drawn for


def likelihood(
    request: LikelihoodRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> LikelihoodResult:
    """Measure how likely the images of a folder are under a checkpoint that was trained here; writes `out`, if named.

    Its EMA weights are used, without guidance, with the captions or classes of the images themselves. Holds the
    accelerator, and releases it while images are generated. DiffstudioError for what has no likelihood or cannot be
    read; Interrupted when `cancelled` returns True or the control file in `out` says stop.
    """
    if request.out is not None:
        make_folder(request.out)
    job_control = EvaluationJobControl(Lease(), cancelled, request.out, on_wait)
    (subject,) = find_subjects((request.checkpoint,), library)
    if not isinstance(subject, CheckpointSubject):
        raise BadRequest(
            f"{subject.name} is a folder of images and has no likelihood", remedy="Name a checkpoint or a run"
        )
    _check_kind(subject)
    device = choose_device(request.device)
    real = read_real(request.folder, subject.recipe.data, on_progress, job_control.check)
    real, notes = _parts_of_run(real, subject, on_progress, job_control.check)
    with job_control.taken(f"measuring {request.folder.name}"):
        on_progress(f"Loading {subject.name}", 0, 0)
        model = loading.load(subject.checkpoint, device, torch.float32)
        result = _Likelihood(request, real, subject, model, job_control.check, on_progress).result(notes)
    if request.out is not None:
        write_text(request.out / RESULT, json.dumps(result.to_json(), ensure_ascii=False, indent=1))
    return result


def bound_of_held_out(
    subject: CheckpointSubject, real: RealFolder, model: Model, check: Callable[[], None], on_progress: OnProgress
) -> Interval | None:
    """The variational bound on held-out images in bits per dimension, of a diffusion model in memory.

    None without any image that it can be asked for. CheckpointDamaged, BadRequest.
    """
    request = LikelihoodRequest(subject.name, real.report.folder, flow=False)
    found = _Likelihood(request, real, subject, model, check, on_progress).result([])
    part = next((part for part in found.parts if part.name.startswith("held-out")), None)
    return part.means[BOUND] if part is not None else None


@dataclass(frozen=True)
class _Likelihood:
    """One measurement in progress."""

    request: LikelihoodRequest
    real: RealFolder
    subject: CheckpointSubject
    model: Model
    check: Callable[[], None]
    on_progress: OnProgress

    @property
    def bits(self) -> int:
        return self.real.data.form.bits

    def result(self, notes: list[str]) -> LikelihoodResult:
        real, parts = self.real, []
        noise = self._smallest_noise()
        for name, indices in (("held-out images", real.held_out), ("training images", real.training)):
            if not len(indices):
                continue
            chosen, note = self._can_be_asked(indices, name)
            notes += [note] if note else []
            if len(chosen) < FEWEST_IMAGES:
                notes.append(
                    f"There are {len(chosen)} {name} to measure, and {FEWEST_IMAGES} are needed: they are left out."
                )
                continue
            chosen = chosen[spread(len(chosen), min(len(chosen), self.request.count))]
            parts.append(self._part(name, chosen, len(indices), noise))
        if not parts:
            raise BadRequest(
                _not_measured(real.report.folder.name),
                notes[-1] if notes else "it has too few images",
                "Use the folder that the checkpoint was trained on",
            )
        gaps = {}
        if len(parts) == 2:
            gaps = {name: difference_interval(*(_column(part, name) for part in parts)) for name in parts[0].means}
        dimensions = self._batch(real.training[:1])[0].numel() if len(real.training) else 0
        dimensions = dimensions or self._batch(real.held_out[:1])[0].numel()
        return LikelihoodResult(
            self.subject.name,
            str(real.report.folder),
            self._condition_sentence(),
            dimensions,
            self.bits,
            noise,
            parts,
            gaps,
            self._formulas(dimensions, noise),
            self._settings(dimensions),
            [*left_out(real.report, real.dataset.skipped, real.dataset.unfit), *notes],
        )

    # ---- images ------------------------------------------------------------------------------------------------------

    def _part(self, name: str, chosen: NDArray[np.int64], available: int, noise: float) -> PartLikelihood:
        images: list[ImageLikelihood] = []
        for first in range(0, len(chosen), _BATCH):
            indices = chosen[first : first + _BATCH]
            self.on_progress(f"Measuring the {name}", first, len(chosen))
            bits, errors = self._bits(indices, noise)
            labels = self.real.labels(self.subject.checkpoint.conditioning, indices) or ("",) * len(indices)
            for row, index in enumerate(indices):
                path = self.real.dataset.paths[int(index)].as_posix()
                error = float(errors[row]) if errors is not None else None
                images.append(
                    ImageLikelihood(path, labels[row], {key: float(found[row]) for key, found in bits.items()}, error)
                )
        self.on_progress(f"Measuring the {name}", len(chosen), len(chosen))
        means = {key: mean_interval([image.bits[key] for image in images]) for key in images[0].bits}
        return PartLikelihood(name, available, means, images)

    def _bits(self, indices: NDArray[np.int64], noise: float) -> tuple[Mapping[str, Tensor], Tensor | None]:
        """Bits per dimension [B] by each method, and the error [B] that the probes leave."""
        images, denoiser = self._batch(indices), self._denoiser(indices)
        dimensions, number = images[0].numel(), int(indices[0])
        bound = variational_bound(
            denoiser,
            self.model.schedule,
            images,
            self._generator(_BOUNDING, number),
            levels=self.request.levels,
            bits=self.bits,
            smallest_noise=noise,
        )
        bits = {BOUND: _finite(bits_per_dimension(-bound.nats, dimensions), self.subject)}
        if not self.request.flow:
            return bits, None
        noisy, lost = self._noisy(images, noise, number)
        probes = None
        if dimensions > LARGEST_EXACT:
            probes = rademacher(noisy, self.request.probes, self._generator(_PROBING, number))
        try:
            found = log_likelihood(
                denoiser, self.model.schedule, noisy, probes, smallest_noise=noise, tolerance=_TOLERANCE
            )
        except ArithmeticError as error:
            raise _not_finite(self.subject) from error
        nats = found.nats - lost if lost is not None else found.nats
        flow = {
            FLOW: _finite(bits_per_dimension(nats, dimensions, None if lost is not None else self.bits), self.subject)
        }
        if probes is None or len(probes) == 1:
            return flow | bits, None
        by_probe = found.by_probe.std(1) / math.sqrt(len(probes)) / (dimensions * math.log(2))
        return flow | bits, by_probe

    def _noisy(self, images: Tensor, noise: float, number: int) -> tuple[Tensor, Tensor | None]:
        """Images with uniform noise; or with that of the first noise level, where it is larger than their steps, and what
        that costs [B], in nats.
        """
        generator = self._generator(_DEQUANTISING, number)
        if noise <= spacing(self.bits):
            return dequantised(images, self.bits, generator), None
        normal = torch.randn(images.shape, generator=generator).to(images)
        lost = reconstruction_loss(normal, images, noise, self.bits) + noise_log_density(normal, noise)
        return images + noise * normal, lost

    def _smallest_noise(self) -> float:
        """Where the likelihood starts: the noise of a few with which a bound on some training images is lowest."""
        some = self.real.training if len(self.real.training) else self.real.held_out
        some = self._can_be_asked(some, "")[0]
        if not len(some):
            return smallest_noise_of(self.model.schedule, self.bits)
        some = some[spread(len(some), min(len(some), _CHOOSING))]
        images, denoiser = self._batch(some), self._denoiser(some)
        least = smallest_noise_of(self.model.schedule, self.bits)
        noises = [least, *(noise for noise in _NOISES if noise > least)]
        nats = []
        for number, noise in enumerate(noises):
            self.on_progress("Choosing where the likelihood starts", number, len(noises))
            bound = variational_bound(
                denoiser,
                self.model.schedule,
                images,
                self._generator(_BOUNDING, 0),
                levels=_CHOOSING_LEVELS,
                bits=self.bits,
                smallest_noise=noise,
            )
            nats.append(float(_finite(bound.nats, self.subject).mean()))
        return noises[int(np.argmin(nats))]

    def _batch(self, indices: NDArray[np.int64]) -> Tensor:
        return self.real.dataset.batch(indices, usual_size=True).to(self.model.device)

    def _denoiser(self, indices: NDArray[np.int64]) -> Denoiser:
        labels = self.real.labels(self.subject.checkpoint.conditioning, indices) or ("",) * len(indices)
        prompt = self.model.prompt_encoder(None)(StepTexts.plain(labels, [""] * len(indices)))
        return CheckedDenoiser(self.model.denoiser(prompt, 1.0), self.check)

    def _generator(self, purpose: int, number: int) -> torch.Generator:
        """Of random numbers that depend on the seed, what they are for, and the first image of a batch."""
        return torch.Generator().manual_seed((self.request.seed * 3 + purpose) * 1_000_003 + number)

    def _can_be_asked(self, indices: NDArray[np.int64], name: str) -> tuple[NDArray[np.int64], str]:
        """The images whose class a class-conditional checkpoint knows, and a note on the others."""
        kind = self.subject.checkpoint.conditioning
        if kind is not Conditioning.CLASS:
            return indices, ""
        classes = {known.casefold() for known in self.subject.checkpoint.classes}
        known = np.array([label.casefold() in classes for label in self.real.labels(kind, indices)], bool)
        left = int((~known).sum())
        note = f"{left:,} of {len(indices):,} {name} are of a class that {self.subject.name} does not know: left out."
        return indices[known], note if left else ""

    # ---- what the figures depend on ----------------------------------------------------------------------------------

    def _condition_sentence(self) -> str:
        match self.subject.checkpoint.conditioning:
            case Conditioning.CLASS:
                return "Conditional: each image with its own class. EMA weights, no guidance."
            case Conditioning.TEXT:
                return "Conditional: each image with its own caption, or none. EMA weights, no guidance."
            case Conditioning.NONE:
                return "Unconditional. EMA weights, no guidance."

    def _settings(self, dimensions: int) -> dict[str, object]:
        probes = self.request.probes if dimensions > LARGEST_EXACT else "exact"
        settings: dict[str, object] = {"noise levels": self.request.levels, "seed": self.request.seed}
        return settings | ({"probes": probes} if self.request.flow else {})

    def _formulas(self, dimensions: int, noise: float) -> dict[str, str]:
        start = f"from noise {noise:.4g} (sigma / alpha) on"
        steps = f"whole values 2 / {2**self.bits - 1:,} apart in [-1, 1]"
        if noise <= spacing(self.bits):
            flow = (
                f"-log2 p(x + u) / {dimensions:,} + {-math.log2(spacing(self.bits)):.4f}, with u uniform between {steps}; "
                f"the offset is -log2(2 / {2**self.bits - 1:,})"
            )
        else:
            flow = (
                f"(log q(y | x) - log p(y) - log P(x | y)) / ({dimensions:,} ln 2) without an offset, with y = x + noise, "
                f"which is larger than the steps of {steps}"
            )
        found = {
            FLOW: f"{flow}. log p of the probability-flow ODE (2011.13456, eq. 39) {start}",
            BOUND: f"(prior + diffusion + reconstruction loss) / ({dimensions:,} ln 2) >= -log2 P(x) / {dimensions:,}, without "
            f"an offset: P is of {steps}. Continuous-time bound in log SNR (2107.00630) {start}",
        }
        return found if self.request.flow else {BOUND: found[BOUND]}


def _check_kind(subject: CheckpointSubject) -> None:
    """BadRequest for models that are no diffusion models."""
    match subject.recipe.objective.kind:
        case ObjectiveName.DIFFUSION:
            return
        case ObjectiveName.GAN:
            why = "a GAN generates images without a density: no likelihood of an image is defined"
        case _:
            why = "this verb measures diffusion models alone; the ELBO of a VAE is the held-out loss of its run"
    raise BadRequest(_not_measured(subject.name), why, "Measure a diffusion model")


def _not_measured(name: str) -> str:
    return f"The likelihood of {name} cannot be measured"


def _column(part: PartLikelihood, name: str) -> list[float]:
    return [image.bits[name] for image in part.images]


def _parts_of_run(
    real: RealFolder, subject: CheckpointSubject, on_progress: OnProgress, check: Callable[[], None]
) -> tuple[RealFolder, list[str]]:
    """The folder with the split of the checkpoint's run, and notes. All images of another folder are held out."""
    run = run_of(subject)
    trained_on = folder_of(run) if run is not None else None
    if trained_on in (None, real.report.folder.resolve()) or trained_on is not None and not trained_on.exists():
        real, note = with_split_of_run(real, [subject])
        unknown = f"{subject.name} does not lie in its run: the images are split by its recipe."
        return real, [note] if note else [unknown] if run is None else []
    shared = shared_images(real.dataset, read_real(trained_on, subject.recipe.data, on_progress, check).dataset)
    dataset = replace(real.dataset, held_out=np.ones(len(real.dataset), np.bool_))
    notes = [f"{subject.name} was trained on {trained_on}: all images here count as held out."]
    if shared:
        notes.append(
            f"{len(shared):,} of {len(real.dataset):,} images are images of that folder too, such as {shared[0]}: the model "
            "may have been trained on them."
        )
    return replace(real, dataset=dataset), notes


def _finite(values: Tensor, subject: CheckpointSubject) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise _not_finite(subject)
    return values


def _not_finite(subject: CheckpointSubject) -> CheckpointDamaged:
    return CheckpointDamaged(
        f"The likelihood of {subject.name} cannot be computed",
        "its estimates are NaN or infinite",
        "Measure another checkpoint of its run",
    )
