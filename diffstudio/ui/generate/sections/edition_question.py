"""Asks which edition a checkpoint is of, where nothing in the file says so and its recommended settings depend on it."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.editions import EDITIONS, edition_question
from diffstudio.models.library.overrides import Overrides
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import label


class EditionQuestion(QWidget):
    """The question with a button for each edition; hidden where the edition is known."""

    answered = Signal()  # the answer is saved; the model folders need a rescan
    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._checkpoint: Checkpoint | None = None
        self.question = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        self.buttons: dict[str, SecondaryButton] = {}
        column, self._row = QVBoxLayout(self), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        self._row.setSpacing(6)
        column.addWidget(self.question)
        column.addLayout(self._row)
        self.hide()

    def set_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        question = edition_question(checkpoint.family, checkpoint.edition) if checkpoint is not None else ""
        self._checkpoint = checkpoint
        self.setVisible(bool(question))
        self.question.setText(question)
        editions = EDITIONS[checkpoint.family] if checkpoint is not None and question else ()
        if tuple(self.buttons) != editions:
            self._offer(editions)

    def _offer(self, editions: tuple[str, ...]) -> None:
        for button in self.buttons.values():
            self._row.removeWidget(button)
            button.hide()
            button.deleteLater()
        self.buttons = {
            edition: SecondaryButton(edition, tooltip=f"Use the steps and CFG scale recommended for {edition}")
            for edition in editions
        }
        for edition, button in self.buttons.items():
            button.clicked.connect(lambda _=False, edition=edition: self._answer(edition))
            self._row.addWidget(button)

    def _answer(self, edition: str) -> None:
        if self._checkpoint is None:
            return
        try:
            Overrides().put(self._checkpoint, edition=edition)
        except DiffstudioError as problem:
            self.failed.emit(str(problem))
            return
        self.answered.emit()
