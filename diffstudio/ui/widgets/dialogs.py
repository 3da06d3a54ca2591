"""Dialogs that every room opens: message boxes, a confirmation, and choosing images, models or a folder. None blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog, QLabel, QMessageBox, QWidget

from diffstudio.models.files.formats import SUFFIXES
from diffstudio.ui.widgets.helpers import plain_button_text
from diffstudio.ui.widgets.images import IMAGE_FILE_FILTER


def message_box(
    icon: QMessageBox.Icon, title: str, text: str, more: str = "", parent: QWidget | None = None
) -> QMessageBox:
    """A message box whose texts are shown as they are: without this, Qt takes some of them for HTML."""
    box = QMessageBox(icon, title, text, parent=parent)
    box.setInformativeText(more)
    for each in box.findChildren(QLabel):  # `setTextFormat` does not reach the informative text
        each.setTextFormat(Qt.TextFormat.PlainText)
    return box


def confirm(
    parent: QWidget | None, verb: str, question: str, consequence: str, do: Callable[[], object]
) -> QMessageBox:
    """Ask a question and explain the consequence. The button `verb` calls `do()`; Cancel is the default."""
    return choose_action(parent, verb, question, consequence, {verb: do})


def choose_action(
    parent: QWidget | None, title: str, question: str, text: str, choices: dict[str, Callable[[], object]]
) -> QMessageBox:
    """A question with a button for each choice, the last of which is destructive, and Cancel as the default."""
    box = message_box(QMessageBox.Icon.NoIcon, title, question, text, parent)
    last = list(choices)[-1]
    for verb, do in choices.items():
        kinds = QMessageBox.ButtonRole
        button = box.addButton(plain_button_text(verb), kinds.DestructiveRole if verb == last else kinds.ActionRole)
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


def choose_model_files(parent: QWidget, folder: str, chosen: Callable[[list[Path]], object]) -> QFileDialog:
    """Choose one or more files of weights."""
    patterns = " ".join(f"*{suffix}" for suffix in SUFFIXES)
    dialog = QFileDialog(parent, "Import models", folder, f"Models ({patterns});;All files (*)")
    dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.filesSelected.connect(lambda names: chosen([Path(name) for name in names]))
    dialog.open()
    return dialog


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
