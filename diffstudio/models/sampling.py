"""sample(): from noise to images, for generation and for training's sample sheets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.guidance import Autoguidance
from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.samplers import SAMPLERS, Step, heun, network_calls
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.diffusion.spacing import carried_times
from diffstudio.errors import BadRequest
from diffstudio.models.conditioning.image_inputs import ControlNetInput, ImageInputs
from diffstudio.models.guidance_options import AnnealedDenoiser, GuidanceOptions, check_weak_model
from diffstudio.models.model import IN_A_PIPELINE, IN_ONE_CALL, EncodedPrompt, Model, own_guidance, own_times, text_only
from diffstudio.models.multidiffusion import Tiling, check_size, tiled_denoiser
from diffstudio.models.upper_level import UpperLevel
from diffstudio.networks.cascade import reduced

_FEWEST_CALLS_WITH_UNGUIDED_LAST = 3  # with fewer, guidance would hardly act at all

Wrap = Callable[[Denoiser], Denoiser]


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """How a batch is sampled, one image for each seed.

    With `init` or `clean` only the last `strength` of the steps is taken, starting from that image (img2img). Where
    `mask` is 0 the state stays `init`, noised to each level (inpainting); a model that `inpaints` takes both as inputs
    instead, as it was trained to.
    """

    seeds: Sequence[int]
    width: int = 0  # px; 0 is the model's default
    height: int = 0
    steps: int = 20  # the recommended settings of a checkpoint are in `models.recommended`
    sampler: str = "heun"
    spacing: str = "uniform"
    guidance: float = 3.0  # CFG scale
    strength: float = 1.0  # denoising strength
    init: Tensor | None = None  # [1 or B,3,H,W] in [-1,1]
    clean: Tensor | None = None  # [1 or B,C,h,w]: `init` as a state, if known
    mask: Tensor | None = None  # [1 or B,1,H,W] in [0,1]
    controls: tuple[ControlNetInput, ...] = ()
    tiling: Tiling | None = None  # MultiDiffusion: each estimate is averaged from those of tiles
    # Whether guidance acts in the last of three or more network calls; None: the model decides. True also takes
    # `strength` as a share of the steps (Model.times_in_steps) and averages slopes in every step of Heun, so that images
    # of version 0.1 are reproduced.
    guide_last_call: bool | None = None
    steps_before: int | None = None  # in a second pass the steps of the first one, for prompts that change with them
    guidance_options: GuidanceOptions = GuidanceOptions()  # noqa: RUF009 (immutable)
    truncation: float = 1.0  # standard deviation of the noise of a VAE or GAN
    times: tuple[float, ...] = ()  # replace those of `spacing`: see `diffusion.spacing.carried_times`
    noise: SeededNoise | None = None  # replaces the noise of the seeds; not for a model with its own sampler

    @property
    def from_image(self) -> bool:
        return self.init is not None or self.clean is not None


def sample(
    model: Model,
    prompt: EncodedPrompt,
    options: SampleOptions,
    *,
    wrap: Wrap | None = None,
    before_tile: Callable[[], None] = lambda: None,
) -> Iterator[Step]:
    """Sample a batch. Step states are [B,C,h,w]; `model.decode` of the last one's x is the images.

    `wrap` is given the whole denoiser and returns what the sampler calls. `before_tile` is called before each tile and
    may raise to stop. BadRequest for a size, sampler or spacing that the model does not support.
    """
    width, height = options.width or model.default_size[0], options.height or model.default_size[1]
    tiling = options.tiling
    check_size(model, width, height, tiling)
    size_per_call = (width, height) if tiling is None else tiling.tile_size_of(width, height)
    strength = options.strength if options.from_image else 1.0
    times = times_of(
        model,
        options.steps,
        options.spacing,
        strength,
        size_per_call,
        carried=options.times,
        in_steps=options.guide_last_call is True,
    )
    if options.sampler not in SAMPLERS or options.sampler not in model.samplers:
        raise BadRequest(
            f"The sampler {options.sampler!r} cannot be used with this checkpoint",
            remedy=f"Choose one of {', '.join(model.samplers)}",
        )
    if model.own_sampler is not None:
        why = IN_ONE_CALL if model.family.one_call else IN_A_PIPELINE
        if options.from_image:
            raise text_only(why)
        if not options.guidance_options.is_default:
            raise own_guidance(why)
        if options.times:
            raise own_times(why)
        return model.own_sampler.run(
            prompt, options.seeds, width, height, options.steps, options.guidance, wrap, truncation=options.truncation
        )
    if (upper := model.upper) is None or not upper.draws(width, height):
        return _in_one_level(model, prompt, options, (width, height), times, wrap, before_tile)
    if tiling is not None:
        raise BadRequest(
            "This checkpoint cannot sample in tiles",
            f"it generates images of more than {model.network_size[0]} px in two levels",
            "Choose a smaller size or scale",
        )
    return _in_two_levels(model, upper, prompt, options, (width, height), times, wrap)


def _in_one_level(
    model: Model,
    prompt: EncodedPrompt,
    options: SampleOptions,
    size: tuple[int, int],
    times: Tensor,
    wrap: Wrap | None,
    before_tile: Callable[[], None],
) -> Iterator[Step]:
    """Sample a batch with the model's network: width and height `size` in px, at the times [n + 1]."""
    noise = options.noise or SeededNoise(options.seeds)
    x, clean = _start(model, options, noise, size, times)
    counter = StepCounter()
    whole, plain = _guided(model, prompt, options, size, times, counter, before_tile)

    def wrapped(denoiser: Denoiser) -> Denoiser:
        if clean is not None and options.mask is not None and not model.inpaints:
            denoiser = MaskedDenoiser(denoiser, clean, options.mask)
        return wrap(denoiser) if wrap is not None else denoiser

    denoiser = wrapped(whole)
    guide_last_call = model.guides_last_call if options.guide_last_call is None else options.guide_last_call
    if not guide_last_call:
        calls = network_calls(options.sampler, model.schedule, times)
        unguided = plain() if calls >= _FEWEST_CALLS_WITH_UNGUIDED_LAST else whole
        if unguided is not whole:
            denoiser = LastCallUnguided(denoiser, wrapped(unguided), calls)
    sampler = model.sampler(options.sampler)
    if options.guide_last_call and options.sampler == "heun":
        sampler = partial(heun, longest=math.inf)
    return counter.counted(sampler(denoiser, x, times, noise))


