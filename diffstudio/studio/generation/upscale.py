"""upscale(): enlarge a finished image and, where a checkpoint is named, sample it again (img2img); save it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffstudio.errors import DiffstudioError
from diffstudio.imaging.masks import fill_from_surroundings
from diffstudio.imaging.reader import flatten, load_image
from diffstudio.models.memory import devices
from diffstudio.models.memory.oom_fallback import OutOfMemoryFallback, decode, encode
from diffstudio.models.model import Model
from diffstudio.studio.events import Event, Finished, ImageSaved, Noted, Picture
from diffstudio.studio.generation.enlarge import ENLARGING, Enlarger, as_tensor, with_progress
from diffstudio.studio.generation.finished_images import SAVED_WITH_8_BITS
from diffstudio.studio.generation.generate import model_metadata
from diffstudio.studio.generation.loras import RequestLoras
from diffstudio.studio.generation.passes import TILED_NOTE, Passes, second_pass, tiled_pass
from diffstudio.studio.generation.preview import shrunk, to_images
from diffstudio.studio.generation.resolve import Resolved
from diffstudio.studio.generation.textual_inversions import RequestTextualInversions
from diffstudio.studio.jobs.job_context import JobContext
from diffstudio.studio.metadata.image_text import read_text
from diffstudio.studio.prompts.prompt_notes import PromptNotes
from diffstudio.studio.requests import UpscaleRequest
from diffstudio.studio.requests.choices import LATENT
from diffstudio.studio.requests.limits import enlarged_size


def upscale(
    request: UpscaleRequest, model: Model | None, resolved: Resolved, context: JobContext, device: torch.device
) -> Iterator[Event]:
    """Enlarge the image and report the progress; Finished comes last. `model` is None where no checkpoint is named.

    An upscaler alone keeps transparency; before sampling the image is flattened onto white. The upscaler runs on
    `device`.

    ImageProblem for a file that is not an image, BadRequest for a size that is too large or not supported by the model;
    Interrupted within one tile of `job_control.stop()`; OutOfMemory when it does not fit even in tiles; StorageProblem
    when it cannot be saved.
    """
    began = time.monotonic()
    loaded = load_image(request.source)
    image, (width, height) = loaded.image, loaded.size
    for note in loaded.notes:
        yield Noted(context.job, f"{request.source.name}: {note}.")
    size = enlarged_size(width, height, request.scale, model.multiple if model is not None else 1)
    enlarger = Enlarger(resolved.upscaler, device)
    if model is None:
        upscaled = yield from _without_sampling(image, size, enlarger, context)
        metadata: dict[str, Any] = {**enlarger.metadata()}
    else:
        if image.mode == "RGBA":
            yield Noted(
                context.job,
                "Transparent areas of the image were filled with white: checkpoints do not support transparency.",
            )
        resampling = _Resampling(request, model, resolved, context, size, enlarger)
        upscaled = Image.fromarray((yield from resampling.run(np.array(flatten(image)))))
        request = resampling.request
        metadata = enlarger.metadata() | model_metadata(request, model)
    text, note = source_text(request.source)
    if note:
        yield Noted(context.job, note)
    metadata |= {"index": 0, "source_text": text}
    saved = context.save(upscaled, request, metadata)
    yield ImageSaved(context.job, 0, saved.path, shrunk(np.array(upscaled.convert("RGB"))))
    yield Finished(context.job, time.monotonic() - began)


def _without_sampling(
    image: Image.Image, size: tuple[int, int], enlarger: Enlarger, context: JobContext
) -> Generator[Event, None, Image.Image]:
    """By the upscaler alone. The hidden colours of transparent pixels are first replaced by those around them."""
    colours = np.array(image.convert("RGB"))
    opacity = np.array(image.getchannel("A")) if image.mode == "RGBA" else None
    if opacity is not None:
        colours = fill_from_surroundings(colours, np.where(opacity == 0, 255, 0).astype(np.uint8))
    steps = enlarger.enlarged(colours, *size)
    upscaled = Image.fromarray((yield from with_progress(steps, context.job, ENLARGING, context.job_control.check)))
    if opacity is not None:
        upscaled.putalpha(Image.fromarray(opacity).resize(size, Image.Resampling.LANCZOS))
    return upscaled


class _Resampling:
    """Sample an enlarged image again (img2img)."""

    def __init__(
        self,
        request: UpscaleRequest,
        model: Model,
        resolved: Resolved,
        context: JobContext,
        size: tuple[int, int],
        enlarger: Enlarger,
    ) -> None:
        self.request, self._model, self._context, self._enlarger = request, model, context, enlarger
        self._pass = second_pass(request, model, size, request.steps, request.strength)
        self._loras = RequestLoras(resolved.loras, model.checkpoint)
        self._textual_inversions = RequestTextualInversions(resolved.textual_inversions)
        self._prompt_notes = PromptNotes(model, request.guidance, request.clip_skip)

    def run(self, image: Picture) -> Generator[Event, None, Picture]:
        """Try again with less memory after each out-of-memory error."""
        fallback = OutOfMemoryFallback(self._model, self._context.drop_other_models, self._sample_in_tiles)
        while True:
            try:
                return (yield from self._attempt(image))
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error):
                    raise
            _, note = fallback.after_failure(1, self._pass.width, self._pass.height)  # the traceback is gone here
            yield Noted(self._context.job, note)

    def _attempt(self, image: Picture) -> Generator[Event, None, Picture]:
        request, model, context = self.request, self._model, self._context
        job_control, notes = context.job_control, list[str]()
        prompt, loras = self._loras.read(request.prompt)
        negative = self._loras.read(request.negative)[0]
        attached = self._loras.attach(model, loras, job_control.stopped)
        attached += self._textual_inversions.attach(model, [prompt, negative])
        for note in (*attached, *self._prompt_notes.new([prompt], negative)):
            yield Noted(context.job, note)
        encoded = model.encode_prompt([prompt], negative, clip_skip=request.clip_skip)
        size = (self._pass.width, self._pass.height)
        if not model.output.is_grey_or_rgb_of_8_bits:
            yield Noted(context.job, SAVED_WITH_8_BITS)
        if request.upscaler == LATENT:
            state = encode(model, as_tensor([image]), notes.append, job_control.check)
            clean = self._enlarger.latent(state, model.state_shape(*size))
        else:
            clean = yield from self._enlarger.state_of([image], *size, model, context.job, job_control.check)
        passes = Passes(request, model, [self._pass], 0, 1, context)
        x = yield from passes.run(0, encoded, [request.seed], clean=clean)
        upscaled = to_images(decode(model, x, notes.append, job_control.check))[0]
        for note in notes:
            yield Noted(context.job, note)
        return upscaled

    def _sample_in_tiles(self) -> str:
        """Sample in tiles from now on; returns a note, empty if it is tiled already."""
        if (tiled := tiled_pass(self._pass, self._model)) is None:
            return ""
        self.request, self._pass = replace(self.request, tiled=True), tiled
        return TILED_NOTE


def source_text(path: Path) -> tuple[str, str]:
    """The `parameters` text of the source image, for the metadata of the result; and a sentence if it is unreadable."""
    unreadable = f"The settings in {path.name} cannot be read, so the upscaled image does not have them."
    try:
        found = read_text(path)
    except (DiffstudioError, OSError):
        return "", unreadable
    return found.texts.get("parameters", ""), unreadable if "parameters" in found.unread else ""
