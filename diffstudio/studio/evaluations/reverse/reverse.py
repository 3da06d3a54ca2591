"""reverse(): one image, with what the model was asked and said at every step. Read this first."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from diffstudio.atomic import make_folder, write_bytes, write_text
from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.noise_curve import curve_fractions
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.diffusion.score import noise_estimate, score
from diffstudio.diffusion.spacing import SPACINGS
from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.models import loading
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import FAMILIES, Family
from diffstudio.models.fitted_steps.distilled import check_denoises
from diffstudio.models.fitted_steps.ladders import SPACING
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.models.model import Model
from diffstudio.models.recommended import sampling_values
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.conditioning import Conditioning
from diffstudio.plurals import by_number
from diffstudio.studio.curves.saved import find_curve
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.reverse.film import animation
from diffstudio.studio.evaluations.reverse.request import ReverseRequest
from diffstudio.studio.evaluations.reverse.result import PARTS, FilmedStep, ReverseResult
from diffstudio.studio.evaluations.subjects import find_checkpoint
from diffstudio.studio.generation.preview import preview_images, shrunk, to_images
from diffstudio.studio.prompts.prompt_notes import PromptNotes

RESULT, IMAGE, FILM, FRAMES = "reverse.json", "image.png", "film.gif", "frames"  # in the request's `out`
_DEVIATIONS = 3.0  # of noise, shown from black to white
_OTHER = "Choose a diffusion model that is sampled step by step, such as the starter"


def reverse(
    request: ReverseRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ReverseResult:
    """Generate an image as the Generate room does, and write every step of it into the folder `out`.

    Holds the accelerator, and releases it while other images are generated. DiffstudioError for a model that is not
    sampled step by step, and for invalid values; Interrupted when `cancelled` returns True or the control file in `out`
    says stop.
    """
    make_folder(request.out)
    job_control = EvaluationJobControl(Lease(), cancelled, request.out, on_wait)
    checkpoint = find_checkpoint(request.checkpoint, library)
    check_is_sampled_in_steps(checkpoint)
    check_denoises(checkpoint, "a film of scores")
    with job_control.taken("filming an image"):
        on_progress(f"Loading {checkpoint.name}", 0, 0)
        model = loading.load(checkpoint, choose_device(request.device), cancelled=cancelled, library=library)
        result = _Filming(request, checkpoint, model, job_control.check, on_progress).result()
    write_text(request.out / RESULT, json.dumps(result.to_json(), ensure_ascii=False, indent=1))
    return result


def check_is_sampled_in_steps(checkpoint: Checkpoint) -> None:
    """BadRequest for a model that generates images in one call, or does its own sampling."""
    family: Family | None = FAMILIES.get(checkpoint.family)
    if not checkpoint.can_generate or family is None or not family.text_only:
        return  # loading says what cannot generate
    made = "generates each image in one network call" if family.one_call else "runs in a diffusers pipeline"
    raise BadRequest(f"{checkpoint.name} has no reverse process to record", f"it {made}", _OTHER)


@dataclass
class Recording:
    """The first call of the network in each step: its state, its time and its estimate."""

    check: Callable[[], None]
    first: tuple[Tensor, float, Tensor] | None = None

    def take(self) -> tuple[Tensor, float, Tensor]:
        """The first call since the last `take`."""
        assert self.first is not None
        found, self.first = self.first, None
        return found


@dataclass(frozen=True, slots=True)
class RecordedDenoiser:
    """A denoiser whose calls a recording sees. It changes nothing."""

    denoiser: Denoiser
    recording: Recording

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.recording.check()
        denoised = self.denoiser(x_t, t)
        if self.recording.first is None:
            self.recording.first = (x_t, float(t.flatten()[0]), denoised)
        return denoised


@dataclass
class _Filming:
    """One image in progress."""

    request: ReverseRequest
    checkpoint: Checkpoint
    model: Model
    check: Callable[[], None]
    on_progress: OnProgress
    steps: list[FilmedStep] = field(default_factory=list)

    def result(self) -> ReverseResult:
        options = self._options()
        prompt = self.model.encode_prompt(self.request.prompt, self.request.negative)
        recording, before, last = Recording(self.check), None, None
        self.on_progress("Filming", 0, options.steps)
        for step in sample(self.model, prompt, options, wrap=lambda one: RecordedDenoiser(one, recording)):
            x_t, t, denoised = recording.take()
            self.steps.append(self._filmed(x_t, t, denoised, before))
            before, last = denoised, step.x
            self.on_progress("Filming", len(self.steps), options.steps)
        assert last is not None
        if not bool(torch.isfinite(last).all()):
            raise CheckpointDamaged(
                f"The reverse process of {self.checkpoint.name} cannot be recorded",
                "its image has NaN or infinite values",
                "Choose another model",
            )
        self.on_progress("Decoding the image", 0, 0)
        (image,) = to_images(self.model.decode(last))
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        write_bytes(self.request.out / IMAGE, file.getvalue())
        self._write("final", "image", Image.fromarray(shrunk(image)))
        write_bytes(self.request.out / FILM, self._film())
        return ReverseResult(
            self.checkpoint.name,
            self.request.prompt,
            self.steps,
            IMAGE,
            FILM,
            {
                "seed": self.request.seed,
                "steps": options.steps,
                "sampler": options.sampler,
                "spacing": options.spacing,
                "guidance": options.guidance,
                "size": f"{options.width} × {options.height}",
            },
            self._notes(options),
        )

    def _options(self) -> SampleOptions:
        request = self.request
        width, height = self.model.network_size
        if self.model.upper is not None:
            self.model.upper.check_base_alone(request.width or width, request.height or height)
        values: dict[str, Any] = {"guidance": self.model.guidance}
        values |= sampling_values(
            self.checkpoint, steps=request.steps or 0, sampler=request.sampler, spacing=request.spacing
        )
        if request.guidance is not None:
            values["guidance"] = request.guidance
        options = SampleOptions([request.seed], request.width or width, request.height or height, **values)
        self.model.check_size(options.width, options.height)
        return self._with_times(options)

    def _with_times(self, options: SampleOptions) -> SampleOptions:
        """With the times of a noise schedule saved in the Lab. BadRequest where the steps of the spacing are not fitted."""
        name, steps = options.spacing, options.steps
        if name == SPACING and not options.times:
            wanted = by_number(steps, "single step is", f"{steps} steps are")
            what = f"No {wanted} fitted to {self.checkpoint.name} with {options.sampler}"
            raise BadRequest(what, remedy="Choose another scheduler, or fit them with `diffstudio models fit-steps`")
        curve = find_curve(name) if name not in {SPACING, *SPACINGS} else None
        return (
            options
            if curve is None
            else replace(options, times=curve_fractions(curve.curve, self.model.schedule, steps))
        )

    def _filmed(self, x_t: Tensor, t: float, denoised: Tensor, before: Tensor | None) -> FilmedStep:
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = float(self.model.schedule.alpha(time)), float(self.model.schedule.sigma(time))
        noise = noise_estimate(x_t, denoised, alpha, sigma)
        shown = {
            "state": self._preview(x_t / math.hypot(alpha, sigma)),
            "estimate": self._preview(denoised),
            "noise": _as_image(noise / _DEVIATIONS),
            "score": _as_image(score(x_t, denoised, alpha, sigma) * (sigma / _DEVIATIONS)),
        }
        name = f"{len(self.steps) + 1:03d}"
        return FilmedStep(
            t,
            alpha,
            sigma,
            _rms(noise),
            _rms(noise) / sigma,
            _rms(denoised - before) if before is not None else 0.0,
            {part: self._write(name, part, shown[part]) for part in PARTS},
        )

    def _preview(self, state: Tensor) -> Image.Image:
        return Image.fromarray(preview_images(state, self.model)[0])

    def _write(self, name: str, part: str, image: Image.Image) -> str:
        file = io.BytesIO()
        image.save(file, "PNG")
        folder = make_folder(self.request.out / FRAMES)
        write_bytes(folder / f"{name}-{part}.png", file.getvalue())
        return f"{FRAMES}/{name}-{part}.png"

    def _film(self) -> bytes:
        folder, count = self.request.out, len(self.steps)
        rows = [
            ([folder / step.files["state"], folder / step.files["estimate"]],
             f"Step {number} of {count}: x_t and the estimate of x_0, sigma {step.sigma:.3f}")
            for number, step in enumerate(self.steps, 1)
        ]  # fmt: skip
        final = folder / FRAMES / "final-image.png"
        return animation([*rows, ([final, final], "The finished image")])

    def _notes(self, options: SampleOptions) -> list[str]:
        checkpoint = self.model.checkpoint
        about_prompt = PromptNotes(self.model, options.guidance).new([self.request.prompt], self.request.negative)
        notes = [*self.model.load_notes, *about_prompt]
        if self.model.is_latent:
            decoder = "its TAESD" if self.model.preview_decoder is not None else "a linear approximation"
            notes.append(
                f"x_t and the estimate are latents, decoded by {decoder}; of noise and score the first channels are shown."
            )
        guided = checkpoint is None or checkpoint.conditioning is not Conditioning.NONE
        if guided and options.guidance > self.model.unguided_scale:
            scale = f"{options.guidance:g}"
            notes.append(
                f"Estimate, noise and score are those of guidance with CFG scale {scale}, not the model's own."
            )
        return notes


def _as_image(values: Tensor) -> Image.Image:
    """The first one or three channels of values [1,C,h,w] in [-1,1]."""
    shown = values[:, :3] if values.shape[1] >= 3 else values[:, :1].expand(-1, 3, -1, -1)
    return Image.fromarray(shrunk(to_images(shown)[0]))


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())
