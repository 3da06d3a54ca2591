"""What happens to a request to enlarge a finished picture: read, enlarge, and, where a checkpoint is named, sample again; save."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffstudio.errors import DiffstudioError
from diffstudio.imaging.masks import fill_from_surroundings
from diffstudio.imaging.reader import flatten, read_image
from diffstudio.models.library.library import Library
from diffstudio.models.memory import devices
from diffstudio.models.memory.oom_fallback import OutOfMemoryFallback, decode, encode
from diffstudio.models.model import Model
from diffstudio.studio.events import Event, Finished, ImageSaved, JobId, Noted, Picture
from diffstudio.studio.generation.enlarge import Enlarger, as_image, told
from diffstudio.studio.generation.generate import ImageStore
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
from diffstudio.studio.metadata.image_text import read_text
from diffstudio.studio.requests import LATENT, UpscaleRequest, enlarged_size


def upscale(
    request: UpscaleRequest,
    model: Model | None,
    job: JobId,
    gallery: ImageStore,
    control: JobControl,
    *,
    device: torch.device,
    previews: bool = True,
    recording: Recording | None = None,
    replay: Replay | None = None,
    library: Library | None = None,
    drop_others: Callable[[], int] = lambda: 0,
) -> Iterator[Event]:
    """Make the picture larger, and say how it goes; Finished comes last. `model` is None where no checkpoint is named.

    Enlarged by an upscaler alone it keeps its transparency; what is sampled lies on white.

    ImageProblem for a file that is not an image, BadRequest for a size that is too large or that the model cannot make;
    Interrupted within one tile of `control.stop()`; OutOfMemory when it does not fit even in small pieces; StorageProblem
    when it cannot be saved.
    """
    began = time.monotonic()
    picture, (width, height) = read_image(request.source)
    multiple = model.multiple if model is not None else 1
    size = enlarged_size(width, height, request.scale, multiple)
    enlarging = Enlarger(request.upscaler, library, device)
    if model is None:
        made = yield from _plain(picture, size, enlarging, request, job, control)
        about = enlarging.about()
    else:
        if picture.mode == "RGBA":
            yield Noted(
                job, "What is transparent in the picture was laid on white: a checkpoint knows no transparency."
            )
        work = _Sampling(
            request,
            model,
            job,
            enlarging,
            Watch(job, control, recording or Recording(), replay, previews),
            second_pass(request, model, size, request.steps, request.strength),
            library,
        )
        pixels = yield from work.sampled_again(
            np.array(flatten(picture)), OutOfMemoryFallback(model, drop_others, work.in_windows)
        )
        made, request, about = Image.fromarray(pixels), work.request, work.about()
    saved = gallery.add(made, request, extra=about | {"index": 0, "source_text": _text_of(request.source)})
    yield ImageSaved(job, 0, saved.path, shrunk(np.array(made.convert("RGB"))))
    yield Finished(job, time.monotonic() - began)


def _plain(
    picture: Image.Image,
    size: tuple[int, int],
    enlarging: Enlarger,
    request: UpscaleRequest,
    job: JobId,
    control: JobControl,
) -> Generator[Event, None, Image.Image]:
    """By the upscaler alone. What is transparent has colours of its own, which are replaced by those around it beforehand."""
    colours = np.array(picture.convert("RGB"))
    opacity = np.array(picture.getchannel("A")) if picture.mode == "RGBA" else None
    if opacity is not None:
        colours = fill_from_surroundings(colours, np.where(opacity == 0, 255, 0).astype(np.uint8))
    larger = yield from told(enlarging.enlarged(colours, *size), job, "Enlarging", control.check)
    made = Image.fromarray(larger)
    if opacity is not None:
        made.putalpha(Image.fromarray(opacity).resize(size, Image.Resampling.LANCZOS))
    return made


@dataclass(slots=True)
class _Sampling:
    """Sampling a picture again at its new size."""

    request: UpscaleRequest
    model: Model
    job: JobId
    enlarging: Enlarger
    watch: Watch
    larger: Pass
    library: Library | None

    def sampled_again(self, picture: Picture, relief: OutOfMemoryFallback) -> Generator[Event, None, Picture]:
        """Where the memory does not suffice, in smaller pieces."""
        while True:
            try:
                return (yield from self._attempt(picture))
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error):
                    raise
            _, what_was_done = relief.after_failure(1, self.larger.width, self.larger.height)  # the traceback has gone
            yield Noted(self.job, what_was_done)

    def _attempt(self, picture: Picture) -> Generator[Event, None, Picture]:
        request, model, control, notes = self.request, self.model, self.watch.control, list[str]()
        loras, own_words = RequestLoras(self.library, model.checkpoint), RequestTextualInversions(self.library)
        prompt, uses = loras.read(request.prompt)
        negative = loras.read(request.negative)[0]
        for note in (*loras.attach(model, uses, control.stopped), *own_words.show(model, [prompt, negative])):
            yield Noted(self.job, note)
        prompted = model.encode_prompt([prompt], negative)
        size = (self.larger.width, self.larger.height)
        if request.upscaler == LATENT:
            clean = self.enlarging.latent(
                encode(model, as_image([picture]), notes.append, control.check), model.state_shape(*size)
            )
        else:
            clean = yield from self.enlarging.state_of([picture], *size, model, self.job, control.check)
        x = yield from Passes(request, model, [self.larger], 0, 1, self.watch).sampled(
            0, prompted, [request.seed], clean=clean
        )
        made = as_pictures(decode(model, x, notes.append, control.check))[0]
        for note in notes:
            yield Noted(self.job, note)
        return made

    def in_windows(self) -> str:
        """See less of the picture at once from now on, and say so; nothing where that cannot be."""
        if (larger := in_windows(self.larger, self.model)) is None:
            return ""
        self.request, self.larger = replace(self.request, tiled=True), larger
        return IN_WINDOWS

    def about(self) -> dict[str, Any]:
        """What decides the pixels besides the request."""
        model = self.model
        return self.enlarging.about() | {
            "torch": torch.__version__,
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "model": model.checkpoint.name if model.checkpoint is not None else "",
            "model_hash": model.sha256[:10],
            "model_sha256": model.sha256,
            "guided_last_call": guides_last_call(self.request, model),
        }


def _text_of(path: Path) -> str:
    """What another program would read of how the picture was made, to go on being said of what came of it."""
    try:
        return read_text(path).texts.get("parameters", "")
    except (DiffstudioError, OSError):
        return ""
