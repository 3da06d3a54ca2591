"""PreviewHistory: the previews of each step of a job, for the filmstrip. No torch is imported here."""

from __future__ import annotations

from collections.abc import Sequence

from diffstudio.studio.events import Picture

LARGEST_BYTES = 256 << 20


class PreviewHistory:
    """The previews of each step and image of a job, in at most `largest_bytes`.

    When they do not fit, every second of the kept steps is dropped, so that a long job keeps fewer, evenly spaced
    steps. The newest step is always kept.
    """

    def __init__(self, largest_bytes: int = LARGEST_BYTES) -> None:
        self._steps: list[tuple[Picture, ...]] = []  # [i][j]: image j after step i + 1; empty where it was dropped
        self._largest_bytes = largest_bytes
        self._bytes = 0
        self._every = 1  # steps 1, 1 + every, 1 + 2 every, … are kept

    def __len__(self) -> int:
        """The number of the newest step; 0 for none."""
        return len(self._steps)

    def put(self, step: int, first: int, previews: Sequence[Picture]) -> None:
        """Add the previews of step `step` (from 1), of the images from index `first` (from 0) on."""
        while len(self._steps) < step:
            self._drop_unless_kept(len(self._steps))
            self._steps.append(())
        if step < len(self._steps) and not self._keeps(step):
            return
        before = self._steps[step - 1][:first]
        missing = tuple(previews[:1]) * (first - len(before))  # earlier images whose previews of this step were dropped
        self._set(step, before + missing + tuple(previews))
        while self._bytes > self._largest_bytes and self._every < len(self._steps):
            self._every *= 2
            for other in range(1, len(self._steps)):
                self._drop_unless_kept(other)

    def cut(self, count: int) -> None:
        """Drop all but the first `count` images."""
        for index, previews in enumerate(self._steps):
            self._set(index + 1, previews[:count])

    def at(self, step: int) -> tuple[Picture, ...]:
        """The previews of a step, or of the nearest kept one before it."""
        return next((previews for previews in reversed(self._steps[:step]) if previews), ())

    def steps(self) -> list[tuple[Picture, ...]]:
        """One entry for each step; empty where it was dropped."""
        return list(self._steps)

    def _keeps(self, step: int) -> bool:
        return (step - 1) % self._every == 0

    def _drop_unless_kept(self, step: int) -> None:
        if step > 0 and not self._keeps(step):
            self._set(step, ())

    def _set(self, step: int, previews: tuple[Picture, ...]) -> None:
        self._bytes += _size(previews) - _size(self._steps[step - 1])
        self._steps[step - 1] = previews


def _size(previews: tuple[Picture, ...]) -> int:
    return sum(preview.nbytes for preview in previews)
