"""Is a run learning, not copying? Its verdict with the evidence, and samples beside their nearest training images."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.studio.runs.history import HistoryView, Trend
from diffstudio.training.run.events import Outcome, RunSamples
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run.nearest_images import SamplePair, read_pairs
from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.controls import Card, SectionLabel
from diffstudio.ui.widgets.helpers import describe, label
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.widgets.images.roving_focus import RovingFocus

PAIRS = 3
SIDE = 44  # px of a sample and of a training image
_TREND = {
    Trend.FALLING: ("trend-down", "good"),
    Trend.LEVEL: ("minus", "dim"),
    Trend.RISING: ("warning", "warn"),
    Trend.UNKNOWN: ("hourglass", "dim"),
}
OUTCOME_SIGNS: dict[str, tuple[str, str]] = {  # icon and tone
    Outcome.LEARNING: ("trend-down", "good"),
    Outcome.READY: ("check", "good"),
    Outcome.COPYING: ("warning", "warn"),
    Outcome.COLLAPSED: ("warning", "bad"),
}
_UNDECIDED = ("hourglass", "dim")


def is_known(history: HistoryView | None) -> bool:
    """Whether there is something to show of a run."""
    return history is not None and (bool(history.verdicts) or len(history.held_out_losses) > 0)


class LearningCard(QWidget):
    """Hidden until there is a verdict or a measurement of the held-out loss."""

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._reading: asyncio.Task[None] | None = None
        self._thumbnails: list[ImageThumbnail] = []
        self._focus = RovingFocus(self)
        self._shown: tuple[Path, RunSamples] | None = None  # whose pairs are shown or being read
        self._icon = label()
        self._icon.setFixedWidth(20)
        self._icon.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.text = label("", pixels=theme.SMALL_PIXELS, wrap=True)
        self.evidence = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self._pairs_heading = label(
            "Samples beside the training images nearest to them", "dim", pixels=theme.SMALL_PIXELS, wrap=True
        )
        self._grid = QGridLayout()
        self._grid.setSpacing(6)
        self._grid.setColumnStretch(2, 1)
        card = Card()
        inside = QVBoxLayout(card)
        inside.setContentsMargins(10, 10, 10, 10)
        inside.setSpacing(6)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self.text, 1)
        inside.addLayout(row)
        inside.addWidget(self.evidence)
        inside.addWidget(self._pairs_heading)
        inside.addLayout(self._grid)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(SectionLabel("Learning or copying?"))
        column.addWidget(card)
        self._show_pairs(())
        self.hide()

    def show_history(
        self, history: HistoryView | None, run: RunFolder | None = None, folder: Path | None = None
    ) -> None:
        """Show what is known of a run; `folder` holds its training images."""
        self.setVisible(is_known(history))
        if history is None or not is_known(history):
            self._show_newest_pairs(None, None, None)
            return
        ended = history.finished is not None and history.finished.outcome
        if history.finished is not None and ended:
            sentence, evidence = history.finished.verdict, history.finished.evidence
            icon, tone = OUTCOME_SIGNS.get(history.finished.outcome, _UNDECIDED)
        elif history.verdicts:
            newest = history.verdicts[-1]
            sentence, evidence = newest.sentence, newest.evidence
            icon, tone = OUTCOME_SIGNS.get(newest.outcome, _UNDECIDED)
        else:
            trend, sentence = history.trend()
            evidence, (icon, tone) = (), _TREND[trend]
        self._icon.setPixmap(icons.pixmap(icon, 16, tone))
        self.text.setText(sentence)
        self.evidence.setText("\n".join(f"· {each}" for each in evidence))
        self.evidence.setVisible(bool(evidence))
        describe(self, sentence, " ")
        sheet = next((sheet for sheet in reversed(history.samples) if sheet.nearest), None)
        self._show_newest_pairs(run, folder, sheet)

    def pairs(self) -> list[ImageThumbnail]:
        """The thumbnails: a sample, its training image, and so on."""
        return list(self._thumbnails)

    def _show_newest_pairs(self, run: RunFolder | None, folder: Path | None, sheet: RunSamples | None) -> None:
        key = (run.path, sheet) if run is not None and folder is not None and sheet is not None else None
        if key == self._shown:
            return
        self._shown = key
        if self._reading is not None:
            self._reading.cancel()
        if run is None or folder is None or sheet is None:
            self._show_pairs(())
        else:
            self._reading = self._tasks.start(self._read(run, folder, sheet))

    async def _read(self, run: RunFolder, folder: Path, sheet: RunSamples) -> None:
        side = round(SIDE * self.devicePixelRatioF())
        self._show_pairs(await self._tasks.to_thread(read_pairs, run, folder, sheet, PAIRS, side))

    def _show_pairs(self, pairs: Sequence[SamplePair]) -> None:
        before = []
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                before.append(widget)
        self._thumbnails = []
        for row, pair in enumerate(pairs):
            sample = ImageTarget(image=pair.sample, prompt=pair.prompt)
            training = ImageTarget(pair.path, pair.nearest)
            for column, (target, name) in enumerate(((sample, "Sample"), (training, "Training image"))):
                about = pair.prompt or "no prompt" if column == 0 else pair.text()
                shown = ImageThumbnail(target, SIDE, name=f"{name}: {about}", tooltip=about)
                shown.menu_requested.connect(self.menu_requested)
                self._thumbnails.append(shown)
                self._grid.addWidget(shown, row, column)
            self._grid.addWidget(_ratio_label(pair), row, 2)
        self._focus.set_images(self._thumbnails)
        for widget in before:
            widget.hide()
            widget.deleteLater()
        self._pairs_heading.setVisible(bool(pairs))


def _ratio_label(pair: SamplePair) -> QWidget:
    text = "copy" if pair.copied else "" if pair.ratio is None else f"ratio {pair.ratio:.2f}"
    shown = label(text, "warn" if pair.copied else "dim", pixels=theme.SMALL_PIXELS, wrap=True)
    describe(shown, pair.text(), f"{pair.text()}. A copy is far nearer to one training image than to the next")
    return shown
