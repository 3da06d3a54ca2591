"""The grid of thumbnails, drawn by a delegate without a widget per image, so that it can hold 100,000."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, QPoint, QRect, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QImage, QKeyEvent, QMouseEvent, QPainter, QPainterPath, QPen, QResizeEvent, QWheelEvent
from PySide6.QtWidgets import QAbstractItemView, QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.view_state import USUAL_CELL
from diffstudio.ui.gallery.item_model import IMAGE_ROLE, GalleryModel, date_text
from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.helpers import describe, label, reserve_scroll_bar, set_tooltip

GAP = 12
DATE_SHOWN_MS = 900  # after the last scrolling
MISSING_OPACITY = 0.35  # of images whose folder is missing
STAR = 26  # px; the side of the corner that stars an image


class ThumbnailDelegate(QStyledItemDelegate):
    """Draws the centre square of an image with rounded corners, and a star in its corner."""

    def __init__(self, view: ThumbnailGrid) -> None:
        super().__init__(view)
        self._view = view

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return self._view.gridSize()

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        image = index.data(IMAGE_ROLE)
        model = index.model()
        if not isinstance(image, GalleryImage) or not isinstance(model, GalleryModel):
            return
        tile = QRectF(thumbnail_rect(option.rect))
        state = option.state
        painter.save()
        painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform)
        path = QPainterPath()
        path.addRoundedRect(tile, theme.RADIUS, theme.RADIUS)
        painter.fillPath(path, theme.colour("raised"))
        thumbnail = model.thumbnail(image)
        if thumbnail is not None:
            painter.save()
            painter.setClipPath(path, Qt.ClipOperation.IntersectClip)
            painter.setOpacity(MISSING_OPACITY if image.missing else 1.0)
            shown = thumbnail.convertToFormat(QImage.Format.Format_Grayscale8) if image.missing else thumbnail
            painter.drawImage(tile, shown, _centre_square(thumbnail))
            painter.restore()
        if image.missing or (thumbnail is None and model.unreadable(image)):
            side = 28
            rect = QRect(round(tile.center().x()) - side // 2, round(tile.center().y()) - side // 2, side, side)
            icons.icon("warning", "faint").paint(painter, rect)
        chosen = bool(state & QStyle.StateFlag.State_Selected)
        if chosen or (state & QStyle.StateFlag.State_HasFocus and self._view.hasFocus()):
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(theme.colour("accent"), 2 if chosen else 1))
            painter.drawRoundedRect(tile.adjusted(-2, -2, 2, 2), theme.RADIUS + 2, theme.RADIUS + 2)
        if image.trashed is None and (image.starred or state & QStyle.StateFlag.State_MouseOver):
            corner = star_rect(option.rect)
            painter.setPen(Qt.PenStyle.NoPen)
            shade = theme.colour("panel")
            shade.setAlpha(200)
            painter.setBrush(shade)
            painter.drawEllipse(corner.adjusted(1, 1, -1, -1))
            name, role = ("star-fill", "warn") if image.starred else ("star", "text")
            icons.icon(name, role).paint(painter, corner.adjusted(6, 6, -6, -6))
        painter.restore()


def thumbnail_rect(cell: QRect) -> QRect:
    """The square of the thumbnail in its cell."""
    side = min(cell.width(), cell.height()) - GAP
    return QRect(cell.x() + (cell.width() - side) // 2, cell.y() + (cell.height() - side) // 2, side, side)


def star_rect(cell: QRect) -> QRect:
    tile = thumbnail_rect(cell)
    return QRect(tile.right() - STAR - 3, tile.top() + 4, STAR, STAR)


def _centre_square(image: QImage) -> QRectF:
    side = min(image.width(), image.height())
    return QRectF((image.width() - side) / 2, (image.height() - side) / 2, side, side)


class ThumbnailGrid(QListView):
    """The thumbnails. Enter or a double click opens an image, Delete deletes it, a click on its corner stars it."""

    opened = Signal(object)  # QModelIndex
    delete_requested = Signal()
    star_requested = Signal(object)  # QModelIndex
    zoom_requested = Signal(object)  # 1 or -1: Ctrl and the wheel
    all_requested = Signal()  # to select all images, those too that are not fetched yet

    def __init__(self) -> None:
        super().__init__()
        describe(self, "Images", "")
        set_tooltip(self, "")
        self.setViewMode(QListView.ViewMode.ListMode)  # wrapped: lays 100,000 out far faster than IconMode does
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(True)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setDragEnabled(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.DragOnly)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        reserve_scroll_bar(self)
        self.verticalScrollBar().setSingleStep(40)
        self.setMouseTracking(True)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setItemDelegate(ThumbnailDelegate(self))
        self._cell = USUAL_CELL  # px, the smallest, including the gap
        self._fit_columns()
        self.date = label("", pixels=theme.SMALL_PIXELS)
        self.date.setParent(self)
        self.date.setObjectName("pill")
        self.date.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.date.hide()
        self._date_timer = QTimer(self, singleShot=True, interval=DATE_SHOWN_MS)
        self._date_timer.timeout.connect(self.date.hide)
        self.verticalScrollBar().valueChanged.connect(self._show_date)
        self.doubleClicked.connect(lambda index: self.opened.emit(index))

    def selected_rows(self) -> list[tuple[int, int]]:
        """The first and the last row of each part of the selection. Quick, however many are selected."""
        return [(part.top(), part.bottom()) for part in self.selectionModel().selection().toList()]

    def selected_count(self) -> int:
        return sum(last - first + 1 for first, last in self.selected_rows())

    def selectAll(self) -> None:
        self.all_requested.emit()

    def cell(self) -> int:
        return self._cell

    def set_cell(self, cell: int) -> None:
        """Set the size of a thumbnail with its gap, in px, and keep the current image in view."""
        self._cell = cell
        self._fit_columns()
        if self.currentIndex().isValid():
            self.scrollTo(self.currentIndex())

    def wheelEvent(self, event: QWheelEvent) -> None:
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.zoom_requested.emit(1 if event.angleDelta().y() > 0 else -1)
            event.accept()
        else:
            super().wheelEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._fit_columns()
        super().resizeEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            self.opened.emit(self.currentIndex())
        elif event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.delete_requested.emit()
        else:
            super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if self._star_at(event).isValid():
            event.accept()
        else:
            super().mousePressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if not self._star_at(event).isValid():
            super().mouseDoubleClickEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        index = self._star_at(event)
        if index.isValid():
            self.star_requested.emit(index)
        else:
            super().mouseReleaseEvent(event)

    def viewportEvent(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Leave:
            self.viewport().update()
        return bool(super().viewportEvent(event))

    def _show_date(self) -> None:
        """While scrolling, say when the first images in view were made."""
        image = self.indexAt(QPoint(GAP, 2 * GAP)).data(IMAGE_ROLE)
        if isinstance(image, GalleryImage):
            self.date.setText(date_text(image.created).partition(" ")[0])
            self.date.adjustSize()
            self.date.move((self.viewport().width() - self.date.width()) // 2, GAP)
            self.date.show()
            self._date_timer.start()

    def _star_at(self, event: QMouseEvent) -> QModelIndex:
        point = event.position().toPoint()
        index = self.indexAt(point)
        on_star = (
            event.button() == Qt.MouseButton.LeftButton
            and index.isValid()
            and star_rect(self.visualRect(index)).contains(point)
        )
        return index if on_star else QModelIndex()

    def _fit_columns(self) -> None:
        """Size the cells so that the columns fill the width."""
        width = max(self._cell, self.viewport().width() - 1)
        columns = max(1, width // self._cell)
        side = width // columns
        if self.gridSize().width() != side:
            self.setGridSize(QSize(side, side))
