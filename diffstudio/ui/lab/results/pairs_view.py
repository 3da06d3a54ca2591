"""PairsView: generated images next to their nearest training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.studio.evaluations.views.evaluation import Pair
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_reading import read_image
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.widgets.images.roving_focus import RovingFocus
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout

SIDE = 88  # px of each image
MOST = 12  # pairs


@dataclass(frozen=True, slots=True)
class ReadPair:
    """A pair with its images; an image that cannot be read is null."""

    pair: Pair
    image: QImage
    training: QImage


def read_pairs(pairs: Sequence[Pair], most: int = MOST) -> list[ReadPair]:
    """Read the closest pairs. It reads files, so do not call it in the window's thread."""
    closest = sorted(pairs, key=lambda pair: (not pair.is_copy, pair.ratio))[:most]
    return [
        ReadPair(
            pair,
            read_image(pair.image_file, 2 * SIDE) if pair.image_file is not None else QImage(),
            read_image(pair.training_file, 2 * SIDE),
        )
        for pair in closest
    ]


class PairsView(QWidget):
    """The pairs in rows that wrap; the images have the usual image menu."""

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self) -> None:
        super().__init__()
        self.heading = SectionLabel("Nearest to training images")
        self._flow = FlowLayout(spacing=16)
        self._pairs: list[QWidget] = []
        self._focus = RovingFocus(self)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.heading)
        column.addLayout(self._flow)
        describe(self, "Images next to their nearest training images", " ")

    def show_pairs(self, pairs: Sequence[ReadPair]) -> None:
        before, self._pairs = self._pairs, [self._pair_widget(pair) for pair in pairs]
        for made in self._pairs:
            self._flow.addWidget(made)
        self._focus.set_images(each for made in self._pairs for each in made.findChildren(ImageThumbnail))
        for shown in before:
            self._flow.removeWidget(shown)
            shown.hide()
            shown.deleteLater()
        copies = sum(one.pair.is_copy for one in pairs)
        self.heading.set_right(f"{copies:,} of these {len(pairs):,} are copies" if pairs else "")
        self.setVisible(bool(pairs))

    def count(self) -> int:
        return len(self._pairs)

    def _pair_widget(self, read: ReadPair) -> QWidget:
        pair, whole = read.pair, QWidget()
        row = QHBoxLayout()
        row.setSpacing(4)
        for image, path, name in (
            (read.image, pair.image_file, f"{pair.subject}: {pair.image}"),
            (read.training, pair.training_file, f"Training image {pair.training}"),
        ):
            thumbnail = ImageThumbnail(ImageTarget(path, image), SIDE, name=name, tooltip=name)
            thumbnail.set_image(image)
            thumbnail.menu_requested.connect(self.menu_requested)
            row.addWidget(thumbnail)
        column = QVBoxLayout(whole)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(row)
        texts = (f"{pair.subject}: {pair.image}", ""), (pair.text(), "warn" if pair.is_copy else "dim")
        for text, tone in texts:
            line = ElidedLabel(text, tone, pixels=theme.SMALL_PIXELS)
            line.setFixedWidth(2 * SIDE + 4)
            column.addWidget(line)
        return whole
