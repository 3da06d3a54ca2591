"""Drag and drop and pasting: what a drag or the clipboard carries, who takes it, and what dropping it will do.

A panel takes images with a `DropTarget`: from any room, from other programs and from the clipboard alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from PySide6.QtCore import QEvent, QMimeData, QObject, QRectF, Qt, QTimer, QUrl
from PySide6.QtGui import (
    QColor,
    QDragMoveEvent,
    QDropEvent,
    QGuiApplication,
    QImage,
    QKeyEvent,
    QKeySequence,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
)
from PySide6.QtWidgets import QWidget

from diffstudio.errors import StorageProblem
from diffstudio.imaging.formats import IMAGE_SUFFIXES
from diffstudio.models.files.formats import OTHER_SUFFIXES, SUFFIXES
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images.pasted_images import keep_image

_MOST_LINES = 1000  # of a text that is looked through for addresses
_SMALL = 160  # px; the text of a smaller overlay is small


class DroppedKind(Enum):
    """What a dropped item is, judged by its name alone: nothing is opened while the mouse button is down."""

    IMAGE = "image"
    MODEL = "model"
    FOLDER = "folder"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class DroppedItem:
    """One file or folder of a drag, or pixels. `path` is None for what is in no local file; `reason` says why it is
    unusable.
    """

    kind: DroppedKind
    path: Path | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        return self.path.name if self.path is not None else ""


def parse_drop(data: QMimeData) -> list[DroppedItem]:
    """The items of a drag or of the clipboard, in their order.

    An image dragged out of a web browser comes as a URL, as bare pixels, or as both. Pixels are an image without a
    path, which `with_files` keeps in a file; a URL alone is unusable until it is saved.
    """
    items = [_parse_url(url) for url in data.urls() or _urls_in_text(data)]
    if data.hasImage() and all(item.path is None for item in items):
        return [DroppedItem(DroppedKind.IMAGE)]
    return items


def with_files(items: Sequence[DroppedItem], data: QMimeData) -> list[DroppedItem]:
    """The same items, with a file for pixels. StorageProblem when it cannot be written."""
    pixels = DroppedItem(DroppedKind.IMAGE)
    return [replace(item, path=_kept(data)) if item == pixels else item for item in items]


def _kept(data: QMimeData) -> Path:
    image = data.imageData()
    return keep_image(image.toImage() if isinstance(image, QPixmap) else QImage(image))


def _urls_in_text(data: QMimeData) -> list[QUrl]:
    """The `file://` addresses of a text that consists of nothing else."""
    lines = data.text().split() if data.hasText() else []
    if not lines or len(lines) > _MOST_LINES or not all(line.startswith("file://") for line in lines):
        return []
    return [QUrl(line) for line in lines]


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


class DropTarget(QObject):
    """Lets a widget take what is dropped on it, or pasted while the focus is in it.

    `text(items)` says what dropping these items will do, shown over the widget; empty when it takes none of them, which
    leaves them to the widget around it. `take(items)` does it. Pixels have a file by then; `failed(sentence)` says why
    they could not be saved. `own_only`: only what is dragged from this program, as the window opens what others drop.
    """

    def __init__(
        self,
        widget: QWidget,
        text: Callable[[Sequence[DroppedItem]], str],
        take: Callable[[Sequence[DroppedItem]], object],
        failed: Callable[[str], object],
        *,
        own_only: bool = False,
    ) -> None:
        super().__init__(widget)
        self._widget, self._text, self._take, self._failed = widget, text, take, failed
        self._own_only = own_only
        self.overlay = DropOverlay("", widget, see_through=own_only)
        widget.setAcceptDrops(True)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if self._own_only and not self._is_own(event):
            return False
        match event.type():
            case QEvent.Type.DragEnter | QEvent.Type.DragMove if isinstance(event, QDragMoveEvent):
                text = self._text(parse_drop(event.mimeData()))
                if text:
                    self.overlay.appear(text)
                    event.acceptProposedAction()
                else:
                    event.ignore()
                return True
            case QEvent.Type.DragLeave:
                self.overlay.hide()
            case QEvent.Type.Drop if isinstance(event, QDropEvent):
                self.overlay.hide()
                event.setAccepted(self.offer(event.mimeData(), self._take_later))
                return True
            case QEvent.Type.KeyPress if isinstance(event, QKeyEvent) and event.matches(QKeySequence.StandardKey.Paste):
                return self.offer(QGuiApplication.clipboard().mimeData())
        return False

    def _is_own(self, event: QEvent) -> bool:
        """Whether it belongs to a drag that began in this program, not to one of others or to pasting."""
        if isinstance(event, QDropEvent):
            return event.source() is not None
        return event.type() is QEvent.Type.DragLeave

    def _take_later(self, items: Sequence[DroppedItem]) -> None:
        """Once the drop has returned: its source waits for that, and Qt needs the window, which `take` may close."""
        QTimer.singleShot(0, self, lambda: self._take(items))

    def offer(self, data: QMimeData, take: Callable[[Sequence[DroppedItem]], object] | None = None) -> bool:
        """Take what was dropped or pasted, by `take` if it is given; False when the widget takes none of it."""
        items = parse_drop(data)
        if not self._text(items):
            return False
        try:
            items = with_files(items, data)
        except StorageProblem as problem:
            self._failed(str(problem))
            return True
        (take or self._take)(items)
        return True


def image_paths(items: Sequence[DroppedItem]) -> list[Path]:
    """The images among dropped items whose files are known."""
    return [item.path for item in items if item.kind is DroppedKind.IMAGE and item.path is not None]


def dropped_image(items: Sequence[DroppedItem]) -> DroppedItem | None:
    """The first image among dropped items. While it is dragged, pixels have no path yet."""
    return next((item for item in items if item.kind is DroppedKind.IMAGE), None)


def takes_image(
    widget: QWidget,
    text: str,
    take: Callable[[Path], object],
    failed: Callable[[str], object],
    *,
    own_only: bool = False,
) -> DropTarget:
    """Let a widget take one image; `text` says what happens to it, and `failed(sentence)` what was not used."""

    def what(items: Sequence[DroppedItem]) -> str:
        return text if dropped_image(items) is not None else ""

    def first(items: Sequence[DroppedItem]) -> None:
        images = image_paths(items)
        take(images[0])
        if len(items) > 1:
            others = len(items) - 1
            failed(
                f"Only {images[0].name} is used. {others:,} other dropped item{'s were' if others > 1 else ' was'} ignored."
            )

    return DropTarget(widget, what, first, failed, own_only=own_only)


class DropOverlay(QWidget):
    """Covers a widget while something is dragged over it, and says what dropping it will do, or why it is not taken."""

    def __init__(self, text: str, parent: QWidget, *, see_through: bool = False) -> None:
        """`see_through` where what is below takes something too; so is the overlay of what is not taken."""
        super().__init__(parent)
        self._text, self._role, self._see_through = text, "accent", see_through
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        describe(self, text)
        self.hide()

    def text(self) -> str:
        return self._text

    def appear(self, text: str = "", *, refused: bool = False) -> None:
        """Show the overlay; without `text`, with the text it has."""
        self._role = "warn" if refused else "accent"
        if text:
            self._text = text
            describe(self, text)
        parent = self.parentWidget()
        if parent is not None:
            self.setGeometry(parent.rect())
        self.raise_()
        self.show()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        small = self.height() < _SMALL or self.width() < 2 * _SMALL
        margin = 2 if small else 16
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ground = QColor(theme.colour("background"))
        see_through = self._see_through or self._role == "warn"  # where else it can be dropped
        ground.setAlphaF(0.4 if see_through else 0.9)
        painter.fillRect(self.rect(), ground)
        painter.setPen(QPen(theme.colour(self._role), 2, Qt.PenStyle.DashLine))
        frame = QRectF(self.rect()).adjusted(margin, margin, -margin, -margin)
        painter.drawRoundedRect(frame, theme.RADIUS, theme.RADIUS)
        painter.setPen(theme.colour("text"))
        painter.setFont(theme.font(theme.SMALL_PIXELS if small else 16, bold=True))
        flags = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
        place = frame.adjusted(6, 2, -6, -2)
        if see_through:
            behind = painter.boundingRect(place, flags, self._text).adjusted(-12, -8, 12, 8)
            painter.fillRect(behind, theme.colour("background"))
        painter.drawText(place, flags, self._text)
