"""Sampling with keyword options, as most tests want it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from diffstudio.diffusion.samplers import Step
from diffstudio.models import sampling
from diffstudio.models.model import EncodedPrompt, Model
from diffstudio.models.sampling import SampleOptions, Wrap


def sample(
    model: Model,
    *,
    prompts: Sequence[str] | None = None,
    conditioning: EncodedPrompt | None = None,
    wrap: Wrap | None = None,
    before_tile: Callable[[], None] = lambda: None,
    **options: Any,
) -> Iterator[Step]:
    """`sampling.sample`, from `prompts` (one for each seed) or what `model.encode_prompt` gave; `options` as in
    SampleOptions.
    """
    settings = SampleOptions(**options)
    if conditioning is None:
        conditioning = model.encode_prompt(list(prompts) if prompts is not None else "", "", len(settings.seeds))
    return sampling.sample(model, conditioning, settings, wrap=wrap, before_tile=before_tile)
