"""The Qt model and delegate of the list of checkpoints, followed by files that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QImage, QPainter, QPainterPath
from PySide6.QtWidgets import QListView, QStyledItemDelegate, QStyleOptionViewItem

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.ui.generate.labels import ORIGINS
from diffstudio.ui.models import model_info
from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.cards import paint_card
from diffstudio.ui.widgets.helpers import fitting_parts, plain_tooltip

ENTRY_ROLE = int(Qt.ItemDataRole.UserRole)
ROW_HEIGHT = 72
THUMBNAIL_SIDE = 52

Index = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True, slots=True)
class Problem:
    """A file in the model folders that cannot be used, and why."""

    path: Path
    error: DiffstudioError

    @property
    def title(self) -> str:
        return self.path.name


Entry = Checkpoint | Problem


class CheckpointsModel(QAbstractListModel):
    """Checkpoints, then problems, filtered."""

    def __init__(self) -> None:
        super().__init__()
        self._all: list[Entry] = []
        self._entries: list[Entry] = []  # those that match the filter
        self._matches: Callable[[Entry], bool] = lambda _: True
        self._starred: frozenset[Path] = frozenset()
        self._thumbnails: dict[Path, QImage] = {}

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self._entries)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        entry = self.entry(index)
        if entry is None:
            return None
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return entry.title
            case Qt.ItemDataRole.ToolTipRole:
                return plain_tooltip(str(entry.path))
            case Qt.ItemDataRole.AccessibleTextRole:
                if isinstance(entry, Checkpoint):
                    return f"{entry.title}, {model_info.summary(entry)}, {ORIGINS[entry.origin]}"
                return f"{entry.path.name} cannot be used: {entry.error}"
            case _ if role == ENTRY_ROLE:
                return entry
        return None

    def entry(self, index: Index) -> Entry | None:
        return self._entries[index.row()] if index.isValid() and index.row() < len(self._entries) else None

    def set_entries(self, entries: Sequence[Entry]) -> None:
        self._all = list(entries)
        self._apply_filter()

    def set_filter(self, matches: Callable[[Entry], bool]) -> None:
        """Show only the entries for which `matches` is true."""
        self._matches = matches
        self._apply_filter()

    def set_starred(self, paths: frozenset[Path]) -> None:
        """Set which files are starred."""
        changed = self._starred ^ paths
        self._starred = paths
        for path in changed:
            self._repaint(path)

    def starred(self, entry: Entry) -> bool:
        return entry.path in self._starred

    def all_entries(self) -> list[Entry]:
        """All entries, whether they match the filter or not."""
        return list(self._all)

    def _apply_filter(self) -> None:
        self.beginResetModel()
        self._entries = [entry for entry in self._all if self._matches(entry)]
        self.endResetModel()

    def row_of(self, path: Path) -> int | None:
        return next((row for row, entry in enumerate(self._entries) if entry.path == path), None)

    def thumbnail(self, entry: Entry) -> QImage:
        """The thumbnail; a null image if unknown."""
        return self._thumbnails.get(entry.path, QImage())

    def set_thumbnail(self, path: Path, thumbnail: QImage) -> None:
        self._thumbnails[path] = thumbnail
        self._repaint(path)

    def _repaint(self, path: Path) -> None:
        row = self.row_of(path)
        if row is not None:
            self.dataChanged.emit(self.index(row), self.index(row))


class CheckpointDelegate(QStyledItemDelegate):
    """Draws a thumbnail, the title and a summary."""

    def __init__(self, view: QListView) -> None:
        super().__init__(view)
        self._view = view

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(160, max(ROW_HEIGHT, theme.scaled(44) + 28))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        entry, model = index.data(ENTRY_ROLE), index.model()
        if entry is None or not isinstance(model, CheckpointsModel):
            return
        problem = isinstance(entry, Problem)
        painter.save()
        card = paint_card(painter, option, 8)
        rect = QRect(card.x() + 6, card.y() + (card.height() - THUMBNAIL_SIDE) // 2, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
        _paint_thumbnail(
            painter, rect, model.thumbnail(entry), "warning" if problem else model_info.ICONS.get(entry.role, "cube")
        )
        left, width = rect.right() + 13, card.right() - rect.right() - 24
        line = theme.scaled(20)
        top = card.y() + max(6, (card.height() - 2 * line - 1) // 2)
        title_font, small_font = theme.font(bold=True), theme.font(theme.SMALL_PIXELS)
        title = str(index.data(Qt.ItemDataRole.DisplayRole))
        subtitle = "cannot be used" if problem else model_info.summary(entry)
        if model.starred(entry):
            icons.icon("star-fill", "warn").paint(painter, QRect(card.right() - 26, card.y() + 14, 14, 14))
            width -= 20
        painter.setFont(title_font)
        painter.setPen(theme.colour("text"))
        painter.drawText(
            QRect(left, top, width, line),
            int(Qt.AlignmentFlag.AlignVCenter),
            QFontMetrics(title_font).elidedText(title, Qt.TextElideMode.ElideRight, width),
        )
        painter.setFont(small_font)
        painter.setPen(theme.colour("warn" if problem else "dim"))
        painter.drawText(
            QRect(left, top + line + 1, width, line),
            int(Qt.AlignmentFlag.AlignVCenter),
            fitting_parts(subtitle, QFontMetrics(small_font), width),
        )
        painter.restore()


def _paint_thumbnail(painter: QPainter, rect: QRect, thumbnail: QImage, icon: str) -> None:
    path = QPainterPath()
    path.addRoundedRect(QRectF(rect), 6, 6)
    painter.fillPath(path, theme.colour("line"))
    if thumbnail.isNull():
        icons.icon(icon, "warn" if icon == "warning" else "dim").paint(painter, rect.adjusted(15, 15, -15, -15))
        return
    painter.setClipPath(path, Qt.ClipOperation.IntersectClip)
    side = min(thumbnail.width(), thumbnail.height())
    middle = QRectF((thumbnail.width() - side) / 2, (thumbnail.height() - side) / 2, side, side)
    painter.drawImage(QRectF(rect), thumbnail, middle)
    painter.setClipping(False)
