"""How reference cycles are collected, which keep tensors in memory. No torch is imported here."""

from __future__ import annotations

import gc
from collections.abc import Callable

_collect: Callable[[], object] = gc.collect


def collect() -> None:
    """Collect all reference cycles."""
    _collect()


def set_collector(function: Callable[[], object] = gc.collect) -> None:
    """Collect by this function from now on. The window's objects may be destroyed in its own thread only."""
    global _collect
    _collect = function
