"""The left column with a run: what it learns from and how, and the one thing to do next."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from diffstudio.studio.runs.runs import RunSummary
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.run_folder import RunStarted, Status
from diffstudio.ui.train.new_run_panel import CARD_THUMBS, FolderCard, scrolled_column
from diffstudio.ui.train.recipe_options import changes_text, noise_levels_text, optimiser_text
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import PrimaryButton, SectionLabel
from diffstudio.ui.widgets.formatting import human_count
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label


class Action(StrEnum):
    """What the one button does."""

    PAUSE = "Pause training"
    RESUME = "Resume training"
    AGAIN = "Try again"
    GENERATE = "Generate with it"


_TIPS = {
    Action.PAUSE: "Pause after the current step. Memory stays in use",
    Action.RESUME: "Continue from the last step",
    Action.AGAIN: "Start a new run with the same settings",
    Action.GENERATE: "Generate images with its checkpoint",
}


def next_action(summary: RunSummary) -> Action:
    match summary.status:
        case Status.FINISHED if summary.checkpoint is not None:
            return Action.GENERATE
        case Status.PAUSED:
            return Action.RESUME
        case Status.STARTING | Status.TRAINING | Status.WAITING:
            return Action.PAUSE
        case _:
            return Action.RESUME if summary.run.state_file.exists() else Action.AGAIN


class RunPanel(QWidget):
    action_requested = Signal(object)  # Action

    def __init__(self) -> None:
        super().__init__()
        self._action = Action.PAUSE
        self._asked: Status | None = None
        self.card = FolderCard()
        self._facts = QGridLayout()
        self._facts.setHorizontalSpacing(12)
        self._facts.setVerticalSpacing(6)
        self._facts.setColumnStretch(1, 1)
        self._facts_shown: tuple[tuple[str, str], ...] = ()
        self._recipe_title, self.recipe_name = SectionLabel("Recipe"), label("", wrap=True)
        self.why = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.button = PrimaryButton(Action.PAUSE)
        column = scrolled_column(self)
        column.addWidget(SectionLabel("Images"))
        column.addWidget(self.card)
        column.addWidget(self._recipe_title)
        column.addWidget(self.recipe_name)
        column.addLayout(self._facts)
        column.addWidget(self.why)
        column.addStretch(1)
        bottom = QVBoxLayout()
        bottom.setContentsMargins(16, 8, 16, 16)
        bottom.addWidget(self.button)
        layout = self.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.addLayout(bottom)
        self.button.clicked.connect(self._press)

    def show_run(self, summary: RunSummary, recipe: Recipe | None, started: RunStarted | None) -> None:
        sentence = ""
        if started is not None:
            sentence = f"{started.images:,} images"
            sentence += f" · {started.held_out:,} held out" if started.held_out else ""
        self.card.show_folder(summary.image_folder or Path("?"), sentence)
        self.recipe_name.setText(recipe.name if recipe is not None else "")
        for part in (self._recipe_title, self.recipe_name):
            part.setVisible(recipe is not None)
        self.why.setText(started.why if started is not None else "")
        self.why.setVisible(bool(self.why.text()))
        self._show_facts(tuple(facts(recipe, started)))
        if self._asked is not None and summary.status is not self._asked:
            self._asked = None
        self._action = next_action(summary)
        starting = summary.status is Status.STARTING  # it listens from its first step on; stopping works already
        self.button.setEnabled(self._asked is None and not starting)
        self.button.setText(
            "Preparing…" if starting else self._action if self._asked is None else _waiting_text(self._action)
        )
        describe(self.button, self.button.text(), _TIPS[self._action])

    def set_thumbs(self, images: Sequence[QImage]) -> None:
        self.card.set_thumbs(images[:CARD_THUMBS])

    def show_asked(self, status: Status | None) -> None:
        """What the button does has been asked for while the run was in this status; None when that came to nothing."""
        self._asked = status
        self.button.setEnabled(status is None)
        self.button.setText(self._action if status is None else _waiting_text(self._action))

    def _press(self) -> None:
        self.action_requested.emit(self._action)

    def _show_facts(self, shown: tuple[tuple[str, str], ...]) -> None:
        if shown == self._facts_shown:
            return
        self._facts_shown = shown
        while (item := self._facts.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        for row, (name, value) in enumerate(shown):
            self._facts.addWidget(label(name, "dim", pixels=theme.SMALL_PIXELS), row, 0)
            text = ElidedLabel(value, pixels=theme.SMALL_PIXELS)
            text.setAlignment(Qt.AlignmentFlag.AlignRight)
            describe(text, f"{name}: {value}")
            self._facts.addWidget(text, row, 1)


def _waiting_text(action: Action) -> str:
    return {Action.PAUSE: "Pausing after this step…", Action.RESUME: "Resuming…"}.get(action, f"{action}…")


def facts(recipe: Recipe | None, started: RunStarted | None) -> list[tuple[str, str]]:
    """What is worth knowing of a run, as names and values."""
    said: list[tuple[str, str]] = []
    if started is not None:
        said.append(("Network", f"{human_count(started.parameters)} parameters"))
    if recipe is not None:
        said += [
            ("Size", f"{recipe.data.size} px"),
            ("Conditioning", {"none": "nothing", "class": "classes", "text": "captions"}[recipe.network.conditioning]),
            ("Optimiser", optimiser_text(recipe.optimiser.name)),
            ("Noise levels", noise_levels_text(recipe.objective.noise_levels)),
            ("Images", changes_text(recipe)),
            ("Batch", f"{recipe.run.batch}"),
        ]
    if started is not None:
        threads = f", {started.threads} threads" if started.device == "cpu" and started.threads > 1 else ""
        said.append(("Runs on", f"{started.device}, {started.dtype}{threads}"))
    return said
