"""Adds a model from a link: the link is looked up when that is asked for, and fetched when its size is known."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.studio.library.link_download import RemoteFile
from diffstudio.studio.library.links import LONGEST_LINK, FileLink, parse_link
from diffstudio.ui.widgets import actions, shortcuts, theme
from diffstudio.ui.widgets.controls import PrimaryButton, ProgressLine, SecondaryButton
from diffstudio.ui.widgets.dialogs import FittedDialog
from diffstudio.ui.widgets.formatting import human_bytes
from diffstudio.ui.widgets.helpers import describe, label, limit_length
from diffstudio.ui.widgets.wrapping_text import FactsTable

_LOOK_UP, _LOOK_UP_TIP = "Look up", "Ask the host for the file's name and size (Enter)"
_ABOUT = (
    "The link of a model file, or the page of one on Hugging Face, Civitai or GitHub. "
    "No account is used; diffstudio sends only its name and version."
)


class LinkDialog(FittedDialog):
    """Two steps with one button: look the file up, then fetch it."""

    look_up_requested = Signal(object)  # FileLink
    look_up_stopped = Signal()
    fetch_requested = Signal(object)  # RemoteFile

    def __init__(self, folder: Path, parent: QWidget | None = None, text: str = "") -> None:
        super().__init__(parent)
        self._folder = folder
        self._remote: RemoteFile | None = None
        self._looking = False
        self.setWindowTitle(shortcuts.ADD_MODEL_LINK.what)
        describe(self, self.windowTitle(), " ")
        self.setMinimumWidth(420)
        self.resize(520, 10)  # the height follows the contents: see fit_height
        self.link = QLineEdit(text)
        limit_length(self.link, LONGEST_LINK)
        self.link.setPlaceholderText("https://…")
        describe(self.link, "Link", "The link of a model file (http or https)")
        self.facts = FactsTable(88)
        self.note, self.problem = (label("", tone, pixels=theme.SMALL_PIXELS, wrap=True) for tone in ("dim", "warn"))
        self.progress = ProgressLine("Looking up the link")
        self.progress.set_fraction(None)
        self.cancel = SecondaryButton(actions.CANCEL, "", "Close without downloading (Escape)")
        self.accept_button = PrimaryButton(_LOOK_UP, "", _LOOK_UP_TIP)
        self._lay_out()
        self.link.textChanged.connect(self._edited)
        self.cancel.clicked.connect(self.reject)
        self.accept_button.clicked.connect(self._act)
        self.rejected.connect(self.look_up_stopped)
        self._edited()

    def show_remote(self, remote: RemoteFile) -> None:
        """Show what the host says about the file, and offer to fetch it."""
        self._looking, self._remote = False, remote
        self._refresh()

    def show_failure(self, text: str) -> None:
        """Show why the file cannot be looked up."""
        self._looking = False
        self._refresh(text)

    def _lay_out(self) -> None:
        column, buttons = QVBoxLayout(), QHBoxLayout()
        column.setContentsMargins(24, 24, 24, 20)
        column.setSpacing(8)
        column.addWidget(label(self.windowTitle(), pixels=16, bold=True, wrap=True))
        column.addWidget(label(_ABOUT, "dim", wrap=True))
        column.addSpacing(8)
        name = label("Link")
        name.setBuddy(self.link)
        for part in (name, self.link, self.progress, self.facts, self.note, self.problem):
            column.addWidget(part)
        column.addSpacing(8)
        column.addStretch(1)
        buttons.setSpacing(8)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.accept_button)
        self.set_contents(column, buttons)

    def _parsed(self) -> FileLink | None:
        with suppress(BadRequest):
            return parse_link(self.link.text())
        return None

    def _edited(self) -> None:
        self.look_up_stopped.emit()
        self._looking, self._remote = False, None
        problem = ""
        if self.link.text().strip():
            try:
                parse_link(self.link.text())
            except BadRequest as error:
                problem = str(error)
        self._refresh(problem)

    def _refresh(self, problem: str = "") -> None:
        link, remote = self._parsed(), self._remote
        self.progress.setVisible(self._looking)
        self.facts.show_facts([] if remote is None else self._facts(remote))
        self.facts.setVisible(remote is not None)
        note = ""
        if link is not None and remote is None and not problem:
            note = f"{link.host} is asked for the file's name and size. Nothing is downloaded yet."
        self.note.setText(note)
        self.note.setVisible(bool(note))
        if remote is not None and remote.size_bytes > _free_bytes(self._folder):
            problem = "There is not enough free space for this file."
        self.problem.setText(problem)
        self.problem.setVisible(bool(problem))
        size = f" ({human_bytes(remote.size_bytes)})" if remote is not None and remote.size_bytes else ""
        text = _LOOK_UP if remote is None else f"Fetch{size}"
        self.accept_button.setText(text)
        tip = _LOOK_UP_TIP if remote is None else "Download the file and add it to your models (Enter)"
        describe(self.accept_button, text, tip)
        is_full = remote is not None and bool(problem)
        self.accept_button.setEnabled(link is not None and not self._looking and not is_full)
        self.fit_height()

    def _facts(self, remote: RemoteFile) -> list[tuple[str, str]]:
        host = f"{remote.host} (sent by {remote.served_by})" if remote.served_by else remote.host
        return [
            ("File", remote.name),
            ("Size", human_bytes(remote.size_bytes) if remote.size_bytes else "The host does not say"),
            ("From", host),
            ("To", paths.short(self._folder)),
            ("Free space", human_bytes(_free_bytes(self._folder))),
        ]

    def _act(self) -> None:
        if self._remote is not None:
            self.fetch_requested.emit(self._remote)
            self.accept()
        elif (link := self._parsed()) is not None:
            self._looking = True
            self._refresh()
            self.look_up_requested.emit(link)


def _free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    for path in (folder, *folder.parents):
        with suppress(OSError):
            return shutil.disk_usage(path).free
    return 0
