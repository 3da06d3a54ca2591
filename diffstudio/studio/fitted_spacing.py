"""The spacing *fitted to this checkpoint*: its times are copied from the checkpoint into the request. No torch.

An image can therefore be reproduced to the bit without the ladder, and after other steps were fitted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import PIXEL, recommended_settings
from diffstudio.models.fitted_steps.ladders import Ladder
from diffstudio.models.fitted_steps.stored import fitted_steps
from diffstudio.plurals import by_number
from diffstudio.studio.metadata.sampler_names import SAMPLER_LABELS, SPACING_LABELS
from diffstudio.studio.requests import GenerateRequest, PictureRequest, SpacingName

_Request = TypeVar("_Request", bound=PictureRequest)

HOW_TO_FIT = "Fit them in the Models room, or with `diffstudio models fit-steps`"


def with_fitted_times(request: _Request, checkpoint: Checkpoint | None) -> tuple[_Request, str]:
    """The request with the times of its steps, and a note, which may be empty.

    If none are fitted for its sampler and number of steps, another spacing replaces it, and the note says which.
    Requests with another spacing, or with times, are returned unchanged.
    """
    if request.spacing is not SpacingName.FITTED or request.times or checkpoint is None:
        return request, ""
    if times := fitted_times(request, checkpoint):
        return replace(request, times=times), ""
    return replace(request, spacing=fallback(checkpoint)), missing_text(request, checkpoint)


def fitted_times(request: PictureRequest, checkpoint: Checkpoint | None) -> tuple[float, ...]:
    """The times fitted for the sampler and steps of a request; () if there are none."""
    ladder = fitted_steps(checkpoint).of(request.sampler, request.steps) if checkpoint is not None else None
    return ladder.times if ladder is not None else ()


def fallback(checkpoint: Checkpoint) -> SpacingName:
    """The spacing used if no steps are fitted: the one recommended for the family."""
    name = f"{checkpoint.path.stem} {checkpoint.title}"
    usual = recommended_settings(checkpoint.family, checkpoint.edition, name) or PIXEL
    return SpacingName(usual.spacing)


def missing_text(request: PictureRequest, checkpoint: Checkpoint) -> str:
    """Why no fitted steps are used, what is used instead, and the remedy; empty if steps are fitted."""
    fitted = fitted_steps(checkpoint)
    if fitted.of(request.sampler, request.steps) is not None:
        return ""
    instead = f"the scheduler {SPACING_LABELS[fallback(checkpoint)]} is used instead"
    sampler = SAMPLER_LABELS[request.sampler]
    if fitted.problem and not fitted.ladders:
        return f"The steps fitted to {checkpoint.name} cannot be read ({fitted.problem}): {instead}."
    counts = fitted.step_counts(request.sampler)
    if counts:
        known = ", ".join(map(str, counts))
        steps = by_number(request.steps, "single step is", f"{request.steps} steps are")
        return f"No {steps} fitted to {checkpoint.name} with {sampler}, only {known}: {instead}."
    return f"No steps are fitted to {checkpoint.name} with {sampler}: {instead}. {HOW_TO_FIT}."


def fitted_text(request: PictureRequest, checkpoint: Checkpoint) -> str:
    """One or two sentences about the fitted steps of a request: their quality and their source.

    Empty for another spacing.
    """
    if request.spacing is not SpacingName.FITTED:
        return ""
    ladder = fitted_steps(checkpoint).of(request.sampler, request.steps)
    if request.times and (ladder is None or ladder.times != request.times):
        return "The times of the steps are those of the loaded image, not those fitted to this checkpoint."
    if ladder is None:
        return missing_text(request, checkpoint)
    return _sentence(ladder, request, checkpoint)


def _sentence(ladder: Ladder, request: PictureRequest, checkpoint: Checkpoint) -> str:
    closer = f"{ladder.usual_difference / max(ladder.difference, 1e-12):.1f} times" if ladder.difference else "much"
    names: dict[str, str] = {str(name): label for name, label in SPACING_LABELS.items()}
    usual = names.get(ladder.usual, ladder.usual)
    text = f"Fitted: {closer} closer to converged images than {usual}, the best other scheduler."
    if request.guidance != ladder.guidance:
        text += f" They were fitted with CFG scale {ladder.guidance:g}."
    factors = {1, max(1, checkpoint.upper_factor)}  # an upper level enlarges what these steps generate
    fitted_at = {(factor * ladder.width, factor * ladder.height) for factor in factors} | {(None, None)}
    if isinstance(request, GenerateRequest) and (request.width, request.height) not in fitted_at:
        text += f" They were fitted at {ladder.width} × {ladder.height} px."
    return text
