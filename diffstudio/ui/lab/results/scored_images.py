"""The images of an anomaly search as a grid, most anomalous first, each with its heat map, score and decision."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QRectF,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import QContextMenuEvent, QFontMetrics, QImage, QPainter, QPen, QResizeEvent
from PySide6.QtWidgets import QAbstractItemView, QFrame, QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from diffstudio.studio.evaluations.anomalies.decisions import Decision
from diffstudio.studio.evaluations.anomalies.result import ScoredImage
from diffstudio.studio.evaluations.results.text import number
from diffstudio.studio.evaluations.views.anomalies import AnomaliesView, is_anomalous
from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.cards import paint_card
from diffstudio.ui.widgets.helpers import describe, plain_tooltip
from diffstudio.ui.widgets.images.drag_source import DragSource
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_painting import fitted

SIDE = 128  # px of an image
KEPT_IMAGES = 600
IMAGE_ROLE = int(Qt.ItemDataRole.UserRole)
ALL, ANOMALOUS, UNDECIDED, ACCEPTED, REJECTED = "all", "anomalous", "undecided", "accepted", "rejected"
_GAP, _BADGE, _LINES, _MOST_ROWS = 8, 22, 3, 2
_BADGES = {Decision.ACCEPTED: ("check-bold", "good"), Decision.REJECTED: ("x-bold", "bad")}

Index = QModelIndex | QPersistentModelIndex


class ScoredImagesModel(QAbstractListModel):
    """The shown images in the order of the result, at a false-alarm rate."""

    image_needed = Signal(object)  # Path of the file to read

    def __init__(self) -> None:
        super().__init__()
        self._view: AnomaliesView | None = None
        self._rows: list[ScoredImage] = []
        self._row_of: dict[str, int] = {}  # by the path of the image
        self._images: OrderedDict[Path, QImage] = OrderedDict()
        self._asked: dict[Path, str] = {}  # files to read -> the path of the image
        self.decisions: dict[str, Decision] = {}
        self._rate, self._kind, self._heat_maps = 0.05, ALL, True

    def set_view(self, view: AnomaliesView) -> None:
        self._view, self._rate = view, view.result.false_alarm
        self.decisions = dict(view.decisions)
        self._images.clear()
        self._asked.clear()
        self._show()

    def set_rate(self, rate: float) -> None:
        self._rate = rate
        if self._kind == ANOMALOUS:
            self._show()
        else:
            self._changed()

    def set_kind(self, kind: str) -> None:
        self._kind = kind
        self._show()

    def set_heat_maps(self, shown: bool) -> None:
        self._heat_maps = shown
        self._changed()

    def set_decisions(self, decisions: Mapping[str, Decision | None]) -> None:
        """Show decisions on images; None removes one. All images stay until the filter changes."""
        for path, decision in decisions.items():
            self.decisions.pop(path, None)
            if decision is not None:
                self.decisions[path] = decision
        self._changed()

    def set_image(self, file: Path, image: QImage) -> None:
        self._images[file] = image
        while len(self._images) > KEPT_IMAGES:
            self._images.popitem(last=False)
        row = self._row_of.get(self._asked.pop(file, ""))
        if row is not None:
            self.dataChanged.emit(self.index(row), self.index(row))

    def image_at(self, index: Index) -> ScoredImage | None:
        return self._rows[index.row()] if index.isValid() and index.row() < len(self._rows) else None

    def target(self, image: ScoredImage) -> ImageTarget:
        """The searched image itself, not its heat map, for its menu."""
        assert self._view is not None
        return ImageTarget(self._view.file(image))

    def pixels(self, image: ScoredImage) -> QImage | None:
        """The pixels to show: None until they have been read, which this call requests; null if they cannot be read."""
        assert self._view is not None
        file = (self._view.heat_map(image) if self._heat_maps else None) or self._view.file(image)
        if file in self._images:
            self._images.move_to_end(file)
            return self._images[file]
        self._asked[file] = image.path
        self.image_needed.emit(file)
        return None

    def anomalous(self, image: ScoredImage) -> bool:
        return is_anomalous(image, self._rate)

    def status(self, image: ScoredImage) -> str:
        """The status as text: `anomalous · rejected`."""
        decision = self.decisions.get(image.path)
        called = "anomalous" if self.anomalous(image) else "normal"
        return called if decision is None else f"{called} · {decision}"

    # Called by Qt

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self._rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        image = self.image_at(index)
        if image is None:
            return None
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return image.path
            case Qt.ItemDataRole.AccessibleTextRole:
                return f"{image.path}: {self.status(image)}, {scores_text(image)}"
            case Qt.ItemDataRole.ToolTipRole:
                return plain_tooltip(f"{image.path}\n{self.status(image)}, {scores_text(image)}")
            case _ if role == IMAGE_ROLE:
                return image
        return None

    def _show(self) -> None:
        self.beginResetModel()
        self._rows = [image for image in self._view.result.images if self._matches(image)] if self._view else []
        self._row_of = {image.path: row for row, image in enumerate(self._rows)}
        self.endResetModel()

    def _matches(self, image: ScoredImage) -> bool:
        match self._kind:
            case "anomalous":
                return self.anomalous(image)
            case "undecided":
                return image.path not in self.decisions
            case "accepted" | "rejected":
                return self.decisions.get(image.path) == self._kind
        return True

    def _changed(self) -> None:
        if self._rows:
            self.dataChanged.emit(self.index(0), self.index(len(self._rows) - 1))


def scores_text(image: ScoredImage) -> str:
    return f"p {image.p_value:.3f}, score {number(image.score)}"


class ScoredImageDelegate(QStyledItemDelegate):
    """Draws an image on a card with its name, p-value and score, and the decision in its corner."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return cell_size()

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        model, image = index.model(), index.data(IMAGE_ROLE)
        if not isinstance(model, ScoredImagesModel) or not isinstance(image, ScoredImage):
            return
        painter.save()
        option.rect = option.rect.adjusted(0, 0, -_GAP, 0)
        card = paint_card(painter, option, _GAP)
        square = QRectF(card.x() + _GAP, card.y() + _GAP, SIDE, SIDE)
        _paint_image(painter, square, model.pixels(image))
        anomalous = model.anomalous(image)
        if anomalous:
            painter.setPen(QPen(theme.colour("warn"), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(square, 4, 4)
        if (decision := model.decisions.get(image.path)) is not None:
            corner = QRectF(square.right() - _BADGE - 4, square.top() + 4, _BADGE, _BADGE)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colour("panel"))
            painter.drawEllipse(corner)
            name, role = _BADGES[decision]
            icons.icon(name, role).paint(painter, corner.toRect().adjusted(5, 5, -5, -5))
        if option.state & QStyle.StateFlag.State_HasFocus:
            painter.setPen(QPen(theme.colour("accent"), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(card).adjusted(1, 1, -1, -1), theme.RADIUS, theme.RADIUS)
        font = theme.font(theme.SMALL_PIXELS)
        painter.setFont(font)
        line, top = theme.scaled(_line_height()), card.y() + SIDE + 2 * _GAP - 4
        for row, (text, colour) in enumerate(
            (
                (Path(image.path).name, "text"),
                (scores_text(image), "dim"),
                (model.status(image), "warn" if anomalous else "dim"),
            )
        ):
            painter.setPen(theme.colour(colour))
            elided = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideMiddle, SIDE)
            room = QRect(card.x() + _GAP, top + row * line, SIDE, line)
            painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter), elided)
        painter.restore()


