"""A layout that fills rows from left to right and wraps."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtWidgets import QLayout, QLayoutItem, QWidget


class FlowLayout(QLayout):
    """Widgets in rows that wrap where the width ends, from the left or each row centred.

    Those of one row are centred vertically. `row_spacing` is that between rows, by default the same as between widgets.
    """

    def __init__(
        self, parent: QWidget | None = None, spacing: int = 6, *, row_spacing: int | None = None, centred: bool = False
    ) -> None:
        super().__init__(parent)
        self._centred = centred
        self._row_spacing = spacing if row_spacing is None else row_spacing
        self._items: list[QLayoutItem] = []
        self.setContentsMargins(0, 0, 0, 0)
        self.setSpacing(spacing)

    def addItem(self, item: QLayoutItem) -> None:
        self._items.append(item)

    def count(self) -> int:
        return len(self._items)

    def itemAt(self, index: int) -> QLayoutItem | None:
        return self._items[index] if 0 <= index < len(self._items) else None

    def takeAt(self, index: int) -> QLayoutItem | None:
        return self._items.pop(index) if 0 <= index < len(self._items) else None

    def expandingDirections(self) -> Qt.Orientation:
        return Qt.Orientation(0)

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        return self._place(QRect(0, 0, width, 0), move=False)

    def sizeHint(self) -> QSize:
        return self.minimumSize()

    def minimumSize(self) -> QSize:
        size = QSize()
        for item in self._shown():
            size = size.expandedTo(item.minimumSize())
        return size

    def setGeometry(self, rect: QRect) -> None:
        super().setGeometry(rect)
        self._place(rect, move=True)

    def _shown(self) -> Iterator[QLayoutItem]:
        """The items whose widgets are visible; hidden ones take no space, and no spacing."""
        return (item for item in self._items if not item.isEmpty())

    def _place(self, rect: QRect, *, move: bool) -> int:
        y = rect.y()
        for row in self._rows(rect.width()):
            used = sum(size.width() for _, size in row) + self.spacing() * (len(row) - 1)
            x = rect.x() + ((rect.width() - used) // 2 if self._centred else 0)
            height = max(size.height() for _, size in row)
            for item, size in row:
                if move:
                    item.setGeometry(QRect(QPoint(x, y + (height - size.height()) // 2), size))
                x += size.width() + self.spacing()
            y += height + self._row_spacing
        return max(y - self._row_spacing - rect.y(), 0)

    def _rows(self, width: int) -> Iterator[list[tuple[QLayoutItem, QSize]]]:
        """The shown items with their sizes, at most `width` px a row."""
        row: list[tuple[QLayoutItem, QSize]] = []
        used = 0
        for item in self._shown():
            size = item.sizeHint().boundedTo(QSize(width, 1 << 20))
            if row and used + size.width() > width:
                yield row
                row, used = [], 0
            row.append((item, size))
            used += size.width() + self.spacing()
        if row:
            yield row
