"""Save as: plots as PNG, SVG and data, tables as CSV and JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFileDialog

from diffstudio.atomic import write_bytes
from diffstudio.errors import DiffstudioError
from diffstudio.studio.evaluations.plots import files
from diffstudio.studio.evaluations.plots.figure import Plot, marks
from diffstudio.studio.evaluations.views.tables import Table
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.images.copy_and_drag import save_or_ask
from diffstudio.ui.widgets.menus import build_menu


@dataclass(frozen=True, slots=True)
class SavedFile:
    """One kind of file to save, and a function that creates its content."""

    text: str  # of the menu entry
    name: str  # of the file, with its extension
    content: Callable[[], bytes]


def files_of_figure(figure: Plot) -> list[SavedFile]:
    return [
        SavedFile("Image (PNG)", f"{figure.name}.png", lambda: files.png(marks(figure))),
        SavedFile("Vector image (SVG)", f"{figure.name}.svg", lambda: files.svg(figure).encode()),
        SavedFile("Data (CSV)", f"{figure.name}.csv", lambda: files.data(figure).encode()),
    ]


def files_of_table(table: Table) -> list[SavedFile]:
    return [
        SavedFile("Data (CSV)", f"{table.name}.csv", lambda: table.to_csv().encode()),
        SavedFile("Data (JSON)", f"{table.name}.json", lambda: table.to_json().encode()),
    ]


class SaveButton(SecondaryButton):
    """Opens a menu of file types, and then asks where to save the file."""

    message = Signal(str, str)  # kind, text

    def __init__(self, what: str) -> None:
        super().__init__("", "floppy-disk", f"Save the {what} as a file", name=f"{actions.SAVE_AS} {what}", role="dim")
        self._files: tuple[SavedFile, ...] = ()
        self.clicked.connect(self.open_menu)

    def set_files(self, offered: Sequence[SavedFile]) -> None:
        self._files = tuple(offered)
        self.setEnabled(bool(offered))

    def files(self) -> tuple[SavedFile, ...]:
        return self._files

    def open_menu(self) -> None:
        entries = [(f"{one.text}…", "floppy-disk", partial(self.ask, one)) for one in self._files]
        build_menu(self, entries, actions.SAVE_AS).popup(self.mapToGlobal(self.rect().bottomLeft()))

    def ask(self, file: SavedFile) -> QFileDialog:
        """Ask where to save a file."""
        ending = Path(file.name).suffix
        dialog = QFileDialog(self.window(), file.text)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilter(f"{ending.removeprefix('.').upper()} (*{ending})")
        dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)  # Qt's own question would render a name as HTML
        dialog.setDefaultSuffix(ending.removeprefix("."))
        dialog.selectFile(str(Path.home() / file.name))
        dialog.fileSelected.connect(lambda name: save_or_ask(self.window(), Path(name), partial(self.save, file)))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()
        return dialog

    def save(self, file: SavedFile, target: Path) -> None:
        try:
            write_bytes(target, file.content())
        except DiffstudioError as error:
            self.message.emit("bad", str(error))
        else:
            self.message.emit("good", f"Saved as {target}.")
