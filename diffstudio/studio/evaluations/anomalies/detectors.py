"""The anomaly detectors: each is fitted to the normal images and scores others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.diffusion.likelihood import smallest_noise_of, variational_bound
from diffstudio.errors import CheckpointDamaged
from diffstudio.evaluation.anomalies.calibration import two_sided
from diffstudio.evaluation.anomalies.denoising import LEVELS, NormalErrors, denoising_errors
from diffstudio.evaluation.anomalies.heat_maps import smoothed, smoothing_of
from diffstudio.evaluation.anomalies.neighbours import PatchNeighbours, PixelNeighbours
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.model import Model
from diffstudio.studio.evaluations.anomalies.result import DENOISING, LIKELIHOOD, LOCAL, PATCHES, PIXELS
from diffstudio.studio.evaluations.samples import CheckedDenoiser

_BATCH = 32
_BOUND_LEVELS, _BOUND_FROM = 16, 0.05  # of the variational bound; networks are seldom accurate at lower noise
_COLOUR_CHANNELS = (1, 3)

Scores = dict[str, NDArray[np.float64]]  # [N] by detector
Maps = dict[str, NDArray[np.float32]]  # [N,H,W] by detector
OnImages = Callable[[int, int], None]  # images scored, images in total


def available(model: Model | None, channels: int) -> tuple[str, ...]:
    """The names of the detectors that there are for images of so many channels, with or without a model."""
    by_model = (DENOISING, LOCAL, LIKELIHOOD) if model is not None else ()
    return (*by_model, *((PATCHES,) if channels in _COLOUR_CHANNELS else ()), PIXELS)


@dataclass(frozen=True)
class Detectors:
    """All detectors that are available for these normal images, calibrated on held-out ones."""

    pixels: PixelNeighbours
    patches: PatchNeighbours | None  # None for images that are neither grey nor RGB
    model: Model | None
    draws: int
    seed: int
    bits: int
    check: Callable[[], None]
    normal_errors: NormalErrors | None
    held_out_scores: Scores
    held_out_maps: Maps
    typical_bits: NDArray[np.float64]
    held_out_summaries: NDArray[np.float32]  # [N,2D] of patch features; empty without them

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.held_out_scores)

    @classmethod
    def of(
        cls,
        training: Tensor,
        held_out: Tensor,
        model: Model | None,
        draws: int,
        seed: int,
        bits: int,
        device: torch.device,
        check: Callable[[], None],
        report: OnImages,
    ) -> Detectors:
        """Fit the detectors to the training part of the normal images and calibrate them on the held-out part.

        Both are [N,C,H,W] in [-1,1].
        """
        patches = PatchNeighbours.of(training, device, seed) if training.shape[1] in _COLOUR_CHANNELS else None
        pixels, none = PixelNeighbours(training), np.zeros(0)
        empty = cls(pixels, patches, model, draws, seed, bits, check, None, {}, {}, none, np.zeros((0, 0), np.float32))
        raw = empty._raw(held_out, report)
        errors = NormalErrors.of(raw.errors) if raw.errors is not None else None
        summaries = [part[2] for part in raw.patches]
        known = replace(
            empty,
            normal_errors=errors,
            typical_bits=raw.bits,
            held_out_summaries=np.concatenate(summaries) if summaries else empty.held_out_summaries,
        )
        scores, maps = known._finished(raw, held_out=True)
        return replace(known, held_out_scores=scores, held_out_maps=maps)

    def score(self, images: Tensor, report: OnImages) -> tuple[Scores, Maps]:
        """The scores and heat maps of images [N,C,H,W] in [-1,1]."""
        return self._finished(self._raw(images, report))

    def _raw(self, images: Tensor, report: OnImages) -> _Raw:
        pixels, patches, errors, bits = [], [], [], []
        for first in range(0, len(images), _BATCH):
            self.check()
            part = images[first : first + _BATCH]
            pixels.append(self.pixels.score(part))
            if self.patches is not None:
                patches.append(self.patches.score(part))
            if self.model is not None:
                found, nats = self._by_model(self.model, part)
                errors.append(found)
                bits.append(nats)
            report(min(first + _BATCH, len(images)), len(images))
        return _Raw(
            pixels, patches, np.concatenate(errors) if errors else None, np.concatenate(bits) if bits else np.zeros(0)
        )

    def _by_model(self, model: Model, images: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Denoising errors [B,L,H,W] and the variational bound [B] in nats, without a prompt."""
        images = images.to(model.device)
        prompt = model.prompt_encoder(None)(StepTexts.plain([""] * len(images), [""] * len(images)))
        denoiser = CheckedDenoiser(model.denoiser(prompt, 1.0), self.check)
        errors = denoising_errors(denoiser, model.schedule, images, LEVELS, self.draws, self.seed)
        bound = variational_bound(
            denoiser,
            model.schedule,
            images,
            torch.Generator().manual_seed(self.seed),
            levels=_BOUND_LEVELS,
            bits=self.bits,
            smallest_noise=max(_BOUND_FROM, smallest_noise_of(model.schedule, self.bits)),
        )
        nats = bound.nats.double().cpu().numpy()
        if not np.isfinite(errors).all() or not np.isfinite(nats).all():
            raise CheckpointDamaged(
                "Anomalies cannot be found with this checkpoint",
                "it returns NaN or infinite values",
                "Use another checkpoint of its run, or none",
            )
        return errors, nats

    def _finished(self, raw: _Raw, held_out: bool = False) -> tuple[Scores, Maps]:
        scores: Scores = {}
        maps: Maps = {}
        if raw.errors is not None and self.normal_errors is not None:
            if held_out:
                found, roots, whole = NormalErrors.cross_fitted(raw.errors)
            else:
                normal = self.normal_errors
                found, roots = normal.maps(raw.errors), normal.root_maps(raw.errors)
                whole = normal.scores(raw.errors)
            for name, errors in ((DENOISING, roots), (LOCAL, found)):
                maps[name] = smoothed(errors, smoothing_of(max(errors.shape[1:])))
            scores[DENOISING] = whole
            scores[LOCAL] = maps[LOCAL].max(axis=(1, 2)).astype(np.float64)
            scores[LIKELIHOOD] = two_sided(raw.bits, self.typical_bits)
        for name, parts in ((PATCHES, raw.patches), (PIXELS, raw.pixels)):
            if parts:
                scores[name] = np.concatenate([part[0] for part in parts])
                found = np.concatenate([part[1] for part in parts])
                maps[name] = smoothed(found, smoothing_of(max(found.shape[1:])))
        return scores, maps


@dataclass(frozen=True, slots=True)
class _Raw:
    """Raw scores of the networks, before standardisation by the normal images."""

    pixels: Sequence[tuple[NDArray[np.float64], NDArray[np.float32]]]
    patches: Sequence[tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]]  # the last are summaries
    errors: NDArray[np.float32] | None
    bits: NDArray[np.float64]
