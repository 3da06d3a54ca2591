"""GalleryRoom: all pictures in a grid, one of them large, its settings beside, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import QItemSelection, QMimeData, QModelIndex, QPoint, Qt, QUrl, Signal
from PySide6.QtGui import QImage, QKeySequence, QResizeEvent, QShortcut, QShowEvent
from PySide6.QtWidgets import QApplication, QDialog, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.studio.gallery.gallery import Gallery, GalleryImage
from diffstudio.studio.gallery.rescan import RescanReport, rescan
from diffstudio.studio.metadata import metadata
from diffstudio.ui.gallery import dialogs
from diffstudio.ui.gallery.details import Details
from diffstudio.ui.gallery.full_view import FullView
from diffstudio.ui.gallery.grid import ThumbnailGrid
from diffstudio.ui.gallery.item_model import GalleryModel, title
from diffstudio.ui.gallery.top_bar import Message, TopBar
from diffstudio.ui.tasks import NewestFirstQueue, Tasks
from diffstudio.ui.widgets import actions, image_actions
from diffstudio.ui.widgets.controls import EmptyState
from diffstudio.ui.widgets.images import read_image

NARROW = 760  # px: below, the grid has the room to itself and settings are shown in the full view only


class GalleryRoom(QWidget):
    """Reads and changes a Gallery; what concerns other rooms it asks for by signal."""

    use_settings_requested = Signal(object)  # PictureRequest
    upscale_requested = Signal(object)  # Path
    generate_requested = Signal()  # from the empty gallery: go and make a picture
    changed = Signal()  # pictures were deleted, brought back or starred here

    def __init__(self, gallery: Gallery) -> None:
        super().__init__()
        self.setObjectName("background")
        self._gallery = gallery
        self._tasks, self._thumbnails = Tasks("gallery", workers=3), NewestFirstQueue("thumbnails")
        self.model = GalleryModel(gallery, self._thumbnails)
        self._deleted: list[int] = []
        self._dialog: QDialog | None = None
        self._looked = self._closing = False

        self.grid = ThumbnailGrid()
        self.grid.setModel(self.model)
        self.details = Details(self._tasks)
        self.full = FullView(self._tasks)
        self.picture = self.full.picture
        self.bar = TopBar()
        self.message = Message()
        self.empty = EmptyState(
            "image-square",
            "No images yet",
            "Every image you generate appears here, with all of its settings.",
            "Generate an image",
        )
        self.nothing_found = EmptyState("magnifying-glass", "No matches", "", "Show all images")
        self._pages = QStackedWidget()
        for page in (self.grid, self.empty, self.nothing_found):
            self._pages.addWidget(page)
        self._lay_out()
        self._connect()
        self._make_shortcuts()
        self._show_page()

    # What others call

    def image_added(self, path: Path) -> None:
        """A picture was saved into the gallery: show it, if it fits the search."""
        try:
            image = self._gallery.find(Path(path))
            if image is not None:
                self.model.add([image])
        except StorageProblem as problem:
            self._fail(problem)

    def refresh(self) -> None:
        """Read the records again, after somebody else has changed them."""
        self._guarded(lambda: self.model.show(self.bar.search.text(), self.bar.starred.isChecked()))
        self._selection_changed()

    def open_image(self, path: Path) -> bool:
        """Show one picture large; False when it is not in the gallery."""
        image = self._gallery.find(Path(path))
        if image is None:
            return False
        if not self.model.index_of(image.id).isValid():
            self.clear_filters()
            self.model.add([image])
        index = self.model.index_of(image.id)
        if index.isValid():
            self._open(index)
        return index.isValid()

    def shut_down(self) -> None:
        """Wait for what is done beside the window. Nothing is begun there afterwards."""
        self._closing = True
        self._thumbnails.close()
        self._tasks.close()

    def current(self) -> GalleryImage | None:
        """The one picture that is chosen or shown large."""
        images = self.chosen()
        return images[0] if len(images) == 1 else None

    def chosen(self) -> list[GalleryImage]:
        indexes = [self.grid.currentIndex()] if self.is_full() else self.grid.selectedIndexes()
        return [image for index in indexes if (image := self.model.image(index)) is not None]

    def is_full(self) -> bool:
        """Whether one picture is shown large."""
        return self._views.currentWidget() is self.full

    # Building

    def _lay_out(self) -> None:
        everything = QWidget()
        column = QVBoxLayout(everything)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.bar)
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
        self.model.failed.connect(self._fail)
        self.grid.opened.connect(self._open)
        self.grid.delete_requested.connect(self.delete_chosen)
        self.grid.star_requested.connect(lambda index: self._star([self.model.image(index)]))
        self.grid.selectionModel().selectionChanged.connect(self._selection_changed)
        self.grid.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.grid.customContextMenuRequested.connect(self._menu)
        self.picture.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.picture.customContextMenuRequested.connect(self._menu)
        self.bar.changed.connect(self._search_now)
        self.bar.rescan_button.clicked.connect(self.rescan)
        self.bar.trash.clicked.connect(self._ask_about_trash)
        self.empty.clicked.connect(self.generate_requested)
        self.nothing_found.clicked.connect(self.clear_filters)
        self.message.banner.acted.connect(self.undo)
        self.full.closed.connect(self.close_full)
        self.full.step_requested.connect(self._step)
        details = self.details
        for signal, act in (
            (details.use_settings_requested, self.reuse),
            (details.copy_requested, self.copy),
            (details.save_requested, self.save_as),
            (details.delete_requested, self.delete_chosen),
            (details.folder_requested, self.show_in_folder),
            (details.star_requested, self.star_chosen),
            (details.upscale_requested, self.enlarge),
        ):
            signal.connect(act)

    def _make_shortcuts(self) -> None:
        for keys, act in (
            (QKeySequence.StandardKey.Find, self._focus_search),
            ("Ctrl+D", self.star_chosen),
            (QKeySequence.StandardKey.Copy, self.copy),
            (QKeySequence.StandardKey.Save, self.save_as),
            (QKeySequence.StandardKey.Undo, self.undo),
            ("Ctrl+U", self.reuse),
            ("Ctrl+E", self.enlarge),
            (QKeySequence.StandardKey.Delete, self.delete_chosen),
        ):
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(act)

    # Doing

    def reuse(self) -> None:
        """Ask for the chosen picture's settings to be put into the Generate room."""
        image = self.current()
        if image is not None and image.request is not None:
            self.use_settings_requested.emit(image.request)

    def enlarge(self) -> None:
        """Ask for the chosen picture to be made larger."""
        image = self.current()
        if image is not None:
            self.upscale_requested.emit(image.path)

    def copy(self) -> None:
        """Put the chosen picture on the clipboard, as a picture and as a file."""
        images = self.chosen()
        if not images:
            return
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(image.path)) for image in images])
        if len(images) == 1:
            pixels = read_image(images[0].path)
            if pixels.isNull():
                self.message.show_message(
                    "bad", f"{images[0].path.name} cannot be read. It may have been moved or damaged."
                )
                return
            data.setImageData(pixels)
        QApplication.clipboard().setMimeData(data)
        self._say(
            "good",
            "Image copied to the clipboard." if len(images) == 1 else f"{len(images):,} files copied to the clipboard.",
        )

    def save_as(self) -> None:
        """Ask where, and save a copy there with its settings."""
        image = self.current()
        if image is None:
            return
        self._dialog = image_actions.ask_where_to_save(self, image.path, lambda target: self.save_copy(image, target))

    def save_copy(self, image: GalleryImage, target: Path) -> None:
        if self._guarded(lambda: metadata.save_copy(image.path, target)):
            self._say("good", f"Saved as {target}.")

    def show_in_folder(self) -> None:
        image = self.current()
        if image is not None and not image_actions.show_in_folder(image.path):
            self._say("warn", f"No file manager could be opened. The image is {image.path}.")

    def star_chosen(self) -> None:
        self._star(self.chosen())

    def _star(self, images: Sequence[GalleryImage | None]) -> None:
        known = [image for image in images if image is not None]
        starred = not all(image.starred for image in known)
        for image in known:
            if not self._guarded(partial(self._gallery.star, image.id, starred)):
                return
            renewed = self._gallery.get(image.id)
            if renewed is not None:
                self.model.replace(renewed)
        if known:
            self._selection_changed()
            self.changed.emit()

    def delete_chosen(self) -> None:
        """Move what is chosen to the gallery's trash, and offer to undo it."""
        images = self.chosen()
        if not images:
            return
        row = min(self.model.index_of(image.id).row() for image in images)
        gone: list[int] = []
        self._guarded(lambda: gone.extend(self._gallery.delete([image.id for image in images])))
        self.model.remove(gone)
        if gone:
            self._deleted = gone
            what = f"“{title(images[0])[:60]}”" if len(gone) == 1 else f"{len(gone):,} images"
            self._say("info", f"{what} moved to the trash.", "Undo")
            self._choose(min(row, self.model.rowCount() - 1))
            self.changed.emit()

    def undo(self) -> None:
        """Bring back what was deleted last."""
        back: list[int] = []
        if not self._deleted or not self._guarded(lambda: back.extend(self._gallery.undo(self._deleted))):
            return
        missing = len(self._deleted) - len(back)
        self._deleted = []
        self.message.hide()
        self._returned(back)
        if missing:
            self._say("warn", f"{missing:,} images could not be restored: their files are no longer in the trash.")

    def _returned(self, image_ids: list[int]) -> None:
        self.model.add([image for each in image_ids if (image := self._gallery.get(each)) is not None])
        if image_ids and (index := self.model.index_of(image_ids[0])).isValid():
            self._choose(index.row())
        self.changed.emit()

    def rescan(self) -> None:
        """Look through the folder beside the window, unless that is under way."""
        if self.bar.rescan_button.isEnabled():
            self.bar.rescan_button.setEnabled(False)
            self._tasks.start(self._rescan())

    async def _rescan(self) -> None:
        try:
            report = await self._tasks.to_thread(rescan, self._gallery, lambda: self._closing)
        except DiffstudioError as error:
            self._fail(error)
        else:
            self._say_report(report)
        finally:
            self.bar.rescan_button.setEnabled(True)

    def clear_filters(self) -> None:
        self.bar.search.clear()
        self.bar.starred.setChecked(False)
        self._search_now()

    # Looking

    def close_full(self) -> None:
        self._views.setCurrentIndex(0)
        self._arrange()
        self.grid.setFocus()
        self.grid.scrollTo(self.grid.currentIndex())
        self._selection_changed()

    def _open(self, index: QModelIndex) -> None:
        self._choose(index.row())
        self._views.setCurrentWidget(self.full)
        self._arrange()
        self.picture.setFocus()
        self._show_full()

    def _step(self, by: int) -> None:
        row = self.grid.currentIndex().row() + by
        if row == self.model.rowCount() and self.model.canFetchMore(QModelIndex()):
            self.model.fetchMore(QModelIndex())
        if 0 <= row < self.model.rowCount():
            self._choose(row)

    def _choose(self, row: int) -> None:
        if row < 0:
            self.close_full() if self.is_full() else self._selection_changed()
            return
        index = self.model.index(row)
        self.grid.setCurrentIndex(index)
        self.grid.scrollTo(index)
        self._selection_changed()

    def _show_full(self) -> None:
        image = self.current()
        if image is None:
            self.close_full()
            return
        self.full.show_image(image, self.model.thumbnail(image) or QImage())
        row = self.grid.currentIndex().row()
        more = row + 1 < self.model.rowCount() or self.model.canFetchMore(QModelIndex())
        self.full.set_neighbours(row > 0, more)

    def _selection_changed(self, *_: QItemSelection) -> None:
        chosen = self.chosen()
        image = chosen[0] if len(chosen) == 1 else None
        self.details.show_image(image, len(chosen))
        if self.is_full():
            self._show_full()

    def _say_report(self, report: RescanReport) -> None:
        if report.changed:
            self.model.forget_thumbnails()
        if report.anything:
            self.refresh()
            found = {"added": report.added, "changed": report.changed, "moved": report.moved, "gone": report.removed}
            parts = [f"{count:,} {word}" for word, count in found.items() if count]
            self._say("good", f"Folder rescanned: {', '.join(parts)}.")
        if report.unreadable:
            path, why = report.unreadable[0]
            more = f" {len(report.unreadable) - 1:,} more were skipped too." if len(report.unreadable) > 1 else ""
            self._say("warn", f"Skipped: {why}{more}")

    def _search_now(self) -> None:
        self._guarded(lambda: self.model.show(self.bar.search.text(), self.bar.starred.isChecked()))
        self._selection_changed()

    def _focus_search(self) -> None:
        if self.is_full():
            self.close_full()
        self.bar.search.setFocus()
        self.bar.search.selectAll()

    def _show_page(self) -> None:
        filtered = bool(self.model.search.strip() or self.model.starred)
        if self.model.total == 0 and not filtered:
            page: QWidget = self.empty
        elif self.model.total == 0:
            page = self.nothing_found
            words, stars = self.model.search.strip()[:80], "starred " if self.model.starred else ""
            self.nothing_found.text.setText(f"No {stars}image matches “{words}”." if words else "No starred images.")
        else:
            page = self.grid
        self._pages.setCurrentWidget(page)
        if self.is_full() and self.model.total == 0:
            self._views.setCurrentIndex(0)
        total = self.model.total
        self.bar.count_label.setText(f"{total:,} image{'' if total == 1 else 's'}" if total else "")
        in_trash = self._gallery.trash_count()
        self.bar.trash.setVisible(in_trash > 0)
        self.bar.search.setEnabled(page is not self.empty)
        self.bar.starred.setEnabled(page is not self.empty)
        self._arrange()

    def _arrange(self) -> None:
        """The settings have their column where there is room for it, and always beside a picture shown large."""
        on_grid = self._pages.currentWidget() is self.grid and self.width() >= NARROW
        self.details.setVisible(self.is_full() or on_grid)

    def _menu(self, at: QPoint) -> None:
        chosen = self.chosen()
        source = self.sender()
        if not chosen or not isinstance(source, QWidget):
            return
        one = self.current()
        entries: list[tuple[str, str, Callable[[], None]]] = []
        if one is not None and not self.is_full():
            entries.append(("Open", "corners-out", lambda: self._open(self.grid.currentIndex())))
        if one is not None and one.request is not None:
            entries.append((actions.USE_SETTINGS, "arrow-u-up-left", self.reuse))
        starred = all(image.starred for image in chosen)
        entries += [("Remove star" if starred else "Star", "star", self.star_chosen), ("Copy", "copy", self.copy)]
        if one is not None:
            entries += [
                (actions.UPSCALE, "arrows-out", self.enlarge),
                (actions.SAVE_AS, "floppy-disk", self.save_as),
                (actions.SHOW_IN_FOLDER, "folder-open", self.show_in_folder),
            ]
        entries.append(("Delete", "trash", self.delete_chosen))
        dialogs.menu(self, entries).popup(source.mapToGlobal(at))

    def _ask_about_trash(self) -> None:
        self._dialog = dialogs.ask_about_trash(self, self._gallery.trash_count(), self.bring_all_back, self.empty_trash)

    def bring_all_back(self) -> None:
        back: list[int] = []
        self._guarded(lambda: back.extend(self._gallery.undo(self._gallery.trashed())))
        self._deleted = []
        self.message.hide()
        self._returned(back)

    def empty_trash(self) -> None:
        gone: list[int] = []
        if self._guarded(lambda: gone.append(self._gallery.empty_trash())):
            self._deleted = []
            self._say("good", f"{gone[0]:,} image{'' if gone[0] == 1 else 's'} moved to the system's trash.")
        self._show_page()

    def _guarded(self, act: Callable[[], object]) -> bool:
        """Do it; what goes wrong is said in the window."""
        try:
            act()
        except DiffstudioError as problem:
            self._fail(problem)
            return False
        return True

    def _fail(self, problem: object) -> None:
        self._say("bad", str(problem))

    def _say(self, kind: str, text: str, action: str = "") -> None:
        self.message.show_message(kind, text, action)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._looked:  # when first shown, not before: the window opens sooner
            self._looked = True
            self.refresh()
            self.rescan()
