"""Upscalers by name, and what enlarging a picture would ask for if it went by what the picture says of itself.

No torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffstudio.errors import BadRequest, ImageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.models.library.library import Library
from diffstudio.models.library.lookup import find_model
from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.metadata import ImageSettings
from diffstudio.studio.requests import LANCZOS, LATENT, UpscaleRequest

_MOST_FORBEARS = 8


def find_upscaler(name: str, library: Library | None) -> Checkpoint | None:
    """The upscaler of that name, in any case, or at that path; None for the built-in ones.

    CheckpointMissing, CheckpointDamaged.
    """
    if name in (LANCZOS, LATENT):
        return None
    return find_model(library, name, (Role.UPSCALER,), "upscaler", built_in=(LANCZOS,))


def upscale_from(image: Path) -> UpscaleRequest:
    """The request to begin with: its checkpoint is that which made the picture, or empty where the picture does not
    say.
    """
    try:
        return upscale_of(image, sampled=True)
    except BadRequest:
        return upscale_of(image, sampled=False)


def _told_by(image: Path) -> ImageSettings | None:
    """What a picture says of how it was made; of one that was only enlarged, what the one it came from says, where that
    is there.

    None for a picture that says nothing, or is none: which is said when it is opened.
    """
    told: ImageSettings | None = None
    for _ in range(_MOST_FORBEARS):
        try:
            settings = metadata.read(image)
        except (ImageProblem, BadRequest, OSError):
            return told
        told, request = settings, settings.request
        if not isinstance(request, UpscaleRequest) or request.checkpoint:
            break
        image = request.source
    return told


def upscale_of(image: Path, *, sampled: bool, **asked: Any) -> UpscaleRequest:
    """The request to enlarge this picture: what is not `asked` (fields of it) is taken from what the picture says of
    itself.

    `sampled` takes the checkpoint that made it along, too. BadRequest where that is wanted and not known.
    """
    told: dict[str, Any] = {}
    settings = _told_by(image)
    if settings is not None:
        request = settings.request
        told = {"prompt": request.prompt, "negative": request.negative}
        if sampled:
            told |= {
                "checkpoint": settings.checkpoint,
                "seed": request.seed,
                "guidance": request.guidance,
                "guide_last_call": request.guide_last_call,
                "steps": request.steps,
                "sampler": request.sampler,
                "spacing": request.spacing,
                "vae": request.vae,
            }
            if not settings.checkpoint:
                told.pop("checkpoint")
    told |= asked
    if sampled and not told.get("checkpoint"):
        raise BadRequest(
            f"Which checkpoint is to sample {image.name} is not known",
            "the picture does not say what made it",
            "Name one with --checkpoint",
        )
    return UpscaleRequest(source=image, **told)
