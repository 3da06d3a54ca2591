"""Requests that name a model: whether they use it, and the same requests after it was renamed. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.studio.prompts.lora_tags import TAG
from diffstudio.studio.requests import GenerateRequest, PictureRequest

_Request = TypeVar("_Request", bound=PictureRequest)


@dataclass(frozen=True, slots=True)
class ModelRenamed:
    """A model in the library before and after it was renamed."""

    role: Role
    name: str
    path: Path
    new_name: str
    new_path: Path


def names_model(reference: str, name: str, path: Path) -> bool:
    """Whether a request's field names this model: by its name in the library, in any case, or by its path."""
    return bool(reference) and (reference.casefold() == name.casefold() or Path(reference) == path)


def uses_model(request: PictureRequest, model: Checkpoint) -> bool:
    """Whether a request uses a model, in any of its fields or in its prompts."""
    here = ModelRenamed(model.role, model.name, model.path, f"{model.name} renamed", model.path.with_suffix(".renamed"))
    return request_after(request, here) != request


def request_after(request: _Request, renamed: ModelRenamed) -> _Request:
    """The request with the model's new name or path wherever it has the old one; itself if it does not use it."""

    def field(reference: str) -> str:
        if not names_model(reference, renamed.name, renamed.path):
            return reference
        return str(renamed.new_path) if Path(reference) == renamed.path else renamed.new_name

    changed = replace(
        request,
        checkpoint=field(request.checkpoint),
        vae=field(request.vae),
        upscaler=field(request.upscaler),
        prompt=prompt_after(request.prompt, renamed),
        negative=prompt_after(request.negative, renamed),
    )
    if isinstance(changed, GenerateRequest) and changed.controls:
        controls = tuple(replace(use, network=field(use.network)) for use in changed.controls)
        changed = replace(changed, controls=controls)
    return request if changed == request else changed


def prompt_after(prompt: str, renamed: ModelRenamed) -> str:
    """The prompt with the new name of a LoRA in its tags, or of an embedding where it stands as a word of its own."""
    if renamed.role is Role.LORA:

        def tag(match: re.Match[str]) -> str:
            if not names_model(match[1].strip(), renamed.name, renamed.path):
                return match[0]
            return match[0].replace(match[1], renamed.new_name, 1)

        return TAG.sub(tag, prompt)
    if renamed.role is Role.EMBEDDING:
        word = rf"(?<![\w-]){re.escape(renamed.name)}(?![\w-])"
        return re.sub(word, lambda match: renamed.new_name, prompt, flags=re.IGNORECASE)
    return prompt
