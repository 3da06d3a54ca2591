"""What the program is made of: versions, device, and the licences of everything it carries."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPlainTextEdit,
    QSplitter,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from diffstudio.studio.third_party_software import ThirdPartySoftware
from diffstudio.ui.widgets import actions, icons, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton
from diffstudio.ui.widgets.dialogs import resize_within_screen
from diffstudio.ui.widgets.helpers import describe, label, scroll_area, set_tooltip
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.wrapping_text import FactsTable

_VERSIONS, _LICENCES = "versions", "licences"
_NO_TEXT = "This package includes no licence text. The list names its licence."


class AboutDialog(QDialog):
    """Filled by `show_facts` and `show_software` when they are known. Its Copy button copies all of it as text."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._closed = False
        self.setWindowTitle(actions.ABOUT)
        self.setMinimumSize(440, 320)
        resize_within_screen(self, 640, 520)
        describe(self, actions.ABOUT, " ")
        self._software: Sequence[ThirdPartySoftware] = ()
        self.page = ChipRow(
            [(_VERSIONS, "Versions"), (_LICENCES, "Licences")],
            tooltips=("Versions and device", "Licences of everything included"),
            name="What to show",
        )
        self.facts = FactsTable(120)
        self.software = QListWidget()
        self.software.setObjectName("raised")
        self.software.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        describe(self.software, "Third-party software", "Packages and files included with diffstudio")
        self.notice = QPlainTextEdit()
        self.notice.setReadOnly(True)
        self.notice.setTabChangesFocus(True)
        describe(self.notice, "Licence text", "The licence of the chosen package")
        self.copy_button = SecondaryButton("Copy", "copy", "Copy versions and the list of licences as text")
        self.close_button = PrimaryButton(actions.CLOSE, "", "Close (Escape)")
        self._lay_out()
        self.page.value_changed.connect(lambda value: self._pages.setCurrentIndex(int(value == _LICENCES)))
        self.software.currentRowChanged.connect(self._show_notice)
        self.copy_button.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.text()))
        self.close_button.clicked.connect(self.accept)
        self.finished.connect(self._set_closed)
        self.close_button.setFocus()

    def show_facts(self, facts: list[tuple[str, str]]) -> None:
        self.facts.show_facts(facts)

    def show_software(self, software: Sequence[ThirdPartySoftware]) -> None:
        self._software = software
        self.software.clear()
        for each in software:
            item = QListWidgetItem(_title(each))
            set_tooltip(item, _title(each))  # it may be elided
            self.software.addItem(item)
        self.software.setCurrentRow(0)

    def text(self) -> str:
        """Everything shown, without the licence texts: for a report of a problem."""
        lines = [f"{name}: {value}" for name, value in self.facts.facts()]
        return "\n".join([*lines, "", *(_title(each) for each in self._software)]).strip() + "\n"

    def _show_notice(self, row: int) -> None:
        self.notice.setPlainText((self._software[row].text() or _NO_TEXT) if row >= 0 else "")

    def is_closed(self) -> bool:
        return self._closed

    def _set_closed(self) -> None:
        self._closed = True

    def _lay_out(self) -> None:
        mark, heading = label(), QHBoxLayout()
        mark.setPixmap(icons.application_icon().pixmap(32, 32))
        heading.setSpacing(12)
        heading.addWidget(mark)
        heading.addWidget(label("diffstudio", pixels=18, bold=True), 1)
        versions = QWidget()
        versions.setObjectName("contents")
        column = QVBoxLayout(versions)
        column.setContentsMargins(0, 8, 0, 8)
        column.addWidget(self.facts)
        column.addStretch(1)
        licences = QSplitter(Qt.Orientation.Horizontal)
        licences.setChildrenCollapsible(False)
        for part, stretch in ((self.software, 2), (self.notice, 3)):
            licences.addWidget(part)
            licences.setStretchFactor(licences.count() - 1, stretch)
        self._pages = QStackedWidget()
        self._pages.addWidget(scroll_area(versions))
        self._pages.addWidget(licences)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.copy_button)
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(24, 16, 24, 16)
        whole.setSpacing(12)
        whole.addLayout(heading)
        whole.addWidget(label("Licensed under the Apache License, Version 2.0", "dim", pixels=theme.SMALL_PIXELS))
        whole.addWidget(self.page)
        whole.addWidget(self._pages, 1)
        whole.addLayout(buttons)


def _title(software: ThirdPartySoftware) -> str:
    return " ".join(part for part in (software.name, software.version) if part) + f" · {software.licence}"