def _line_height() -> int:
    return theme.SMALL_PIXELS + 5


def cell_size() -> QSize:
    text = _LINES * theme.scaled(_line_height())
    return QSize(SIDE + 3 * _GAP, SIDE + text + 3 * _GAP)


def _paint_image(painter: QPainter, square: QRectF, image: QImage | None) -> None:
    painter.fillRect(square, theme.colour("line"))
    if image is None or image.isNull():
        name, role = ("image", "dim") if image is None else ("warning", "warn")
        icons.icon(name, role).paint(painter, square.toRect().adjusted(50, 50, -50, -50))
        return
    room = fitted(image.size(), square)
    smooth = room.width() < image.width()  # enlarged pixels stay sharp
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, smooth)
    painter.drawImage(room, image)


class ScoredImagesList(QListView):
    """The scrolling grid, at most two rows high, with the usual image menu."""

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, model: ScoredImagesModel) -> None:
        super().__init__()
        self._model = model
        self.setModel(model)
        self.setItemDelegate(ScoredImageDelegate(self))
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(True)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.verticalScrollBar().setSingleStep(40)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setMouseTracking(True)
        describe(self, "Searched images, the most anomalous first", " ")
        model.modelReset.connect(self.fit_text)
        DragSource(self.viewport(), self.target_at)

    def selected(self) -> Sequence[ScoredImage]:
        """The selected images in the order of the list; the current one if none is selected."""
        rows = sorted(self.selectedIndexes(), key=lambda index: index.row()) or [self.currentIndex()]
        return [image for index in rows if (image := self._model.image_at(index)) is not None]

    def target_at(self, point: QPoint) -> ImageTarget | None:
        """The searched image at a point of the list."""
        image = self._model.image_at(self.indexAt(point))
        return self._model.target(image) if image is not None else None

    def move_on(self) -> None:
        """Select the next image."""
        following = self._model.index(self.currentIndex().row() + 1)
        if following.isValid():
            self.setCurrentIndex(following)

    def fit_text(self) -> None:
        """Fit the height to the rows, at most two."""
        cell = cell_size()
        self.setGridSize(cell)
        columns = max(1, self.viewport().width() // cell.width())
        rows = min(_MOST_ROWS, max(1, -(-self._model.rowCount() // columns)))
        self.setFixedHeight(rows * cell.height() + 4)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit_text()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        keyboard = event.reason() == QContextMenuEvent.Reason.Keyboard
        index = self.currentIndex() if keyboard else self.indexAt(event.pos())
        image = self._model.image_at(index)
        if image is not None:
            centre = self.viewport().mapToGlobal(self.visualRect(index).center())
            self.menu_requested.emit(self._model.target(image), centre if keyboard else event.globalPos())
