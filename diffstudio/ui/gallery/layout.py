"""The widgets of the Gallery room and where they stand; `room.py` says what they do."""

from __future__ import annotations

from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from diffstudio.studio.gallery.search import parse_search
from diffstudio.ui.gallery.compare_view import CompareView
from diffstudio.ui.gallery.details import WIDTH, Details
from diffstudio.ui.gallery.full_view import FullView
from diffstudio.ui.gallery.grid import ThumbnailGrid
from diffstudio.ui.gallery.item_model import GalleryModel
from diffstudio.ui.gallery.top_bar import SEARCH_HELP, TopBar, TrashBar
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets.banner import MessageBanner
from diffstudio.ui.widgets.controls import EmptyState
from diffstudio.ui.widgets.helpers import show_page
from diffstudio.ui.widgets.layout.columns import Column, Columns

NARROW = 760  # px; below this width, settings are shown in the full view only


class GalleryLayout(QWidget):
    """A bar, the grid or a page that says why it is empty, the full view, the comparison, and the details."""

    def __init__(self, model: GalleryModel, tasks: Tasks) -> None:
        super().__init__()
        self.setObjectName("background")
        self.model = model
        self.grid = ThumbnailGrid()
        self.grid.setModel(model)
        self.details = Details(tasks)
        self.full = FullView(tasks)
        self.image_view = self.full.image_view
        self.compare_view = CompareView(tasks)
        self.top_bar, self.trash_bar = TopBar(), TrashBar()
        self.message = MessageBanner()
        self.empty = EmptyState(
            "image-square",
            "No images yet",
            "Every image you generate appears here, with all of its settings.",
            "Generate image",
        )
        self.empty_trash = EmptyState(
            "trash", "The trash is empty", "Images that you delete come here first.", "Back to gallery"
        )
        self.no_matches = EmptyState("magnifying-glass", "No matches", "", "Show all images")
        self._pages = QStackedWidget()
        for page in (self.grid, self.empty, self.empty_trash, self.no_matches):
            self._pages.addWidget(page)
        self._lay_out()

    def is_full(self) -> bool:
        """Whether the full view is shown."""
        return self._views.currentWidget() is self.full

    def is_comparing(self) -> bool:
        return self._views.currentWidget() is self.compare_view

    def in_trash(self) -> bool:
        """Whether the trash is shown, and not the gallery."""
        return self.model.query.trash

    def _lay_out(self) -> None:
        everything = QWidget()
        column = QVBoxLayout(everything)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.top_bar)
        column.addWidget(self.trash_bar)
        self.trash_bar.hide()
        pages = QHBoxLayout()
        pages.setContentsMargins(14, 4, 4, 8)
        pages.addWidget(self._pages)
        column.addLayout(pages, 1)
        self._views = QStackedWidget()
        for view in (everything, self.full, self.compare_view):
            self._views.addWidget(view)
        images = QWidget()
        left = QVBoxLayout(images)
        left.setContentsMargins(0, 0, 0, 0)
        left.setSpacing(0)
        left.addWidget(self._views, 1)
        left.addWidget(self.message)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(
            Columns("gallery", (Column(images, least=260), Column(self.details, "the details", 240, 280, WIDTH)))
        )

    def _show_page(self) -> None:
        """The grid, or the page that says why there is nothing in it."""
        query, total = self.model.query, self.model.total
        if not self.model.loaded or total > 0:
            page: QWidget = self.grid
        elif query.filters:
            page = self.no_matches
            self._explain_no_matches()
        else:
            page = self.empty_trash if query.trash else self.empty
        show_page(self._pages, page)
        if self.is_full() and total == 0:
            self._views.setCurrentIndex(0)
        self.top_bar.setVisible(not query.trash)
        self.trash_bar.setVisible(query.trash)
        more = "" if self.model.counts_all else "+"
        self.top_bar.count_label.setText(f"{total:,}{more} image{'' if total == 1 else 's'}" if total else "")
        self.trash_bar.show_counts(total, self.grid.selected_count())
        self.top_bar.trash.setVisible(self.model.in_trash > 0)
        for part in (self.top_bar.search, self.top_bar.starred, self.top_bar.period, self.top_bar.order):
            part.setEnabled(page is not self.empty)
        self._arrange()

    def _explain_no_matches(self) -> None:
        query = self.model.query
        words = query.search.strip()
        stars = "starred " if query.starred else ""
        when = f" of the period “{self.top_bar.period.currentText()}”" if self.top_bar.period.currentIndex() else ""
        text = f"No {stars}image{when} matches “{words[:80]}”." if words else f"No {stars}images{when}."
        problems = " ".join(parse_search(words).problems)
        text = f"{problems or text}\n\n{SEARCH_HELP}." if words else text
        self.no_matches.text.setText(text)

    def _arrange(self) -> None:
        """Show the details next to a wide grid, and always in the full view."""
        on_grid = self._pages.currentWidget() is self.grid and self.width() >= NARROW
        self.details.setVisible(self.is_full() or (on_grid and not self.is_comparing()))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()
