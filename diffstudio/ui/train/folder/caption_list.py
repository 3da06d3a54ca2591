"""The list of training images with their captions: a Qt model that is searched, and its rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QImage, QPainter, QPainterPath
from PySide6.QtWidgets import QListView, QStyledItemDelegate, QStyleOptionViewItem

from diffstudio.training.data.folder_layout import LEFT_OUT_BY_USER
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.cards import paint_card
from diffstudio.ui.widgets.helpers import plain_tooltip

ROW_SIDE = 48  # px of a thumbnail
KEPT_THUMBNAILS = 600
ROW_ROLE = int(Qt.ItemDataRole.UserRole)
ALL, UNCAPTIONED, LEFT_OUT = "all", "uncaptioned", "left out"

Index = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """One image, or a folder that was left out."""

    path: Path  # inside the folder
    captions: tuple[str, ...]
    about: str  # its class and size
    left_out: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.captions)


class CaptionsModel(QAbstractListModel):
    """The images that match a search, in the order of their paths."""

    thumbnail_needed = Signal(object)  # Path inside the folder

    def __init__(self) -> None:
        super().__init__()
        self._all: tuple[CaptionRow, ...] = ()
        self._rows: list[CaptionRow] = []
        self._numbers: dict[Path, int] | None = None  # path -> row; None until it is needed
        self._thumbnails: OrderedDict[Path, QImage] = OrderedDict()
        self._searched, self._kind = "", ALL
        self._folder: Path | None = None

    def set_report(self, report: FolderReport) -> None:
        images = [
            CaptionRow(
                image.path, image.captions, f"{image.group} · {image.width:,} × {image.height:,} px".lstrip(" ·")
            )
            for image in report.images
        ]
        gone = [CaptionRow(one.path, (), one.why, True) for one in report.left_out if one.why == LEFT_OUT_BY_USER]
        if report.folder != self._folder:
            self._thumbnails.clear()
        self._folder = report.folder
        self._all = (*images, *gone)
        self._show()

    def set_captions(self, edits: Mapping[Path, tuple[str, ...]]) -> None:
        """Show new captions of images. The rows stay where they are, whether they match the search or not."""
        self._all = tuple(_with_captions(row, edits) for row in self._all)
        for path in edits:
            if (number := self.row_of(path)) >= 0:
                self._rows[number] = _with_captions(self._rows[number], edits)
                self.dataChanged.emit(self.index(number), self.index(number))

    def search(self, text: str, kind: str) -> None:
        """Show images whose caption, path or class contains the text."""
        self._searched, self._kind = text.strip().casefold(), kind
        self._show()

    def _show(self) -> None:
        self.beginResetModel()
        self._rows, self._numbers = [row for row in self._all if self._matches(row)], None
        self.endResetModel()

    def _matches(self, row: CaptionRow) -> bool:
        if row.left_out != (self._kind == LEFT_OUT) or (self._kind == UNCAPTIONED and row.captions):
            return False
        searched = self._searched
        return not searched or any(
            searched in text.casefold() for text in (*row.captions, row.path.as_posix(), row.about)
        )

    def total(self) -> int:
        """The images that are trained on, whether they match or not."""
        return sum(not row.left_out for row in self._all)

    def shown(self) -> Sequence[CaptionRow]:
        return self._rows

    def row_of(self, path: Path) -> int:
        """The row of an image; -1 if it is not shown."""
        if self._numbers is None:
            self._numbers = {row.path: number for number, row in enumerate(self._rows)}
        return self._numbers.get(path, -1)

    def set_thumbnail(self, path: Path, image: QImage) -> None:
        self._thumbnails[path] = image
        while len(self._thumbnails) > KEPT_THUMBNAILS:
            self._thumbnails.popitem(last=False)
        if (number := self.row_of(path)) >= 0:
            self.dataChanged.emit(self.index(number), self.index(number))

    def thumbnail(self, path: Path) -> QImage:
        """An empty image until it has been read; calling this asks for it."""
        if path in self._thumbnails:
            self._thumbnails.move_to_end(path)
            return self._thumbnails[path]
        self.thumbnail_needed.emit(path)
        return QImage()

    # Called by Qt

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self._rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid() or index.row() >= len(self._rows):
            return None
        row = self._rows[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return row.text or ("left out" if row.left_out else "no caption")
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{row.path}: {row.text or 'no caption'}"
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tooltip(f"{row.path}\n{row.text}".strip())
        return row if role == ROW_ROLE else None


def _with_captions(row: CaptionRow, edits: Mapping[Path, tuple[str, ...]]) -> CaptionRow:
    return replace(row, captions=edits[row.path]) if row.path in edits and not row.left_out else row


class CaptionDelegate(QStyledItemDelegate):
    """Draws a thumbnail, the caption, and the path with the class and the size."""

    def __init__(self, view: QListView) -> None:
        super().__init__(view)

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(160, max(ROW_SIDE + 12, theme.scaled(44) + 12))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        row, model = index.data(ROW_ROLE), index.model()
        if not isinstance(row, CaptionRow) or not isinstance(model, CaptionsModel):
            return
        painter.save()
        card = paint_card(painter, option, 4)
        square = QRect(card.x() + 4, card.y() + (card.height() - ROW_SIDE) // 2, ROW_SIDE, ROW_SIDE)
        _paint_thumbnail(painter, square, QImage() if row.left_out else model.thumbnail(row.path))
        left, width = square.right() + 13, card.right() - square.right() - 22
        line = theme.scaled(20)
        top = card.y() + max(4, (card.height() - 2 * line) // 2)
        text = " / ".join(row.captions) or ("Left out" if row.left_out else "No caption")
        lines = (
            (text, theme.font(), "text" if row.captions else "dim"),
            (f"{row.path} · {row.about}".rstrip(" ·"), theme.font(theme.SMALL_PIXELS), "dim"),
        )
        for number, (words, font, colour) in enumerate(lines):
            painter.setFont(font)
            painter.setPen(theme.colour(colour))
            mode = Qt.TextElideMode.ElideMiddle if number else Qt.TextElideMode.ElideRight
            elided = QFontMetrics(font).elidedText(words, mode, width)
            painter.drawText(QRect(left, top + number * line, width, line), int(Qt.AlignmentFlag.AlignVCenter), elided)
        painter.restore()


def _paint_thumbnail(painter: QPainter, square: QRect, image: QImage) -> None:
    path = QPainterPath()
    path.addRoundedRect(QRectF(square), 4, 4)
    painter.fillPath(path, theme.colour("line"))
    if image.isNull():
        icons.icon("image", "dim").paint(painter, square.adjusted(14, 14, -14, -14))
        return
    painter.setClipPath(path, Qt.ClipOperation.IntersectClip)
    painter.drawImage(QRectF(square), image)
    painter.setClipping(False)
