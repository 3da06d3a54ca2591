"""Requests that name a model: whether they use it, and the same requests after it was renamed. No torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.studio.panel_state import PanelState
from diffstudio.studio.prompts.lora_tags import TAG
from diffstudio.studio.requests import GenerateRequest, PictureRequest

# Roles of the models that the fields of a request can name.
_CHECKPOINT = frozenset({Role.CHECKPOINT, Role.NETWORK})
_VAE = frozenset({Role.VAE, Role.CHECKPOINT})
_UPSCALER = frozenset({Role.UPSCALER})
_CONTROLNET = frozenset({Role.CONTROLNET})
_Request = TypeVar("_Request", bound=PictureRequest)


@dataclass(frozen=True, slots=True)
class ModelRenamed:
    """A model in the library before and after it was renamed."""

    role: Role
    name: str
    path: Path
    new_name: str
    new_path: Path

    def after(self, roles: Collection[Role], reference: str) -> str:
        """What a field for models of these roles has in place of the old name or path."""
        if self.role not in roles or not names_model(reference, self.name, self.path):
            return reference
        return str(self.new_path) if Path(reference) == self.path else self.new_name


def names_model(reference: str, name: str, path: Path) -> bool:
    """Whether a request's field names this model: by its name in the library, in any case, or by its path."""
    return bool(reference) and (reference.casefold() == name.casefold() or Path(reference) == path)


def uses_model(request: PictureRequest, model: Checkpoint) -> bool:
    """Whether a request uses a model, in any of its fields or in its prompts."""
    here = ModelRenamed(model.role, model.name, model.path, f"{model.name} renamed", model.path.with_suffix(".renamed"))
    return any(here.after(role, reference) != reference for role, reference in _references(request)) or any(
        prompt_after(prompt, here) != prompt for prompt in (request.prompt, request.negative)
    )


def request_after(request: _Request, renamed: ModelRenamed) -> _Request:
    """The request with the model's new name or path wherever it has the old one; itself if it does not use it.

    BadRequest where a prompt would become too long.
    """
    changed = replace(
        request,
        checkpoint=renamed.after(_CHECKPOINT, request.checkpoint),
        vae=renamed.after(_VAE, request.vae),
        upscaler=renamed.after(_UPSCALER, request.upscaler),
        prompt=prompt_after(request.prompt, renamed),
        negative=prompt_after(request.negative, renamed),
    )
    if isinstance(changed, GenerateRequest):
        controls = tuple(replace(use, network=renamed.after(_CONTROLNET, use.network)) for use in changed.controls)
        weak = renamed.after(_CHECKPOINT, changed.autoguidance)
        changed = replace(changed, controls=controls, autoguidance=weak)
    return request if changed == request else changed


def state_after(state: PanelState, renamed: ModelRenamed) -> PanelState:
    """What is kept of the panel with the model's new name wherever it has the old one. BadRequest as `request_after`."""
    typed = {name: text if name == "seed" else prompt_after(text, renamed) for name, text in state.typed.items()}
    hidden = request_after(GenerateRequest(controls=state.hidden_controls), renamed).controls
    return replace(state, request=request_after(state.request, renamed), typed=typed, hidden_controls=hidden)


def followed(request: _Request, renamed: ModelRenamed) -> _Request:
    """As `request_after`; a request whose prompt would become too long keeps the old name."""
    with suppress(BadRequest):
        return request_after(request, renamed)
    return request


class RenamedModels:
    """What was renamed since the program was started, for requests that are read from files with the old names."""

    def __init__(self) -> None:
        self._changes: list[ModelRenamed] = []
        self._listed: set[tuple[Role, str]] = set()

    def add(self, change: ModelRenamed) -> None:
        self._changes.append(change)

    def set_models(self, models: Iterable[Checkpoint]) -> None:
        """The models of the library: an old name that one of them has is its name now."""
        self._listed = {(model.role, model.name.casefold()) for model in models}

    def current(self, request: _Request) -> _Request:
        """The request with the names that its models have now."""
        for change in self._from_first_to_last():
            if (change.role, change.name.casefold()) not in self._listed:
                request = followed(request, change)
        return request

    def _from_first_to_last(self) -> Iterator[ModelRenamed]:
        """For each name that a model had at first, its change to the last one."""
        known = set[tuple[Role, str]]()
        for number, change in enumerate(self._changes):
            if (key := (change.role, change.name.casefold())) in known:
                continue
            known.add(key)
            for later in self._changes[number + 1 :]:
                if (later.role, later.path) == (change.role, change.new_path):
                    change = replace(change, new_name=later.new_name, new_path=later.new_path)
            yield change


def not_followed(user: str, renamed: ModelRenamed) -> str:
    """The sentence for a request that `request_after` refuses. `user` is what it belongs to."""
    return f"{user} keeps the old name {renamed.name}: with the new one its prompt would be too long."


def _references(request: PictureRequest) -> Iterator[tuple[frozenset[Role], str]]:
    """The fields that can name a model, each with the roles of the models that are looked up for it."""
    yield _CHECKPOINT, request.checkpoint
    yield _VAE, request.vae
    yield _UPSCALER, request.upscaler
    if isinstance(request, GenerateRequest):
        yield _CHECKPOINT, request.autoguidance
        yield from ((_CONTROLNET, use.network) for use in request.controls)


def prompt_after(prompt: str, renamed: ModelRenamed) -> str:
    """The prompt with the new name of a LoRA in its tags, or of an embedding where it stands as a word of its own."""
    if renamed.role is Role.LORA:

        def tag(match: re.Match[str]) -> str:
            if not names_model(match[1].strip(), renamed.name, renamed.path):
                return match[0]
            start, end = (place - match.start() for place in match.span(1))
            return match[0][:start] + renamed.new_name + match[0][end:]

        return TAG.sub(tag, prompt)
    if renamed.role is Role.EMBEDDING:
        tag_or_word = rf"{TAG.pattern}|(?P<word>(?<![\w-]){re.escape(renamed.name)}(?![\w-]))"
        return re.sub(
            tag_or_word,
            lambda match: match[0] if match["word"] is None else renamed.new_name,
            prompt,
            flags=re.IGNORECASE,
        )
    return prompt
