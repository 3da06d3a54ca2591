"""likelihood(): bits per dimension of held-out and training images under a checkpoint. Read this first."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

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
from diffstudio.errors import BadRequest
from diffstudio.evaluation.even_spacing import spread
from diffstudio.evaluation.interval import Interval
from diffstudio.models import loading
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.fitted_steps.distilled import check_denoises
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.plurals import by_number
from diffstudio.studio.evaluations.folders.equal_images import alike_images, digests_and_flatness, shared_images
from diffstudio.studio.evaluations.folders.notes import duplicate_notes
from diffstudio.studio.evaluations.folders.reading import read_real
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.folders.stored_split import with_split_of_run
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.likelihood.autoencoder import PRIOR_NOTE, AutoencoderMeasurement
from diffstudio.studio.evaluations.likelihood.measurement import (
    BOUNDING,
    DEQUANTISING,
    PROBING,
    Measurement,
    finite,
    not_finite,
    not_measured,
)
from diffstudio.studio.evaluations.likelihood.request import LikelihoodRequest
from diffstudio.studio.evaluations.likelihood.result import BOUND, ELBO, FLOW, LikelihoodResult
from diffstudio.studio.evaluations.place import check_place
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.samples import CheckedDenoiser
from diffstudio.studio.evaluations.subjects import (
    CHOSEN_BY_HELD_OUT,
    CheckpointSubject,
    find_subjects,
    folder_of,
    run_of,
    unknown_split,
    was_chosen_by_held_out,
)
from diffstudio.training.recipe.objective_recipe import ObjectiveName

RESULT = "likelihood.json"  # in the request's `out`
_TOLERANCE = 1e-3  # of the ODE solver: 1e-4 changes the result by 0.001 bits
_CHOOSING, _CHOOSING_LEVELS = 16, 24  # training images and noise levels for choosing the smallest noise
_NOISES = (0.01, 0.02, 0.05, 0.1)  # candidates besides the schedule's own; networks rarely train below the first


def likelihood(
    request: LikelihoodRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> LikelihoodResult:
    """Measure the likelihood of a folder's images under a checkpoint that was trained here; writes into `out`, if given.

    Diffusion models are measured by the probability flow ODE and the variational bound, VAEs by the ELBO and the
    importance-weighted bound, with EMA weights, without guidance, and with the images' own captions or classes. Holds
    the accelerator, and releases it while images are generated. DiffstudioError for models without a likelihood and data
    that cannot be read; Interrupted when `cancelled` returns True or the control file in `out` says stop.
    """
    check_place(request.out, (request.folder,))
    if request.out is not None:
        make_folder(request.out)
    job_control = EvaluationJobControl(Lease(), cancelled, request.out, on_wait)
    (subject,) = find_subjects((request.checkpoint,), library)
    if not isinstance(subject, CheckpointSubject):
        raise BadRequest(
            f"{subject.name} is a folder of images and has no likelihood", remedy="Name a checkpoint or a run"
        )
    measurement, about = _measurement_of(subject)
    device = choose_device(request.device)
    real = read_real(request.folder, subject.recipe.data, on_progress, job_control.check)
    real, notes = _parts_of_run(real, subject, on_progress, job_control.check)
    name = request.folder.name
    notes += duplicate_notes(name, digests_and_flatness(name, real.dataset, on_progress, job_control.check))
    with job_control.taken(f"measuring {request.folder.name}"):
        on_progress(f"Loading {subject.name}", 0, 0)
        model = loading.load(subject.checkpoint, device, torch.float32)
        result = measurement(request, real, subject, model, job_control.check, on_progress).result([*about, *notes])
    if request.out is not None:
        write_text(request.out / RESULT, json.dumps(result.to_json(), ensure_ascii=False, indent=1))
    return result


def bound_of_held_out(
    subject: CheckpointSubject,
    real: RealFolder,
    device: torch.device,
    check: Callable[[], None],
    on_progress: OnProgress,
) -> Interval:
    """Bits per dimension of held-out images: the variational bound of a diffusion model or the ELBO of a VAE.

    CheckpointDamaged; BadRequest for a GAN, and if the checkpoint knows the classes of too few images.
    """
    measurement, _ = _measurement_of(subject)
    model = loading.load(subject.checkpoint, device, torch.float32)
    request = LikelihoodRequest(subject.name, real.report.folder, flow=False)
    found = measurement(request, real, subject, model, check, on_progress).result([], training=False)
    means = found.parts[0].means
    return means[BOUND] if BOUND in means else means[ELBO]


@dataclass(frozen=True)
class DiffusionMeasurement(Measurement):
    """Measures a diffusion model by the probability flow ODE and by the variational bound."""

    def bits_of(self, indices: NDArray[np.int64]) -> tuple[Mapping[str, Tensor], Tensor | None]:
        noise = self.smallest_noise
        images, denoiser = self.batch(indices), self._denoiser(indices)
        dimensions, number = images[0].numel(), int(indices[0])
        bound = variational_bound(
            denoiser,
            self.model.schedule,
            images,
            self.generator(BOUNDING, number),
            levels=self.request.levels,
            bits=self.bits,
            smallest_noise=noise,
        )
        bits = {BOUND: finite(bits_per_dimension(-bound.nats, dimensions), self.subject)}
        if not self.request.flow:
            return bits, None
        noisy, lost = self._noisy(images, noise, number)
        probes = None
        if dimensions > LARGEST_EXACT:
            probes = rademacher(noisy, self.request.probes, self.generator(PROBING, number))
        try:
            found = log_likelihood(
                denoiser, self.model.schedule, noisy, probes, smallest_noise=noise, tolerance=_TOLERANCE
            )
        except ArithmeticError as error:
            raise not_finite(self.subject) from error
        nats = found.nats - lost if lost is not None else found.nats
        flow = {
            FLOW: finite(bits_per_dimension(nats, dimensions, None if lost is not None else self.bits), self.subject)
        }
        if probes is None or len(probes) == 1:
            return flow | bits, None
        by_probe = found.by_probe.std(1) / math.sqrt(len(probes)) / (dimensions * math.log(2))
        return flow | bits, by_probe

    def _noisy(self, images: Tensor, noise: float, number: int) -> tuple[Tensor, Tensor | None]:
        """Dequantised images: with uniform noise, or with Gaussian noise if `noise` is larger than the spacing of values.

        With Gaussian noise also the nats [B] to subtract from the log-density; otherwise None.
        """
        generator = self.generator(DEQUANTISING, number)
        if noise <= spacing(self.bits):
            return dequantised(images, self.bits, generator), None
        normal = torch.randn(images.shape, generator=generator).to(images)
        lost = reconstruction_loss(normal, images, noise, self.bits) + noise_log_density(normal, noise)
        return images + noise * normal, lost

    @cached_property
    def smallest_noise(self) -> float:
        """The noise level where the likelihood starts: the candidate with the lowest bound on some training images."""
        some = self.real.training if len(self.real.training) else self.real.held_out
        some = self.with_known_class(some, "")[0]
        if not len(some):
            return smallest_noise_of(self.model.schedule, self.bits)
        some = some[spread(len(some), min(len(some), _CHOOSING))]
        images, denoiser = self.batch(some), self._denoiser(some)
        least = smallest_noise_of(self.model.schedule, self.bits)
        noises = [least, *(noise for noise in _NOISES if noise > least)]
        nats = []
        for number, noise in enumerate(noises):
            self.on_progress("Choosing the smallest noise level", number, len(noises))
            bound = variational_bound(
                denoiser,
                self.model.schedule,
                images,
                self.generator(BOUNDING, 0),
                levels=_CHOOSING_LEVELS,
                bits=self.bits,
                smallest_noise=noise,
            )
            nats.append(float(finite(bound.nats, self.subject).mean()))
        return noises[int(np.argmin(nats))]

    def _denoiser(self, indices: NDArray[np.int64]) -> Denoiser:
        labels = self.labels(indices)
        prompt = self.model.prompt_encoder(None)(StepTexts.plain(labels, [""] * len(indices)))
        return CheckedDenoiser(self.model.denoiser(prompt, 1.0), self.check)

    def settings(self, dimensions: int) -> dict[str, object]:
        probes = self.request.probes if dimensions > LARGEST_EXACT else "exact"
        settings: dict[str, object] = {"noise levels": self.request.levels, "seed": self.request.seed}
        return settings | ({"probes": probes} if self.request.flow else {})

    def formulas(self, dimensions: int) -> dict[str, str]:
        noise = self.smallest_noise
        start = f"starting at noise {noise:.4g} (sigma / alpha)"
        steps = self.steps
        if noise <= spacing(self.bits):
            flow = (
                f"-log2 p(x + u) / {dimensions:,} + {-math.log2(spacing(self.bits)):.4f}, with u uniform between {steps}; "
                f"the offset is -log2(2 / {2**self.bits - 1:,})"
            )
        else:
            flow = (
                f"(log q(y | x) - log p(y) - log P(x | y)) / ({dimensions:,} ln 2) without an offset, with y = x + noise "
                f"larger than the spacing of {steps}"
            )
        found = {
            FLOW: f"{flow}. log p of the probability flow ODE (2011.13456, eq. 39), {start}",
            BOUND: f"(prior + diffusion + reconstruction loss) / ({dimensions:,} ln 2) >= -log2 P(x) / {dimensions:,}, without "
            f"an offset: P is the probability of {steps}. Continuous-time bound in log-SNR (2107.00630), {start}",
        }
        return found if self.request.flow else {BOUND: found[BOUND]}


def _measurement_of(subject: CheckpointSubject) -> tuple[type[Measurement], list[str]]:
    """The Measurement for a kind of model, and notes. BadRequest for one without a likelihood."""
    check_denoises(subject.checkpoint, "likelihoods")
    match subject.recipe.objective.kind:
        case ObjectiveName.DIFFUSION:
            return DiffusionMeasurement, []
        case ObjectiveName.VAE:
            return AutoencoderMeasurement, [PRIOR_NOTE]
        case ObjectiveName.GAN:
            raise BadRequest(
                not_measured(subject.name),
                "a GAN has no density, so the likelihood of an image is not defined",
                "Measure a diffusion model or a VAE",
            )


def _parts_of_run(
    real: RealFolder, subject: CheckpointSubject, on_progress: OnProgress, check: Callable[[], None]
) -> tuple[RealFolder, list[str]]:
    """The folder split as in the checkpoint's run, and notes. All images of another folder count as held out."""
    run = run_of(subject)
    trained_on = folder_of(run) if run is not None else None
    if trained_on in (None, real.report.folder.resolve()) or trained_on is not None and not trained_on.exists():
        real, note = with_split_of_run(real, [subject], on_progress, check)
        chosen = CHOSEN_BY_HELD_OUT if was_chosen_by_held_out(subject) else ""
        return real, list(filter(None, [note or unknown_split(subject), chosen]))
    known = read_real(trained_on, subject.recipe.data, on_progress, check)
    name = real.report.folder.name
    shared = shared_images(name, real.dataset, known, on_progress, check)
    alike = [] if shared else alike_images(name, real.dataset, known, on_progress, check)
    dataset = replace(real.dataset, held_out=np.ones(len(real.dataset), np.bool_))
    notes = [f"{subject.name} was trained on {trained_on}: all images here count as held out."]
    if shared:
        notes.append(
            f"{len(shared):,} of {len(real.dataset):,} images {by_number(len(shared), 'is', 'are')} also in that folder, "
            f"such as {shared[0][0]}: the model may have been trained on them."
        )
    elif alike:
        notes.append(
            f"{len(alike):,} of {len(real.dataset):,} images {by_number(len(alike), 'looks', 'look')} like images of that folder, "
            f"such as {alike[0][0]} ({alike[0][1]}). If they are the same images, saved again, the model may have been "
            "trained on them."
        )
    return replace(real, dataset=dataset), notes
