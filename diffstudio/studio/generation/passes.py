"""The sampling passes of a job: each is controlled, recorded, and reported step by step.

A job has one pass, or with a hires fix a second one that starts from the enlarged result; the steps are numbered across
both. The estimates of all network calls are recorded, so that a replay reproduces both passes to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.guidance import ConditionAnnealing
from diffstudio.diffusion.noise_curve import curve_fractions
from diffstudio.diffusion.samplers import Step
from diffstudio.errors import BadRequest, CheckpointProblem
from diffstudio.models.conditioning.image_inputs import ControlNetInput
from diffstudio.models.detection.families_table import Family
from diffstudio.models.files.hashes import autov2
from diffstudio.models.guidance_options import GuidanceOptions, WeakModel
from diffstudio.models.model import IN_ONE_CALL, EncodedPrompt, Model, own_times, text_only
from diffstudio.models.multidiffusion import Tiling, check_size, tiling_for
from diffstudio.models.nonfinite import check_finite
from diffstudio.models.sampling import SampleOptions, noise_level, sample, times_of
from diffstudio.studio.events import Event, Noted, Stepped
from diffstudio.studio.generation.preview import preview_images
from diffstudio.studio.jobs.job_context import JobContext
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.requests import GenerateRequest, PictureRequest

TILED_NOTE = "the enlarged image is sampled in tiles."


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the sampler."""

    width: int  # px
    height: int
    steps: int  # before `strength` shortens them
    guidance: float
    strength: float = 1.0  # denoising strength
    tiling: Tiling | None = None
    truncation: float = 1.0  # of a VAE or GAN

    @property
    def size_per_call(self) -> tuple[int, int]:
        """Width and height in px of what the network processes in one call."""
        return (self.width, self.height) if self.tiling is None else self.tiling.tile_size_of(self.width, self.height)

    @property
    def pixels_per_step(self) -> int:
        """The pixels that the network processes in a step for one image: a step's cost in proportion."""
        width, height = self.size_per_call
        return width * height * (1 if self.tiling is None else self.tiling.count(self.width, self.height))

    def step_count(self, model: Model, spacing: str, carried: Sequence[float]) -> int:
        """The number of steps that are taken by the base; `carried` are the times in the request."""
        return len(times_of(model, self.steps, spacing, self.strength, self.size_per_call, carried=carried)) - 1

    def upper_step_count(self, model: Model) -> int:
        """The number of steps that are taken by the upper level after them."""
        if model.upper is None or not model.upper.draws(self.width, self.height):
            return 0
        return len(model.upper.times(self.strength)) - 1


def check_one_call(request: GenerateRequest, model: Model) -> None:
    """BadRequest for settings that a VAE or GAN does not support, and for a truncation with any other model."""
    if request.truncation != 1 and not model.truncates:
        raise BadRequest(
            f"The truncation is {request.truncation:g}, but this checkpoint has none",
            "it is a setting of GANs and VAEs",
            "Set it to 1, or choose a VAE or GAN",
        )
    if not model.family.one_call:
        return
    if request.init is not None:
        raise text_only(IN_ONE_CALL)
    if chosen := [*_chosen(request, model.family), *(["ControlNets"] if request.controls else [])]:
        raise BadRequest(f"This checkpoint cannot use {' and '.join(chosen)}", IN_ONE_CALL, "Leave these settings out")


def _chosen(request: GenerateRequest, usual: Family) -> list[str]:
    """The sampling settings that differ from both the defaults and the checkpoint's recommendations."""
    default = GenerateRequest()
    settings = (
        ("steps", request.steps, (default.steps, usual.steps)),
        ("the sampler", request.sampler, (default.sampler, usual.sampler)),
        ("the scheduler", request.spacing, (default.spacing, usual.spacing)),
        ("the CFG scale", request.guidance, (default.guidance, usual.guidance)),
    )
    return [name for name, value, unset in settings if value not in unset]


def second_pass(request: PictureRequest, model: Model, size: tuple[int, int], steps: int, strength: float) -> Pass:
    """The pass from an image enlarged to `size`, in tiles if asked for or if it is too large.

    BadRequest for a model that cannot sample from an image, or not at that size.
    """
    if model.own_sampler is not None:
        raise BadRequest(
            "This checkpoint cannot sample from an enlarged image",
            "it makes images from text alone",
            "Enlarge the finished image with an upscaler instead",
        )
    tiling = None if model.upper is not None and not request.tiled else tiling_for(model, *size, always=request.tiled)
    check_size(model, *size, tiling)
    guidance = request.enlarge_guidance
    if guidance is None:
        guidance = request.guidance if model.guides_second_pass else 0.0
    return Pass(*size, steps, guidance, strength, tiling)


