"""What a network is conditioned on: nothing, a class, or text. No torch."""

from __future__ import annotations

from enum import StrEnum


class Conditioning(StrEnum):
    """What a model is told about the picture it is to make."""

    NONE = "none"
    CLASS = "class"
    TEXT = "text"
