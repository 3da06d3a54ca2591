"""From noise to image: what generating and training's sample sheets share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.samplers import SAMPLERS, Step
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.errors import BadRequest
from diffstudio.models.model import ControlHint, Hints, Model, Prompted, RunsItself

Wrap = Callable[[Denoiser], Denoiser]


def sample(
    model: Model, *, prompts: Sequence[str] | None = None, conditioning: Prompted | None = None, seeds: Sequence[int],
    width: int | None = None, height: int | None = None, steps: int = 20, sampler: str = "heun", spacing: str = "uniform",
    guidance: float = 3.0, init: Tensor | None = None, mask: Tensor | None = None, strength: float = 1.0,
    controls: Sequence[ControlHint] = (), wrap: Wrap | None = None,
) -> Iterator[Step]:
    """One image for each seed. Step states are [B,C,h,w]; `model.decode` of the last one's x is the images.

    Either `prompts` (one for each seed) or what `model.encode_prompt` gave as `conditioning`. With `init` [1 or B,3,H,W] in
    [-1,1] the last `strength` of the ladder is walked from there; where `mask` [1 or B,1,H,W] in [0,1] is 0 the state stays
    `init`, noised to each level; a model that `paints` is shown both instead, as it was in training. `controls` steer it
    where it has room for them. `wrap` is given the whole denoiser and returns what the sampler calls.
    BadRequest for a size, sampler or spacing that the model cannot do.
    """
    width, height = width or model.default_size[0], height or model.default_size[1]
    model.check_size(width, height)
    times = model.times(steps, spacing, strength if init is not None else 1.0, width, height)
    if sampler not in SAMPLERS or sampler not in model.samplers:
        raise BadRequest(f"The sampler {sampler!r} cannot be used with this checkpoint",
                         remedy=f"Choose one of {', '.join(model.samplers)}")
    if conditioning is None:
        conditioning = model.encode_prompt(list(prompts) if prompts is not None else "", "", len(seeds))
    if isinstance(model, RunsItself):
        if init is not None:
            raise BadRequest("This checkpoint makes pictures from text alone", "it runs in diffusers' own pipeline",
                             "Take the given picture away, or choose another checkpoint")
        return model.run(conditioning, seeds, width, height, steps, guidance, wrap)
    denoiser = model.denoiser(conditioning, guidance, Hints(init, mask, tuple(controls), times))
    noise = SeededNoise(seeds)
    x = noise.start(model.state_shape(width, height)).to(model.device)
    alpha, sigma = _level(model.schedule, times[0])
    x = sigma * x
    if init is not None:
        clean = model.encode_image(init.to(model.device)).expand_as(x)
        x = alpha * clean + x
        if mask is not None and not model.paints:
            denoiser = KeepsOutside(denoiser, clean, mask)
    if wrap is not None:
        denoiser = wrap(denoiser)
    return SAMPLERS[sampler](denoiser, x, times, noise)


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
        self._clean = clean                                                              # [B,C,h,w]
        self._mask = F.interpolate(mask.to(clean), clean.shape[-2:], mode="area")        # [1 or B,1,h,w]

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.lerp(self._clean, self._denoiser(x_t, t), self._mask.expand_as(x_t))


def _level(schedule: NoiseSchedule, t: Tensor) -> tuple[float, float]:
    return float(schedule.alpha(t)), float(schedule.sigma(t))
