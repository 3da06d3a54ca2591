"""Errors of spacings, shared by the mathematics with torch and the plots without it."""

from __future__ import annotations

from collections.abc import Iterable

from diffstudio.errors import BadRequest
from diffstudio.plurals import count_of

_ANOTHER = "Choose another scheduler"


def check_steps(steps: int) -> None:
    """Check the number of steps. BadRequest for fewer than one."""
    if steps < 1:
        raise BadRequest(f"The number of steps cannot be {steps}", "", "Use one or more steps")


def too_many_steps(steps: int, why: str, remedy: str) -> BadRequest:
    """The error for a spacing that does not have enough distinct times."""
    return BadRequest(f"This model cannot be sampled in {count_of(steps, 'step')} with this scheduler", why, remedy)


def too_few_times(steps: int) -> BadRequest:
    """The error for more steps than a schedule has distinct times."""
    return too_many_steps(steps, "it has fewer distinct timesteps", "Use fewer steps")


def unknown_spacing(name: object, names: Iterable[str]) -> BadRequest:
    return BadRequest(f"There is no scheduler called {name!r}", "", f"Choose one of {', '.join(names)}")


def not_aligned() -> BadRequest:
    """The error for Align Your Steps with a flow model."""
    why = "no table is published for flow models"
    return BadRequest("Align Your Steps does not work with this model", why, _ANOTHER)


def outside_the_model(clean: float, noise: float, lowest: float, highest: float) -> BadRequest:
    """The error for a curve from log-SNR `clean` down to `noise` on a schedule with other noise levels."""
    return BadRequest(
        "This noise schedule cannot be used with this model",
        f"its log-SNR falls from {clean:.3g} to {noise:.3g}, and the model's from {highest:.3g} to {lowest:.3g}",
        "Draw it within the noise levels of the model",
    )
