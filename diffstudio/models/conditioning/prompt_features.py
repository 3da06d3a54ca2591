"""PromptFeature: which parts of the prompt grammar a model supports. No torch is imported here."""

from __future__ import annotations

from enum import Flag, auto


class PromptFeature(Flag):
    """What a model can do with its prompts beyond reading plain text."""

    NONE = 0
    TEXT = auto()  # prompts are free text, where a backslash makes the next bracket a plain character
    WEIGHTS = auto()  # `(word:1.2)`, `[word]` and BREAK
    SCHEDULE = auto()  # `[from:to:when]` and `[a|b]`
    AND = auto()  # prompts composed with AND
    NEGATIVE = auto()  # a negative prompt
    EMBEDDINGS = auto()  # textual inversions
