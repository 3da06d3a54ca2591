"""From noise to image: what generating and training's sample sheets share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.samplers import SAMPLERS, Step, network_calls
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.errors import BadRequest
from diffstudio.models.model import ControlNetInput, ImageInputs, Model, PipelineModel, Prompted
from diffstudio.models.multidiffusion import Windows, check_size, tiled

_FEWEST_CALLS_WITH_A_PLAIN_LAST = 3  # with fewer, guidance would hardly act at all

Wrap = Callable[[Denoiser], Denoiser]


def sample(
    model: Model,
    *,
    prompts: Sequence[str] | None = None,
    conditioning: Prompted | None = None,
    seeds: Sequence[int],
    width: int | None = None,
    height: int | None = None,
    steps: int = 20,
    sampler: str = "heun",
    spacing: str = "uniform",
    guidance: float = 3.0,
    init: Tensor | None = None,
    mask: Tensor | None = None,
    strength: float = 1.0,
    controls: Sequence[ControlNetInput] = (),
    wrap: Wrap | None = None,
    clean: Tensor | None = None,
    windows: Windows | None = None,
    between: Callable[[], None] = lambda: None,
    guide_last_call: bool | None = None,
) -> Iterator[Step]:
    """One image for each seed. Step states are [B,C,h,w]; `model.decode` of the last one's x is the images.

    Either `prompts` (one for each seed) or what `model.encode_prompt` gave as `conditioning`. With `init` [1 or B,3,H,W] in
    [-1,1] the last `strength` of the ladder is walked from there; where `mask` [1 or B,1,H,W] in [0,1] is 0 the state stays
    `init`, noised to each level; a model that `paints` is shown both instead, as it was in training. `controls` steer it
    where it has room for them. `wrap` is given the whole denoiser and returns what the sampler calls. `clean` [1 or B,C,h,w]
    is `init` as a state, where that is known. With `windows` the estimates are put together from those of windows, and
    `between` is called before each. `guide_last_call` says whether guidance acts in the last call of the network, where the
    ladder takes three or more; None leaves that to the model.
    BadRequest for a size, sampler or spacing that the model cannot do.
    """
    width, height = width or model.default_size[0], height or model.default_size[1]
    check_size(model, width, height, windows)
    begun = init is not None or clean is not None
    seen = (width, height) if windows is None else windows.size(width, height)  # by the network at once
    times = model.times(steps, spacing, strength if begun else 1.0, *seen)
    if sampler not in SAMPLERS or sampler not in model.samplers:
        raise BadRequest(
            f"The sampler {sampler!r} cannot be used with this checkpoint",
            remedy=f"Choose one of {', '.join(model.samplers)}",
        )
    if conditioning is None:
        conditioning = model.encode_prompt(list(prompts) if prompts is not None else "", "", len(seeds))
    if isinstance(model, PipelineModel):
        if begun:
            raise BadRequest(
                "This checkpoint makes pictures from text alone",
                "it runs in diffusers' own pipeline",
                "Take the given picture away, or choose another checkpoint",
            )
        return model.run(conditioning, seeds, width, height, steps, guidance, wrap)
    shape, hints = model.state_shape(width, height), ImageInputs(init, mask, tuple(controls), times)

    def guided(scale: float) -> Denoiser:
        if windows is None:
            return model.denoiser(conditioning, scale, hints)
        return tiled(model, partial(model.denoiser, conditioning, scale), hints, width // shape[2], windows, between)

    noise = SeededNoise(seeds)
    x = noise.start(shape).to(model.device)
    alpha, sigma = _level(model.schedule, times[0])
    x = sigma * x
    if init is not None and clean is None:
        clean = model.encode_image(init.to(model.device))
    if clean is not None:
        clean = clean.to(x).expand_as(x)
        x = alpha * clean + x

    def wrapped(denoiser: Denoiser) -> Denoiser:
        if clean is not None and mask is not None and not model.paints:
            denoiser = KeepsOutside(denoiser, clean, mask)
        return wrap(denoiser) if wrap is not None else denoiser

    denoiser = wrapped(guided(guidance))
    if not (model.guides_last_call if guide_last_call is None else guide_last_call) and guidance > 1:
        calls = network_calls(sampler, model.schedule, times)
        if calls >= _FEWEST_CALLS_WITH_A_PLAIN_LAST:
            denoiser = LastCallUnguided(denoiser, wrapped(guided(1.0)), calls)
    return SAMPLERS[sampler](denoiser, x, times, noise)


class LastCallUnguided:
    """A denoiser for one walk of `calls` network calls, the last of which goes to `unguided`.

    The estimate of the last call is the picture, and guidance magnifies the grain in it. Calls that are answered from a
    recording count too, so this stands outside of whatever replays them.
    """

    def __init__(self, guided: Denoiser, unguided: Denoiser, calls: int) -> None:
        self.schedule = guided.schedule
        self._guided, self._unguided, self._calls_left = guided, unguided, calls

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self._calls_left -= 1
        return (self._guided if self._calls_left > 0 else self._unguided)(x_t, t)


def noise_level(schedule: NoiseSchedule, t: float) -> float:
    """sigma / alpha at time t; infinite where nothing is left of the image."""
    alpha, sigma = _level(schedule, torch.tensor(t, dtype=torch.float64))
    return sigma / alpha if alpha > 0 else float("inf")


class KeepsOutside:
    """A denoiser that knows the image outside a mask: its estimate there is the image itself.

    Every sampler then carries that region along as alpha * image + sigma * noise, exact at each level, and the network sees
    a true surrounding to paint into.
    """

    def __init__(self, denoiser: Denoiser, clean: Tensor, mask: Tensor) -> None:
        self.schedule = denoiser.schedule
        self._denoiser = denoiser
        self._clean = clean  # [B,C,h,w]
        self._mask = F.interpolate(mask.to(clean), clean.shape[-2:], mode="area")  # [1 or B,1,h,w]

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.lerp(self._clean, self._denoiser(x_t, t), self._mask.expand_as(x_t))


def _level(schedule: NoiseSchedule, t: Tensor) -> tuple[float, float]:
    return float(schedule.alpha(t)), float(schedule.sigma(t))
