"""PreviewHistory: the previews of every step of a job, for the filmstrip. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from diffstudio.studio.events import Picture

LARGEST_BYTES = 256 << 20


class PreviewHistory:
    """The previews of every step, of each of the job's images, within `largest_bytes`.

    When they do not fit, every second step of those kept is dropped, so that a long job keeps fewer steps, evenly
    spread. The newest step is always kept.
    """

    def __init__(self, largest_bytes: int = LARGEST_BYTES) -> None:
        self._steps: list[tuple[Picture, ...]] = []  # [i][j]: image j after step i + 1; empty where it was dropped
        self._largest_bytes = largest_bytes
        self._bytes = 0
        self._every = 1  # steps 1, 1 + every, 1 + 2 every, … are kept

    def __len__(self) -> int:
        """The newest step there is; 0 for none."""
        return len(self._steps)

    def put(self, step: int, first: int, pictures: Sequence[Picture]) -> None:
        """The previews after a step (1 ..), of the images from number `first` (0 ..) on."""
        while len(self._steps) < step:
            self._drop_unless_kept(len(self._steps))
            self._steps.append(())
        if step < len(self._steps) and not self._keeps(step):
            return
        before = self._steps[step - 1][:first]
        missed = tuple(pictures[:1]) * (first - len(before))  # steps that were skipped
        self._set(step, before + missed + tuple(pictures))
        while self._bytes > self._largest_bytes and self._every < len(self._steps):
            self._every *= 2
            for other in range(1, len(self._steps)):
                self._drop_unless_kept(other)

    def cut(self, count: int) -> None:
        """Drop all but the first `count` images."""
        for index, pictures in enumerate(self._steps):
            self._set(index + 1, pictures[:count])

    def at(self, step: int) -> tuple[Picture, ...]:
        """The previews after a step, or after the nearest one before it that was kept."""
        return next((pictures for pictures in reversed(self._steps[:step]) if pictures), ())

    def steps(self) -> list[tuple[Picture, ...]]:
        """One entry for each step; empty where it was dropped."""
        return list(self._steps)

    def _keeps(self, step: int) -> bool:
        return (step - 1) % self._every == 0

    def _drop_unless_kept(self, step: int) -> None:
        if step > 0 and not self._keeps(step):
            self._set(step, ())

    def _set(self, step: int, pictures: tuple[Picture, ...]) -> None:
        self._bytes += _size(pictures) - _size(self._steps[step - 1])
        self._steps[step - 1] = pictures


def _size(pictures: tuple[Picture, ...]) -> int:
    return sum(picture.nbytes for picture in pictures)
