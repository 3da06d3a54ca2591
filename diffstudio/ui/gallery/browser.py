"""What of the gallery is on the screen: the list or the trash, the selection, one image at full size, two compared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import QItemSelection, QItemSelectionModel, QModelIndex, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QListView

from diffstudio.errors import StorageProblem
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.search import GalleryQuery, Key, term
from diffstudio.studio.gallery.view_state import GalleryViewState
from diffstudio.ui.gallery.item_model import GalleryModel, runs, title
from diffstudio.ui.gallery.layout import GalleryLayout
from diffstudio.ui.gallery.selection_actions import SelectionActions
from diffstudio.ui.tasks import NewestFirstQueue, Tasks
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.helpers import leave_focus

_NEXT_TRY = 0.01  # s


@dataclass(frozen=True, slots=True)
class _Selection:
    query: GalleryQuery
    selected: set[int]  # ids
    current: int | None
    scrolled: int


class GalleryBrowser(GalleryLayout):
    """Looks through a Gallery without changing it; `GalleryRoom` does that."""

    view_changed = Signal(object)  # GalleryViewState, to be kept

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._tasks, self._thumbnails = Tasks("gallery", workers=3), NewestFirstQueue("thumbnails")
        self._reading, self._changing = Tasks("gallery-reading", workers=1), Tasks("gallery-changing", workers=1)
        super().__init__(GalleryModel(gallery, self._thumbnails, self._reading), self._tasks)
        self.selection_actions = SelectionActions(gallery, self._changing, self.chosen, self)
        self._act: Callable[[], object] = lambda: None  # what the button of the message does
        self._remembered = _Selection(self.model.shown, set(), None, 0)
        self.model.modelAboutToBeReset.connect(self._remember_selection)
        self.model.modelReset.connect(self._restore_selection)
        self.grid.all_requested.connect(self.select_all)
        self._compare_with: Path | None = None  # it is compared with the next image that is selected

    # What is listed

    def refresh(self) -> None:
        """Read the records again after they were changed elsewhere."""
        self.model.show(self._query())

    def _query(self) -> GalleryQuery:
        return GalleryQuery(trash=True) if self.in_trash() else self.top_bar.query()

    def _filter(self) -> None:
        self.refresh()
        self._view_changed()

    def _view_changed(self) -> None:
        self.view_changed.emit(GalleryViewState(self.top_bar.query(), self.grid.cell()))

    def clear_filters(self) -> None:
        self.top_bar.clear()
        self._filter()

    def search_tag(self, tag: str) -> None:
        """Show the images that have a tag."""
        if self.is_full():
            self.close_full()
        self.top_bar.show_query(replace(self.top_bar.query(), search=term(Key.TAG, tag)))
        if self.in_trash():
            self.leave_trash()
        self._filter()

    def _focus_search(self) -> None:
        if self.is_full():
            self.close_full()
        self.top_bar.search.setFocus()
        self.top_bar.search.selectAll()

    def show_trash(self) -> None:
        """Show what is in the trash in place of the gallery."""
        self._stop_comparing()
        if self.is_full() or self.is_comparing():
            self.close_full()
        leave_focus(self.top_bar, self.grid)
        if self.message.banner.action.isVisibleTo(self):  # it offers to undo a deletion, whose images are shown now
            self.message.hide()
        self.model.show(GalleryQuery(trash=True))

    def leave_trash(self) -> None:
        leave_focus(self.trash_bar, self.grid)
        self.model.show(self.top_bar.query())

    def _escape(self) -> None:
        if self.is_full() or self.is_comparing():
            self.close_full()
        elif self._compare_with is not None:
            self._stop_comparing()
            self.message.hide()
        elif self.in_trash():
            self.leave_trash()

    # Selection

    def current(self) -> GalleryImage | None:
        """The image in the full view, or the only selected one."""
        return self.selection_actions.only_image()

    def chosen(self) -> list[GalleryImage]:
        if self.is_full():
            image = self.model.image(self.grid.currentIndex())
            return [image] if image is not None else []
        return [image for first, last in self.grid.selected_rows() for image in self.model.rows(first, last)]

    def select_all(self) -> None:
        """Select all images that match; at once if they are all fetched, else when they are."""
        if self.model.has_more() or self.model.shown != self.model.query:
            self._tasks.start(self._select_all())
        else:
            self._select_fetched()

    async def _select_all(self) -> None:
        query = self.model.query
        while self.model.has_more() and self.model.query == query:
            await self.model.fetch(everything=True)
            await asyncio.sleep(_NEXT_TRY)  # a page may be on its way
        if self.model.shown == self.model.query == query:
            self._select_fetched()

    def _select_fetched(self) -> None:
        QListView.selectAll(self.grid)
        self._selection_changed()

    def _remember_selection(self) -> None:
        """Before the rows are replaced: what is selected, by image."""
        current = self.model.image(self.grid.currentIndex())
        self._remembered = _Selection(
            self.model.shown,
            {image.id for first, last in self.grid.selected_rows() for image in self.model.rows(first, last)},
            current.id if current is not None else None,
            self.grid.verticalScrollBar().value(),
        )

    def _restore_selection(self) -> None:
        """After the rows were replaced: the same images are selected, unless others are shown."""
        before, model = self._remembered, self.model
        if before.query != model.shown:
            return
        selected = QItemSelection()
        rows = sorted(index.row() for each in before.selected if (index := model.index_of(each)).isValid())
        for first, last in runs(rows):
            selected.select(model.index(first), model.index(last))
        chosen, flag = self.grid.selectionModel(), QItemSelectionModel.SelectionFlag
        if before.current is not None and (index := model.index_of(before.current)).isValid():
            chosen.setCurrentIndex(index, flag.NoUpdate)
        if rows:
            chosen.select(selected, flag.ClearAndSelect)
        self.grid.doItemsLayout()
        self.grid.verticalScrollBar().setValue(before.scrolled)

    def _select_row(self, row: int) -> None:
        if row < 0:
            self.close_full() if self.is_full() else self._selection_changed()
            return
        index = self.model.index(row)
        alone = QItemSelectionModel.SelectionFlag.ClearAndSelect  # also while Ctrl is held, as for undo
        self.grid.selectionModel().setCurrentIndex(index, alone)
        self.grid.scrollTo(index)
        self._selection_changed()

    def _selection_changed(self, *_: QItemSelection) -> None:
        chosen, trash = self.chosen(), self.in_trash()
        image = chosen[0] if len(chosen) == 1 else None
        if image is not None and self._compare_with is not None and image.path != self._compare_with:
            self.compare([self._compare_with, image.path])
            return
        self.details.show_image(image, len(chosen), trash=trash)
        self.details.show_tags(self.selection_actions.shared_tags(), chosen=len(chosen), trash=trash)
        self.trash_bar.show_counts(self.model.total, len(chosen) if trash else 0)
        if self.is_full():
            self._show_full()

    # The full view

    def open_image(self, path: Path) -> None:
        """Show an image in the full view, if it is in the gallery."""
        self._tasks.start(self._open_path(Path(path)))

    async def _open_path(self, path: Path) -> None:
        image = await self._found(path)
        if image is None:
            return
        if not self.model.index_of(image.id).isValid():
            self.top_bar.clear()
            await self.model.load(self.top_bar.query())
            await self.model.insert([image])
        index = self.model.index_of(image.id)
        if index.isValid():
            self._open(index)

    async def _found(self, path: Path) -> GalleryImage | None:
        """The record of a file; None if it is not in the gallery, or cannot be read, which is shown."""
        try:
            return await self._reading.to_thread(self._gallery.find, path)
        except StorageProblem as error:
            self._show_error(error)
            return None

    def close_full(self) -> None:
        self._views.setCurrentIndex(0)
        self._arrange()
        self.grid.setFocus()
        self.grid.scrollTo(self.grid.currentIndex())
        self._selection_changed()

    def _open(self, index: QModelIndex) -> None:
        self.full.read_again()
        self._select_row(index.row())
        self._views.setCurrentWidget(self.full)
        self._arrange()
        self.image_view.setFocus()
        self._show_full()

    def _show_neighbour(self, by: int) -> None:
        row = self.grid.currentIndex().row() + by
        if row == self.model.rowCount() and self.model.has_more():
            self._tasks.start(self._fetch_and_select(row))
        elif 0 <= row < self.model.rowCount():
            self._select_row(row)

    async def _fetch_and_select(self, row: int) -> None:
        await self.model.fetch()
        if row < self.model.rowCount():
            self._select_row(row)

    def _show_full(self) -> None:
        image = self.current()
        if image is None:
            self.close_full()
            return
        self.full.show_image(image, self.model.thumbnail(image) or QImage())
        row = self.grid.currentIndex().row()
        more = row + 1 < self.model.rowCount() or self.model.has_more()
        self.full.set_neighbours(row > 0, more)

    # Comparing

    def compare(self, paths: Sequence[Path]) -> None:
        """Compare two images; one, from any room, is compared with the next image that is selected here."""
        if len(paths) == 2:
            self._tasks.start(self._compare(paths))
            return
        self._compare_with = paths[0]
        if self.is_full() or self.is_comparing():
            self.close_full()
        if self.in_trash():
            self.leave_trash()
        self.grid.clearSelection()
        self._show_message("info", "Select the image to compare it with.", actions.CANCEL, self._cancel_comparing)
        self.grid.setFocus()

    async def _compare(self, paths: Sequence[Path]) -> None:
        self._stop_comparing()
        found = [await self._found(path) for path in paths]
        names = [title(image) if image is not None else path.name for path, image in zip(paths, found, strict=True)]
        self.compare_view.compare(paths, names)
        self._views.setCurrentWidget(self.compare_view)
        self.message.hide()
        self._arrange()
        self.compare_view.pane.setFocus()

    def _stop_comparing(self) -> None:
        self._compare_with = None

    def _cancel_comparing(self) -> None:
        self._stop_comparing()
        leave_focus(self.message, self.grid)
        self.message.hide()

    # Messages

    def _show_error(self, error: object) -> None:
        self._show_message("bad", str(error))

    def _show_progress(self, what: str, done: int, count: int) -> None:
        self._show_message("info", f"{what}: {done:,} of {count:,}…")

    def _show_message(self, kind: str, text: str, action: str = "", act: Callable[[], object] | None = None) -> None:
        if act is not None:
            self._act = act
        self.message.show_message(kind, text, action)
