"""Asks for the prompts that a run draws its samples with."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton
from diffstudio.ui.widgets.dialogs import FittedDialog, ask_to_discard
from diffstudio.ui.widgets.helpers import describe, label

MOST_PROMPTS = 64
LONGEST_PROMPT = 2000  # characters
_TITLE = "Sample prompts"


class SamplePromptsDialog(FittedDialog):
    """Emits the prompts, one a line; none for those of the recipe."""

    prompts_chosen = Signal(object)  # list[str]

    def __init__(self, prompts: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(_TITLE)
        describe(self, _TITLE, " ")
        self.setMinimumWidth(380)
        self.resize(480, 10)
        self.prompts = QPlainTextEdit("\n".join(prompts))
        self.prompts.setTabChangesFocus(True)
        self.prompts.setMinimumHeight(140)
        describe(self.prompts, _TITLE, "One prompt per line")
        self.cancel = SecondaryButton(actions.CANCEL, "", actions.CLOSE_WITHOUT_SAVING_TIP)
        self.accept_button = PrimaryButton(actions.SAMPLE_NOW, "", "Use these prompts and draw samples after this step")
        column, buttons = QVBoxLayout(), QHBoxLayout()
        column.setContentsMargins(24, 24, 24, 20)
        column.setSpacing(8)
        about = f"One prompt per line, at most {MOST_PROMPTS}. All further samples of this run use them."
        column.addWidget(label(about, "dim", pixels=theme.SMALL_PIXELS, wrap=True))
        column.addWidget(self.prompts, 1)
        buttons.setSpacing(8)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.accept_button)
        self.set_contents(column, buttons)
        self.cancel.clicked.connect(self.reject)
        self.accept_button.clicked.connect(self._accept)
        self.prompts.setFocus()

    def reject(self) -> None:
        """Close; ask first if the prompts were changed."""
        if self.prompts.document().isModified():
            ask_to_discard(self, "the changed prompts", super().reject)
        else:
            super().reject()

    def _accept(self) -> None:
        lines = [line.strip()[:LONGEST_PROMPT] for line in self.prompts.toPlainText().splitlines()]
        self.prompts_chosen.emit([line for line in lines if line][:MOST_PROMPTS])
        self.accept()
