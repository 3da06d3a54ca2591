"""Dialogs of the presets: save the settings of the panel under a name; apply, rename and delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from diffstudio.studio.presets import LONGEST_NAME
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton
from diffstudio.ui.widgets.dialogs import confirm
from diffstudio.ui.widgets.helpers import describe, label, limit_length
from diffstudio.ui.widgets.inputs.check_box import CheckBox

_NAME = Qt.ItemDataRole.UserRole
_WIDTH, _ROW = 360, 28  # px


class SavePresetDialog(QDialog):
    """`save_requested` carries the name, and whether the prompts belong to the preset."""

    save_requested = Signal(str, bool)

    def __init__(self, names: Sequence[str], parent: QWidget | None) -> None:
        super().__init__(parent)
        self._names = {name.strip() for name in names}
        self.setWindowTitle("Save as preset")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setMinimumWidth(_WIDTH)
        self.name = QLineEdit()
        limit_length(self.name, LONGEST_NAME)
        self.name.setPlaceholderText("Name")
        describe(self.name, "Name of the preset")
        self.with_prompts = CheckBox(
            "Include prompts", "Applying the preset also replaces the prompt and the negative prompt"
        )
        self.with_prompts.setChecked(True)
        self.note = label("", "warn", wrap=True)
        self.save_button = PrimaryButton("Save", "", "Save the preset under this name (Enter)")
        self.cancel_button = SecondaryButton(actions.CANCEL, "", actions.CLOSE_WITHOUT_SAVING_TIP)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel_button)
        buttons.addWidget(self.save_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 20, 20, 16)
        column.setSpacing(12)
        text = label(
            "Everything chosen in the panel is saved: checkpoint, sampling, size and images to start from.",
            "dim",
            wrap=True,
        )
        for part in (text, self.name, self.with_prompts, self.note):
            column.addWidget(part)
        column.addLayout(buttons)
        self.name.textChanged.connect(self._check)
        self.save_button.clicked.connect(self._accept)
        self.cancel_button.clicked.connect(self.reject)
        self._check()

    def _check(self) -> None:
        name = " ".join(self.name.text().split())
        self.save_button.setEnabled(bool(name))
        self.note.setText("It replaces the preset of this name." if name in self._names else "")

    def _accept(self) -> None:
        self.save_requested.emit(self.name.text(), self.with_prompts.isChecked())
        self.accept()


class EditPresetsDialog(QDialog):
    """Renames (F2, a double click or the button) and deletes. `rename` returns why a name cannot be used."""

    def __init__(
        self,
        names: Sequence[str],
        parent: QWidget | None,
        rename: Callable[[str, str], str],
        delete: Callable[[str], None],
    ) -> None:
        super().__init__(parent)
        self._rename, self._delete = rename, delete
        self.setWindowTitle("Presets")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setMinimumWidth(_WIDTH)
        self.list = QListWidget()
        self.list.setObjectName("raised")
        describe(self.list, "Presets", "F2 renames a preset, Delete deletes it")
        self.list.setEditTriggers(
            QAbstractItemView.EditTrigger.EditKeyPressed | QAbstractItemView.EditTrigger.DoubleClicked
        )
        for name in names:
            item = QListWidgetItem(name)
            item.setData(_NAME, name)
            item.setSizeHint(QSize(0, _ROW))
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            self.list.addItem(item)
        self.note = label("", "bad", wrap=True)
        self.rename_button = SecondaryButton("Rename", "pencil-simple", "Rename the preset (F2)")
        self.delete_button = SecondaryButton(actions.DELETE, "trash", "Delete the preset")
        close = SecondaryButton(actions.CLOSE)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self.rename_button)
        row.addWidget(self.delete_button)
        row.addStretch(1)
        row.addWidget(close)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 20, 20, 16)
        column.setSpacing(12)
        column.addWidget(self.list)
        column.addWidget(self.note)
        column.addLayout(row)
        self.list.itemChanged.connect(self._renamed)
        self.list.currentItemChanged.connect(self._update_state)
        self.rename_button.clicked.connect(lambda: self.list.editItem(self.list.currentItem()))
        self.delete_button.clicked.connect(self.ask_to_delete)
        close.clicked.connect(self.accept)
        self.list.setCurrentRow(0)
        self._update_state()

    def ask_to_delete(self) -> None:
        item = self.list.currentItem()
        if item is not None:
            question = f"Delete the preset “{item.data(_NAME)}”?"
            confirm(self, actions.DELETE, question, "The images made with it stay.", lambda: self._deleted(item))

    def _deleted(self, item: QListWidgetItem) -> None:
        self._delete(item.data(_NAME))
        self.list.takeItem(self.list.row(item))
        self._update_state()

    def _renamed(self, item: QListWidgetItem) -> None:
        before, after = item.data(_NAME), " ".join(item.text().split())
        problem = self._rename(before, after)
        self.note.setText(problem)
        self.list.blockSignals(True)
        item.setData(_NAME, before if problem else after)
        item.setText(before if problem else after)
        self.list.blockSignals(False)

    def _update_state(self) -> None:
        for button in (self.rename_button, self.delete_button):
            button.setEnabled(self.list.currentItem() is not None)
