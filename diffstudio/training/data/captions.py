"""What the network is told about a picture, drawn anew each time it is seen.

A caption is its first part (the name) and the parts after commas (tags). Prompts come as names, as names with tags, as
tags alone, and as nothing: the network meets them all.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CaptionDropout:
    nothing_share: float  # how often nothing is said, for guidance
    name_share: float  # how often the name alone is
    tags_share: float  # how often tags alone are
    most_tags: int = 3

    def draw(self, caption: str, chance: random.Random) -> str:
        kind = chance.random()
        if kind < self.nothing_share:
            return ""
        name, *tags = [part.strip() for part in caption.split(",")]
        if not tags or kind < self.nothing_share + self.name_share:
            return name
        said = chance.sample(tags, min(len(tags), chance.randint(1, self.most_tags)))
        if kind >= self.nothing_share + self.name_share + self.tags_share:
            said = [name, *said]
        return ", ".join(said)
