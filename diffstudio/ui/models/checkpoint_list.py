"""The list of models and of files that cannot be used."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent
from PySide6.QtWidgets import QAbstractItemView, QListView

from diffstudio.ui.models.item_model import CheckpointDelegate, CheckpointsModel
from diffstudio.ui.widgets.helpers import describe, set_tooltip


class CheckpointList(QListView):
    """Enter or a double click uses the current entry, Delete asks to delete it."""

    used = Signal()
    delete_requested = Signal()
    menu_requested = Signal(object)  # QPoint on the screen

    def __init__(self, model: CheckpointsModel) -> None:
        super().__init__()
        describe(self, "Checkpoints", "")
        set_tooltip(self, "")
        self.setModel(model)
        self.setItemDelegate(CheckpointDelegate(self))
        self.setUniformItemSizes(True)
        self.setMouseTracking(True)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.doubleClicked.connect(lambda _: self.used.emit())

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        at = event.pos()
        if event.reason() is QContextMenuEvent.Reason.Keyboard:
            at = self.visualRect(self.currentIndex()).center()
        index = self.indexAt(at)
        if index.isValid():
            self.setCurrentIndex(index)
            self.menu_requested.emit(self.viewport().mapToGlobal(at))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            self.used.emit()
        elif event.key() == Qt.Key.Key_Delete and self.currentIndex().isValid():
            self.delete_requested.emit()
        else:
            super().keyPressEvent(event)
