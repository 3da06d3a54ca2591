"""READ THIS FIRST. What happens to a request, on one page: encode, noise, loop, decode, save."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.samplers import Step
from diffstudio.errors import BadRequest, CheckpointProblem
from diffstudio.models import memory
from diffstudio.models.library import Library
from diffstudio.models.model import Model
from diffstudio.models.relief import Relief, decode, images_at_once
from diffstudio.models.sampling import noise_level, sample
from diffstudio.studio.control import Control, Recording, Replay
from diffstudio.studio.events import Event, Finished, ImageSaved, JobId, Noted, Stepped
from diffstudio.studio.given import Given, canvas_size, read_given
from diffstudio.studio.loras import Loras
from diffstudio.studio.own_words import OwnWords
from diffstudio.studio.preview import as_pictures, picture, shrunk
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.wildcards import Wording


class Saved(Protocol):
    @property
    def path(self) -> Path: ...


class Keeps(Protocol):
    """Where finished images go: the gallery, or the files that the command line names."""

    def add(self, image: Image.Image, request: GenerateRequest, *, extra: Mapping[str, Any]) -> Saved: ...


def generate(request: GenerateRequest, model: Model, job: JobId, gallery: Keeps, control: Control, *, previews: bool = True,
             done: int = 0, recording: Recording | None = None, replay: Replay | None = None,
             library: Library | None = None, drop_others: Callable[[], int] = lambda: 0) -> Iterator[Event]:
    """Make the request's images, from number `done` on, and say how it goes; Finished comes last.

    The LoRAs that its prompt names are looked up in the library, and stay attached to the model. Where the memory does not
    suffice, `drop_others` lets go of other models and says of how many, and the job goes on in smaller pieces.

    BadRequest before any work for what the model cannot do; Stopped within one network call of `control.stop()`;
    OutOfMemory when one image alone does not fit; StorageProblem when it cannot be saved.
    """
    began = time.monotonic()
    request, width, height = _sized(request, model)
    given = read_given(request, width, height)
    work = _Work(request, model, job, gallery, control, width, height, given, previews, recording or Recording(), replay,
                 Wording(request, model.checkpoint), Loras(library, model.checkpoint),
                 OwnWords(library))
    relief, at_once = Relief(model, drop_others), images_at_once(model, width, height)
    while done < request.count:
        count = work.count_of_batch(done, at_once)
        did_not_fit = False
        try:
            for event in work.batch(done, count):
                if isinstance(event, ImageSaved):
                    done = event.index + 1
                yield event
        except (RuntimeError, MemoryError) as error:
            did_not_fit = memory.is_out_of_memory(error)
            if not did_not_fit:
                raise
        if did_not_fit:  # outside the `except`: its traceback would keep the tensors
            at_once, what_was_done = relief.after_failure(count, width, height)
            yield Noted(job, what_was_done)
    yield Finished(job, time.monotonic() - began)


def _sized(request: GenerateRequest, model: Model) -> tuple[GenerateRequest, int, int]:
    """The size to be made. A picture that is extended is made whole where the model can do that, else only what is new of it."""
    width, height = model.default_size
    if (canvas := canvas_size(request)) is not None and request.width is None and request.height is None:
        try:
            model.check_size(*canvas)
        except BadRequest:
            request = replace(request, masked_only=True)
        else:
            width, height = (width, height) if request.masked_only else canvas
    width, height = request.width or width, request.height or height
    model.check_size(width, height)
    return request, width, height


@dataclass(slots=True)
class _Work:
    """One request on its way."""

    request: GenerateRequest
    model: Model
    job: JobId
    gallery: Keeps
    control: Control
    width: int
    height: int
    given: Given | None
    previews: bool
    recording: Recording
    replay: Replay | None
    wording: Wording
    loras: Loras
    own_words: OwnWords

    def count_of_batch(self, first: int, at_once: int) -> int:
        """A replayed batch has the size that it was recorded with; in any batch, all leave out the same and have the same LoRAs."""
        at_once = self.wording.alike(first, min(at_once, self.request.count - first))
        at_once = self.loras.alike([self.wording.of(index).prompt for index in range(first, first + at_once)])
        if self.replay is not None:
            for recorded in self.replay.recording.batches:
                if recorded.first == first:
                    return min(recorded.count, at_once)
        return at_once

    def batch(self, first: int, count: int) -> Iterator[Event]:
        """Images first .. first + count - 1, sampled together."""
        request, model = self.request, self.model
        self.control.check()
        seeds = [request.seed + index for index in range(first, first + count)]
        words = [self.wording.of(index) for index in range(first, first + count)]
        prompts = [self.loras.read(told.prompt)[0] for told in words]
        uses = self.loras.read(words[0].prompt)[1]
        for note in self.loras.attach(model, uses, self.control.stopped):
            yield Noted(self.job, note)
        negative = self.loras.read(words[0].negative)[0]
        for note in self.own_words.show(model, [*prompts, negative]):
            yield Noted(self.job, note)
        prompted = model.encode_prompt(prompts, negative)
        strength = request.strength if self.given is not None else 1.0
        steps = len(model.times(request.steps, request.spacing, strength, self.width, self.height)) - 1
        self.recording.begin(first, count, steps)
        began, paused = time.monotonic(), self.control.paused_seconds
        for step in sample(model, conditioning=prompted, seeds=seeds, width=self.width, height=self.height, steps=request.steps,
                           sampler=request.sampler, spacing=request.spacing, guidance=request.guidance, strength=strength,
                           init=_as_tensor(self.given), mask=_mask_as_tensor(self.given),
                           wrap=partial(_Watched, control=self.control, recording=self.recording,
                                        told_before=self._told_before(first, count))):
            _check_numbers(step)
            previews = picture(step.denoised, model) if self.previews else ()
            self.recording.stepped(step.index, previews)
            elapsed = time.monotonic() - began - (self.control.paused_seconds - paused)
            yield self._stepped(step, steps, first, count, previews, elapsed)
        self.control.check()
        notes: list[str] = []
        decoded = decode(model, step.x, notes.append, self.control.check)
        for note in notes:
            yield Noted(self.job, note)
        for offset, made in enumerate(as_pictures(decoded)):
            whole = self.given.composed(made) if self.given is not None else made
            about = self._environment(seeds, first + offset) | words[offset].told_instead_of(request) | self.loras.about(uses)
            about |= self.own_words.about()
            saved = self.gallery.add(Image.fromarray(whole), request, extra=about)
            yield ImageSaved(self.job, first + offset, saved.path, shrunk(whole))

    def _stepped(self, step: Step, steps: int, first: int, count: int, previews: tuple[Any, ...], elapsed: float) -> Stepped:
        seconds_per_step = elapsed / step.index
        later_images = self.request.count - first - count
        seconds_left = seconds_per_step * (steps - step.index + later_images * steps / count)
        return Stepped(self.job, step.index, steps, first, self.request.count, noise_level(self.model.schedule, step.t),
                       previews, seconds_per_step, seconds_left)

    def _told_before(self, first: int, count: int) -> list[Tensor]:
        if self.replay is not None:
            for recorded in self.replay.recording.batches:
                if (recorded.first, recorded.count) == (first, count):
                    return recorded.before(self.replay.step)
        return []

    def _environment(self, seeds: list[int], index: int) -> dict[str, Any]:
        """What decides the pixels besides the request: with it, and the same machine, they come back to the bit."""
        checkpoint = self.model.checkpoint
        return {
            "index": index, "batch": seeds, "width": self.width, "height": self.height, "torch": torch.__version__,
            "device": str(self.model.device), "dtype": str(self.model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(), "model": checkpoint.name if checkpoint is not None else "",
            "model_hash": self.model.sha256[:10], "model_sha256": self.model.sha256,
        } | ({"restarted_from_step": self.replay.step} if self.replay is not None else {})


class _Watched:
    """What the sampler calls: looks for stop and pause before every call, and writes down what came of it.

    As long as there are estimates `told_before`, they are given in place of calling the network.
    """

    def __init__(self, denoiser: Denoiser, control: Control, recording: Recording, told_before: list[Tensor]) -> None:
        self.schedule = denoiser.schedule
        self._denoiser, self._control, self._recording = denoiser, control, recording
        self._told_before = iter(told_before)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self._control.check()
        known = next(self._told_before, None)
        estimate = self._denoiser(x_t, t) if known is None else known.to(x_t)
        self._recording.told(estimate)
        return estimate


def _check_numbers(step: Step) -> None:
    if not bool(torch.isfinite(step.x).all()):
        raise CheckpointProblem(f"The picture came apart in step {step.index}", "the network's answer was not a number",
                                "Try less guidance or another sampler; if that does not help, the checkpoint is at fault")


def _as_tensor(given: Given | None) -> Tensor | None:
    """[1,3,H,W] in [-1,1]."""
    return None if given is None else torch.from_numpy(given.init).permute(2, 0, 1)[None].float() / 127.5 - 1.0


def _mask_as_tensor(given: Given | None) -> Tensor | None:
    """[1,1,H,W] in [0,1]."""
    return None if given is None or given.mask is None else torch.from_numpy(given.mask)[None, None].float() / 255.0