def tiled_pass(larger: Pass, model: Model) -> Pass | None:
    """The same pass in tiles, which takes less memory; None if it is tiled already, or fits into one tile."""
    if model.upper is not None:  # whose base has no tiles of the larger image
        return None
    tiling = tiling_for(model, larger.width, larger.height, always=True)
    if larger.tiling is not None or tiling is None or tiling.count(larger.width, larger.height) < 2:
        return None
    return replace(larger, tiling=tiling)


def guides_last_call(request: PictureRequest, model: Model) -> bool:
    """Whether guidance acts in the last network call of each pass; saved in the image's metadata."""
    return model.guides_last_call if request.guide_last_call is None else request.guide_last_call


@dataclass(slots=True)
class Passes:
    """The passes of one batch: images `first` .. `first` + `count` - 1 of the request."""

    request: PictureRequest
    model: Model
    passes: Sequence[Pass]
    first: int
    count: int
    context: JobContext
    guidance_options: GuidanceOptions = GuidanceOptions()  # noqa: RUF009 (immutable)
    _base_steps: list[int] = field(init=False)  # of each pass
    _steps: list[int] = field(init=False)  # likewise, with those of the upper level
    _times: list[tuple[float, ...]] = field(init=False)  # likewise: those that the request carries, or its curve gives
    _replayed: Iterator[Tensor] = field(init=False)
    _pixels_done: int = 0  # in all steps so far, for one image
    _seconds: float = 0.0  # spent on them

    def __post_init__(self) -> None:
        self._times = [self._carried_times(one) for one in self.passes]
        self._base_steps = [
            one.step_count(self.model, self.request.spacing, times)
            for one, times in zip(self.passes, self._times, strict=True)
        ]
        self._steps = [
            base + one.upper_step_count(self.model) for base, one in zip(self._base_steps, self.passes, strict=True)
        ]
        self._replayed = iter(_replayed_estimates(self.context.replay, self.first, self.count))
        self.context.recording.begin(self.first, self.count, sum(self._steps))

    def _carried_times(self, one: Pass) -> tuple[float, ...]:
        """Where the steps of a pass start, as fractions of t_max; () where its spacing computes them."""
        if self.request.curve is None:
            return self.request.times
        if self.model.own_sampler is not None:
            raise own_times()
        return curve_fractions(self.request.curve.curve, self.model.schedule, one.steps)

    def run(
        self,
        index: int,
        prompt: EncodedPrompt,
        seeds: Sequence[int],
        *,
        init: Tensor | None = None,
        mask: Tensor | None = None,
        clean: Tensor | None = None,
        controls: tuple[ControlNetInput, ...] = (),
    ) -> Generator[Event, None, Tensor]:
        """Sample pass number `index`, with an event for each step; returns the last state [B,C,h,w].

        The keyword arguments are those of `SampleOptions`.
        """
        before, context = sum(self._steps[:index]), self.context
        job_control = context.job_control
        options = replace(self._sample_options(index, seeds), init=init, mask=mask, clean=clean, controls=controls)
        seconds, began, paused = self._seconds, time.monotonic(), job_control.paused_seconds
        x: Tensor | None = None
        for step in sample(
            self.model,
            prompt,
            options,
            wrap=lambda denoiser: RecordingDenoiser(denoiser, job_control, context.recording, self._replayed),
            before_tile=job_control.check,
        ):
            _check_finite(step, before, self.model)
            previews = preview_images(step.denoised, self.model) if context.previews else ()
            yield from (Noted(context.job, note) for note in self.model.load_notes)
            self.model.load_notes = ()
            context.recording.stepped(before + step.index, previews)
            took = time.monotonic() - began - (job_control.paused_seconds - paused)
            self._seconds = seconds + took
            self._pixels_done += self._pixels(index, step.index)
            x = step.x
            yield Stepped(
                context.job,
                before + step.index,
                sum(self._steps),
                self.first,
                self.request.count,
                noise_level(self.model.schedule, step.t),
                previews,
                took / step.index,
                self._seconds_left(),
                self.count,
            )
        job_control.check()
        assert x is not None
        return x

    def _sample_options(self, index: int, seeds: Sequence[int]) -> SampleOptions:
        """The options for a pass, without images."""
        one = self.passes[index]
        return SampleOptions(
            seeds,
            one.width,
            one.height,
            one.steps,
            self.request.sampler,
            self.request.spacing,
            one.guidance,
            one.strength,
            tiling=one.tiling,
            guide_last_call=self.request.guide_last_call,
            steps_before=sum(self._base_steps[:index]) or None,
            guidance_options=self._guidance_options(index),
            truncation=one.truncation,
            times=self._times[index],
        )

    def _guidance_options(self, index: int) -> GuidanceOptions:
        """The options for a pass; an unguided second pass has no autoguidance either."""
        if index == 0 or self.model.guides_second_pass or self.passes[index].guidance > self.model.unguided_scale:
            return self.guidance_options
        return replace(self.guidance_options, weak=None)

    def _pixels(self, index: int, step: int) -> int:
        """The pixels that the network processes in a step of pass `index`, from 1: those of the base are fewer."""
        pixels, upper = self.passes[index].pixels_per_step, self.model.upper
        of_base = step <= self._base_steps[index] < self._steps[index]
        return pixels // upper.factor**2 if of_base and upper is not None else pixels

    def _seconds_left(self) -> float:
        """For the whole request; a step's cost is proportional to the pixels that the network processes."""
        steps_of = enumerate(self._steps)
        per_batch = sum(self._pixels(index, step) for index, steps in steps_of for step in range(1, steps + 1))
        later_images = self.request.count - self.first - self.count
        pixels_left = per_batch - self._pixels_done + later_images * per_batch / self.count
        return self._seconds / self._pixels_done * pixels_left


