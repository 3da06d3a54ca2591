"""Asks for a model's new name."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.library.model_files import LONGEST_NAME, name_problem, own_path, sidecars_of
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton
from diffstudio.ui.widgets.dialogs import FittedDialog
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label, limit_length

_VERB = "Rename"


class RenameDialog(FittedDialog):
    """Emits the new name once it can be used."""

    rename_requested = Signal(str)

    def __init__(self, checkpoint: Checkpoint, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._checkpoint = checkpoint
        path = own_path(checkpoint.path)
        self._old = path.name if path.is_dir() else path.stem
        self.setWindowTitle(f"{_VERB} {checkpoint.title}")
        describe(self, self.windowTitle(), " ")
        self.setMinimumWidth(380)
        self.resize(440, 10)  # the height follows the contents: see fit_height
        self.name = QLineEdit(self._old)
        limit_length(self.name, LONGEST_NAME)
        describe(self.name, "New name", "The new name, without the file's suffix")
        self.problem = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        self.cancel = SecondaryButton(actions.CANCEL, "", "Close without renaming (Escape)")
        self.accept_button = PrimaryButton(_VERB, "", f"{_VERB} (Enter)")
        column, buttons = QVBoxLayout(), QHBoxLayout()
        column.setContentsMargins(24, 24, 24, 20)
        column.setSpacing(8)
        column.addWidget(ElidedLabel(f"{_VERB} {path.name}", pixels=16, bold=True))
        column.addWidget(label(_consequence(len(sidecars_of(checkpoint.path))), "dim", wrap=True))
        column.addWidget(self.name)
        column.addWidget(self.problem)
        column.addStretch(1)
        buttons.setSpacing(8)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.accept_button)
        self.set_contents(column, buttons)
        self.name.textChanged.connect(self._refresh)
        self.cancel.clicked.connect(self.reject)
        self.accept_button.clicked.connect(self._accept)
        self._refresh()
        self.name.selectAll()
        self.name.setFocus()

    def _refresh(self) -> None:
        name = self.name.text().strip()
        problem = name_problem(self._checkpoint, name) if name != self._old else ""
        self.problem.setText(problem)
        self.problem.setVisible(bool(problem))
        self.accept_button.setEnabled(not problem and name != self._old)
        self.fit_height()

    def _accept(self) -> None:
        self._refresh()  # a file of that name may have come meanwhile
        if self.accept_button.isEnabled():
            self.rename_requested.emit(self.name.text().strip())
            self.accept()


def _consequence(sidecars: int) -> str:
    files = {0: "The file", 1: "The file and the one beside it"}.get(sidecars, f"The file and the {sidecars} beside it")
    return f"{files} will be renamed. Your settings, presets and waiting jobs follow; images made before keep the old name."
