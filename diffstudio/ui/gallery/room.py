"""The Gallery room: all images in a grid, one image at full size, two compared, and the settings of the selected one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from PySide6.QtGui import QImage, QShowEvent
from PySide6.QtWidgets import QWidget

from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.rescan import RescanReport, rescan
from diffstudio.studio.gallery.search import GalleryQuery
from diffstudio.studio.gallery.view_state import GalleryViewState
from diffstudio.ui.gallery.item_model import GalleryModel, title
from diffstudio.ui.gallery.layout import GalleryLayout
from diffstudio.ui.gallery.selection_actions import SelectionActions
from diffstudio.ui.gallery.trash import GalleryTrash
from diffstudio.ui.tasks import NewestFirstQueue, Tasks
from diffstudio.ui.widgets import actions, shortcuts
from diffstudio.ui.widgets.helpers import leave_focus

LAST_CHANGES_MS = 2000  # how long closing waits for them
_CELL_STEP = 24  # px, of a thumbnail, for Ctrl and the wheel


class GalleryRoom(GalleryLayout):
    """Shows a Gallery; signals ask the window for actions in other rooms."""

    use_settings_requested = Signal(object)  # PictureRequest
    show_steps_requested = Signal(object)  # GalleryImage, to be shown in the Generate room
    upscale_requested = Signal(object)  # Path
    start_requested = Signal(object)  # Path of the init image for img2img
    paint_requested = Signal(object)  # Path of the init image for inpainting
    generate_requested = Signal()  # the button of the empty gallery
    changed = Signal()  # images were deleted, restored or starred
    view_changed = Signal(object)  # GalleryViewState, to be kept

    def __init__(self, gallery: Gallery, view: GalleryViewState = GalleryViewState()) -> None:  # noqa: B008 - frozen
        self._gallery = gallery
        self._tasks, self._thumbnails = Tasks("gallery", workers=3), NewestFirstQueue("thumbnails")
        self._reading, self._changing = Tasks("gallery-reading", workers=1), Tasks("gallery-changing", workers=1)
        super().__init__(GalleryModel(gallery, self._thumbnails, self._reading), self._tasks)
        self._trash = GalleryTrash(gallery, self._changing, self)
        self.selection_actions = SelectionActions(gallery, self._changing, self.chosen, self)
        self._shown_before = False
        self._closing = threading.Event()
        self._act: Callable[[], object] = self.undo  # what the button of the message does
        self._compare_with: Path | None = None  # it is compared with the next image that is selected
        self.top_bar.show_query(view.query)
        self.top_bar.cell.setValue(view.cell)
        self.grid.set_cell(view.cell)
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

    def images_changed(self, images: Sequence[GalleryImage]) -> None:
        """Show new records of images that were starred elsewhere."""
        self._show_changed(images)

    def images_deleted(self, image_ids: Sequence[int]) -> None:
        """Images were moved to the trash elsewhere."""
        if self.in_trash():
            self.refresh()
        else:
            self.model.remove(image_ids)

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

    def busy(self) -> bool:
        """Whether records are being read or changed."""
        return any(tasks.busy() for tasks in (self._tasks, self._reading, self._changing))

    def shut_down(self) -> None:
        """Stop the threads and start no new work."""
        self.details.note.save()
        deadline = QDeadlineTimer(LAST_CHANGES_MS)
        while self._changing.busy() and not deadline.hasExpired():  # what was asked for last is done
            QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
        self._closing.set()
        self._thumbnails.close()
        for tasks in (self._tasks, self._changing, self._reading):
            tasks.close()

    def current(self) -> GalleryImage | None:
        """The image in the full view, or the only selected one."""
        return self.selection_actions.only_image()

    def chosen(self) -> list[GalleryImage]:
        indexes = [self.grid.currentIndex()] if self.is_full() else self.grid.selectedIndexes()
        return [image for index in indexes if (image := self.model.image(index)) is not None]

    # Connections

    def _connect(self) -> None:
        self.model.counted.connect(self._show_page)
        self.model.modelReset.connect(self._selection_changed)
        trash, grid, bar, details, do = self._trash, self.grid, self.top_bar, self.details, self.selection_actions
        trash.restored.connect(self._show_restored)
        trash.emptied.connect(self._show_emptied)
        trash.purged.connect(self._show_purged)
        trash.changed.connect(self._trash_changed)
        trash.failed.connect(self._show_error)
        self.model.failed.connect(self._show_error)
        grid.opened.connect(self._open)
        grid.delete_requested.connect(self.delete_chosen)
        grid.star_requested.connect(self._star_at)
        grid.zoom_requested.connect(lambda by: bar.cell.setValue(bar.cell.value() + by * _CELL_STEP))
        grid.selectionModel().selectionChanged.connect(self._selection_changed)
        for source in (grid, self.image_view):
            source.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
            source.customContextMenuRequested.connect(self._menu)
        bar.changed.connect(self._filter)
        bar.cell_changed.connect(grid.set_cell)
        bar.cell_changed.connect(self._view_changed)
        bar.rescan_button.clicked.connect(lambda: self.rescan())
        bar.trash.clicked.connect(self.show_trash)
        self.trash_bar.back_requested.connect(self.leave_trash)
        self.trash_bar.restore_requested.connect(self.restore_chosen)
        self.trash_bar.purge_requested.connect(self.delete_chosen)
        self.trash_bar.empty_requested.connect(lambda: trash.ask_to_empty(self.model.in_trash))
        self.empty.clicked.connect(self.generate_requested)
        self.empty_trash.clicked.connect(self.leave_trash)
        self.no_matches.clicked.connect(self.clear_filters)
        self.message.banner.acted.connect(lambda: self._act())
        self.message.banner.dismissed.connect(self._stop_comparing)
        self.full.closed.connect(self.close_full)
        self.full.step_requested.connect(self._show_neighbour)
        self.compare_view.closed.connect(self.close_full)
        do.use_settings_requested.connect(self.use_settings_requested)
        do.records_changed.connect(self._show_changed)
        for request, answer in (
            (do.actions.show_steps_requested, lambda target: self.show_steps_requested.emit(target.record)),
            (do.actions.upscale_requested, self.upscale_requested.emit),
            (do.actions.start_requested, self.start_requested.emit),
            (do.actions.paint_requested, self.paint_requested.emit),
            (do.actions.compare_requested, self.compare),
            (do.actions.delete_requested, lambda _: self.delete_chosen()),
            (do.actions.purge_requested, lambda _: self.delete_chosen()),
            (do.actions.restore_requested, lambda _: self.restore_chosen()),
        ):
            request.connect(answer)
        do.actions.message.connect(self._show_message)
        for signal, act in (
            (details.use_settings_requested, do.use_settings),
            (details.copy_requested, do.copy),
            (details.save_requested, do.save_as),
            (details.delete_requested, self.delete_chosen),
            (details.restore_requested, self.restore_chosen),
            (details.folder_requested, do.show_in_folder),
            (details.star_requested, do.star_selected),
            (details.upscale_requested, do.upscale),
            (details.compare_requested, do.compare),
            (details.note_changed, do.set_note),
            (details.tags.added, do.add_tags),
            (details.tags.removed, do.remove_tag),
            (details.tags.search_requested, self.search_tag),
        ):
            signal.connect(act)

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
        shortcuts.bind(shortcuts.GO_BACK, self, self._escape)

    # Stars, trash and rescan

    def _star_at(self, index: QModelIndex) -> None:
        if (image := self.model.image(index)) is not None:
            self.selection_actions.star(image)

    def _show_changed(self, images: Sequence[GalleryImage]) -> None:
        self._tasks.start(self._replace(images))

    async def _replace(self, images: Sequence[GalleryImage]) -> None:
        await self.model.replace(images)
        self._selection_changed()
        await self._read_tags()
        self.changed.emit()

    def delete_chosen(self) -> None:
        """Move the selected images to the gallery's trash and offer to undo it; in the trash, delete them for good."""
        images = self.chosen()
        if images and self.in_trash():
            self._trash.ask_to_purge(images)
        elif images:
            self._tasks.start(self._delete(images))

    def restore_chosen(self) -> None:
        """Move the selected images out of the trash."""
        if images := [image for image in self.chosen() if image.trashed is not None]:
            self._trash.restore([image.id for image in images])

    def show_trash(self) -> None:
        """Show what is in the trash in place of the gallery."""
        self._stop_comparing()
        leave_focus(self.top_bar, self.grid)
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

    def _trash_changed(self) -> None:
        if self.in_trash():
            self.refresh()
        else:
            self.model.recount()

    def _show_purged(self, image_ids: Sequence[int]) -> None:
        row = min((self.model.index_of(each).row() for each in image_ids), default=-1)
        self.model.remove(image_ids)
        self._select_row(min(row, self.model.rowCount() - 1))
        if image_ids:
            count = len(image_ids)
            self._show_message("info", f"{count:,} image{'' if count == 1 else 's'} deleted permanently.")

    async def _delete(self, images: Sequence[GalleryImage]) -> None:
        row = min(self.model.index_of(image.id).row() for image in images)
        deleted = await self._trash.delete(images)
        self.model.remove(deleted)
        if deleted:
            what = f"“{title(images[0])[:60]}”" if len(deleted) == 1 else f"{len(deleted):,} images"
            if all(image.missing for image in images if image.id in deleted):
                self._show_message("info", f"{what} removed. Files come back with their folders.")
            else:
                self._show_message("info", f"{what} moved to the trash.", "Undo", self.undo)
            self._select_row(min(row, self.model.rowCount() - 1))
            self.changed.emit()

    def undo(self) -> None:
        """Restore the images deleted last."""
        self._trash.undo()

    def _show_restored(self, images: Sequence[GalleryImage], missing: int) -> None:
        for part in (self.message, self.trash_bar):  # it is on Undo or Restore
            leave_focus(part, self._pages.currentWidget())
        self.message.hide()
        self._tasks.start(self._insert_restored(images, missing))

    async def _insert_restored(self, images: Sequence[GalleryImage], missing: int) -> None:
        if self.in_trash():
            self.model.remove([image.id for image in images])
            count = len(images)
            self._show_message("good", f"{count:,} image{'' if count == 1 else 's'} restored to the gallery.")
        else:
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
        if self.in_trash():
            self.refresh()
        self._show_message("good", f"{count:,} image{'' if count == 1 else 's'} moved to the system's trash.")

    def rescan(self, *, asked: bool = True) -> None:
        """Rescan the folder in a thread, unless that is in progress; `asked` reports that nothing has changed."""
        if self.top_bar.rescan_button.isEnabled():
            leave_focus(self.top_bar.rescan_button, self.grid)
            self.top_bar.rescan_button.setEnabled(False)
            self._tasks.start(self._rescan(asked))

    async def _rescan(self, asked: bool) -> None:
        try:
            report = await self._tasks.to_thread(rescan, self._gallery, self._closing.is_set)
        except DiffstudioError as error:
            self.refresh()  # its images are marked as missing
            self._show_error(error)
        else:
            self._show_rescan_report(report, asked)
        finally:
            self.top_bar.rescan_button.setEnabled(True)

    def clear_filters(self) -> None:
        self.top_bar.clear()
        self._filter()

    def search_tag(self, tag: str) -> None:
        """Show the images that have a tag."""
        if self.is_full():
            self.close_full()
        quoted = f'"{tag}"' if " " in tag else tag
        self.top_bar.show_query(replace(self.top_bar.query(), search=f"tag:{quoted}"))
        if self.in_trash():
            self.leave_trash()
        self._filter()

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

    async def _read_tags(self) -> None:
        """Offer the tags that other images have."""
        try:
            tags = await self._reading.to_thread(self._gallery.all_tags)
        except StorageProblem as error:
            self._show_error(error)
            return
        self.details.tags.set_known([tag for tag, _ in tags])

    def _show_rescan_report(self, report: RescanReport, asked: bool) -> None:
        if report.changed:
            self.model.forget_thumbnails()
        if report.anything or report.indexed:
            self.refresh()
        if report.anything:
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

    def _menu(self, at: QPoint) -> None:
        source = self.sender()
        if self.chosen() and isinstance(source, QWidget):
            open_image = None if self.is_full() else lambda: self._open(self.grid.currentIndex())
            self.selection_actions.menu(open_image).popup(source.mapToGlobal(at))

    def _show_error(self, error: object) -> None:
        self._show_message("bad", str(error))

    def _show_message(self, kind: str, text: str, action: str = "", act: Callable[[], object] | None = None) -> None:
        self._act = act or self.undo
        self.message.show_message(kind, text, action)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._shown_before:  # not in __init__, so that the window opens sooner
            self._shown_before = True
            self.refresh()
            self.rescan(asked=False)
            self._tasks.start(self._read_tags())
