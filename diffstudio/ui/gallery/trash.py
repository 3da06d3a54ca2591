"""The gallery's trash: deletes images to it, undoes that, and restores or empties it after a question."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QMessageBox, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.ui.widgets.dialogs import choose_action


class GalleryTrash(QObject):
    """Remembers the images deleted last, for undo."""

    restored = Signal(object, int)  # list[int]: ids; the number of images whose files are missing
    emptied = Signal(int)  # the number of images moved to the system's trash
    changed = Signal()  # emptying was tried
    failed = Signal(object)  # DiffstudioError

    def __init__(self, gallery: Gallery, parent: QWidget) -> None:
        super().__init__(parent)
        self._gallery, self._parent_widget = gallery, parent
        self._last_deleted: list[int] = []

    def delete(self, image_ids: Sequence[int]) -> list[int]:
        """Move images to the trash; returns the ids of those moved."""
        try:
            deleted = list(self._gallery.delete(image_ids))
        except DiffstudioError as error:
            self.failed.emit(error)
            return []
        if deleted:
            self._last_deleted = deleted
        return deleted

    def undo(self) -> None:
        """Restore the images deleted last, if any."""
        if self._last_deleted:
            self._restore(self._last_deleted)

    def restore_all(self) -> None:
        try:
            image_ids = list(self._gallery.trashed())
        except DiffstudioError as error:
            self.failed.emit(error)
            return
        self._restore(image_ids, report_missing=False)

    def empty(self) -> None:
        """Move everything in the gallery's trash to the system's trash."""
        try:
            count = self._gallery.empty_trash()
        except DiffstudioError as error:
            self.failed.emit(error)
        else:
            self._last_deleted = []
            self.emptied.emit(count)
        self.changed.emit()

    def ask(self) -> QMessageBox:
        """Ask whether to restore or empty the trash. The dialog is opened, not waited for."""
        count = self._gallery.trash_count()
        are = "image is" if count == 1 else "images are"
        return choose_action(
            self._parent_widget,
            "Trash",
            f"{count:,} {are} in the gallery's trash.",
            "Restore them to the gallery, or move them to the system's trash.",
            {"Restore": self.restore_all, "Empty trash": self.empty},
        )

    def _restore(self, image_ids: Sequence[int], report_missing: bool = True) -> None:
        try:
            restored = list(self._gallery.undo(image_ids))
        except DiffstudioError as error:
            self.failed.emit(error)
            return
        self._last_deleted = []
        self.restored.emit(restored, len(image_ids) - len(restored) if report_missing else 0)
