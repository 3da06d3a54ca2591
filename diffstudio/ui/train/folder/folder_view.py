"""The middle for a new run: an empty state, the progress of the inspection, then its report."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QListWidget,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from diffstudio import paths
from diffstudio.plurals import count_of
from diffstudio.training.data.folder_report import (
    FolderReport,
    InspectionProgress,
    Skipped,
    captions_sentence,
    other_files_sentence,
)
from diffstudio.ui.train.folder.captions_view import CaptionsView
from diffstudio.ui.widgets import actions, shortcuts, theme
from diffstudio.ui.widgets.banner import Banner
from diffstudio.ui.widgets.controls import EmptyState, ProgressLine, SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label, scroll_area, set_tooltip
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.widgets.images.roving_focus import RovingFocus
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout

MAX_THUMBNAILS = 60
THUMB_SIDE = 72  # px
MAX_LISTED = 2000  # warnings

_T = TypeVar("_T")
GALLERY, CAPTIONS = "gallery", "captions"  # pages of the report


class FolderView(QStackedWidget):
    """An empty state, the progress of an inspection, or its report."""

    folder_requested = Signal()
    cancel_requested = Signal()
    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self) -> None:
        super().__init__()
        self.empty = EmptyState(
            "folder-open",
            "Train on your own images",
            "Drop a folder of images here. Subfolders become classes, and a text file with the name of an image becomes "
            "its caption. Everything stays on this machine.",
            "Choose folder…",
        )
        self.progress_view = InspectionProgressView()
        self.report_view = FolderReportView()
        for part in (self.empty, self.progress_view, self.report_view):
            self.addWidget(part)
        self.empty.clicked.connect(self.folder_requested)
        self.progress_view.cancel.clicked.connect(self.cancel_requested)
        self.report_view.menu_requested.connect(self.menu_requested)

    def show_empty(self) -> None:
        self.setCurrentWidget(self.empty)

    def show_inspecting(self, folder: Path) -> None:
        self.progress_view.start(folder)
        self.setCurrentWidget(self.progress_view)

    def show_progress(self, progress: InspectionProgress) -> None:
        self.progress_view.show_progress(progress)

    def show_report(self, report: FolderReport) -> None:
        self.report_view.show_report(report)
        self.setCurrentWidget(self.report_view)

    def show_unfit(self, unfit: Sequence[Skipped]) -> None:
        """Name the images that the chosen recipe leaves out."""
        self.report_view.show_unfit(unfit)

    def set_thumbs(self, images: Sequence[tuple[ImageTarget, str]]) -> None:
        """Show thumbnails, each with a description."""
        self.report_view.set_thumbs(images)


class InspectionProgressView(QWidget):
    """A progress bar, the current file and a Cancel button."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ElidedLabel("", pixels=16, bold=True)
        self.line = ProgressLine("Inspection")
        self.count = label("", "dim")
        self.path = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS, mode=Qt.TextElideMode.ElideMiddle)
        self.cancel = SecondaryButton(actions.CANCEL, "x", "Cancel the inspection (Escape)")
        shortcuts.bind_button(shortcuts.CANCEL_INSPECTION, self.cancel)
        inner = QVBoxLayout()
        inner.setSpacing(12)
        for part in (self.title, self.line, self.count, self.path):
            inner.addWidget(part)
        inner.addWidget(self.cancel, 0, Qt.AlignmentFlag.AlignLeft)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addLayout(inner, 4)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.addStretch(2)
        column.addLayout(row)
        column.addStretch(3)

    def start(self, folder: Path) -> None:
        self.title.setText(f"Inspecting {folder.name or folder}")
        self.line.set_fraction(None)
        self.count.setText("Finding images…")
        self.path.setText("")

    def show_progress(self, progress: InspectionProgress) -> None:
        if progress.total:
            self.line.set_fraction(progress.done / progress.total)
            self.count.setText(f"{progress.done:,} of {progress.total:,} images")
        else:
            self.count.setText(f"Finding images… {progress.done:,} so far")
        self.path.setText(paths.short(progress.path))


