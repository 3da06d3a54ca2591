"""The line below a batch that shows its diversity."""

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
    "The Vendi score: the effective number of different images in the batch, in features of EfficientNet-Lite0. 1 means "
    "that all are alike, {count} that they have nothing in common, which images of one prompt do not reach. Mean distance "
    "between two images: {distance:.2f} (0: identical). Compare only batches of the same size; noise raises both values"
)


def _measured(paths: Sequence[Path]) -> BatchDiversity | None:
    """Measure images in a thread. None if they cannot be compared, for example because one has been deleted."""
    try:
        return batch_diversity(paths)
    except DiffstudioError:
        return None


class BatchDiversityLabel(QLabel):
    """The diversity of a batch, hidden until a batch of at least two images has been measured.

    `run` runs a function in another thread and calls back with its result.
    """

    def __init__(self, run: RunInBackground) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("tone", "dim")
        self.setFont(theme.font(theme.SMALL_PIXELS))
        self.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._run = run
        self._paths: tuple[Path, ...] = ()  # of the shown batch
        self._measured_last: tuple[tuple[Path, ...], BatchDiversity | None] | None = None
        self.hide()

    def show_batch(self, paths: Sequence[Path]) -> None:
        """Measure and show the diversity of a finished batch; nothing for fewer than two images."""
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
        if batch != self._paths or found is None:  # another batch is shown by now
            return
        text = f"Diversity {found.vendi:.1f} of {found.images}"
        self.setText(text)
        describe(self, text, _HOW_TO_READ.format(count=found.images, distance=found.distance))
        self.show()
