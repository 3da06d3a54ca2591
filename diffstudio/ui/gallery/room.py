"""The Gallery room: all images in a grid, one image at full size, two compared, and the settings of the selected one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QEvent, QModelIndex, QPoint, Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QWidget

from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.rescan import RescanReport
from diffstudio.studio.gallery.view_state import GalleryViewState
from diffstudio.ui.gallery.browser import GalleryBrowser
from diffstudio.ui.gallery.item_model import title
from diffstudio.ui.gallery.rescanner import Rescanner, report_message
from diffstudio.ui.gallery.trash import GalleryTrash
from diffstudio.ui.widgets import shortcuts
from diffstudio.ui.widgets.helpers import leave_focus

LAST_CHANGES_MS = 1500  # how long closing waits for them, and again for others than changes of many images
_CELL_STEP = 24  # px, of a thumbnail, for Ctrl and the wheel


class GalleryRoom(GalleryBrowser):
    """Shows a Gallery; signals ask the window for actions in other rooms."""

    use_settings_requested = Signal(object, object)  # PictureRequest, Gaps
    show_steps_requested = Signal(object)  # GalleryImage, to be shown in the Generate room
    upscale_requested = Signal(object)  # Path
    start_requested = Signal(object)  # Path of the init image for img2img
    paint_requested = Signal(object)  # Path of the init image for inpainting
    generate_requested = Signal()  # the button of the empty gallery
    changed = Signal()  # images were deleted, restored or starred

    _shown_before = False  # Qt sends events during construction

    def __init__(self, gallery: Gallery, view: GalleryViewState = GalleryViewState()) -> None:  # noqa: B008 - frozen
        super().__init__(gallery)
        self._trash = GalleryTrash(gallery, self._changing, self)
        self._rescanner = Rescanner(gallery, self._tasks)
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

    def images_changed(self, images: Sequence[GalleryImage]) -> None:
        """Show new records of images that were starred elsewhere."""
        self._show_changed(images)

    def images_deleted(self, image_ids: Sequence[int]) -> None:
        """Images were moved to the trash elsewhere."""
        if self.in_trash():
            self.refresh()
        else:
            self.model.remove(image_ids)

    def busy(self) -> bool:
        """Whether records are being read or changed."""
        return any(tasks.busy() for tasks in (self._tasks, self._reading, self._changing))

    def shut_down(self) -> None:
        """Stop the threads and start no new work."""
        self.details.note.save()
        self._changing.finish(LAST_CHANGES_MS)  # what was asked for last is done
        self._rescanner.close()
        self._thumbnails.close()
        for tasks in (self._tasks, self._changing, self._reading):
            tasks.close()

    # Connections

    def _connect(self) -> None:
        self.model.counted.connect(self._show_page)
        self.model.modelReset.connect(self._selection_changed)
        self._connect_disk()
        self._connect_grid_and_bars()
        self._connect_actions()

    def _connect_disk(self) -> None:
        bar, trash = self.top_bar, self._trash
        self._rescanner.started.connect(self._show_rescan_started)
        self._rescanner.ended.connect(lambda: bar.rescan_button.setEnabled(True))
        self._rescanner.reported.connect(self._show_rescanned)
        self._rescanner.failed.connect(self._show_rescan_failed)
        trash.restored.connect(self._show_restored)
        trash.emptied.connect(self._show_emptied)
        trash.purged.connect(self._show_purged)
        trash.changed.connect(self._trash_changed)
        trash.failed.connect(self._show_error)
        trash.progressed.connect(self._show_progress)
        trash.nothing_to_undo.connect(lambda: self._show_message("info", "There is no deletion to undo."))
        self.model.failed.connect(self._show_error)

    def _connect_grid_and_bars(self) -> None:
        trash, grid, bar = self._trash, self.grid, self.top_bar
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

    def _connect_actions(self) -> None:
        details, do = self.details, self.selection_actions
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
        shortcuts.bind_in_window(shortcuts.GO_BACK, self, self._escape)

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
            self._changing.start(self._delete(images))

    def restore_chosen(self) -> None:
        """Move the selected images out of the trash."""
        if images := [image for image in self.chosen() if image.trashed is not None]:
            self._trash.restore([image.id for image in images])

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
        deleted = set(await self._trash.delete(images))
        if self.in_trash():  # it was opened meanwhile, and they belong to it
            self.refresh()
        else:
            self.model.remove(deleted)
        if deleted:
            gone = [image for image in images if image.id in deleted]
            what = f"“{title(gone[0])[:60]}”" if len(gone) == 1 else f"{len(gone):,} images"
            if all(image.missing for image in gone):
                here = all(image.path.is_relative_to(self._gallery.folder) for image in gone)
                self._show_message("info", f"{what} removed.{' Files come back with their folders.' * here}")
            else:
                self._show_message("info", f"{what} moved to the trash.", "Undo", self.undo)
            if not self.in_trash():
                self._select_row(min(row, self.model.rowCount() - 1))
            self.changed.emit()

    def undo(self) -> None:
        """Restore the images of the last deletion; again, those of the one before it."""
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
        self._show_message("good", f"{count:,} image{'' if count == 1 else 's'} moved to the system trash.")

    def rescan(self, *, asked: bool = True) -> None:
        """Rescan the folder in a thread, unless that is in progress; `asked` reports that nothing has changed."""
        self._rescanner.start(asked=asked)

    def _show_rescan_started(self) -> None:
        leave_focus(self.top_bar.rescan_button, self.grid)
        self.top_bar.rescan_button.setEnabled(False)

    def _show_rescan_failed(self, error: DiffstudioError) -> None:
        self.refresh()  # its images are marked as missing
        self._show_error(error)

    def _show_rescanned(self, report: RescanReport, asked: bool) -> None:
        if report.changed:
            self.model.forget_thumbnails()
        if report.anything or report.indexed:
            self.refresh()
        kind, text = report_message(report, asked)
        if text:
            self._show_message(kind, text)

    # Internal

    async def _read_tags(self) -> None:
        """Offer the tags that other images have."""
        try:
            tags = await self._reading.to_thread(self._gallery.all_tags)
        except StorageProblem as error:
            self._show_error(error)
            return
        self.details.tags.set_known([tag for tag, _ in tags])

    def _menu(self, at: QPoint) -> None:
        source = self.sender()
        if self.chosen() and isinstance(source, QWidget):
            open_image = None if self.is_full() else lambda: self._open(self.grid.currentIndex())
            self.selection_actions.menu(open_image).popup(source.mapToGlobal(at))

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._shown_before:  # not in __init__, so that the window opens sooner
            self._shown_before = True
            self.refresh()
            self.rescan(asked=False)
            self._tasks.start(self._read_tags())
        else:
            self._notice_changes()

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.WindowActivate and self._shown_before and self.isVisible():
            self._notice_changes()
        return super().event(event)

    def _notice_changes(self) -> None:
        """Take up the files that other programs added or removed meanwhile."""
        if not self._changing.busy():
            self._rescanner.start_if_changed()