class FolderReportView(QWidget):
    """What an inspection found: groups, problems, thumbnails."""

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self) -> None:
        super().__init__()
        self.title = ElidedLabel("", pixels=16, bold=True)
        self.sentence = label("", "dim", wrap=True)
        self.warnings = Warnings()
        self.groups = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.pages = ChipRow(
            [(GALLERY, "Images"), (CAPTIONS, "Captions")],
            name="What is shown",
            tooltips=("Some images, as the network sees them", "Read, search and edit captions; leave images out"),
        )
        self.captions = CaptionsView()
        self._report: FolderReport | None = None
        self._listed: FolderReport | None = None  # whose captions are listed
        self._thumbnails = QWidget()
        self._thumbnails.setObjectName("contents")
        self._flow = FlowLayout(self._thumbnails, spacing=8)
        self._thumbs: list[ImageThumbnail] = []
        self._focus = RovingFocus(self._thumbnails)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(self._thumbnails)
        describe(area, "Some of the images")
        set_tooltip(area, "")
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 16)
        column.setSpacing(12)
        for part in (self.title, self.sentence, self.groups, self.warnings, self.pages):
            column.addWidget(part)
        self._stack = QStackedWidget()
        self._stack.addWidget(area)
        self._scrolled = scroll_area(self.captions)
        self._scrolled.viewport().installEventFilter(self)
        self._stack.addWidget(self._scrolled)
        column.addWidget(self._stack, 1)
        self.pages.set_value(GALLERY)
        self.pages.value_changed.connect(self._show_page)

    def show_report(self, report: FolderReport) -> None:
        self.title.setText(report.folder.resolve().name or str(report.folder))
        describe(self.title, paths.short(report.folder))
        self.sentence.setText(report.sentence())
        others = other_files_sentence(report.other_files)
        about = [report.balance_sentence(), captions_sentence(report), *report.layout_notes, others]
        self.groups.setText("\n".join(f"{sentence}." for sentence in about if sentence))
        self.warnings.show_report(report)
        self._listed = None
        if self._report is None or report.folder != self._report.folder:
            self.pages.set_value(GALLERY)
            self.set_thumbs(())
        self._report = report
        self._show_page()

    def show_unfit(self, unfit: Sequence[Skipped]) -> None:
        if self._report is not None:
            self.warnings.show_report(self._report, unfit)
            self._show_page()

    def _show_page(self, *_: object) -> None:
        captions = self.pages.value() == CAPTIONS
        if captions and self._report is not None and self._listed is not self._report:
            self._listed = self._report  # only now: there may be a million rows
            self.captions.set_report(self._report)
        self._stack.setCurrentIndex(captions)
        self.groups.setVisible(not captions and bool(self.groups.text()))  # the list needs the height
        self.warnings.setVisible(not captions and self.warnings.list.count() > 0)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() is QEvent.Type.Resize and watched is self._scrolled.viewport():
            self.captions.set_room(self._scrolled.viewport().height())
        return super().eventFilter(watched, event)

    def set_thumbs(self, images: Sequence[tuple[ImageTarget, str]]) -> None:
        before, self._thumbs = self._thumbs, []
        for target, description in images:
            thumb = ImageThumbnail(target, THUMB_SIDE, 8, name=description, tooltip=description)
            thumb.menu_requested.connect(self.menu_requested)
            self._flow.addWidget(thumb)
            thumb.show()
            self._thumbs.append(thumb)
        self._focus.set_images(self._thumbs)
        for thumb in before:
            self._flow.removeWidget(thumb)
            thumb.hide()
            thumb.deleteLater()
        self._thumbnails.updateGeometry()


class Warnings(QWidget):
    """A banner that counts the problems, and a list of the files with the reason."""

    def __init__(self) -> None:
        super().__init__()
        self.banner = Banner("warn", "nothing", "Show")
        self.banner.close_button.hide()
        self.list = QListWidget()
        self.list.setWordWrap(True)
        self.list.setUniformItemSizes(False)
        self.list.setMaximumHeight(220)
        self.list.setFont(theme.font(theme.SMALL_PIXELS))
        describe(self.list, "Files with problems")
        set_tooltip(self.list, "")
        self.list.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.banner)
        column.addWidget(self.list)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.banner.acted.connect(self._toggle)

    def show_report(self, report: FolderReport, unfit: Sequence[Skipped] = ()) -> None:
        """`unfit`: images that the chosen recipe leaves out."""
        lines = list(itertools.islice(warning_lines(report, unfit), MAX_LISTED))
        self.list.clear()
        self.list.addItems(lines)
        if (more := _count_warnings(report, unfit) - len(lines)) > 0:
            self.list.addItem(f"… and {more:,} more")
        self.list.hide()
        self.setVisible(bool(lines))
        if lines:
            self.banner.show_message("warn", warning_sentence(report, unfit), "Show")
            self.banner.show()

    def _toggle(self) -> None:
        self.list.setVisible(not self.list.isVisible())
        self.banner.action.setText("Hide" if self.list.isVisible() else "Show")
        self.banner.action.setAccessibleName(self.banner.action.text())


def warning_sentence(report: FolderReport, unfit: Sequence[Skipped] = ()) -> str:
    """`3 unreadable, skipped · 12 duplicates, kept`; empty without problems."""
    return " · ".join(summary for count, summary, _ in _warnings(report, unfit) if count)


def warning_lines(report: FolderReport, unfit: Sequence[Skipped] = ()) -> Iterator[str]:
    """Each file with a problem, and the problem."""
    return itertools.chain.from_iterable(lines for _, _, lines in _warnings(report, unfit))


def _count_warnings(report: FolderReport, unfit: Sequence[Skipped]) -> int:
    """The number of `warning_lines`."""
    return sum(count for count, _, _ in _warnings(report, unfit))


def _warnings(report: FolderReport, unfit: Sequence[Skipped]) -> Iterator[tuple[int, str, Iterator[str]]]:
    """For each kind of problem: the number of files, a summary, and lazily a line for each file."""

    def of(files: Sequence[_T], summary: str, line: Callable[[_T], str]) -> tuple[int, str, Iterator[str]]:
        return len(files), summary, map(line, files)

    for unused in report.unused(unfit=unfit):
        yield of(unused.files, f"{unused.count:,} {unused.summary}", _line_of(unused.prefix))
    for found in report.ranges:
        limits = f"{found.low:,g} becomes black and {found.high:,g} white"
        yield of(found.paths, found.sentence(), _followed_by(limits))
    for pairs, noun in ((report.duplicates, "duplicate"), (report.near_duplicates, "near-duplicate")):
        yield of(pairs, f"{count_of(len(pairs), noun)}, kept", _copy_line(noun))


def _line_of(prefix: str) -> Callable[[Skipped], str]:
    return lambda file: f"{file.path}  –  {prefix}{file.why}"


def _followed_by(text: str) -> Callable[[Path], str]:
    return lambda path: f"{path}  –  {text}"


def _copy_line(noun: str) -> Callable[[tuple[Path, Path]], str]:
    return lambda pair: f"{pair[1]}  –  {noun} of {pair[0]}"
