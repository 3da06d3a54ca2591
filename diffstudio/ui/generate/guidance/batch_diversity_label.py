"""The line below a batch that says how different its images are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel

from diffstudio.errors import DiffstudioError
from diffstudio.studio.batch_diversity import FEWEST, BatchDiversity, batch_diversity
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe

RunInBackground = Callable[[Callable[[], Any], Callable[[Any], None]], None]

_HOW_TO_READ = (
    "The Vendi score: how many different images the batch holds in effect, by what a network (EfficientNet-Lite0) sees in "
    "them. 1: all alike; {count}: nothing in common, which images of one prompt do not reach. Mean distance of two images: "
    "{distance:.2f}; 0 for equal ones. Only batches of the same size compare, and noise raises both figures"
)


def _measured(paths: Sequence[Path]) -> BatchDiversity | None:
    """In a thread. None for images that cannot be compared: one of them may be gone already."""
    try:
        return batch_diversity(paths)
    except DiffstudioError:
        return None


class BatchDiversityLabel(QLabel):
    """Hidden until a batch of two images or more has been measured. `run` runs a function in another thread, and calls
    back with its result.
    """

    def __init__(self, run: RunInBackground) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("tone", "dim")
        self.setFont(theme.font(theme.SMALL_PIXELS))
        self.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._run = run
        self._paths: tuple[Path, ...] = ()  # of the batch that is shown
        self._measured_last: tuple[tuple[Path, ...], BatchDiversity | None] | None = None
        self.hide()

    def show_batch(self, paths: Sequence[Path]) -> None:
        """Measure a finished batch, and show it; nothing for fewer than two images."""
        batch = tuple(paths)
        if batch == self._paths:
            return
        self._paths = batch
        self.hide()
        if len(batch) < FEWEST:
            return
        if self._measured_last is not None and self._measured_last[0] == batch:
            self._show(batch, self._measured_last[1])
        else:
            self._run(partial(_measured, batch), lambda found: self._show(batch, found))

    def _show(self, batch: tuple[Path, ...], found: BatchDiversity | None) -> None:
        self._measured_last = batch, found
        if batch != self._paths or found is None:  # something else is shown meanwhile
            return
        text = f"Diversity {found.vendi:.1f} of {found.images}"
        self.setText(text)
        describe(self, text, _HOW_TO_READ.format(count=found.images, distance=found.distance))
        self.show()
