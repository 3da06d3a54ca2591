"""Inspects a folder of training images and reads its thumbnails, in threads."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QImage

from diffstudio.errors import DiffstudioError
from diffstudio.training.data.folder_report import FolderReport, ImageRecord
from diffstudio.training.data.inspect_folder import inspect_folder
from diffstudio.training.data.pixel_choice import choose_pixels
from diffstudio.training.recipe import Recipe
from diffstudio.ui.tasks import NewestFirstQueue, Tasks
from diffstudio.ui.train.folder.thumbnails import as_seen, evenly_spaced, first_images, seen_sentence, thumbnail
from diffstudio.ui.widgets.images.image_menu import ImageTarget


class FolderInspector(QObject):
    """One inspection and one set of thumbnails at a time; a new one cancels the one before."""

    progressed = Signal(object)  # InspectionProgress
    finished = Signal(object)  # FolderReport
    failed = Signal(object)  # DiffstudioError or OSError
    thumbnails_loaded = Signal(object)  # list[tuple[ImageTarget, str]]: with a description of each
    row_thumbnail_loaded = Signal(object, object)  # Path inside the folder, QImage
    run_thumbnails_loaded = Signal(object)  # list[QImage]

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._inspection: asyncio.Task[None] | None = None
        self._thumbnails: asyncio.Task[None] | None = None
        self._rows = NewestFirstQueue("training-thumbnails")
        self._rows.completed.connect(self._row_thumbnail_read)

    def shut_down(self) -> None:
        """Stop reading thumbnails."""
        self._rows.close()

    def inspect(self, folder: Path) -> None:
        self.cancel()
        self._inspection = self._tasks.start(self._inspect(folder))

    def busy(self) -> bool:
        """Whether a folder is being inspected."""
        return self._inspection is not None

    def cancel(self) -> None:
        self.cancel_inspection()
        self._cancel_thumbnails()

    def cancel_inspection(self, *_: object) -> None:
        if self._inspection is not None:
            self._inspection.cancel()
        self._inspection = None

    def load_thumbnails(self, report: FolderReport, recipe: Recipe, count: int, side: int) -> None:
        """Read at most `count` images from all classes of the folder, as the network sees them, at `side` px."""
        self._cancel_thumbnails()
        self._thumbnails = self._tasks.start(self._load_thumbnails(report, recipe, count, side))

    def load_row_thumbnail(self, report: FolderReport, path: Path, side: int) -> None:
        """Read the thumbnail of one image; the newest request comes first."""
        self._rows.submit(path, partial(thumbnail, report.folder / path, side, report.value_ranges))

    def _row_thumbnail_read(self, path: Path, image: QImage | None) -> None:
        if image is not None:
            self.row_thumbnail_loaded.emit(path, image)

    def load_run_thumbnails(self, folder: Path | None, count: int, side: int) -> None:
        """Read thumbnails of the first images of a folder that is not inspected, if there is one."""
        self._cancel_thumbnails()
        if folder is not None:
            self._thumbnails = self._tasks.start(self._load_run_thumbnails(folder, count, side))

    def _cancel_thumbnails(self) -> None:
        if self._thumbnails is not None:
            self._thumbnails.cancel()
        self._thumbnails = None

    async def _inspect(self, folder: Path) -> None:
        report = None
        try:
            async for item in self._tasks.iterate_in_thread(inspect_folder(folder)):
                if isinstance(item, FolderReport):
                    report = item
                else:
                    self.progressed.emit(item)
        except (DiffstudioError, OSError) as error:
            self._inspection = None
            self.failed.emit(error)
            return
        self._inspection = None
        if report is not None:
            self.finished.emit(report)

    async def _load_thumbnails(self, report: FolderReport, recipe: Recipe, count: int, side: int) -> None:
        thumbnails: list[tuple[ImageTarget, str]] = []
        data, _ = await self._tasks.to_thread(
            partial(choose_pixels, recipe.data, report, recipe.network.multiple, squares=recipe.upper.factor > 0)
        )
        for record in evenly_spaced(report.images, count):
            path = report.folder / record.path
            image = await self._tasks.to_thread(as_seen, path, record, side, data)
            if image is not None:
                description = f"{_description(record)} · {seen_sentence(record, data)}"
                thumbnails.append((ImageTarget(path, image, prompt=record.caption or ""), description))
        self.thumbnails_loaded.emit(thumbnails)

    async def _load_run_thumbnails(self, folder: Path, count: int, side: int) -> None:
        thumbnails: list[QImage] = []
        async for path in self._tasks.iterate_in_thread(first_images(folder)):
            image = await self._tasks.to_thread(thumbnail, path, side)
            if image is not None:
                thumbnails.append(image)
            if len(thumbnails) == count:
                break
        self.run_thumbnails_loaded.emit(thumbnails)


def _description(image: ImageRecord) -> str:
    return f"{image.caption or image.path.name} · {image.width:,} × {image.height:,} px"
