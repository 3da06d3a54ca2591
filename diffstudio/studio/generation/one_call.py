"""What VAEs and GANs cannot do, said by name before any work."""

from __future__ import annotations

from diffstudio.errors import BadRequest
from diffstudio.models.detection.families_table import Family
from diffstudio.models.model import IN_ONE_CALL, Model, text_only
from diffstudio.studio.requests import GenerateRequest


def check_one_call(request: GenerateRequest, model: Model) -> None:
    """BadRequest for a truncation with another model, and for what a model that makes an image in one call has not."""
    if request.truncation != 1 and not model.truncates:
        raise BadRequest(
            f"The truncation is {request.truncation:g}, and this checkpoint has none",
            "it is a setting of GANs and VAEs",
            "Leave it at 1, or choose such a checkpoint",
        )
    if not model.family.one_call:
        return
    if request.init is not None:
        raise text_only(IN_ONE_CALL)
    if chosen := [*_chosen(request, model.family), *(["ControlNets"] if request.controls else [])]:
        raise BadRequest(
            f"This checkpoint cannot use {' and '.join(chosen)}", IN_ONE_CALL, "Leave out what it cannot use"
        )


def _chosen(request: GenerateRequest, usual: Family) -> list[str]:
    """The settings of sampling that are neither those of a new request nor what the checkpoint recommends."""
    default = GenerateRequest()
    settings = (
        ("steps", request.steps, (default.steps, usual.steps)),
        ("the sampler", request.sampler, (default.sampler, usual.sampler)),
        ("the scheduler", request.spacing, (default.spacing, usual.spacing)),
        ("the CFG scale", request.guidance, (default.guidance, usual.guidance)),
    )
    return [name for name, value, unset in settings if value not in unset]
