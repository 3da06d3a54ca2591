"""Dialogs that every room opens: message boxes, a confirmation, and choosing images, models or a folder. None blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QSize, Qt, QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QDialog, QFileDialog, QHBoxLayout, QLabel, QMessageBox, QVBoxLayout, QWidget

from diffstudio.imaging.formats import IMAGE_SUFFIXES
from diffstudio.models.files.formats import SUFFIXES
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, plain_button_text, scroll_area

_FRAME = QSize(16, 56)  # px that the frame of a window and a task bar take

_IMAGE_FILES = f"Images ({' '.join(f'*{suffix}' for suffix in sorted(IMAGE_SUFFIXES))})"


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


def ask_to_discard(dialog: QDialog, what: str, discard: Callable[[], object]) -> QMessageBox:
    """Ask before a dialog closes without what was done in it: Escape is pressed by mistake too."""

    def later() -> None:
        QTimer.singleShot(0, dialog, discard)  # once the question is closed: it is a part of the dialog

    return confirm(dialog, "Discard", f"Discard {what}?", "What you did in this dialog is lost.", later)


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


def available_size(window: QWidget) -> QSize:
    """The size in px of the screen of a window, without what the desktop reserves."""
    return window.screen().availableSize()


def within_screen(size: QSize, screen: QSize) -> QSize:
    """A size in px of a window that fits on a screen of this size with its frame and a task bar."""
    return size.boundedTo(screen - _FRAME)


def resize_within_screen(dialog: QDialog, width: int, height: int) -> None:
    """Resize a dialog, but not beyond its screen. What may be taller needs a scroll area above its buttons."""
    dialog.resize(within_screen(QSize(width, height), available_size(dialog)))


class FittedDialog(QDialog):
    """A dialog as tall as its contents, which scroll where the screen is too small. The buttons stay at its foot."""

    def set_contents(self, column: QVBoxLayout, buttons: QHBoxLayout) -> None:
        """Lay out a column, whose margins are those of the dialog, above a row of buttons."""
        margins = column.contentsMargins()
        buttons.setContentsMargins(margins.left(), 8, margins.right(), margins.bottom())
        column.setContentsMargins(margins.left(), margins.top(), margins.right() - SCROLL_BAR_WIDTH, 0)
        contents = QWidget()
        contents.setObjectName("contents")
        contents.setLayout(column)
        self._column, self._buttons = column, buttons
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(scroll_area(contents), 1)
        whole.addLayout(buttons)

    def fit_height(self) -> None:
        """Fit the height to the contents again: texts wrap, and fields come and go."""
        self._column.activate()
        wide = max(self.width(), self._column.totalMinimumSize().width() + SCROLL_BAR_WIDTH)
        self.resize(within_screen(QSize(wide, 0), available_size(self)).width(), self.height())
        height = self._column.totalHeightForWidth(self.width() - SCROLL_BAR_WIDTH)
        height = max(height, self._column.totalMinimumSize().height()) + self._buttons.sizeHint().height()
        fitting = within_screen(QSize(self.width(), height), available_size(self)).height()
        self.setMinimumHeight(fitting)
        self.resize(self.width(), fitting)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.fit_height()

    def fit_text(self) -> None:
        """Fit the height to another size of text, once all that the dialog holds has it."""
        if self.isVisible():
            QTimer.singleShot(0, self, self.fit_height)


def choose_image(parent: QWidget, title: str, folder: str, chosen: Callable[[Path], object]) -> QFileDialog:
    """Choose one image file."""
    dialog = QFileDialog(parent, title, folder, _IMAGE_FILES)
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
