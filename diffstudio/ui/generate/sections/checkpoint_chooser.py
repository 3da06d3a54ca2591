"""The checkpoint chooser: a card with thumbnail, title and family that opens the list of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPoint, QRect, Qt, Signal
from PySide6.QtGui import QIcon, QPainter, QPaintEvent, QPixmap
from PySide6.QtWidgets import QHBoxLayout, QMenu, QVBoxLayout

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.ui.generate import labels
from diffstudio.ui.widgets import icons, terms, theme
from diffstudio.ui.widgets.controls import Card
from diffstudio.ui.widgets.helpers import ElidedLabel, PartsLabel, describe
from diffstudio.ui.widgets.images.image_reading import header_thumbnail
from diffstudio.ui.widgets.images.thumbnail import Thumbnail
from diffstudio.ui.widgets.menus import add_entry


class CheckpointChooser(Card):
    """`chosen` carries the Checkpoint that the user chose."""

    chosen = Signal(object)
    models_room_requested = Signal()  # to the Models room

    def __init__(self) -> None:
        super().__init__(interactive=True, name=terms.CHECKPOINT, tooltip="Choose the checkpoint to generate with")
        self._checkpoints: tuple[Checkpoint, ...] = ()
        self._current: Checkpoint | None = None
        self._thumb = Thumbnail(40, name="Sample of the checkpoint")
        self._title = ElidedLabel("Finding checkpoints…", bold=True)
        self._kind = PartsLabel("", "dim", pixels=theme.SMALL_PIXELS)
        row, texts = QHBoxLayout(self), QVBoxLayout()
        row.setContentsMargins(8, 8, 34, 8)
        row.setSpacing(10)
        texts.setSpacing(2)
        texts.addWidget(self._title)
        texts.addWidget(self._kind)
        row.addWidget(self._thumb)
        row.addLayout(texts, 1)
        self.clicked.connect(self.open_menu)

    def current(self) -> Checkpoint | None:
        return self._current

    def set_checkpoints(self, checkpoints: Sequence[Checkpoint], problems: int = 0) -> None:
        """Replace the list. The current checkpoint stays chosen while it is listed."""
        self._checkpoints = tuple(checkpoints)
        name = self._current.name if self._current else None
        same = next((checkpoint for checkpoint in checkpoints if checkpoint.name == name), None)
        self._show(same or (checkpoints[0] if checkpoints else None))

    def choose(self, name_or_path: str) -> bool:
        """Choose by name or path, as a request names it. False when it is not listed."""
        found = self._find(name_or_path)
        if found is not None:
            self._show(found)
        return found is not None

    def lists(self, name_or_path: str) -> bool:
        return self._find(name_or_path) is not None

    def _find(self, name_or_path: str) -> Checkpoint | None:
        listed = self._checkpoints
        return next((each for each in listed if name_or_path in (each.name, str(each.path))), None)

    def menu(self) -> QMenu:
        menu = QMenu(self)
        menu.setAccessibleName("Checkpoints")
        menu.setToolTipsVisible(True)
        for checkpoint in self._checkpoints:
            title = checkpoint.title if len(checkpoint.title) < 48 else checkpoint.title[:47] + "…"
            text, tooltip = f"{title}\t{labels.summary_of(checkpoint)}", labels.tooltip_of(checkpoint)
            action = add_entry(menu, text, _icon_of(checkpoint), tooltip)
            action.setCheckable(False)
            action.triggered.connect(lambda _=False, checkpoint=checkpoint: self._choose(checkpoint))
            if checkpoint == self._current:
                menu.setActiveAction(action)
        menu.addSeparator()
        menu.addAction(icons.icon("stack", "dim"), "All models…").triggered.connect(self.models_room_requested)
        return menu

    def open_menu(self) -> None:
        menu = self.menu()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.setMinimumWidth(self.width())
        menu.popup(self.mapToGlobal(QPoint(0, self.height() + 4)))

    def _choose(self, checkpoint: Checkpoint) -> None:
        self._show(checkpoint)
        self.chosen.emit(checkpoint)

    def _show(self, checkpoint: Checkpoint | None) -> None:
        self._current = checkpoint
        if checkpoint is None:
            self._title.setText("No checkpoint yet")
            self._kind.setText("Train one, or add a model folder")
            self._thumb.set_image(None)
            describe(self, "Checkpoint: none", labels.NO_CHECKPOINT)
            return
        self._title.setText(checkpoint.title)
        self._kind.setText(labels.summary_of(checkpoint))
        thumbnail = header_thumbnail(checkpoint)
        self._thumb.set_image(icons.pixmap("cube", 80, "dim") if thumbnail.isNull() else thumbnail)
        describe(self, f"Checkpoint: {checkpoint.title}", labels.tooltip_of(checkpoint))

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        rect = QRect(self.width() - 28, (self.height() - 12) // 2, 12, 12)
        icons.icon("caret-down-fill", "dim").paint(QPainter(self), rect)


def _icon_of(checkpoint: Checkpoint) -> QIcon:
    image = header_thumbnail(checkpoint)
    return icons.icon("cube", "dim") if image.isNull() else QIcon(QPixmap.fromImage(image))
