"""Caption dropout: a random part of an image's caption each time the image is seen, or no caption at all.

A caption is a name followed by tags after commas. Prompts are names, names with tags, tags alone, or empty: the network
is trained on all of them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CaptionDropout:
    empty_share: float  # probability of an empty caption, for classifier-free guidance
    name_share: float  # probability of the name alone
    tags_share: float  # probability of tags alone
    max_tags: int = 3

    def draw(self, caption: str, rng: random.Random) -> str:
        u = rng.random()
        if u < self.empty_share:
            return ""
        name, *tags = [tag for part in caption.split(",") if (tag := part.strip())] or [""]
        if not tags or u < self.empty_share + self.name_share:
            return name
        drawn = rng.sample(tags, min(len(tags), rng.randint(1, self.max_tags)))
        if u >= self.empty_share + self.name_share + self.tags_share:
            drawn = [name, *drawn]
        return ", ".join(drawn)
