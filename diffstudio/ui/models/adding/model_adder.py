"""The Add button of the Models room: files, folders and links, by its menu, by dropping and by pasting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QMimeData, QObject, QPoint, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QMenu, QWidget

from diffstudio.errors import BadRequest, listed
from diffstudio.studio.library.links import parse_link
from diffstudio.ui.models.adding.link_dialog import LinkDialog
from diffstudio.ui.models.adding.link_downloads import LinkDownloads
from diffstudio.ui.widgets import shortcuts
from diffstudio.ui.widgets.dialogs import choose_folder, choose_model_files
from diffstudio.ui.widgets.images.drag_and_drop import DroppedKind, parse_drop
from diffstudio.ui.widgets.menus import build_menu

ADD_FILES, ADD_FOLDER, ADD_LINK = "Files…", "Folder…", "From link…"
_MOST_NAMES = 5  # named of the dropped items that are not models


class ModelAdder(QObject):
    """Finds out what to add. Downloads go to the folder that `folder()` returns."""

    files_chosen = Signal(object)  # list[Path], to import
    folder_chosen = Signal(object)  # Path, to search for models from now on
    fetched = Signal(object)  # Path of a downloaded and imported model
    message = Signal(str, str)  # kind and text of a banner

    def __init__(self, folder: Callable[[], Path], parent: QWidget) -> None:
        super().__init__(parent)
        self._parent_widget, self._folder = parent, folder
        self.downloads = LinkDownloads(folder)
        self.downloads.finished.connect(self.fetched)
        self.downloads.failed.connect(lambda text: self.message.emit("bad", text))
        self.downloads.cancelled.connect(
            lambda name: self.message.emit(
                "info", f"The download of {name} was cancelled, and what had been downloaded was deleted."
            )
        )

    def menu(self) -> QMenu:
        entries = (
            (f"{ADD_FILES}\t{shortcuts.ADD_MODEL_FILES.text()}", "file-plus", self.ask_for_files),
            (f"{ADD_FOLDER}\t{shortcuts.ADD_MODEL_FOLDER.text()}", "folder-plus", self.ask_for_folder),
            (f"{ADD_LINK}\t{shortcuts.ADD_MODEL_LINK.text()}", "link", self.ask_for_link),
        )
        return build_menu(self._parent_widget, entries, "Add models")

    def show_menu(self, button: QWidget) -> QMenu:
        """Open the menu below a button."""
        menu = self.menu()
        menu.popup(button.mapToGlobal(QPoint(0, button.height() + 2)))
        return menu

    def ask_for_files(self) -> QFileDialog:
        """Choose model files to import."""
        return choose_model_files(self._parent_widget, str(Path.home()), self.files_chosen.emit)

    def ask_for_folder(self) -> QFileDialog:
        """Choose a folder to search for models."""
        return choose_folder(
            self._parent_widget, shortcuts.ADD_MODEL_FOLDER.what, str(Path.home()), self.folder_chosen.emit
        )

    def ask_for_link(self, text: str = "") -> LinkDialog:
        """Open the dialog for a link; without one, with the link in the clipboard, if that has one."""
        dialog = LinkDialog(self._folder(), self._parent_widget, text or _link_in_clipboard())
        dialog.look_up_requested.connect(self.downloads.look_up)
        dialog.look_up_stopped.connect(self.downloads.stop_looking)
        dialog.fetch_requested.connect(self.downloads.start)
        self.downloads.looked_up.connect(dialog.show_remote)
        self.downloads.look_up_failed.connect(dialog.show_failure)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        return dialog

    # Dropping and pasting

    def accepts(self, data: QMimeData) -> bool:
        """Whether this holds model files, folders or a link."""
        usable = (DroppedKind.MODEL, DroppedKind.FOLDER)
        return any(item.kind in usable for item in parse_drop(data)) or bool(_link_in(data))

    def add(self, data: QMimeData) -> None:
        """Add what was dropped or pasted; what cannot be added is named."""
        items = parse_drop(data)
        files = [item.path for item in items if item.kind is DroppedKind.MODEL]
        folders = [item.path for item in items if item.kind is DroppedKind.FOLDER]
        link = "" if files or folders else _link_in(data)
        others = [item for item in items if item.kind not in (DroppedKind.MODEL, DroppedKind.FOLDER)]
        if others and not link:
            names = listed(others, _MOST_NAMES, lambda item: item.name or item.reason)
            self.message.emit("warn", f"Not model files, so not imported: {names}.")
        if files:
            self.files_chosen.emit(files)
        for folder in folders:
            self.folder_chosen.emit(folder)
        if link:
            self.ask_for_link(link)

    def paste(self) -> None:
        """Add the files or the link in the clipboard."""
        data = _clipboard()
        if self.accepts(data):
            self.add(data)
        else:
            self.message.emit("info", "The clipboard holds neither model files nor a link to one.")


def _link_in(data: QMimeData) -> str:
    """The first http(s) link, or an empty string."""
    for text in [url.toString() for url in data.urls()] or [data.text()]:
        if text.strip().lower().startswith(("http://", "https://")):
            return text.strip()
    return ""


def _clipboard() -> QMimeData:
    return QGuiApplication.clipboard().mimeData() or QMimeData()  # Qt returns None for an empty one


def _link_in_clipboard() -> str:
    """The link to a file in the clipboard, or an empty string."""
    text = _link_in(_clipboard())
    try:
        return text and parse_link(text).url and text
    except BadRequest:
        return ""