class RequestGuidance:
    """The guidance interval, autoguidance and CADS of one request. `weak` is the model to guide away from, if there is one."""

    def __init__(self, request: GenerateRequest, weak: Model | None) -> None:
        self._request, self._weak = request, weak
        self._annealing = (
            ConditionAnnealing(request.cads, request.cads_tau1, request.cads_tau2, request.cads_mixing)
            if request.cads > 0
            else None
        )

    def options(self, prompts: Sequence[str], negative: str) -> GuidanceOptions:
        """The options for one batch; the weak model encodes its prompts itself. BadRequest for a class it does not know."""
        weak = None
        if self._weak is not None:
            encoded = self._weak.encode_prompt(prompts, negative, clip_skip=self._request.clip_skip)
            weak = WeakModel(self._weak, encoded, self._request.autoguidance_scale)
        return GuidanceOptions(self._request.guidance_interval, weak, self._annealing)

    def metadata(self) -> dict[str, Any]:
        """`autoguidance` for the image's metadata, with name and hash; empty without it."""
        if self._weak is None or self._weak.checkpoint is None:
            return {}
        return {"autoguidance_model": {"name": self._weak.checkpoint.name, "hash": autov2(self._weak.sha256)}}


def _replayed_estimates(replay: Replay | None, first: int, count: int) -> list[Tensor]:
    if replay is not None:
        for recorded in replay.recording.batches:
            if (recorded.first, recorded.count) == (first, count):
                return recorded.before(replay.step)
    return []


class RecordingDenoiser:
    """The denoiser that the sampler calls: checks for stop and pause before each call, and records the estimate.

    While there are `replayed` estimates, they are returned instead of calling the network.
    """

    def __init__(
        self, denoiser: Denoiser, job_control: JobControl, recording: Recording, replayed: Iterator[Tensor]
    ) -> None:
        self.schedule = denoiser.schedule
        self._denoiser, self._job_control = denoiser, job_control
        self._recording, self._replayed = recording, replayed

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self._job_control.check()
        replayed = next(self._replayed, None)
        estimate = self._denoiser(x_t, t) if replayed is None else replayed.to(x_t)
        self._recording.add(estimate)
        return estimate


def _check_finite(step: Step, before: int, model: Model) -> None:
    if not bool(torch.isfinite(step.x).all()):
        if model.checkpoint is not None:
            check_finite(model.checkpoint, model.modules)  # names the damaged weight, if that is the cause
        raise CheckpointProblem(
            f"Sampling produced NaN or Inf values in step {before + step.index}",
            "the network's output was not finite",
            "Lower the CFG scale or choose another sampler; if that does not help, the checkpoint is damaged",
        )
