"""A card that shows a folder of training images: its path, a summary and a few thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import Card
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label
from diffstudio.ui.widgets.images.thumbnail import Thumbnail

CARD_THUMBS = 6
CARD_THUMB_SIDE = 34  # px


class FolderCard(Card):
    """The path, a summary and a row of thumbnails."""

    def __init__(self) -> None:
        super().__init__()
        self.path = ElidedLabel("", mode=Qt.TextElideMode.ElideMiddle)
        self.sentence = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.thumbs = [
            Thumbnail(CARD_THUMB_SIDE, name=f"Image {number + 1} of the folder") for number in range(CARD_THUMBS)
        ]
        row = QHBoxLayout()
        row.setSpacing(6)
        for thumb in self.thumbs:
            row.addWidget(thumb)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 12, 12, 12)
        column.setSpacing(8)
        column.addWidget(self.path)
        column.addWidget(self.sentence)
        column.addLayout(row)
        self.column = column
        self.set_thumbs(())

    def set_thumbs(self, images: Sequence[QImage]) -> None:
        for index, thumb in enumerate(self.thumbs):
            thumb.setVisible(index < len(images))
            thumb.set_image(images[index] if index < len(images) else None)

    def show_folder(self, folder: Path, sentence: str) -> None:
        self.path.setText(short_path(folder))
        describe(self, f"Folder {folder}", str(folder))
        self.sentence.setText(sentence)
        self.sentence.setVisible(bool(sentence))


def short_path(path: Path) -> str:
    """The path with `~` for the home folder."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)
