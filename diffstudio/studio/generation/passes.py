"""Walking down the ladder as a job does: watched, stopped, paused, recorded and told about.

A job takes one pass, or a second that goes on from what the first came to once that was enlarged; whoever watches sees one row
of steps. What a step's network calls said is recorded over both, so that replaying them repeats both to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.samplers import Step
from diffstudio.errors import BadRequest, CheckpointProblem
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.model import ControlNetInput, Model, PipelineModel, Prompted
from diffstudio.models.multidiffusion import Windows, check_size, windows_for
from diffstudio.models.nonfinite import check_finite, named_modules
from diffstudio.models.sampling import noise_level, sample
from diffstudio.studio.events import Event, JobId, Stepped
from diffstudio.studio.generation.preview import picture
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.requests import PictureRequest


@dataclass(frozen=True, slots=True)
class Pass:
    """One walk down a ladder."""

    width: int  # px of what is made
    height: int
    steps: int  # of the whole ladder
    guidance: float
    strength: float = 1.0  # how much of that is walked
    windows: Windows | None = None  # that its estimates are put together from

    @property
    def size_seen(self) -> tuple[int, int]:
        """Width and height in px of what the network looks at in one call."""
        return (self.width, self.height) if self.windows is None else self.windows.size(self.width, self.height)

    def taken(self, model: Model, spacing: str) -> int:
        """How many steps that is."""
        return len(model.times(self.steps, spacing, self.strength, *self.size_seen)) - 1

    @property
    def pixels(self) -> int:
        """That the network looks at in a call for one picture: what a step costs, about."""
        width, height = self.size_seen
        return width * height * (1 if self.windows is None else self.windows.count(self.width, self.height))


def second_pass(request: PictureRequest, model: Model, size: tuple[int, int], steps: int, strength: float) -> Pass:
    """From a picture enlarged to `size` on; in windows where that is asked for, or too large otherwise. BadRequest.

    A pixel model is guided to put all of the prompt into each window, and falls apart beyond its own size: unless it is asked to, it
    goes by what is there.
    """
    if isinstance(model, PipelineModel):
        raise BadRequest(
            "This checkpoint cannot go on from an enlarged picture",
            "it makes pictures from text alone",
            "Enlarge the finished picture with an upscaler instead",
        )
    windows = windows_for(model, *size, asked=request.tiled)
    check_size(model, *size, windows)
    usual = 0.0 if isinstance(model, PixelModel) else request.guidance
    return Pass(
        *size, steps, usual if request.enlarge_guidance is None else request.enlarge_guidance, strength, windows
    )


def guides_last_call(request: PictureRequest, model: Model) -> bool:
    """The rule that decides the last call of each ladder; recorded with the picture."""
    return model.guides_last_call if request.guide_last_call is None else request.guide_last_call


IN_WINDOWS = "the enlarged picture is made in windows."


def in_windows(larger: Pass, model: Model) -> Pass | None:
    """The same pass, seeing less of the picture at once; None where that is so already, or cannot be."""
    windows = windows_for(model, larger.width, larger.height, asked=True)
    if larger.windows is not None or windows is None or windows.count(larger.width, larger.height) < 2:
        return None
    return replace(larger, windows=windows)


@dataclass(slots=True)
class Watch:
    """Who looks on while a job's pictures are made."""

    job: JobId
    control: JobControl
    recording: Recording
    replay: Replay | None
    previews: bool


@dataclass(slots=True)
class Passes:
    """The passes of one batch: images `first` .. `first` + `count` - 1 of the request."""

    request: PictureRequest
    model: Model
    passes: Sequence[Pass]
    first: int
    count: int
    watch: Watch
    _steps: list[int] = field(init=False)
    _told_before: Iterator[Tensor] = field(init=False)
    _pixels_done: int = 0  # in all steps so far, for one picture
    _seconds: float = 0.0  # that they took

    def __post_init__(self) -> None:
        self._steps = [one.taken(self.model, self.request.spacing) for one in self.passes]
        self._told_before = iter(_told_before(self.watch.replay, self.first, self.count))
        self.watch.recording.begin(self.first, self.count, sum(self._steps))

    def sampled(
        self,
        which: int,
        prompted: Prompted,
        seeds: Sequence[int],
        *,
        init: Tensor | None = None,
        mask: Tensor | None = None,
        clean: Tensor | None = None,
        controls: Sequence[ControlNetInput] = (),
    ) -> Generator[Event, None, Tensor]:
        """Walk pass number `which` and say each step; returns the last state [B,C,h,w]. Arguments as in `sampling.sample`."""
        one, before, watch = self.passes[which], sum(self._steps[:which]), self.watch
        seconds, began, paused = self._seconds, time.monotonic(), watch.control.paused_seconds
        x: Tensor | None = None
        for step in sample(
            self.model,
            conditioning=prompted,
            seeds=seeds,
            width=one.width,
            height=one.height,
            steps=one.steps,
            sampler=self.request.sampler,
            spacing=self.request.spacing,
            guidance=one.guidance,
            strength=one.strength,
            init=init,
            mask=mask,
            clean=clean,
            controls=controls,
            windows=one.windows,
            between=watch.control.check,
            guide_last_call=self.request.guide_last_call,
            wrap=lambda denoiser: Watched(denoiser, watch.control, watch.recording, self._told_before),
        ):
            _check_numbers(step, before, self.model)
            previews = picture(step.denoised, self.model) if watch.previews else ()
            watch.recording.stepped(before + step.index, previews)
            took = time.monotonic() - began - (watch.control.paused_seconds - paused)
            self._seconds = seconds + took
            self._pixels_done += one.pixels
            x = step.x
            yield Stepped(
                watch.job,
                before + step.index,
                sum(self._steps),
                self.first,
                self.request.count,
                noise_level(self.model.schedule, step.t),
                previews,
                took / step.index,
                self._seconds_left(),
            )
        watch.control.check()
        assert x is not None
        return x

    def _seconds_left(self) -> float:
        """For the whole request: a step costs as much as the pixels that the network looks at in it."""
        whole = sum(steps * one.pixels for steps, one in zip(self._steps, self.passes, strict=True))
        later_images = self.request.count - self.first - self.count
        return self._seconds / self._pixels_done * (whole - self._pixels_done + later_images * whole / self.count)


def _told_before(replay: Replay | None, first: int, count: int) -> list[Tensor]:
    if replay is not None:
        for recorded in replay.recording.batches:
            if (recorded.first, recorded.count) == (first, count):
                return recorded.before(replay.step)
    return []


class Watched:
    """What the sampler calls: looks for stop and pause before every call, and writes down what came of it.

    As long as there are estimates `told_before`, they are given in place of calling the network.
    """

    def __init__(
        self, denoiser: Denoiser, control: JobControl, recording: Recording, told_before: Iterator[Tensor]
    ) -> None:
        self.schedule = denoiser.schedule
        self._denoiser, self._control, self._recording, self._told_before = denoiser, control, recording, told_before

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self._control.check()
        known = next(self._told_before, None)
        estimate = self._denoiser(x_t, t) if known is None else known.to(x_t)
        self._recording.told(estimate)
        return estimate


def _check_numbers(step: Step, before: int, model: Model) -> None:
    if not bool(torch.isfinite(step.x).all()):
        if model.checkpoint is not None:
            check_finite(model.checkpoint, named_modules(model))  # which names the weight, where it is one
        raise CheckpointProblem(
            f"The picture came apart in step {before + step.index}",
            "the network's answer was not a number",
            "Try less guidance or another sampler; if that does not help, the checkpoint is at fault",
        )
