"""The words of the captions a checkpoint was trained on, and which words of a prompt are not among them.

New checkpoints hold them in their header, as `diffstudio.captions`: how often each word occurs, and some whole captions
as examples. No torch is imported here.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from diffstudio import paths
from diffstudio.errors import CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.detection.families_table import is_trained_here

MOST_WORDS = 20_000  # in a header; a folder with more has no list, and no word of a prompt is called unknown
MOST_EXAMPLES = 40
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
# Captions often lack these, and no one expects to see them in the image.
_FUNCTION_WORDS = frozenset(
    _WORD.findall(
        "a the an and or but of in on at by to for from with without into onto over under near is are be it its this that "
        "these those as no not very some my your his her their our"
    )
)


@dataclass(frozen=True, slots=True)
class CaptionWords:
    """What is known of the captions of a checkpoint."""

    words: Mapping[str, int]  # how often each occurs; empty if unknown
    examples: tuple[str, ...] = ()  # whole captions, offered as prompts

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of a prompt that no caption has, in their order and as written, each once.

        Case makes no difference, nor do singular and plural of regular English nouns; numbers, single letters and
        function words (a, the, with) are never listed. Empty where the captions are not known.
        """
        if not self.words:
            return []
        found = {_plain(word): word for word in reversed(_WORD.findall(unicodedata.normalize("NFKC", prompt)))}
        return [word for plain, word in reversed(found.items()) if _could_be_learnt(plain) and not self._knows(plain)]

    def _knows(self, plain: str) -> bool:
        return any(form in self.words for form in _forms(plain))

    def to_json(self) -> dict[str, Any]:
        return {"words": dict(self.words), "examples": list(self.examples)}


def count_words(captions: Iterable[str], examples: Sequence[str] = ()) -> CaptionWords:
    """Count the words of captions; the result has no words if there are more than `MOST_WORDS` different ones."""
    counts = Counter(
        _plain(word) for caption in captions for word in _WORD.findall(unicodedata.normalize("NFKC", caption))
    )
    kept = tuple(dict.fromkeys(example for example in examples if example.strip()))[:MOST_EXAMPLES]
    return CaptionWords(dict(sorted(counts.items())) if len(counts) <= MOST_WORDS else {}, kept)


def caption_words(checkpoint: Checkpoint) -> CaptionWords | None:
    """The caption words of a checkpoint trained here: from its header, for the starter from a file that ships with it.

    None where nothing is known of them.
    """
    text = checkpoint.metadata.get("diffstudio.captions", "")
    if not text and checkpoint.origin is Origin.STARTER:
        try:
            text = (paths.starter().parent / "captions.json").read_text(encoding="utf-8")
        except OSError:
            return None
    if not text and is_trained_here(checkpoint.family):
        return _from_recipe(checkpoint)
    return _parsed(text) if text else None


def _from_recipe(checkpoint: Checkpoint) -> CaptionWords | None:
    """Only examples: the prompts that the recipe of an older checkpoint names for its sample sheets."""
    try:
        prompts = checkpoint.json("recipe")["run"]["prompts"]
    except (CheckpointDamaged, KeyError, TypeError):
        return None
    examples = tuple(prompt for prompt in prompts if isinstance(prompt, str)) if isinstance(prompts, list) else ()
    return CaptionWords({}, examples[:MOST_EXAMPLES]) if examples else None


@lru_cache(maxsize=8)
def _parsed(text: str) -> CaptionWords | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match values:
        case {"words": dict(words), "examples": list(examples)}:
            return CaptionWords(words, tuple(example for example in examples if isinstance(example, str)))
    return None


def _plain(word: str) -> str:
    return word.casefold().replace("’", "'").removesuffix("'s")


def _could_be_learnt(plain: str) -> bool:
    return len(plain) > 1 and plain not in _FUNCTION_WORDS and not any(character.isdigit() for character in plain)


def _forms(plain: str) -> Iterable[str]:
    """The word itself, and what can be its singular or plural."""
    yield plain
    yield f"{plain}s"
    yield f"{plain}es"
    if plain.endswith("y"):
        yield f"{plain[:-1]}ies"
    for ending, replacement in (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", "")):
        if plain.endswith(ending) and len(plain) > len(ending) + 1:
            yield plain.removesuffix(ending) + replacement
