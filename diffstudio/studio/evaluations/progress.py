"""What a job tells of its progress. No torch."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much (0: not known)
