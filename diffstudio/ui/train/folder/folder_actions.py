"""What the user does to a training folder in the window: edits captions, leaves images out, takes it back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import DiffstudioError
from diffstudio.studio.runs.caption_edits import EditResult, Texts, write_captions
from diffstudio.training.data.folder_report import FolderReport, count_of
from diffstudio.training.data.left_out import read_left_out, write_left_out
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.folder.caption_list import ROW_SIDE
from diffstudio.ui.train.folder.captions_view import CaptionsView
from diffstudio.ui.train.folder.folder_inspector import FolderInspector


class FolderActions(QObject):
    """Carries out one change of the inspected folder at a time, in a thread."""

    changed = Signal(object)  # Path of the folder, to be inspected again
    message = Signal(str, str)  # kind and text of a banner
    undoable_changed = Signal(bool)

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._report: FolderReport | None = None
        self._before: dict[Path, Texts] = {}  # captions from before the last change

    def attach(self, view: CaptionsView, inspector: FolderInspector) -> None:
        """Do what is asked for in the view, and show its thumbnails. The report stays in view while it is made anew."""
        view.edits_requested.connect(self.edit)
        view.leave_out_requested.connect(self.leave_out)
        view.put_back_requested.connect(self.put_back)
        view.undo_requested.connect(self.undo)
        self.undoable_changed.connect(view.set_undoable)
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
        before = {image.path: image.captions for image in self._report.images if image.path in edits}
        self._tasks.start(self._write(self._report.folder, edits, before))

    def undo(self) -> None:
        """Write the captions from before the last change."""
        if self._report is not None and self._before:
            self._tasks.start(self._write(self._report.folder, self._before, {}))

    def leave_out(self, paths: Collection[Path]) -> None:
        """Leave images and folders out of training; at least one image stays."""
        if self._report is None:
            return
        if all(_is_one_of(image.path, paths) for image in self._report.images):
            self.message.emit("warn", "At least one image must stay to train on.")
            return
        self._tasks.start(self._set_left_out(self._report.folder, frozenset(paths), frozenset()))

    def put_back(self, paths: Collection[Path]) -> None:
        """Train on images and folders that were left out."""
        if self._report is not None and paths:
            self._tasks.start(self._set_left_out(self._report.folder, frozenset(), frozenset(paths)))

    async def _write(self, folder: Path, edits: Mapping[Path, Texts], before: dict[Path, Texts]) -> None:
        try:
            result = await self._tasks.to_thread(_written, folder, edits)
        except (DiffstudioError, OSError) as error:
            self.message.emit("bad", str(error))
            return
        refused = {skipped.path for skipped in result.refused}
        self._set_before({path: texts for path, texts in before.items() if path not in refused})
        if result.refused:
            first = result.refused[0]
            self.message.emit(
                "warn",
                f"Captions of {count_of(result.written, 'image')} written; {len(result.refused):,} left as they are "
                f"({first.path}: {first.why}).",
            )
        else:
            self.message.emit("good", f"Captions of {count_of(result.written, 'image')} written.")
        self._inspect_again(folder)

    async def _set_left_out(self, folder: Path, out: frozenset[Path], back: frozenset[Path]) -> None:
        try:
            await self._tasks.to_thread(lambda: write_left_out(folder, (read_left_out(folder) | out) - back))
        except (DiffstudioError, OSError) as error:
            self.message.emit("bad", str(error))
            return
        self._inspect_again(folder)

    def _inspect_again(self, folder: Path) -> None:
        if self._report is not None and self._report.folder == folder:  # else another one was chosen meanwhile
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
