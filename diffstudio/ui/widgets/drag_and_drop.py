"""Drag and drop: what a drag carries, and the overlay that says what dropping it will do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from PySide6.QtCore import QMimeData, QRectF, Qt, QUrl
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from diffstudio.imaging.formats import IMAGE_SUFFIXES
from diffstudio.models.files.formats import OTHER_SUFFIXES, SUFFIXES
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe


class DroppedKind(Enum):
    """What a dropped item is, judged by its name alone: nothing is opened while the mouse button is down."""

    IMAGE = "image"
    MODEL = "model"
    FOLDER = "folder"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class DroppedItem:
    """One file or folder of a drag. `path` is None for what is in no local file; `reason` says why it is unusable."""

    kind: DroppedKind
    path: Path | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        return self.path.name if self.path is not None else ""


def parse_drop(data: QMimeData) -> list[DroppedItem]:
    """The items of a drag or of the clipboard, in their order.

    An image dragged out of a web browser comes as a URL or as bare pixels; both are unusable until it is saved.
    """
    items = [_parse_url(url) for url in data.urls()]
    if not items and data.hasImage():
        items.append(DroppedItem(DroppedKind.UNUSABLE, reason="the image is in no file; save it first"))
    return items


def dropped_paths(data: QMimeData, *kinds: DroppedKind) -> list[Path]:
    """The paths of the items of these kinds; without `kinds`, of all local files and folders."""
    return [item.path for item in parse_drop(data) if item.path is not None and (not kinds or item.kind in kinds)]


def _parse_url(url: QUrl) -> DroppedItem:
    if not url.isLocalFile():
        return DroppedItem(DroppedKind.UNUSABLE, reason=f"{url.toDisplayString()[:200]} is not on this computer")
    path = Path(url.toLocalFile())
    suffix = path.suffix.lower()
    if path.is_dir():
        return DroppedItem(DroppedKind.FOLDER, path)
    if suffix in SUFFIXES or suffix in OTHER_SUFFIXES:  # importing the others says what they are
        return DroppedItem(DroppedKind.MODEL, path)
    if suffix in IMAGE_SUFFIXES:
        return DroppedItem(DroppedKind.IMAGE, path)
    return DroppedItem(DroppedKind.UNUSABLE, path, f"{path.name} is neither an image nor a model file")


class DropOverlay(QWidget):
    """Covers a room while a file it accepts is dragged over it, and says what dropping it will do."""

    def __init__(self, text: str, parent: QWidget) -> None:
        super().__init__(parent)
        self._text = text
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        describe(self, text)
        self.hide()

    def appear(self) -> None:
        parent = self.parentWidget()
        if parent is not None:
            self.setGeometry(parent.rect())
        self.raise_()
        self.show()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ground = QColor(theme.colour("background"))
        ground.setAlphaF(0.86)
        painter.fillRect(self.rect(), ground)
        painter.setPen(QPen(theme.colour("accent"), 2, Qt.PenStyle.DashLine))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(16, 16, -16, -16), theme.RADIUS, theme.RADIUS)
        painter.setPen(theme.colour("text"))
        painter.setFont(theme.font(16, bold=True))
        painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignCenter), self._text)