def _start(
    model: Model, options: SampleOptions, noise: SeededNoise, size: tuple[int, int], times: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The state [B,C,h,w] that sampling starts from, and the clean latents in it, if there is an image."""
    x = noise.start(model.state_shape(*size)).to(model.device)
    alpha, sigma = _alpha_sigma(model.schedule, times[0])
    if options.from_image or not model.starts_with_unit_noise:
        x = sigma * x
    clean = options.clean
    if options.init is not None and clean is None:
        clean = model.encode_image(options.init.to(model.device))
    if clean is None:
        return x, None
    clean = clean.to(x).expand_as(x)
    return alpha * clean + x, clean


def _guided(
    model: Model,
    prompt: EncodedPrompt,
    options: SampleOptions,
    size: tuple[int, int],
    times: Tensor,
    counter: StepCounter,
    before_tile: Callable[[], None],
) -> tuple[Denoiser, Callable[[], Denoiser]]:
    """The denoiser with all guidance of the options, and what makes one without; they are one if there is no guidance."""
    (width, height), tiling = size, options.tiling
    images = ImageInputs(options.init, options.mask, options.controls, times)
    prompts = prompt.at_steps(len(times) - 1, options.steps_before)

    def guided(scale: float, model: Model = model, prompts: Sequence[EncodedPrompt] = prompts) -> Denoiser:
        interval, annealing = options.guidance_options.interval, options.guidance_options.annealing

        def denoiser(images: ImageInputs) -> Denoiser:
            def of_prompt(prompt: EncodedPrompt) -> Denoiser:
                return model.sampling_denoiser(prompt, scale, images, interval)

            def annealed(prompt: EncodedPrompt) -> Denoiser:
                if annealing is None:
                    return of_prompt(prompt)
                return AnnealedDenoiser(model, prompt, of_prompt, annealing, options.seeds, lambda: counter.step)

            return PromptedDenoiser(prompts, annealed, counter)

        if tiling is None:
            return denoiser(images)
        return tiled_denoiser(
            model, denoiser, images, width // model.state_shape(width, height)[2], tiling, before_tile
        )

    whole = guided(options.guidance)
    unguided = [whole] if options.guidance <= model.unguided_scale else []

    def plain() -> Denoiser:
        """Built once, and only if needed."""
        if not unguided:
            unguided.append(guided(model.unguided_scale))
        return unguided[0]

    if (weak := options.guidance_options.weak) is not None:
        check_weak_model(model, weak.model, *(size if tiling is None else tiling.tile_size_of(width, height)))
        weak_prompts = weak.prompt.at_steps(len(times) - 1, options.steps_before)
        of_weak = guided(min(options.guidance, model.unguided_scale), weak.model, weak_prompts)
        t_max = float(model.schedule.t_max)
        whole = Autoguidance(whole, plain(), of_weak, weak.scale, options.guidance_options.interval, t_max)
    return whole, plain


def _in_two_levels(
    model: Model,
    upper: UpperLevel,
    prompt: EncodedPrompt,
    options: SampleOptions,
    size: tuple[int, int],
    times: Tensor,
    wrap: Wrap | None,
) -> Iterator[Step]:
    """Sample a batch at the base's size, then enlarge it; steps are numbered across both levels."""
    noise = options.noise or SeededNoise(options.seeds)
    clean, mask, last = options.clean, options.mask, None
    if options.init is not None and clean is None:
        clean = model.encode_image(options.init.to(model.device))
    base = replace(
        options,
        init=None,
        clean=None if clean is None else reduced(clean, upper.factor),
        mask=None if mask is None else F.max_pool2d(mask, upper.factor),  # partly painted pixels are generated anew
        noise=noise,
    )
    smaller = size[0] // upper.factor, size[1] // upper.factor
    for last in _in_one_level(model, prompt, base, smaller, times, wrap, lambda: None):
        yield last
    assert last is not None
    clean = None if clean is None else clean.to(last.x).expand(len(last.x), -1, -1, -1)

    def wrapped(denoiser: Denoiser) -> Denoiser:
        if clean is not None and mask is not None:
            denoiser = MaskedDenoiser(denoiser, clean, mask)
        return wrap(denoiser) if wrap is not None else denoiser

    for step in upper.sample(last.x, noise, clean=clean, strength=options.strength, wrap=wrapped):
        yield replace(step, index=last.index + step.index)


def times_of(
    model: Model,
    steps: int,
    spacing: str,
    strength: float,
    size_per_call: tuple[int, int],
    *,
    carried: Sequence[float] = (),
    in_steps: bool = False,
) -> Tensor:
    """The sampling times [n + 1] of a model: those of a spacing, or those `carried` by a request.

    `strength`: the noise level where img2img begins, for carried times that of the spacing `uniform`. `in_steps` as in
    `Model.times_in_steps`. BadRequest for a spacing that the model does not support.
    """
    if not carried:
        return (model.times_in_steps if in_steps else model.times)(steps, spacing, strength, *size_per_call)
    start = float(model.times(steps, "uniform", strength, *size_per_call)[0]) if strength < 1 else None
    return carried_times(model.schedule, carried, steps, start)


class StepCounter:
    """The step that a sampler is taking, whatever number of network calls it makes in one."""

    def __init__(self) -> None:
        self.step = 1

    def counted(self, steps: Iterator[Step]) -> Iterator[Step]:
        for step in steps:
            self.step = step.index + 1
            yield step


class PromptedDenoiser:
    """A denoiser that is conditioned on another prompt in each step.

    `denoiser_of(prompt)` is called when the prompt is first needed.
    """

    def __init__(
        self, prompts: Sequence[EncodedPrompt], denoiser_of: Callable[[EncodedPrompt], Denoiser], counter: StepCounter
    ) -> None:
        self._prompts, self._denoiser_of, self._counter = prompts, denoiser_of, counter
        self._denoisers: dict[int, Denoiser] = {}  # by the id of the prompt
        self.schedule = self._denoiser(prompts[0]).schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self._denoiser(self._prompts[self._counter.step - 1])(x_t, t)

    def _denoiser(self, prompt: EncodedPrompt) -> Denoiser:
        if id(prompt) not in self._denoisers:
            self._denoisers[id(prompt)] = self._denoiser_of(prompt)
        return self._denoisers[id(prompt)]


class LastCallUnguided:
    """A denoiser for one run of a sampler with `calls` network calls, the last of which goes to `unguided`.

    The estimate of the last call is the image, and guidance amplifies its grain. Replayed calls count too, so this
    wraps the denoiser that replays them.
    """

    def __init__(self, guided: Denoiser, unguided: Denoiser, calls: int) -> None:
        self.schedule = guided.schedule
        self._guided, self._unguided, self._calls_left = guided, unguided, calls

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self._calls_left -= 1
        return (self._guided if self._calls_left > 0 else self._unguided)(x_t, t)


def noise_level(schedule: NoiseSchedule, t: float) -> float:
    """sigma / alpha at time t; infinite where alpha is 0."""
    alpha, sigma = _alpha_sigma(schedule, torch.tensor(t, dtype=torch.float64))
    return sigma / alpha if alpha > 0 else float("inf")


class MaskedDenoiser:
    """A denoiser whose estimate outside a mask is the given image itself.

    Every sampler then carries that region along as alpha * image + sigma * noise, exact at each level, and the network
    sees the true surroundings of what it inpaints.
    """

    def __init__(self, denoiser: Denoiser, clean: Tensor, mask: Tensor) -> None:
        self.schedule = denoiser.schedule
        self._denoiser = denoiser
        self._clean = clean  # [B,C,h,w]
        self._mask = F.interpolate(mask.to(clean), clean.shape[-2:], mode="area")  # [1 or B,1,h,w]

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.lerp(self._clean, self._denoiser(x_t, t), self._mask.expand_as(x_t))


def _alpha_sigma(schedule: NoiseSchedule, t: Tensor) -> tuple[float, float]:
    return float(schedule.alpha(t)), float(schedule.sigma(t))
