"""Find upscalers by name, and build upscale requests from the settings stored in an image. No torch is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from diffstudio.errors import BadRequest, ImageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.models.library.library import Library
from diffstudio.models.library.lookup import find_model
from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.metadata import ImageSettings
from diffstudio.studio.requests import UpscaleRequest
from diffstudio.studio.requests.choices import LANCZOS, LATENT

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_PROMPTS = ("prompt", "negative")  # fields that a request to upscale has from the settings of the image
_SAMPLING = (  # likewise, where it is sampled again
    "seed",
    "guidance",
    "guide_last_call",
    "steps",
    "sampler",
    "spacing",
    "times",
    "curve",
    "vae",
    "clip_skip",
)
_MOST_SOURCES = 8  # upscaled images that are followed back to the image they were made from


def find_upscaler(name: str, library: Library | None) -> Checkpoint | None:
    """The upscaler with this name (in any case) or path, or the checkpoint with an upper level; None for the built-in ones.

    Raises CheckpointMissing and CheckpointDamaged.
    """
    if name in (LANCZOS, LATENT):
        return None
    return find_model(
        library,
        name,
        (Role.UPSCALER, Role.CHECKPOINT),
        "upscaler",
        built_in=(LANCZOS,),
        accepts=lambda checkpoint: checkpoint.enlarges,
    )


def default_upscale_request(image: Path) -> UpscaleRequest:
    """The request to offer first: its checkpoint is the one that made the image, empty if the image does not name it."""
    return UpscaleRequest(source=image, **_values(image, sampled=True))


def _settings_of(image: Path) -> ImageSettings | None:
    """The settings stored in an image; for an image that was only upscaled, those of its source if that still exists.

    None without settings, or for a file that is not an image: that is reported when it is opened.
    """
    newest: ImageSettings | None = None
    for _ in range(_MOST_SOURCES):
        try:
            settings = metadata.read(image)
        except (ImageProblem, BadRequest, OSError):
            return newest
        newest, request = settings, settings.request
        if not isinstance(request, UpscaleRequest) or request.checkpoint:
            break
        image = request.source
    return newest


def upscale_request(image: Path, *, sampled: bool, usual: Mapping[str, Any] = _NOTHING, **given: Any) -> UpscaleRequest:
    """The request to upscale this image: fields that are not in `given` come from the settings stored in the image.

    `usual` are the values of what these settings do not hold. With `sampled`, the checkpoint and its sampling settings are
    taken over too; BadRequest when no checkpoint is known.
    """
    values = {**usual, **_values(image, sampled=sampled)}
    if any(given.get(name, values.get(name)) != values.get(name) for name in ("checkpoint", "sampler")):
        values.pop("times", None)  # they were fitted to the image's checkpoint and sampler
    values |= given
    if sampled and not values.get("checkpoint"):
        raise BadRequest(
            f"The checkpoint to sample {image.name} with is unknown",
            "the image does not name the checkpoint that made it",
            "Choose a checkpoint",
        )
    return UpscaleRequest(source=image, **values)


def _values(image: Path, *, sampled: bool) -> dict[str, Any]:
    """The fields of a request that the settings stored in an image hold."""
    settings = _settings_of(image)
    if settings is None:
        return {}
    names = (*_PROMPTS, *(_SAMPLING if sampled else ()))
    values = {name: getattr(settings.request, name) for name in names if name not in settings.not_held}
    return values | ({"checkpoint": settings.checkpoint} if sampled and settings.checkpoint else {})
