"""LoRA tags in a prompt: `<lora:name:0.8>` parsed, added, changed and removed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

TAG = re.compile(r"<(?:lora|lyco):([^<>:]+)((?::[^<>:]*)*)>")
LARGEST_FACTOR = 100.0


@dataclass(frozen=True, slots=True)
class LoraUse:
    """One tag: which LoRA, and how strongly it counts. 1 is as it was trained, 0 not at all."""

    name: str
    network: float = 1.0
    text: float = 1.0

    def tag(self) -> str:
        """As it stands in a prompt."""
        if self.network == self.text:
            return f"<lora:{self.name}:{self.network:g}>"
        return f"<lora:{self.name}:{self.text:g}:{self.network:g}>"


def lora_tags(text: str) -> tuple[str, tuple[LoraUse, ...]]:
    """The prompt without its tags, and what they ask for, in their order. Numbers that are none count as 1."""
    uses = tuple(use_of(match) for match in TAG.finditer(text))
    return TAG.sub("", text) if uses else text, uses


def use_of(tag: re.Match[str]) -> LoraUse:
    """What one match of TAG asks for."""
    named: dict[str, float] = {}
    plain: list[float] = []
    for part in tag[2].split(":")[1:]:
        name, equals, number = part.rpartition("=")
        if equals:
            named[name.strip().lower()] = _factor(number)
        else:
            plain.append(_factor(number))
    text = named.get("te", plain[0] if plain else 1.0)
    return LoraUse(tag[1].strip(), named.get("unet", plain[1] if len(plain) > 1 else text), text)


def _factor(number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        return 1.0
    return max(-LARGEST_FACTOR, min(LARGEST_FACTOR, value)) if math.isfinite(value) else 1.0


def hashes_text(told: object) -> str | None:
    """`name: hash, other: hash`, what AUTOMATIC1111 writes as `Lora hashes` and `TI hashes`; None where nothing was
    told.
    """
    pairs = (
        {
            str(one["name"]): str(one["hash"])
            for one in told
            if isinstance(one, dict) and one.get("hash") and "name" in one
        }
        if isinstance(told, list)
        else {}
    )
    return ", ".join(f"{name}: {digits}" for name, digits in pairs.items()) or None


def with_use(prompt: str, place: int, use: LoraUse | None) -> str:
    """The prompt with its tag number `place` (from 0) put so, or taken out with the blank before it; nothing else
    changes.
    """
    for number, match in enumerate(TAG.finditer(prompt)):
        if number == place:
            start = match.start() - (use is None and prompt[match.start() - 1 : match.start()] == " ")
            return prompt[:start] + (use.tag() if use is not None else "") + prompt[match.end() :]
    return prompt


def with_another(prompt: str, use: LoraUse) -> str:
    """The prompt with one more tag at its end."""
    return f"{prompt.rstrip()} {use.tag()}".lstrip()


def changed(use: LoraUse, factor: float) -> LoraUse:
    """With another factor: for both where they were alike, else for the network alone."""
    return replace(use, network=factor, text=factor if use.network == use.text else use.text)
