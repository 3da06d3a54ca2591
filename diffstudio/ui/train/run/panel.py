"""The left column for a run: its image folder, recipe and settings, and a button for the next action."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from diffstudio.plurals import count_of
from diffstudio.studio.runs.notes import LONGEST_NOTE, RunNote
from diffstudio.studio.runs.runs import RunSummary
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.events import RunStarted
from diffstudio.training.run.run_folder import RunFolder, Status
from diffstudio.ui.train.folder.folder_card import CARD_THUMBS, FolderCard
from diffstudio.ui.train.recipe_options import augmentation_text, noise_levels_text, optimiser_text, recipe_size_text
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SectionLabel
from diffstudio.ui.widgets.formatting import device_text, human_count
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label
from diffstudio.ui.widgets.layout.side_column import scrolled_column
from diffstudio.ui.widgets.note_field import NoteField


class Action(StrEnum):
    """What the button does."""

    PAUSE = "Pause training"
    RESUME = "Resume training"
    TRY_AGAIN = actions.TRY_AGAIN
    GENERATE = actions.GENERATE_WITH_THIS


_TOOLTIPS = {
    Action.PAUSE: "Pause after the current step. Memory stays in use",
    Action.RESUME: "Continue from the last step",
    Action.TRY_AGAIN: "Start a new run with the same settings",
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
            return Action.RESUME if summary.run.state_file.exists() else Action.TRY_AGAIN


class RunPanel(QWidget):
    """The settings of a run and the button for its next action."""

    action_requested = Signal(object)  # Action
    note_changed = Signal(object, str)  # RunFolder and its note

    def __init__(self) -> None:
        super().__init__()
        self._action = Action.PAUSE
        self._pending_status: Status | None = None
        self.card = FolderCard()
        self._info_grid = QGridLayout()
        self._info_grid.setHorizontalSpacing(12)
        self._info_grid.setVerticalSpacing(6)
        self._info_grid.setColumnStretch(1, 1)
        self._shown_info: tuple[tuple[str, str], ...] = ()
        self._recipe_title, self.recipe_name = SectionLabel("Recipe"), label("", wrap=True)
        self.recipe_reason = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.note = NoteField("What you tried, what came of it…", "A note on this run", LONGEST_NOTE)
        self.note_problem = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        self.note_problem.hide()
        self._run: RunFolder | None = None
        self._unsaved: dict[RunFolder, str] = {}  # notes on runs that were not shown any more
        self.button = PrimaryButton(Action.PAUSE)
        column = scrolled_column(self)
        column.addWidget(SectionLabel("Images"))
        column.addWidget(self.card)
        column.addWidget(self._recipe_title)
        column.addWidget(self.recipe_name)
        column.addLayout(self._info_grid)
        column.addWidget(self.recipe_reason)
        column.addWidget(SectionLabel("Note"))
        column.addWidget(self.note)
        column.addWidget(self.note_problem)
        column.addStretch(1)
        bottom = QVBoxLayout()
        bottom.setContentsMargins(16, 8, 16, 16)
        bottom.addWidget(self.button)
        layout = self.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.addLayout(bottom)
        self.button.clicked.connect(self._emit_action)
        self.note.edited.connect(self._emit_note)

    def show_note(self, run: RunFolder, note: RunNote) -> None:
        """Show the note on a run, unless it is being edited here. One that is not complete cannot be edited."""
        if run != self._run:
            self.note.save()
            self._run = run
        elif self.note.has_edits() or self.note.hasFocus():
            return
        self.note.show_text(note.text)
        self.note.setReadOnly(bool(note.problem))
        self.note_problem.setText(note.problem)
        self.note_problem.setVisible(bool(note.problem))
        if run in self._unsaved and not note.problem:
            self.note.setPlainText(self._unsaved.pop(run))  # saved as what is typed

    def keep_note(self, run: RunFolder, note: str) -> None:
        """Keep a note on a run that could not be saved: in its field, or until the run is shown again."""
        if run == self._run and (self.note.has_edits() or self.note.text_to_save() == note):
            self.note.keep_edits()
        else:
            self._unsaved[run] = note

    def _emit_note(self, text: str) -> None:
        if self._run is not None:
            self._unsaved.pop(self._run, None)  # this one is newer
            self.note_changed.emit(self._run, text)

    def show_run(self, summary: RunSummary, recipe: Recipe | None, started: RunStarted | None) -> None:
        summary_text = ""
        if started is not None:
            summary_text = count_of(started.images, "image")
            summary_text += f" · {started.held_out:,} held out" if started.held_out else ""
            summary_text += f" · {started.splits} folds" if started.splits else ""
        self.card.show_folder(summary.image_folder or Path("?"), summary_text)
        self.recipe_name.setText(recipe.name if recipe is not None else "")
        for part in (self._recipe_title, self.recipe_name):
            part.setVisible(recipe is not None)
        self.recipe_reason.setText(started.why if started is not None else "")
        self.recipe_reason.setVisible(bool(self.recipe_reason.text()))
        self._show_info(tuple(run_info(recipe, started)))
        if self._pending_status is not None and summary.status is not self._pending_status:
            self._pending_status = None
        self._action = next_action(summary)
        starting = summary.status is Status.STARTING  # pausing works from the first step on
        self.button.setEnabled(self._pending_status is None and not starting)
        self.button.setText(
            "Preparing…" if starting else self._action if self._pending_status is None else _waiting_text(self._action)
        )
        describe(self.button, self.button.text(), _TOOLTIPS[self._action])

    def set_thumbs(self, images: Sequence[QImage]) -> None:
        self.card.set_thumbs(images[:CARD_THUMBS])

    def show_pending(self, status: Status | None) -> None:
        """Disable the button until the run leaves this status; None enables it again."""
        self._pending_status = status
        self.button.setEnabled(status is None)
        self.button.setText(self._action if status is None else _waiting_text(self._action))

    def _emit_action(self) -> None:
        self.action_requested.emit(self._action)

    def _show_info(self, shown: tuple[tuple[str, str], ...]) -> None:
        if shown == self._shown_info:
            return
        self._shown_info = shown
        while (item := self._info_grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        for row, (name, value) in enumerate(shown):
            self._info_grid.addWidget(label(name, "dim", pixels=theme.SMALL_PIXELS), row, 0)
            text = ElidedLabel(value, pixels=theme.SMALL_PIXELS)
            text.setAlignment(Qt.AlignmentFlag.AlignRight)
            describe(text, f"{name}: {value}")
            self._info_grid.addWidget(text, row, 1)


def _waiting_text(action: Action) -> str:
    return {Action.PAUSE: "Pausing after this step…", Action.RESUME: "Resuming…"}.get(action, f"{action}…")


def run_info(recipe: Recipe | None, started: RunStarted | None) -> list[tuple[str, str]]:
    """The settings of a run as names and values."""
    rows: list[tuple[str, str]] = []
    if started is not None:
        rows.append(("Network", f"{human_count(started.parameters)} parameters"))
    if recipe is not None:
        rows += [
            ("Size", recipe_size_text(recipe)),
            ("Conditioning", {"none": "nothing", "class": "classes", "text": "captions"}[recipe.network.conditioning]),
            ("Optimiser", optimiser_text(recipe.optimiser.name)),
            ("Noise levels", noise_levels_text(recipe)),
            ("Augmentation", augmentation_text(recipe)),
            ("Batch", f"{recipe.run.batch}"),
        ]
    if started is not None:
        threads = f", {started.threads} threads" if started.device == "cpu" and started.threads > 1 else ""
        rows.append(("Runs on", f"{device_text(started.device)}, {started.dtype}{threads}"))
    return rows
