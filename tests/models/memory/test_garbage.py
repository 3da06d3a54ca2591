"""Whoever frees memory uses the collector that was set last."""

from __future__ import annotations

import weakref

from diffstudio.models.memory import garbage
from diffstudio.models.memory.devices import free_unused


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_a_collector_can_be_set_and_taken_back() -> None:
    calls: list[bool] = []
    garbage.set_collector(lambda: calls.append(True))
    free_unused()
    garbage.set_collector()
    reference = weakref.ref(Cycle())
    free_unused()
    assert calls == [True] and reference() is None
