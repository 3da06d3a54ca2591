"""LoRA tags in prompts, such as `<lora:name:0.8>`: parse, add, change and remove them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

TAG = re.compile(r"<(?:lora|lyco):([^<>:]+)((?::[^<>:]*)*)>")
LARGEST_WEIGHT = 100.0


@dataclass(frozen=True, slots=True)
class LoraUse:
    """One tag: a LoRA and its weights. 1 is as it was trained, 0 is off."""

    name: str
    network: float = 1.0  # weight for the U-Net or transformer
    text: float = 1.0  # weight for the text encoders
    unusable: tuple[str, ...] = field(
        default=(), compare=False
    )  # weights, as written, that are not numbers or are too large

    def tag(self) -> str:
        """As written in a prompt."""
        if self.network == self.text:
            return f"<lora:{self.name}:{self.network:g}>"
        return f"<lora:{self.name}:{self.text:g}:{self.network:g}>"


def lora_tags(text: str) -> tuple[str, tuple[LoraUse, ...]]:
    """The prompt without its tags, and the tags in order. Weights that are not numbers count as 1, and are named."""
    uses = tuple(parse_tag(match) for match in TAG.finditer(text))
    return TAG.sub("", text) if uses else text, uses


def parse_tag(tag: re.Match[str]) -> LoraUse:
    """The LoRA and weights of one match of TAG."""
    named: dict[str, float] = {}
    plain: list[float] = []
    unusable: list[str] = []
    for argument in tag[2].split(":")[1:]:
        name, equals, number = argument.rpartition("=")
        if equals:
            named[name.strip().lower()] = _weight(number, unusable)
        else:
            plain.append(_weight(number, unusable))
    text = named.get("te", plain[0] if plain else 1.0)
    network = named.get("unet", plain[1] if len(plain) > 1 else text)
    return LoraUse(tag[1].strip(), network, text, tuple(unusable))


def _weight(number: str, unusable: list[str]) -> float:
    """A weight within bounds; what was written in place of one is added to `unusable`."""
    try:
        value = float(number or "1")
    except ValueError:
        value = math.nan
    usable = max(-LARGEST_WEIGHT, min(LARGEST_WEIGHT, value)) if math.isfinite(value) else 1.0
    if usable != value:
        unusable.append(number.strip())
    return usable


def hashes_text(entries: object) -> str | None:
    """`name: hash, other: hash`, as AUTOMATIC1111 writes `Lora hashes` and `TI hashes`; None without any hash."""
    pairs = (
        {
            str(entry["name"]): str(entry["hash"])
            for entry in entries
            if isinstance(entry, dict) and entry.get("hash") and "name" in entry
        }
        if isinstance(entries, list)
        else {}
    )
    return ", ".join(f"{name}: {digits}" for name, digits in pairs.items()) or None


def replace_tag(prompt: str, place: int, use: LoraUse | None) -> str:
    """The prompt with tag number `place` (from 0) replaced; with None removed, together with the space before it."""
    for number, match in enumerate(TAG.finditer(prompt)):
        if number == place:
            start = match.start() - (use is None and prompt[match.start() - 1 : match.start()] == " ")
            return prompt[:start] + (use.tag() if use is not None else "") + prompt[match.end() :]
    return prompt


def add_tag(prompt: str, use: LoraUse) -> str:
    """The prompt with a tag appended."""
    return f"{prompt.rstrip()} {use.tag()}".lstrip()


def with_weight(use: LoraUse, weight: float) -> LoraUse:
    """The tag with another weight: for both if they were equal, else for the network alone."""
    return replace(use, network=weight, text=weight if use.network == use.text else use.text)
