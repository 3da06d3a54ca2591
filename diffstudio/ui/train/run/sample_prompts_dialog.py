"""Asks for the prompts that a run draws its samples with."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from diffstudio.plurals import count_of
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton
from diffstudio.ui.widgets.dialogs import FittedDialog, ask_to_discard
from diffstudio.ui.widgets.helpers import describe, label, set_style_property
from diffstudio.ui.widgets.wrapping_text import WrappingText

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
        self.problem = WrappingText(pixels=theme.SMALL_PIXELS, tone="warn")
        describe(self.prompts, _TITLE, "One prompt per line")
        self.cancel = SecondaryButton(actions.CANCEL, "", actions.CLOSE_WITHOUT_SAVING_TIP)
        self.accept_button = PrimaryButton(actions.SAMPLE_NOW, "", "Use these prompts and draw samples after this step")
        column, buttons = QVBoxLayout(), QHBoxLayout()
        column.setContentsMargins(24, 24, 24, 20)
        column.setSpacing(8)
        about = f"One prompt per line, at most {MOST_PROMPTS}. All further samples of this run use them."
        column.addWidget(label(about, "dim", pixels=theme.SMALL_PIXELS, wrap=True))
        column.addWidget(self.prompts, 1)
        column.addWidget(self.problem)
        buttons.setSpacing(8)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.accept_button)
        self.set_contents(column, buttons)
        self.cancel.clicked.connect(self.reject)
        self.accept_button.clicked.connect(self._accept)
        self.prompts.textChanged.connect(self._check)
        self._check()
        self.prompts.setFocus()

    def reject(self) -> None:
        """Close; ask first if the prompts were changed."""
        if self.prompts.document().isModified():
            ask_to_discard(self, "the changed prompts", super().reject)
        else:
            super().reject()

    def _accept(self) -> None:
        self.prompts_chosen.emit(self._lines())
        self.accept()

    def _lines(self) -> list[str]:
        return [line.strip() for line in self.prompts.toPlainText().splitlines() if line.strip()]

    def _check(self) -> None:
        """Say what is too much, rather than leave it out."""
        lines = self._lines()
        problem = ""
        if len(lines) > MOST_PROMPTS:
            problem = f"There are {count_of(len(lines), 'prompt')}. Remove {len(lines) - MOST_PROMPTS:,} of them."
        elif (longest := max(map(len, lines), default=0)) > LONGEST_PROMPT:
            problem = f"A prompt has {longest:,} characters. The most are {LONGEST_PROMPT:,}."
        self.problem.set_text(problem)
        self.problem.setVisible(bool(problem))
        self.accept_button.setEnabled(not problem)
        set_style_property(self.prompts, "wrong", bool(problem))
