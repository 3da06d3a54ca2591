"""What the user does to a training folder in the window: edits captions, leaves images out, takes it back."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import DiffstudioError
from diffstudio.plurals import count_of
from diffstudio.studio.runs.caption_edits import EditResult, Texts, cleaned_captions, write_captions
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.data.left_out import read_left_out, write_left_out
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.folder.caption_list import ROW_SIDE
from diffstudio.ui.train.folder.captions_view import CaptionsView
from diffstudio.ui.train.folder.folder_inspector import FolderInspector


class FolderActions(QObject):
    """Carries out one change of the inspected folder at a time, in a thread."""

    captions_changed = Signal(object)  # dict[Path, Texts]: new captions, which are being written
    changed = Signal(object)  # Path of the folder, to be inspected again
    message = Signal(str, str)  # kind and text of a banner
    undoable_changed = Signal(bool)

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._report: FolderReport | None = None
        self._before: dict[Path, Texts] = {}  # captions from before the last change
        self._order = asyncio.Lock()  # two changes may be to one file, which is read and written whole
        self._pending = 0  # changes that have not ended

    def attach(self, view: CaptionsView, inspector: FolderInspector) -> None:
        """Do what is asked for in the view, and show its thumbnails. The report stays in view while it is made anew."""
        view.edits_requested.connect(self.edit)
        view.leave_out_requested.connect(self.leave_out)
        view.put_back_requested.connect(self.put_back)
        view.undo_requested.connect(self.undo)
        self.undoable_changed.connect(view.set_undoable)
        self.captions_changed.connect(view.set_captions)
        self.captions_changed.connect(inspector.cancel_inspection)  # it may have read the captions from before
        self.changed.connect(inspector.inspect)

        def load_thumbnail(path: Path) -> None:
            if self._report is not None:
                inspector.load_row_thumbnail(self._report, path, round(ROW_SIDE * view.devicePixelRatioF()))

        view.model.thumbnail_needed.connect(load_thumbnail)
        inspector.row_thumbnail_loaded.connect(view.model.set_thumbnail)

    def set_report(self, report: FolderReport | None) -> None:
        """The folder that the changes are made in; None while another one is inspected."""
        if self._report is None or report is None or report.folder != self._report.folder:
            self._set_before({})
        self._report = report

    def edit(self, edits: Mapping[Path, Texts]) -> None:
        """Write new captions."""
        if self._report is None:
            return
        if not edits:
            self.message.emit("good", "No caption had to be changed.")
            return
        self._start_writing(self._report, edits)

    def undo(self) -> None:
        """Write the captions from before the last change."""
        if self._report is not None and self._before:
            self._start_writing(self._report, self._before, undoing=True)

    def leave_out(self, paths: Collection[Path]) -> None:
        """Leave images and folders out of training; at least one image stays."""
        if self._report is None:
            return
        if all(_is_one_of(image.path, paths) for image in self._report.images):
            self.message.emit("warn", "At least one image must stay to train on.")
            return
        self._start_leaving_out(self._report.folder, frozenset(paths), frozenset())

    def put_back(self, paths: Collection[Path]) -> None:
        """Train on images and folders that were left out."""
        if self._report is not None and paths:
            self._start_leaving_out(self._report.folder, frozenset(), frozenset(paths))

    def _start_writing(self, report: FolderReport, edits: Mapping[Path, Texts], *, undoing: bool = False) -> None:
        """Show new captions at once, so that the next change begins with them, and write them after earlier changes."""
        new = {path: cleaned_captions(texts) for path, texts in edits.items()}
        before = {image.path: image.captions for image in report.images if image.path in new}
        images = (replace(image, captions=new.get(image.path, image.captions)) for image in report.images)
        self._report = replace(report, images=tuple(images))
        undo_to: dict[Path, Texts] = {} if undoing else before
        self._set_before(undo_to)
        self._pending += 1
        self.captions_changed.emit(new)
        self._tasks.start(self._write(report.folder, new, undo_to, undo_after_failure=new if undoing else {}))

    async def _write(
        self,
        folder: Path,
        edits: Mapping[Path, Texts],
        undo_to: dict[Path, Texts],
        *,
        undo_after_failure: dict[Path, Texts],
    ) -> None:
        """Write captions; `undo_to` is what Undo writes afterwards, `undo_after_failure` if nothing could be written."""
        try:
            async with self._order:
                result = await self._tasks.to_thread(_written, folder, edits)
        except (DiffstudioError, OSError) as error:
            if self._before is undo_to:  # nothing was changed since
                self._set_before(undo_after_failure)
            self.message.emit("bad", str(error))
        else:
            self._show_result(result, undo_to)
        finally:
            self._pending -= 1
        self._inspect_again(folder)

    def _show_result(self, result: EditResult, undo_to: dict[Path, Texts]) -> None:
        refused = {skipped.path for skipped in result.refused}
        if self._before is undo_to:
            self._set_before({path: texts for path, texts in undo_to.items() if path not in refused})
        if result.refused:
            first = result.refused[0]
            self.message.emit(
                "warn",
                f"Captions of {count_of(result.written, 'image')} written; {len(result.refused):,} left as they are "
                f"({first.path}: {first.why}).",
            )
        else:
            self.message.emit("good", f"Captions of {count_of(result.written, 'image')} written.")

    def _start_leaving_out(self, folder: Path, out: frozenset[Path], back: frozenset[Path]) -> None:
        self._pending += 1
        self._tasks.start(self._set_left_out(folder, out, back))

    async def _set_left_out(self, folder: Path, out: frozenset[Path], back: frozenset[Path]) -> None:
        try:
            async with self._order:
                await self._tasks.to_thread(lambda: write_left_out(folder, (read_left_out(folder) | out) - back))
        except (DiffstudioError, OSError) as error:
            self.message.emit("bad", str(error))
        finally:
            self._pending -= 1
        self._inspect_again(folder)

    def _inspect_again(self, folder: Path) -> None:
        """Also after a change that failed: its captions are shown. The last of several changes is enough."""
        if self._pending == 0 and self._report is not None and self._report.folder == folder:  # no other was chosen
            self.changed.emit(folder)

    def _set_before(self, before: dict[Path, Texts]) -> None:
        self._before = before
        self.undoable_changed.emit(bool(before))


def _is_one_of(path: Path, paths: Collection[Path]) -> bool:
    return path in paths or any(parent in paths for parent in path.parents)


def _written(folder: Path, edits: Mapping[Path, Texts]) -> EditResult:
    writing = write_captions(folder, edits)
    while True:
        try:
            next(writing)
        except StopIteration as end:
            result: EditResult = end.value
            return result
