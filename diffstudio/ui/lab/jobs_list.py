"""The left column of the Lab: a button for each page, and all jobs with their status."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from PySide6.QtCore import QEvent, QPoint, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.studio.evaluations.jobs import JobStatus, JobSummary
from diffstudio.ui.lab.page import AnyPage
from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.controls import Card, ProgressLine, SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, PartsLabel, describe, label, set_style_property
from diffstudio.ui.widgets.layout.side_column import scrolled_column

LIST_WIDTHS = 216, 260  # px, in narrow and wide windows
_TONES = {JobStatus.FAILED: "bad", JobStatus.INTERRUPTED: "warn", JobStatus.FINISHED: "good"}


def status_text(summary: JobSummary, title: str) -> str:
    """The status as text: `Evaluate · running · 68%`; `title` is the title of its page."""
    parts = [title, str(summary.status)]
    if summary.stopping:
        parts[1] = "stopping"
    elif summary.status is JobStatus.RUNNING and summary.fraction is not None:
        parts.append(f"{100 * summary.fraction:.0f}%")
    elif summary.status is JobStatus.FINISHED and summary.outcome:
        parts.append("incomplete")
    return " · ".join(parts)


def status_tone(summary: JobSummary) -> str:
    incomplete = summary.status is JobStatus.FINISHED and summary.outcome
    return "warn" if incomplete else _TONES.get(summary.status, "dim")


class PageCard(Card):
    """The name and icon of a page; marked while the page is shown."""

    _page: AnyPage | None = None  # Qt sends change events during construction

    def __init__(self, page: AnyPage) -> None:
        super().__init__(interactive=True, name=page.title, tooltip=page.shows)
        self._icon = label()
        self._icon.setFixedWidth(18)
        self._page = page
        text = ElidedLabel(page.title)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 8, 12, 8)
        row.setSpacing(8)
        for part in (self._icon, text):
            part.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        row.addWidget(self._icon)
        row.addWidget(text, 1)
        self._draw()

    def _draw(self) -> None:
        if self._page is not None:
            self._icon.setPixmap(icons.pixmap(self._page.icon, 18, "dim"))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._draw()


class LabJobCard(Card):
    """A job's name, status and progress."""

    arrow_pressed = Signal(int)  # 1: to the next card, -1: to the previous one
    menu_requested = Signal(object)  # QPoint

    def __init__(self) -> None:
        super().__init__(interactive=True)
        self._name = ElidedLabel("")
        self._status = PartsLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self._line = ProgressLine()
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 10)
        column.setSpacing(3)
        for part in (self._name, self._status, self._line):
            part.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            column.addWidget(part)

    def show_summary(self, summary: JobSummary, title: str) -> None:
        text = status_text(summary, title)
        self._name.setText(summary.name)
        self._status.setText(text)
        set_style_property(self._status, "tone", status_tone(summary))
        self._line.setVisible(summary.alive)
        self._line.set_fraction(summary.fraction if summary.status is JobStatus.RUNNING else 0.0)
        describe(self, f"{summary.name}, {text}", f"{summary.name}: {summary.outcome or summary.what or text}")

    def status(self) -> str:
        return self._status.text()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1}.get(Qt.Key(event.key()))
        if step is None:
            super().keyPressEvent(event)
        else:
            self.arrow_pressed.emit(step)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        keyboard = event.reason() == QContextMenuEvent.Reason.Keyboard
        self.menu_requested.emit(self.mapToGlobal(self.rect().center()) if keyboard else event.globalPos())


class JobsList(QWidget):
    """The pages and the jobs."""

    page_requested = Signal(object)  # a page
    job_selected = Signal(object)  # Path of a job's folder
    menu_requested = Signal(object, object)  # Path, QPoint

    def __init__(self, pages: Sequence[AnyPage]) -> None:
        super().__init__()
        self._titles = {page.key: page.title for page in pages}
        self._cards: dict[Path, LabJobCard] = {}
        self._selected: Path | None = None
        self.page_cards: dict[str, PageCard] = {}
        self._heading = SectionLabel("Jobs", "0")
        self.empty_note = label(
            "No jobs yet. Jobs stay here with their results.", "dim", pixels=theme.SMALL_PIXELS, wrap=True
        )
        self._column = scrolled_column(self)
        self._column.setSpacing(8)
        for section, in_section in groupby(pages, key=lambda page: page.section):
            self._column.addWidget(SectionLabel(section))
            for page in in_section:
                card = self.page_cards[page.key] = PageCard(page)
                card.clicked.connect(lambda page=page: self.page_requested.emit(page))
                self._column.addWidget(card)
            self._column.addSpacing(8)
        self._column.addWidget(self._heading)
        self._column.addWidget(self.empty_note)
        self._before = self._column.count()
        self._column.addStretch(1)

    def cards(self) -> dict[Path, LabJobCard]:
        """The cards by job folder, in display order."""
        return dict(self._cards)

    def show_jobs(self, summaries: Sequence[JobSummary]) -> None:
        order = [summary.job.path for summary in summaries]
        for removed in [path for path in self._cards if path not in set(order)]:
            card = self._cards.pop(removed)
            self._column.removeWidget(card)
            card.hide()
            card.deleteLater()
        for summary in summaries:
            path = summary.job.path
            if path not in self._cards:
                self._cards[path] = self._new_card(path)
            self._cards[path].show_summary(summary, self._titles.get(summary.request.verb, summary.request.verb))
        if list(self._cards) != order or self._column.count() != self._before + len(order) + 1:
            self._cards = {path: self._cards[path] for path in order}
            for position, card in enumerate(self._cards.values()):
                self._column.insertWidget(self._before + position, card)
                card.show()
        self._heading.set_right(f"{len(order):,}")
        self.empty_note.setVisible(not order)

    def set_chosen(self, path: Path | None, key: str = "") -> None:
        """Mark the job or page that is shown."""
        self._selected = path
        for each, card in self._cards.items():
            card.set_chosen(each == path)
        for each_key, page_card in self.page_cards.items():
            page_card.set_chosen(each_key == key)

    def focused_job(self) -> Path | None:
        """The job whose card has the keyboard focus."""
        return next((path for path, card in self._cards.items() if card.hasFocus()), None)

    def _new_card(self, path: Path) -> LabJobCard:
        card = LabJobCard()
        card.clicked.connect(lambda: self.job_selected.emit(path))
        card.arrow_pressed.connect(lambda step: self._move_focus(path, step))
        card.menu_requested.connect(lambda position: self._ask_for_menu(path, position))
        card.set_chosen(path == self._selected)
        return card

    def _ask_for_menu(self, path: Path, position: QPoint) -> None:
        self.menu_requested.emit(path, position)

    def _move_focus(self, path: Path, step: int) -> None:
        paths = list(self._cards)
        self._cards[paths[min(max(paths.index(path) + step, 0), len(paths) - 1)]].setFocus()
