"""READ THIS FIRST. How a request becomes images, on one page: encode, noise, sample, decode, save."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffstudio.errors import BadRequest
from diffstudio.imaging.levels import is_grey
from diffstudio.imaging.reader import flatten, image_notes
from diffstudio.models.conditioning.image_inputs import ControlNetInput
from diffstudio.models.memory import devices
from diffstudio.models.memory.oom_fallback import OutOfMemoryFallback, decode, images_at_once
from diffstudio.models.model import Model
from diffstudio.models.output_format import OutputFormat
from diffstudio.studio.events import Event, Finished, ImageSaved, Noted
from diffstudio.studio.generation.controlnets import RequestControlNets
from diffstudio.studio.generation.enlarge import Enlarger
from diffstudio.studio.generation.finished_images import (
    CONVERTED_TO_GREY,
    FinishedImage,
    composed_mode,
    finished_images,
)
from diffstudio.studio.generation.init_image import InitImage, canvas_size, load_init_image, trained_ranges
from diffstudio.studio.generation.loras import RequestLoras
from diffstudio.studio.generation.passes import (
    TILED_NOTE,
    Pass,
    Passes,
    RequestGuidance,
    check_one_call,
    guides_last_call,
    second_pass,
    tiled_pass,
)
from diffstudio.studio.generation.preview import shrunk, to_images
from diffstudio.studio.generation.resolve import Resolved
from diffstudio.studio.generation.textual_inversions import RequestTextualInversions
from diffstudio.studio.jobs.job_context import JobContext
from diffstudio.studio.prompts.lora_tags import LoraUse
from diffstudio.studio.prompts.prompt_notes import PromptNotes
from diffstudio.studio.prompts.wildcards import DrawnPrompt, PromptVariants
from diffstudio.studio.requests import GenerateRequest, PictureRequest
from diffstudio.studio.requests.choices import LATENT
from diffstudio.studio.requests.limits import enlarged_size


def generate(
    request: GenerateRequest, model: Model, resolved: Resolved, context: JobContext, weak: Model | None = None
) -> Iterator[Event]:
    """Make the request's images, from number `context.done` on, and report each step; Finished comes last.

    `resolved` has the request's files; its ControlNets are already loaded with the model, and `weak` is the model that
    autoguidance guides away from. BadRequest before any work
    for what the model cannot do; Interrupted within one network call of `job_control.stop()`; OutOfMemory when one
    image alone does not fit; StorageProblem when it cannot be saved.
    """
    began = time.monotonic()
    check_one_call(request, model)
    request, width, height = _with_size(request, model)
    ranges, note = trained_ranges(model.checkpoint)
    init_image = load_init_image(request, width, height, ranges, model.output)
    if note and init_image is not None:
        yield Noted(context.job, note)
    for path in dict.fromkeys([request.init, request.mask, *(use.image for use in request.controls)]):
        if path is not None:
            yield from (Noted(context.job, note) for note in image_notes(path))
    notes = [*_size_notes(request, model, width, height), *_output_notes(request, model, init_image)]
    yield from (Noted(context.job, note) for note in notes)
    passes = _passes(request, model, width, height, init_image is not None)
    yield from _in_batches(_Generation(request, model, resolved, context, passes, init_image, weak))
    yield Finished(context.job, time.monotonic() - began)


def _in_batches(generation: _Generation) -> Iterator[Event]:
    """All images that are still to be made. After an out-of-memory error the job continues in smaller batches or tiles."""
    model, context, count = generation.model, generation.context, generation.request.count
    fallback = OutOfMemoryFallback(model, context.drop_other_models, generation.sample_in_tiles)
    at_once = min(images_at_once(model, *one.size_per_call) for one in generation.passes)
    done = context.done
    while done < count:
        batch_size = generation.batch_size(done, at_once)
        out_of_memory = False
        try:
            for event in generation.batch(done, batch_size):
                if isinstance(event, ImageSaved):
                    done = event.index + 1
                yield event
        except (RuntimeError, MemoryError) as error:
            out_of_memory = devices.is_out_of_memory(error)
            if not out_of_memory:
                raise
        if out_of_memory:  # outside the `except`: its traceback would keep the tensors
            largest = generation.passes[-1]
            at_once, note = fallback.after_failure(batch_size, largest.width, largest.height)
            yield Noted(context.job, note)


class _Generation:
    """One request in progress."""

    def __init__(
        self,
        request: GenerateRequest,
        model: Model,
        resolved: Resolved,
        context: JobContext,
        passes: tuple[Pass, ...],
        init_image: InitImage | None,
        weak: Model | None,
    ) -> None:
        self._guidance, self._weak = RequestGuidance(request, weak), weak
        self.request, self.model, self.context, self.passes = request, model, context, passes
        self._init_image = init_image
        self._prompts = PromptVariants(request, model.checkpoint)
        self._loras = RequestLoras(resolved.loras, model.checkpoint)
        self._textual_inversions = RequestTextualInversions(resolved.textual_inversions)
        self._prompt_notes = PromptNotes(model, request.guidance, request.clip_skip)
        self._controlnets = RequestControlNets(request, resolved.controlnets)
        self._enlarger = Enlarger(resolved.upscaler, model.device) if len(passes) > 1 else None

    def batch(self, first: int, count: int) -> Iterator[Event]:
        """Images first .. first + count - 1, sampled together."""
        model, job_control = self.model, self.context.job_control
        job_control.check()
        seeds = [self.request.seed + index for index in range(first, first + count)]
        drawn = [self._prompts.of(index) for index in range(first, first + count)]
        prompts = [self._loras.read(one.prompt)[0] for one in drawn]
        negative, loras = self._loras.read(drawn[0].negative)[0], self._loras.read(drawn[0].prompt)[1]
        yield from self._notes(self._loras.attach(model, loras, job_control.stopped))
        yield from self._notes(self._textual_inversions.attach(model, [*prompts, negative]))
        if self._weak is not None:
            yield from self._notes(self._textual_inversions.attach_to_weaker(self._weak, [*prompts, negative]))
        yield from self._notes(self._prompt_notes.new(prompts, negative))

        encoded = model.encode_prompt(prompts, negative, clip_skip=self.request.clip_skip)
        guidance = self._guidance.options(prompts, negative)
        passes = Passes(self.request, model, self.passes, first, count, self.context, guidance)
        init, mask, controls = self._init_tensor(), self._mask_tensor(), self._control_inputs(0)
        x = yield from passes.run(0, encoded, seeds, init=init, mask=mask, controls=controls)
        if len(self.passes) > 1:
            clean = yield from self._enlarged(x)
            x = yield from passes.run(1, encoded, seeds, clean=clean, controls=self._control_inputs(1))
        for offset, finished in enumerate((yield from self._finished(x))):
            extra = self._metadata(seeds, first + offset, drawn[offset], loras)
            saved = self.context.save(finished.image, self.request, extra, finished.exact)
            shown = shrunk(np.array(flatten(finished.image)))
            yield ImageSaved(self.context.job, first + offset, saved.path, shown)

    def batch_size(self, first: int, at_once: int) -> int:
        """All images of a batch share the negative prompt and LoRAs; a replayed batch keeps its recorded size."""
        size = self._prompts.batch_size(first, min(at_once, self.request.count - first))
        size = self._loras.batch_size([self._prompts.of(index).prompt for index in range(first, first + size)])
        if self.context.replay is not None:
            for recorded in self.context.replay.recording.batches:
                if recorded.first == first:
                    return min(recorded.count, size)
        return size

    def sample_in_tiles(self) -> str:
        """Sample the second pass in tiles from now on. Returns a note; empty if nothing changes."""
        if len(self.passes) < 2 or (larger := tiled_pass(self.passes[1], self.model)) is None:
            return ""
        self.request, self.passes = replace(self.request, tiled=True), (self.passes[0], larger)
        return TILED_NOTE

    def _enlarged(self, x: Tensor) -> Generator[Event, None, Tensor]:
        """The state that the second pass starts from [B,C,H,W], from the result of the first [B,C,h,w]."""
        assert self._enlarger is not None
        width, height = self.passes[1].width, self.passes[1].height
        if self.request.upscaler == LATENT or not self.model.output.is_grey_or_rgb_of_8_bits:
            return self._enlarger.latent(x, self.model.state_shape(width, height))
        images = to_images((yield from self._decoded(x)))
        job, check = self.context.job, self.context.job_control.check
        return (yield from self._enlarger.state_of(images, width, height, self.model, job, check))

    def _finished(self, x: Tensor) -> Generator[Event, None, list[FinishedImage]]:
        """From the last state [B,C,h,w]."""
        output, init_image = self.model.output, self._init_image
        if not output.is_plain and (init_image is None or init_image.mask is None):
            return list(finished_images(x, output))
        if init_image is not None and init_image.exact is not None:
            return list(finished_images(x, output, init_image.composed_exactly))
        images = to_images((yield from self._decoded(x)))
        if init_image is not None:
            images = tuple(init_image.composed(image) for image in images)
        return [FinishedImage(composed_mode(Image.fromarray(image), output)) for image in images]

    def _decoded(self, x: Tensor) -> Generator[Event, None, Tensor]:
        notes: list[str] = []
        decoded = decode(self.model, x, notes.append, self.context.job_control.check)
        yield from self._notes(notes)
        return decoded

    def _notes(self, notes: Sequence[str]) -> Iterator[Event]:
        for note in notes:
            yield Noted(self.context.job, note)

    def _control_inputs(self, index: int) -> tuple[ControlNetInput, ...]:
        one = self.passes[index]
        init_image = self._init_image if index == 0 else None
        return self._controlnets.inputs(self.model, one.width, one.height, init_image)

    def _init_tensor(self) -> Tensor | None:
        """[1,3,H,W] in [-1,1], or [1,C,H,W] where RGB of 8 bits does not hold the model's channels."""
        if self._init_image is None:
            return None
        exact = self._init_image.exact_init
        if exact is not None:
            return torch.from_numpy(exact).permute(2, 0, 1)[None].mul(2).sub(1).float()
        return torch.from_numpy(self._init_image.init).permute(2, 0, 1)[None].float() / 127.5 - 1.0

    def _mask_tensor(self) -> Tensor | None:
        """[1,1,H,W] in [0,1]."""
        if self._init_image is None or self._init_image.mask is None:
            return None
        return torch.from_numpy(self._init_image.mask)[None, None].float() / 255.0

    def _metadata(self, seeds: list[int], index: int, drawn: DrawnPrompt, loras: Sequence[LoraUse]) -> dict[str, Any]:
        """What determines the pixels besides the request: with both, the same machine reproduces them to the bit."""
        first, replay = self.passes[0], self.context.replay
        return (
            {"index": index, "batch": seeds, "width": first.width, "height": first.height}
            | model_metadata(self.request, self.model)
            | ({} if self.model.output.is_plain else {"pixels": self.model.output.to_json()})
            | ({"restarted_from_step": replay.step} if replay is not None else {})
            | (self._enlarger.metadata() if self._enlarger is not None else {})
            | drawn.metadata(self.request)
            | self._loras.metadata(loras)
            | self._textual_inversions.metadata()
            | self._controlnets.metadata()
            | self._guidance.metadata()
        )


