"""What the settings in an image leave open: fields of a request that it does not hold, and what was not imported."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

from diffstudio.studio.requests import GenerateRequest

# Every image was made with these, so that a program that writes settings writes them.
_ALWAYS = ("prompt", "negative", "checkpoint", "seed", "steps", "guidance", "sampler", "spacing")
_SAMPLING = {"seed", "steps", "guidance", "sampler"}
_OF_SPACING = ("times", "curve")
_SIZE = {"width", "height"}


@dataclass(frozen=True, slots=True)
class Gaps:
    """Fields of a request that hold defaults instead of the image's values, and phrases for what was not imported."""

    fields: frozenset[str] = frozenset()
    not_imported: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.fields or self.not_imported)


NO_GAPS = Gaps()


def fields_not_held(held: Collection[str], sized: Collection[str]) -> frozenset[str]:
    """The fields that an image does not hold, where it holds these; `sized` are those that its own pixels can give.

    What an image may be made without, such as a hires fix, is off where its sampling settings do not mention it. An
    image without sampling settings says nothing about it.
    """
    held, always = set(held), set(_ALWAYS)
    if _SAMPLING & held:
        held |= {field.name for field in fields(GenerateRequest)} - always - _SIZE | set(sized)
    if "seed" not in held:
        held.discard("count")
    if "spacing" not in held:
        held -= set(_OF_SPACING)
    if not held >= _SIZE:
        held -= _SIZE
    return frozenset(field.name for field in fields(GenerateRequest)) - held
