"""A card that shows a folder of training images: its path, a summary and a few thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from diffstudio import paths
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import Card
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label
from diffstudio.ui.widgets.images.thumbnail import Thumbnail

CARD_THUMBS = 6
CARD_THUMB_SIDE = 34  # px
_MARGIN, _SPACING = 12, 6  # px


class FolderCard(Card):
    """The path, a summary and a row of thumbnails."""

    def __init__(self) -> None:
        super().__init__()
        self.path = ElidedLabel("", mode=Qt.TextElideMode.ElideMiddle)
        self.sentence = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.thumbs = [
            Thumbnail(CARD_THUMB_SIDE, name=f"Image {number + 1} of the folder") for number in range(CARD_THUMBS)
        ]
        self._images = 0  # of the folder that have a thumbnail
        self._row = QWidget()
        self._row.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        row = QHBoxLayout(self._row)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(_SPACING)
        for thumb in self.thumbs:
            row.addWidget(thumb)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(_MARGIN, _MARGIN, _MARGIN, _MARGIN)
        column.setSpacing(8)
        column.addWidget(self.path)
        column.addWidget(self.sentence)
        column.addWidget(self._row)
        self.column = column
        self.set_thumbs(())

    def set_thumbs(self, images: Sequence[QImage]) -> None:
        self._images = len(images)
        for index, thumb in enumerate(self.thumbs):
            thumb.set_image(images[index] if index < len(images) else None)
        self._fit_thumbs()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_thumbs()

    def _fit_thumbs(self) -> None:
        """Show as many as fit whole."""
        room = self.width() - 2 * _MARGIN + _SPACING
        fitting = max(1, room // (self.thumbs[0].minimumWidth() + _SPACING))
        for index, thumb in enumerate(self.thumbs):
            thumb.setVisible(index < min(self._images, fitting))
        self._row.setVisible(self._images > 0)

    def show_folder(self, folder: Path, sentence: str) -> None:
        self.path.setText(paths.short(folder))
        describe(self, f"Folder {folder}", str(folder))
        self.sentence.setText(sentence)
        self.sentence.setVisible(bool(sentence))
