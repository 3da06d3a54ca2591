"""The Qt model of the gallery: pages are fetched while scrolling, thumbnails while painting.

The database is read in a thread. What arrives after the filter has changed is dropped.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QByteArray,
    QMimeData,
    QModelIndex,
    QPersistentModelIndex,
    Qt,
    QUrl,
    Signal,
)
from PySide6.QtGui import QImage

from diffstudio.errors import StorageProblem
from diffstudio.studio.gallery.gallery import THUMBNAIL_SIDE, Gallery
from diffstudio.studio.gallery.records import GalleryImage, sort_key
from diffstudio.studio.gallery.search import GalleryQuery
from diffstudio.ui.generate.labels import title_of
from diffstudio.ui.tasks import NewestFirstQueue, Tasks
from diffstudio.ui.widgets.helpers import plain_tooltip
from diffstudio.ui.widgets.images.image_reading import read_image

_MOST_RUNS = 32  # of rows that change one run after the other; with more, all rows are shown anew
PAGE = 200  # images in the first page; later pages grow
_EVERYTHING = 1 << 40  # images in a page
THUMBNAIL_BYTES = 96 << 20  # of decoded thumbnails kept
IMAGE_ROLE = int(Qt.ItemDataRole.UserRole)

_ALL = GalleryQuery()

Index = QModelIndex | QPersistentModelIndex


class GalleryModel(QAbstractListModel):
    """The images that match `query`, in its order."""

    counted = Signal()  # the number of images may have changed
    failed = Signal(object)  # StorageProblem: the records cannot be read

    def __init__(self, gallery: Gallery, thumbnails: NewestFirstQueue, tasks: Tasks) -> None:
        super().__init__()
        self._gallery, self._thumbnail_queue, self._tasks = gallery, thumbnails, tasks
        self._images: list[GalleryImage] = []
        self._rows: dict[int, int] | None = None  # id -> row; None when outdated
        self._thumbnails: OrderedDict[int, QImage] = OrderedDict()
        self._thumbnail_bytes = 0
        self._unreadable: set[int] = set()
        self._complete, self._fetching = True, False
        self._reached = 0  # how many of the records' rows have been fetched
        self._loads = 0  # counts the calls of `load`
        self.query, self.total, self.in_trash = GalleryQuery(), 0, 0
        self.shown = self.query  # what the rows match; `query` may still be read
        self.counts_all = True  # whether `total` is that of all images that match, and not yet of those fetched
        self.loaded = False  # the first page has arrived
        thumbnails.completed.connect(self._thumbnail_made)

    # Called by Qt

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self._images)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        image = self.image(index)
        if image is None:
            return None
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return title(image)
            case Qt.ItemDataRole.ToolTipRole:
                why = (missing_text(image),) * image.missing
                return plain_tooltip("\n".join((title(image)[:300], description(image), *why)))
            case Qt.ItemDataRole.AccessibleTextRole:
                starred, missing = ", starred" * image.starred, ", missing" * image.missing
                return f"{title(image)[:300]}, {description(image)}{starred}{missing}"
            case _ if role == IMAGE_ROLE:
                return image
        return None

    def canFetchMore(self, parent: Index) -> bool:
        return not parent.isValid() and self.has_more() and not self._fetching

    def fetchMore(self, parent: Index) -> None:
        if self.canFetchMore(parent):
            self._tasks.start(self.fetch())

    def flags(self, index: Index) -> Qt.ItemFlag:
        return super().flags(index) | (Qt.ItemFlag.ItemIsDragEnabled if index.isValid() else Qt.ItemFlag.NoItemFlags)

    def mimeTypes(self) -> list[str]:
        return ["text/uri-list"]

    def mimeData(self, indexes: Sequence[QModelIndex]) -> QMimeData:
        """The files, for drag and drop to a file manager or another program."""
        data = QMimeData()
        images = [image for index in indexes if (image := self.image(index)) is not None]
        data.setUrls([QUrl.fromLocalFile(str(image.path)) for image in images])
        return data

    def supportedDragActions(self) -> Qt.DropAction:
        return Qt.DropAction.CopyAction

    def roleNames(self) -> dict[int, QByteArray]:
        return super().roleNames() | {IMAGE_ROLE: QByteArray(b"image")}

    # Called by the room

    def image(self, index: Index) -> GalleryImage | None:
        return self._images[index.row()] if index.isValid() and index.row() < len(self._images) else None

    def index_of(self, image_id: int) -> QModelIndex:
        """The index of an image; invalid if it is not fetched."""
        row = self._row_of().get(image_id)
        return QModelIndex() if row is None else self.index(row)

    def rows(self, first: int, last: int) -> list[GalleryImage]:
        """The images from one row to another."""
        return self._images[max(first, 0) : last + 1]

    def has_more(self) -> bool:
        """Whether further images match than have been fetched."""
        return not self._complete

    def show(self, query: GalleryQuery = _ALL) -> None:
        """Reset the model to the images that match, once they have been read."""
        self.query = query
        self._tasks.start(self.load(query))

    async def load(self, query: GalleryQuery = _ALL) -> None:
        """As `show`; returns when the first page is shown, or another query is being shown instead.

        Of a query that is shown already, as many images are read as there were.
        """
        self.query = query
        self._loads = load = self._loads + 1
        size = max(PAGE, len(self._images)) if query == self.shown else PAGE

        try:
            page, in_trash = await self._tasks.to_thread(_first_page, self._gallery, query, size)
        except StorageProblem as problem:
            self.failed.emit(problem)
            return
        if load != self._loads:
            return
        self.total, self.in_trash = len(page), in_trash
        self.counts_all = len(page) < size
        self.beginResetModel()
        self.shown = query
        self._images, self._rows = page, None
        self._reached, self._complete = len(page), len(page) < size
        self._unreadable.clear()
        self.loaded = True
        self.endResetModel()
        self.counted.emit()
        if not self.counts_all:
            self.recount()

    async def fetch(self, *, everything: bool = False) -> None:
        """Fetch the next page, or all that is left, and insert it."""
        if self._complete or self._fetching:
            return
        self._fetching = True
        try:
            load, reached = self._loads, self._reached
            page_size = max(PAGE, len(self._images) // 8)  # growing, because each new page lays out all rows again
            if everything:
                page_size = _EVERYTHING
            page = await self._read(reached, page_size)
            while page is not None and load == self._loads and reached != self._reached:  # rows were added or removed
                reached = self._reached
                page = await self._read(reached, page_size)
        finally:
            self._fetching = False
        if load != self._loads:
            return
        if page is None:
            self._complete = True
            return
        self._complete = len(page) < page_size
        self._reached += len(page)
        rows = self._row_of()
        new = [image for image in page if image.id not in rows]  # another process may have added in between
        if new:
            self.beginInsertRows(QModelIndex(), len(self._images), len(self._images) + len(new) - 1)
            self._images += new
            self._rows = None
            self.endInsertRows()

    async def _read(self, offset: int, count: int) -> list[GalleryImage] | None:
        """A page of the images that match; None when they cannot be read."""
        try:
            return await self._tasks.to_thread(self._gallery.page, self.query, offset, count)
        except StorageProblem as problem:
            self.failed.emit(problem)
            return None

    async def insert(self, images: Sequence[GalleryImage]) -> None:
        """Insert images in their order if they match the query; paging fetches those further down."""
        load = self._loads
        try:
            matching = await self._tasks.to_thread(_matching, self._gallery, self.query, images)
        except StorageProblem as problem:
            self.failed.emit(problem)
            return
        if load == self._loads:
            self._insert(matching)
        await self._count()

    def _key(self, image: GalleryImage) -> tuple[object, ...]:
        return sort_key(image, self.query.order, trash=self.query.trash)

    def _insert(self, images: Sequence[GalleryImage]) -> None:
        known = self._row_of()
        parts: dict[int, list[GalleryImage]] = {}  # by the row that they are inserted before
        for image in sorted((image for image in images if image.id not in known), key=self._key):
            row = bisect_left(self._images, self._key(image), key=self._key)
            if row < len(self._images) or self._complete:
                parts.setdefault(row, []).append(image)
        if len(parts) > _MOST_RUNS:
            new = [image for part in parts.values() for image in part]
            self._set_images(sorted([*self._images, *new], key=self._key))
            return
        for row, part in reversed(parts.items()):
            self.beginInsertRows(QModelIndex(), row, row + len(part) - 1)
            self._images[row:row] = part
            self._reached += len(part)
            self._rows = None
            self.endInsertRows()

    def remove(self, image_ids: Iterable[int]) -> None:
        known, gone = self._row_of(), set(image_ids)
        parts = runs(sorted(known[each] for each in gone if each in known))
        if len(parts) > _MOST_RUNS:
            self._set_images([image for image in self._images if image.id not in gone])
            parts = []
        for first, last in reversed(parts):
            self.beginRemoveRows(QModelIndex(), first, last)
            del self._images[first : last + 1]
            self._reached -= last - first + 1
            self._rows = None
            self.endRemoveRows()
        self.recount()

    def _set_images(self, images: list[GalleryImage]) -> None:
        """Show other rows of the same query."""
        self.beginResetModel()
        self._reached += len(images) - len(self._images)
        self._images, self._rows = images, None
        self.endResetModel()

    async def replace(self, images: Sequence[GalleryImage]) -> None:
        """Show the new records of images. One that no longer matches is removed; one that is starred may move."""
        query = self.query
        changed = [image for image in images if image.id in self._row_of()]
        for image in changed:
            self._images[self._row_of()[image.id]] = image
        try:
            fitting = await self._tasks.to_thread(_matching, self._gallery, query, images) if query.filters else images
        except StorageProblem as problem:
            self.failed.emit(problem)
            return
        if query != self.query:
            return
        gone = {image.id for image in images} - {image.id for image in fitting}
        moving = [image for image in changed if image.id not in gone]
        if len(moving) > _MOST_RUNS:
            self._move_many({image.id for image in moving})
        else:
            for image in moving:
                if (row := self._row_of().get(image.id)) is not None:
                    self._move(row, image)
        if gone:
            self.remove(gone)

    def _move(self, row: int, image: GalleryImage) -> None:
        """Show an image at its place in the order."""
        others = self._images[:row] + self._images[row + 1 :]
        place = bisect_left(others, self._key(image), key=self._key)
        if place == row:
            self.dataChanged.emit(self.index(row), self.index(row))
            return
        if place == len(others) and not self._complete:  # a later page has it
            self.beginRemoveRows(QModelIndex(), row, row)
            self._images, self._rows = others, None
            self._reached -= 1
            self.endRemoveRows()
            return
        self.beginMoveRows(QModelIndex(), row, row, QModelIndex(), place + (place > row))
        self._images = [*others[:place], image, *others[place:]]
        self._rows = None
        self.endMoveRows()

    def _move_many(self, changed: set[int]) -> None:
        """Show changed images at their places in the order."""
        images = sorted(self._images, key=self._key)
        if [image.id for image in images] == [image.id for image in self._images]:
            self.dataChanged.emit(self.index(0), self.index(len(images) - 1))
            return
        while images and images[-1].id in changed and not self._complete:  # a later page has it
            images.pop()
        self._set_images(images)

    def thumbnail(self, image: GalleryImage) -> QImage | None:
        """The thumbnail if it is loaded; otherwise load it, then emit dataChanged for its row."""
        thumbnail = self._thumbnails.get(image.id)
        if thumbnail is not None:
            self._thumbnails.move_to_end(image.id)
        elif image.id not in self._unreadable:
            self._thumbnail_queue.submit(image.id, partial(_read_thumbnail, self._gallery, image))
        return thumbnail

    def forget_thumbnails(self) -> None:
        """Drop all loaded thumbnails, because files have changed."""
        self._thumbnails.clear()
        self._thumbnail_bytes = 0

    def unreadable(self, image: GalleryImage) -> bool:
        return image.id in self._unreadable

    def _thumbnail_made(self, image_id: int, result: QImage | None) -> None:
        if result is None or result.isNull():
            self._unreadable.add(image_id)
        else:
            self._thumbnails[image_id] = result
            self._thumbnail_bytes += result.sizeInBytes()
            while self._thumbnail_bytes > THUMBNAIL_BYTES and len(self._thumbnails) > 1:
                self._thumbnail_bytes -= self._thumbnails.popitem(last=False)[1].sizeInBytes()
        index = self.index_of(image_id)
        if index.isValid():
            self.dataChanged.emit(index, index)

    def _row_of(self) -> dict[int, int]:
        if self._rows is None:
            self._rows = {image.id: row for row, image in enumerate(self._images)}
        return self._rows

    def recount(self) -> None:
        """Count the images that match and those in the trash again, then emit `counted`."""
        self._tasks.start(self._count())

    async def _count(self) -> None:
        load = self._loads
        try:
            counts = await self._tasks.to_thread(_counts, self._gallery, self.query)
        except StorageProblem as problem:
            self.failed.emit(problem)
            return
        if load == self._loads:
            self.total, self.in_trash = counts
            self.counts_all = True
            self.counted.emit()


def runs(rows: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending rows as runs of neighbours: the first and the last row of each."""
    found: list[tuple[int, int]] = []
    for row in rows:
        first = found.pop()[0] if found and found[-1][1] == row - 1 else row
        found.append((first, row))
    return found


