"""What a job tells of its progress. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
OnProgress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much (0: not known)


def each(items: Iterable[T], total: int, what: str, report: OnProgress, check: Callable[[], None]) -> Iterator[T]:
    """The items one by one; before each, `check()` may end or pause the work, and its progress is reported."""
    for done, item in enumerate(items):
        check()
        report(what, done, total)
        yield item
    report(what, total, total)
