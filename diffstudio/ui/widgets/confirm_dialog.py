"""The confirmation dialog: a question, its consequences, and Cancel as the default button."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox, QWidget


def confirm(parent: QWidget, verb: str, question: str, consequence: str, do: Callable[[], object]) -> QMessageBox:
    """Ask without blocking; `do()` is called when the button named `verb` is pressed. The box deletes itself."""
    box = QMessageBox(QMessageBox.Icon.NoIcon, verb, question, parent=parent)
    box.setInformativeText(consequence)
    yes = box.addButton(verb, QMessageBox.ButtonRole.DestructiveRole)
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    box.setEscapeButton(cancel)
    yes.clicked.connect(lambda: do())
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.open()
    return box