# In a thread, which must not be the last to hold the model


def _first_page(gallery: Gallery, query: GalleryQuery, size: int) -> tuple[list[GalleryImage], int]:
    return gallery.page(query, 0, size), gallery.trash_count()


def _counts(gallery: Gallery, query: GalleryQuery) -> tuple[int, int]:
    return gallery.number_of(query), gallery.trash_count()


def _matching(gallery: Gallery, query: GalleryQuery, images: Sequence[GalleryImage]) -> Sequence[GalleryImage]:
    fitting = gallery.fitting([image.id for image in images], query)
    return [image for image in images if image.id in fitting]


def _read_thumbnail(gallery: Gallery, image: GalleryImage) -> QImage:
    """An image whose thumbnail cannot be stored, as on a full disk, is read itself."""
    try:
        return read_image(gallery.thumbnail(image))
    except StorageProblem:
        return read_image(image.path, THUMBNAIL_SIDE)


def title(image: GalleryImage) -> str:
    """The prompt of an image, or the name of its file."""
    return title_of(image.request) if image.request and image.request.prompt.strip() else image.name


def description(image: GalleryImage) -> str:
    deleted = f" · deleted {date_text(image.trashed)}" if image.trashed is not None else ""
    tags = f" · {', '.join(image.tags)}" if image.tags else ""
    return f"{image.width} × {image.height} px · {date_text(image.created)}{deleted}{tags}"


def missing_text(image: GalleryImage) -> str:
    """Why a missing image is greyed, and what to do."""
    return f"Its folder is missing: {image.path.parent}. Connect its drive, or put the folder back, then rescan."


def date_text(seconds: float) -> str:
    """Local date and time: 2026-11-23 14:05."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