def model_metadata(request: PictureRequest, model: Model) -> dict[str, Any]:
    """What an image's metadata says about the model and the machine that made it."""
    return {
        "torch": torch.__version__,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "model": model.checkpoint.name if model.checkpoint is not None else "",
        "model_hash": model.sha256[:10],
        "model_sha256": model.sha256,
        "guided_last_call": guides_last_call(request, model),
    }


def _size_notes(request: GenerateRequest, model: Model, width: int, height: int) -> Iterator[str]:
    """What to expect of an image of more than twice the area that the checkpoint was trained at.

    An init image or a ControlNet determines the composition, so nothing is said of those.
    """
    trained_width, trained_height = model.default_size
    composed = request.init is not None or bool(request.controls)
    if not composed and width * height > 2 * trained_width * trained_height:
        yield (
            f"The checkpoint was trained at {trained_width} × {trained_height} px. Images of {width} × {height} px may fall "
            "apart or repeat their subject. For larger images, generate at the trained size with a hires fix."
        )


def _output_notes(request: GenerateRequest, model: Model, init_image: InitImage | None) -> Iterator[str]:
    """What becomes of an init image, and of the enlarged image, where the model does not generate RGB of 8 bits."""
    output = model.output
    if init_image is not None and request.init is not None and _loses_colours(init_image, output):
        yield f"{request.init.name}: {CONVERTED_TO_GREY}"
    if request.enlarge > 1 and request.upscaler != LATENT and not output.is_grey_or_rgb_of_8_bits:
        yield "The image was enlarged by bicubic interpolation: upscalers take RGB of 8 bits."


def _loses_colours(init_image: InitImage, output: OutputFormat) -> bool:
    return output.colours == 1 and not is_grey(Image.fromarray(init_image.whole))


def _with_size(request: GenerateRequest, model: Model) -> tuple[GenerateRequest, int, int]:
    """The request, and width and height in px.

    Outpainting generates the whole canvas if the model supports that size, else only the new area.
    """
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


def _passes(request: GenerateRequest, model: Model, width: int, height: int, from_image: bool) -> tuple[Pass, ...]:
    """One pass, or two with a hires fix: the second at the enlarged size. BadRequest if the model cannot do that."""
    strength = request.strength if from_image else 1.0
    first = Pass(width, height, request.steps, request.guidance, strength, truncation=request.truncation)
    if request.enlarge <= 1:
        return (first,)
    size = enlarged_size(width, height, request.enlarge, model.multiple)
    steps = request.enlarge_steps or request.steps
    return first, second_pass(request, model, size, steps, request.enlarge_strength)
