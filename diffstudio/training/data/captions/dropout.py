"""Caption dropout: a random part of an image's caption each time the image is seen, or no caption at all.

A caption is a sentence, which is kept whole, or a name followed by tags after commas. Prompts are names, names with
tags, tags alone, or empty: the network is trained on all of them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_TAG_WORDS = 4
MAX_NAME_WORDS = 8  # before a single tag; a longer beginning is a clause of a sentence

# Words that sentences have and tags do not; where no language is known, the length of what is between commas decides.
_IN_SENTENCES = frozenset({
    "a", "an", "the", "is", "are", "was", "were", "be", "has", "have", "had", "which", "who", "whose", "that", "while",
    "where", "as", "it", "its", "his", "her", "their", "he", "she", "they",
    "ein", "eine", "einen", "einem", "einer", "der", "die", "das", "ist", "sind", "und",
    "un", "une", "le", "la", "les", "est", "sont", "et", "el", "los", "las", "es", "son", "y",
})  # fmt: skip
_STARTS_CLAUSES = frozenset({
    "and", "or", "but", "with", "near", "next", "behind", "under", "above", "beside", "against", "into", "onto", "from",
    "for", "to",
})  # fmt: skip
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)]*(\s|$)")


@dataclass(frozen=True, slots=True)
class CaptionDropout:
    empty_share: float  # probability of an empty caption, for classifier-free guidance
    name_share: float  # probability of the name alone, of a caption with tags
    tags_share: float  # probability of tags alone, of a caption with tags

    def draw(self, caption: str, rng: random.Random) -> str:
        u = rng.random()
        if u < self.empty_share:
            return ""
        name, *tags = [tag for part in caption.split(",") if (tag := part.strip())] or [""]
        if not tags:
            return name
        if not are_tags(name, tags):
            return caption
        if u < self.empty_share + self.name_share:
            return name
        drawn = rng.sample(tags, rng.randint(1, len(tags)))
        if u >= self.empty_share + self.name_share + self.tags_share:
            drawn = [name, *drawn]
        return ", ".join(drawn)


def short_prompt(caption: str) -> str:
    """The name of a caption with tags; a sentence as a whole."""
    name, *tags = [tag for part in caption.split(",") if (tag := part.strip())] or [""]
    return name if not tags or are_tags(name, tags) else caption


def are_tags(name: str, tags: Sequence[str]) -> bool:
    """Whether what follows the first comma of a caption are tags, and not the rest of a sentence.

    They are if each is short and has no word that sentences are made with, such as an article or a verb, and if nothing
    but the last full stop of the name ends a sentence. In doubt it is a sentence: that loses nothing.
    """
    if len(tags) == 1 and len(name.split()) > MAX_NAME_WORDS:
        return False
    if _SENTENCE_END.search(", ".join(tags)) or _SENTENCE_END.search(name.rstrip(".")):
        return False
    for tag in tags:
        words = tag.casefold().split()
        if len(words) > MAX_TAG_WORDS or not _IN_SENTENCES.isdisjoint(words) or words[0] in _STARTS_CLAUSES:
            return False
    return True
