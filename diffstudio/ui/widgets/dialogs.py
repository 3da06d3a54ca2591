"""Dialogs that every room opens: a confirmation, and choosing an image or a folder. None of them blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog, QMessageBox, QWidget

from diffstudio.ui.widgets.images import IMAGE_FILE_FILTER


def confirm(parent: QWidget, verb: str, question: str, consequence: str, do: Callable[[], object]) -> QMessageBox:
    """Ask a question and explain the consequence. The button `verb` calls `do()`; Cancel is the default."""
    return choose_action(parent, verb, question, consequence, {verb: do})


def choose_action(
    parent: QWidget, title: str, question: str, text: str, choices: dict[str, Callable[[], object]]
) -> QMessageBox:
    """A question with a button for each choice, the last of which is destructive, and Cancel as the default."""
    box = QMessageBox(QMessageBox.Icon.NoIcon, title, question, parent=parent)
    box.setInformativeText(text)
    last = list(choices)[-1]
    for verb, do in choices.items():
        kinds = QMessageBox.ButtonRole
        button = box.addButton(verb, kinds.DestructiveRole if verb == last else kinds.ActionRole)
        button.clicked.connect(lambda _=False, do=do: do())
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    box.setEscapeButton(cancel)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.open()
    return box


def choose_image(parent: QWidget, title: str, folder: str, chosen: Callable[[Path], object]) -> QFileDialog:
    """Choose one image file."""
    dialog = QFileDialog(parent, title, folder, IMAGE_FILE_FILTER)
    dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
    return _open(dialog, chosen)


def choose_folder(parent: QWidget, title: str, folder: str, chosen: Callable[[Path], object]) -> QFileDialog:
    dialog = QFileDialog(parent, title, folder)
    dialog.setFileMode(QFileDialog.FileMode.Directory)
    dialog.setOption(QFileDialog.Option.ShowDirsOnly, True)
    return _open(dialog, chosen)


def _open(dialog: QFileDialog, chosen: Callable[[Path], object]) -> QFileDialog:
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.fileSelected.connect(lambda name: chosen(Path(name)))
    dialog.open()
    return dialog
