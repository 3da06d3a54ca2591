"""READ THIS FIRST. What happens to a request, on one page: encode, noise, loop, decode, save."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from diffstudio.errors import BadRequest
from diffstudio.models.library.library import Library
from diffstudio.models.memory import devices
from diffstudio.models.memory.oom_fallback import OutOfMemoryFallback, decode, images_at_once
from diffstudio.models.model import ControlNetInput, Model
from diffstudio.studio.events import Event, Finished, ImageSaved, JobId, Noted
from diffstudio.studio.generation.controlnets import RequestControlNets
from diffstudio.studio.generation.enlarge import Enlarger
from diffstudio.studio.generation.init_image import InitImage, canvas_size, load_init_image
from diffstudio.studio.generation.loras import RequestLoras
from diffstudio.studio.generation.passes import (
    IN_WINDOWS,
    Pass,
    Passes,
    Watch,
    guides_last_call,
    in_windows,
    second_pass,
)
from diffstudio.studio.generation.preview import as_pictures, shrunk
from diffstudio.studio.generation.textual_inversions import RequestTextualInversions
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.prompts.wildcards import Wording
from diffstudio.studio.requests import LATENT, GenerateRequest, PictureRequest, enlarged_size


class Saved(Protocol):
    @property
    def path(self) -> Path: ...


class ImageStore(Protocol):
    """Where finished images go: the gallery, or the files that the command line names."""

    def add(self, image: Image.Image, request: PictureRequest, *, extra: Mapping[str, Any]) -> Saved: ...


def generate(
    request: GenerateRequest,
    model: Model,
    job: JobId,
    gallery: ImageStore,
    control: JobControl,
    *,
    previews: bool = True,
    done: int = 0,
    recording: Recording | None = None,
    replay: Replay | None = None,
    library: Library | None = None,
    drop_others: Callable[[], int] = lambda: 0,
) -> Iterator[Event]:
    """Make the request's images, from number `done` on, and say how it goes; Finished comes last.

    The LoRAs that its prompt names and its ControlNets are looked up in the library, and stay with the model. Where the
    memory does not suffice, `drop_others` lets go of other models and says of how many, and the job goes on in smaller pieces.

    BadRequest before any work for what the model cannot do; Interrupted within one network call of `control.stop()`;
    OutOfMemory when one image alone does not fit; StorageProblem when it cannot be saved.
    """
    began = time.monotonic()
    request, width, height = _sized(request, model)
    given = load_init_image(request, width, height)
    passes = _passes(request, model, width, height, given is not None)
    watch = Watch(job, control, recording or Recording(), replay, previews)
    steering = RequestControlNets(request, library, model.checkpoint)
    steering.load(model, cancelled=control.stopped)
    work = _Work(
        request,
        model,
        job,
        gallery,
        control,
        passes,
        given,
        watch,
        steering,
        Wording(request, model.checkpoint),
        RequestLoras(library, model.checkpoint),
        RequestTextualInversions(library),
        Enlarger(request.upscaler, library, model.device) if len(passes) > 1 else None,
    )
    relief = OutOfMemoryFallback(model, drop_others, work.in_windows)
    at_once = min(images_at_once(model, *seen) for seen in work.seen())
    while done < request.count:
        count = work.count_of_batch(done, at_once)
        did_not_fit = False
        try:
            for event in work.batch(done, count):
                if isinstance(event, ImageSaved):
                    done = event.index + 1
                yield event
        except (RuntimeError, MemoryError) as error:
            did_not_fit = devices.is_out_of_memory(error)
            if not did_not_fit:
                raise
        if did_not_fit:  # outside the `except`: its traceback would keep the tensors
            at_once, what_was_done = relief.after_failure(count, passes[-1].width, passes[-1].height)
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


def _passes(request: GenerateRequest, model: Model, width: int, height: int, given: bool) -> tuple[Pass, ...]:
    """One, or a second at the enlarged size. BadRequest where the model cannot do that."""
    first = Pass(width, height, request.steps, request.guidance, request.strength if given else 1.0)
    if request.enlarge <= 1:
        return (first,)
    return first, second_pass(
        request,
        model,
        enlarged_size(width, height, request.enlarge, model.multiple),
        request.enlarge_steps or request.steps,
        request.enlarge_strength,
    )


@dataclass(slots=True)
class _Work:
    """One request on its way."""

    request: GenerateRequest
    model: Model
    job: JobId
    gallery: ImageStore
    control: JobControl
    passes: tuple[Pass, ...]
    given: InitImage | None
    watch: Watch
    steering: RequestControlNets
    wording: Wording
    loras: RequestLoras
    own_words: RequestTextualInversions
    enlarging: Enlarger | None

    def seen(self) -> list[tuple[int, int]]:
        """Width and height of what the network looks at in each pass."""
        return [one.size_seen for one in self.passes]

    def count_of_batch(self, first: int, at_once: int) -> int:
        """A replayed batch has the size that it was recorded with; in any batch, all leave out the same and have the same LoRAs."""
        at_once = self.wording.alike(first, min(at_once, self.request.count - first))
        at_once = self.loras.alike([self.wording.of(index).prompt for index in range(first, first + at_once)])
        if self.watch.replay is not None:
            for recorded in self.watch.replay.recording.batches:
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
        passes = Passes(request, model, self.passes, first, count, self.watch)
        x = yield from passes.sampled(
            0,
            prompted,
            seeds,
            init=_as_tensor(self.given),
            mask=_mask_as_tensor(self.given),
            controls=self._steered_by(self.passes[0], self.given),
        )
        if len(self.passes) > 1:
            clean = yield from self._enlarged(x, self.passes[1])
            x = yield from passes.sampled(1, prompted, seeds, clean=clean, controls=self._steered_by(self.passes[1]))
        notes: list[str] = []
        decoded = decode(model, x, notes.append, self.control.check)
        for note in notes:
            yield Noted(self.job, note)
        for offset, made in enumerate(as_pictures(decoded)):
            whole = self.given.composed(made) if self.given is not None else made
            about = (
                self._environment(seeds, first + offset)
                | words[offset].told_instead_of(request)
                | self.loras.about(uses)
            )
            about |= self.own_words.about() | self.steering.about()
            saved = self.gallery.add(Image.fromarray(whole), request, extra=about)
            yield ImageSaved(self.job, first + offset, saved.path, shrunk(whole))

    def _steered_by(self, one: Pass, given: InitImage | None = None) -> tuple[ControlNetInput, ...]:
        return self.steering.hints(self.model, one.width, one.height, given)

    def _enlarged(self, x: Tensor, larger: Pass) -> Generator[Event, None, Tensor]:
        """What the second pass begins from [B,C,H,W], from what the first came to [B,C,h,w]."""
        assert self.enlarging is not None
        if self.request.upscaler == LATENT:
            return self.enlarging.latent(x, self.model.state_shape(larger.width, larger.height))
        notes: list[str] = []
        pictures = as_pictures(decode(self.model, x, notes.append, self.control.check))
        for note in notes:
            yield Noted(self.job, note)
        return (
            yield from self.enlarging.state_of(
                pictures, larger.width, larger.height, self.model, self.job, self.control.check
            )
        )

    def in_windows(self) -> str:
        """Make the second pass in windows from now on, and say so; nothing where there is none, or it goes in windows already."""
        if len(self.passes) < 2 or (larger := in_windows(self.passes[1], self.model)) is None:
            return ""
        self.request, self.passes = replace(self.request, tiled=True), (self.passes[0], larger)
        return IN_WINDOWS

    def _environment(self, seeds: list[int], index: int) -> dict[str, Any]:
        """What decides the pixels besides the request: with it, and the same machine, they come back to the bit."""
        checkpoint, first = self.model.checkpoint, self.passes[0]
        return (
            {
                "index": index,
                "batch": seeds,
                "width": first.width,
                "height": first.height,
                "torch": torch.__version__,
                "device": str(self.model.device),
                "dtype": str(self.model.dtype).removeprefix("torch."),
                "threads": torch.get_num_threads(),
                "model": checkpoint.name if checkpoint is not None else "",
                "model_hash": self.model.sha256[:10],
                "model_sha256": self.model.sha256,
                "guided_last_call": guides_last_call(self.request, self.model),
            }
            | ({"restarted_from_step": self.watch.replay.step} if self.watch.replay is not None else {})
            | (self.enlarging.about() if self.enlarging is not None else {})
        )


def _as_tensor(given: InitImage | None) -> Tensor | None:
    """[1,3,H,W] in [-1,1]."""
    return None if given is None else torch.from_numpy(given.init).permute(2, 0, 1)[None].float() / 127.5 - 1.0


def _mask_as_tensor(given: InitImage | None) -> Tensor | None:
    """[1,1,H,W] in [0,1]."""
    return None if given is None or given.mask is None else torch.from_numpy(given.mask)[None, None].float() / 255.0
