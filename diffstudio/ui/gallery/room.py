"""The Gallery room: all images in a grid, one image at full size, and the settings of the selected one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import (
    QCoreApplication,
    QDeadlineTimer,
    QEventLoop,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPoint,
    Qt,
    Signal,
)
from PySide6.QtGui import QImage, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.rescan import RescanReport, rescan
from diffstudio.ui.gallery.details import Details
from diffstudio.ui.gallery.full_view import FullView
from diffstudio.ui.gallery.grid import ThumbnailGrid
from diffstudio.ui.gallery.item_model import GalleryModel, title
from diffstudio.ui.gallery.selection_actions import SelectionActions
from diffstudio.ui.gallery.top_bar import TopBar
from diffstudio.ui.gallery.trash import GalleryTrash
from diffstudio.ui.tasks import NewestFirstQueue, Tasks
from diffstudio.ui.widgets import shortcuts
from diffstudio.ui.widgets.controls import EmptyState, MessageBanner
from diffstudio.ui.widgets.helpers import leave_focus, show_page

LAST_CHANGES_MS = 2000  # how long closing waits for them
NARROW = 760  # px; below this width, settings are shown in the full view only


class GalleryRoom(QWidget):
    """Shows a Gallery; signals ask the window for actions in other rooms."""

    use_settings_requested = Signal(object)  # PictureRequest
    upscale_requested = Signal(object)  # Path
    start_requested = Signal(object)  # Path of the init image for img2img
    generate_requested = Signal()  # the button of the empty gallery
    changed = Signal()  # images were deleted, restored or starred

    def __init__(self, gallery: Gallery) -> None:
        super().__init__()
        self.setObjectName("background")
        self._gallery = gallery
        self._tasks, self._thumbnails = Tasks("gallery", workers=3), NewestFirstQueue("thumbnails")
        self._reading, self._changing = Tasks("gallery-reading", workers=1), Tasks("gallery-changing", workers=1)
        self.model = GalleryModel(gallery, self._thumbnails, self._reading)
        self._trash = GalleryTrash(gallery, self._changing, self)
        self.selection_actions = SelectionActions(gallery, self._changing, self.chosen, self)
        self._shown_before = self._closing = False

        self.grid = ThumbnailGrid()
        self.grid.setModel(self.model)
        self.details = Details(self._tasks)
        self.full = FullView(self._tasks)
        self.image_view = self.full.image_view
        self.top_bar = TopBar()
        self.message = MessageBanner()
        self.empty = EmptyState(
            "image-square",
            "No images yet",
            "Every image you generate appears here, with all of its settings.",
            "Generate an image",
        )
        self.no_matches = EmptyState("magnifying-glass", "No matches", "", "Show all images")
        self._pages = QStackedWidget()
        for page in (self.grid, self.empty, self.no_matches):
            self._pages.addWidget(page)
        self._lay_out()
        self._connect()
        self._make_shortcuts()
        self._show_page()

    # Called by the window

    def image_added(self, path: Path) -> None:
        """Show an image that was saved to the gallery, if it matches the filter."""
        self._tasks.start(self._add(Path(path)))

    async def _add(self, path: Path) -> None:
        image = await self._found(path)
        if image is not None:
            await self.model.insert([image])

    async def _found(self, path: Path) -> GalleryImage | None:
        """The record of a file; None if it is not in the gallery, or cannot be read, which is shown."""
        try:
            return await self._reading.to_thread(self._gallery.find, path)
        except StorageProblem as error:
            self._show_error(error)
            return None

    def refresh(self) -> None:
        """Read the records again after they were changed elsewhere."""
        self.model.show(self.top_bar.search.text(), self.top_bar.starred.isChecked())

    def open_image(self, path: Path) -> None:
        """Show an image in the full view, if it is in the gallery."""
        self._tasks.start(self._open_path(Path(path)))

    async def _open_path(self, path: Path) -> None:
        image = await self._found(path)
        if image is None:
            return
        if not self.model.index_of(image.id).isValid():
            self.top_bar.clear()
            await self.model.load()
            await self.model.insert([image])
        index = self.model.index_of(image.id)
        if index.isValid():
            self._open(index)

    def busy(self) -> bool:
        """Whether records are being read or changed."""
        return any(tasks.busy() for tasks in (self._tasks, self._reading, self._changing))

    def shut_down(self) -> None:
        """Stop the threads and start no new work."""
        self.details.note.save()
        deadline = QDeadlineTimer(LAST_CHANGES_MS)
        while self._changing.busy() and not deadline.hasExpired():  # what was asked for last is done
            QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
        self._closing = True
        self._thumbnails.close()
        for tasks in (self._tasks, self._changing, self._reading):
            tasks.close()

    def current(self) -> GalleryImage | None:
        """The image in the full view, or the only selected one."""
        return self.selection_actions.only_image()

    def chosen(self) -> list[GalleryImage]:
        indexes = [self.grid.currentIndex()] if self.is_full() else self.grid.selectedIndexes()
        return [image for index in indexes if (image := self.model.image(index)) is not None]

    def is_full(self) -> bool:
        """Whether the full view is shown."""
        return self._views.currentWidget() is self.full

    # Layout and connections

    def _lay_out(self) -> None:
        everything = QWidget()
        column = QVBoxLayout(everything)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.top_bar)
        pages = QHBoxLayout()
        pages.setContentsMargins(14, 4, 4, 8)
        pages.addWidget(self._pages)
        column.addLayout(pages, 1)
        self._views = QStackedWidget()
        self._views.addWidget(everything)
        self._views.addWidget(self.full)
        left = QVBoxLayout()
        left.setContentsMargins(0, 0, 0, 0)
        left.setSpacing(0)
        left.addWidget(self._views, 1)
        left.addWidget(self.message)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addLayout(left, 1)
        row.addWidget(self.details)

    def _connect(self) -> None:
        self.model.counted.connect(self._show_page)
        self.model.modelReset.connect(self._selection_changed)
        self._trash.restored.connect(self._show_restored)
        self._trash.emptied.connect(self._show_emptied)
        self._trash.changed.connect(self.model.recount)
        self._trash.failed.connect(self._show_error)
        self.model.failed.connect(self._show_error)
        self.grid.opened.connect(self._open)
        self.grid.delete_requested.connect(self.delete_chosen)
        self.grid.star_requested.connect(self._star_at)
        self.grid.selectionModel().selectionChanged.connect(self._selection_changed)
        self.grid.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.grid.customContextMenuRequested.connect(self._menu)
        self.image_view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.image_view.customContextMenuRequested.connect(self._menu)
        self.top_bar.changed.connect(self.refresh)
        self.top_bar.rescan_button.clicked.connect(lambda: self.rescan())
        self.top_bar.trash.clicked.connect(lambda: self._trash.ask(self.model.in_trash))
        self.empty.clicked.connect(self.generate_requested)
        self.no_matches.clicked.connect(self.clear_filters)
        self.message.banner.acted.connect(self.undo)
        self.full.closed.connect(self.close_full)
        self.full.step_requested.connect(self._show_neighbour)
        do, details = self.selection_actions, self.details
        do.use_settings_requested.connect(self.use_settings_requested)
        do.upscale_requested.connect(self.upscale_requested)
        do.start_requested.connect(self.start_requested)
        do.records_changed.connect(self._show_starred)
        do.message.connect(self._show_message)
        for signal, act in (
            (details.use_settings_requested, do.use_settings),
            (details.copy_requested, do.copy),
            (details.save_requested, do.save_as),
            (details.delete_requested, self.delete_chosen),
            (details.folder_requested, do.show_in_folder),
            (details.star_requested, do.star_selected),
            (details.upscale_requested, do.upscale),
        ):
            signal.connect(act)
        details.note_changed.connect(do.set_note)

    def _make_shortcuts(self) -> None:
        do = self.selection_actions
        for shortcut, act in (
            (shortcuts.SEARCH_IMAGES, self._focus_search),
            (shortcuts.STAR_IMAGES, do.star_selected),
            (shortcuts.COPY_IMAGES, do.copy),
            (shortcuts.SAVE_IMAGES, do.save_as),
            (shortcuts.UNDO_DELETION, self.undo),
            (shortcuts.USE_SETTINGS, do.use_settings),
            (shortcuts.UPSCALE_IMAGE, do.upscale),
            (shortcuts.DELETE_IMAGES, self.delete_chosen),
        ):
            shortcuts.bind(shortcut, self, act)

    # Stars, trash and rescan

    def _star_at(self, index: QModelIndex) -> None:
        if (image := self.model.image(index)) is not None:
            self.selection_actions.star([image])

    def _show_starred(self, images: Sequence[GalleryImage]) -> None:
        for image in images:
            self.model.replace(image)
        self._selection_changed()
        self.changed.emit()

    def delete_chosen(self) -> None:
        """Move the selected images to the gallery's trash and offer to undo it."""
        images = self.chosen()
        if images:
            self._tasks.start(self._delete(images))

    async def _delete(self, images: Sequence[GalleryImage]) -> None:
        row = min(self.model.index_of(image.id).row() for image in images)
        deleted = await self._trash.delete(images)
        self.model.remove(deleted)
        if deleted:
            what = f"“{title(images[0])[:60]}”" if len(deleted) == 1 else f"{len(deleted):,} images"
            if all(image.missing for image in images if image.id in deleted):
                self._show_message("info", f"{what} removed. Files come back with their folders.")
            else:
                self._show_message("info", f"{what} moved to the trash.", "Undo")
            self._select_row(min(row, self.model.rowCount() - 1))
            self.changed.emit()

    def undo(self) -> None:
        """Restore the images deleted last."""
        self._trash.undo()

    def _show_restored(self, images: Sequence[GalleryImage], missing: int) -> None:
        leave_focus(self.message, self._pages.currentWidget())  # it is on Undo
        self.message.hide()
        self._tasks.start(self._insert_restored(images, missing))

    async def _insert_restored(self, images: Sequence[GalleryImage], missing: int) -> None:
        await self.model.insert(images)
        if images and (index := self.model.index_of(images[0].id)).isValid():
            self._select_row(index.row())
        self.changed.emit()
        if missing:
            which = (
                "1 image could not be restored: its file is"
                if missing == 1
                else f"{missing:,} images could not be restored: their files are"
            )
            self._show_message("warn", f"{which} no longer in the trash.")

    def _show_emptied(self, count: int) -> None:
        self._show_message("good", f"{count:,} image{'' if count == 1 else 's'} moved to the system's trash.")

    def rescan(self, *, asked: bool = True) -> None:
        """Rescan the folder in a thread, unless that is in progress; `asked` reports that nothing has changed."""
        if self.top_bar.rescan_button.isEnabled():
            leave_focus(self.top_bar.rescan_button, self.grid)
            self.top_bar.rescan_button.setEnabled(False)
            self._tasks.start(self._rescan(asked))

    async def _rescan(self, asked: bool) -> None:
        try:
            report = await self._tasks.to_thread(rescan, self._gallery, lambda: self._closing)
        except DiffstudioError as error:
            self.refresh()  # its images are marked as missing
            self._show_error(error)
        else:
            self._show_rescan_report(report, asked)
        finally:
            self.top_bar.rescan_button.setEnabled(True)

    def clear_filters(self) -> None:
        self.top_bar.clear()
        self.refresh()

    # Views

    def close_full(self) -> None:
        self._views.setCurrentIndex(0)
        self._arrange()
        self.grid.setFocus()
        self.grid.scrollTo(self.grid.currentIndex())
        self._selection_changed()

    def _open(self, index: QModelIndex) -> None:
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

    def _select_row(self, row: int) -> None:
        if row < 0:
            self.close_full() if self.is_full() else self._selection_changed()
            return
        index = self.model.index(row)
        alone = QItemSelectionModel.SelectionFlag.ClearAndSelect  # also while Ctrl is held, as for undo
        self.grid.selectionModel().setCurrentIndex(index, alone)
        self.grid.scrollTo(index)
        self._selection_changed()

    def _show_full(self) -> None:
        image = self.current()
        if image is None:
            self.close_full()
            return
        self.full.show_image(image, self.model.thumbnail(image) or QImage())
        row = self.grid.currentIndex().row()
        more = row + 1 < self.model.rowCount() or self.model.has_more()
        self.full.set_neighbours(row > 0, more)

    def _selection_changed(self, *_: QItemSelection) -> None:
        chosen = self.chosen()
        image = chosen[0] if len(chosen) == 1 else None
        self.details.show_image(image, len(chosen))
        if self.is_full():
            self._show_full()

    def _show_rescan_report(self, report: RescanReport, asked: bool) -> None:
        if report.changed:
            self.model.forget_thumbnails()
        if report.anything:
            self.refresh()
            kind = "warn" if report.missing else "good"
            self._show_message(kind, f"Folder rescanned: {report.summary}.")
        elif asked:
            self._show_message("good", "Folder rescanned: nothing has changed.")
        if report.unreadable:
            path, why = report.unreadable[0]
            more = f" {len(report.unreadable) - 1:,} more were skipped too." if len(report.unreadable) > 1 else ""
            self._show_message("warn", f"Skipped: {why}{more}")
        elif report.unsaved:
            self._show_message("warn", str(report.unsaved[0]))

    def _focus_search(self) -> None:
        if self.is_full():
            self.close_full()
        self.top_bar.search.setFocus()
        self.top_bar.search.selectAll()

    def _show_page(self) -> None:
        filtered = bool(self.model.search.strip() or self.model.starred)
        if not self.model.loaded:
            page: QWidget = self.grid
        elif self.model.total == 0 and not filtered:
            page = self.empty
        elif self.model.total == 0:
            page = self.no_matches
            words, stars = self.model.search.strip()[:80], "starred " if self.model.starred else ""
            self.no_matches.text.setText(f"No {stars}image matches “{words}”." if words else "No starred images.")
        else:
            page = self.grid
        show_page(self._pages, page)
        if self.is_full() and self.model.total == 0:
            self._views.setCurrentIndex(0)
        total = self.model.total
        self.top_bar.count_label.setText(f"{total:,} image{'' if total == 1 else 's'}" if total else "")
        self.top_bar.trash.setVisible(self.model.in_trash > 0)
        self.top_bar.search.setEnabled(page is not self.empty)
        self.top_bar.starred.setEnabled(page is not self.empty)
        self._arrange()

    def _arrange(self) -> None:
        """Show the details next to a wide grid, and always in the full view."""
        on_grid = self._pages.currentWidget() is self.grid and self.width() >= NARROW
        self.details.setVisible(self.is_full() or on_grid)

    def _menu(self, at: QPoint) -> None:
        source = self.sender()
        if self.chosen() and isinstance(source, QWidget):
            open_image = None if self.is_full() else lambda: self._open(self.grid.currentIndex())
            self.selection_actions.menu(open_image, self.delete_chosen).popup(source.mapToGlobal(at))

    def _show_error(self, error: object) -> None:
        self._show_message("bad", str(error))

    def _show_message(self, kind: str, text: str, action: str = "") -> None:
        self.message.show_message(kind, text, action)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._shown_before:  # not in __init__, so that the window opens sooner
            self._shown_before = True
            self.refresh()
            self.rescan(asked=False)
