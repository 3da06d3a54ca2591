"""What a network is conditioned on: nothing, a class, or text. No torch."""

from __future__ import annotations

from enum import StrEnum


class Conditioning(StrEnum):
    """The kind of input that selects what an image shows."""

    NONE = "none"
    CLASS = "class"
    TEXT = "text"
