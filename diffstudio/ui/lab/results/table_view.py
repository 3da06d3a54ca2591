"""TableView: a table of numbers with intervals; the reference row comes first, in its own colour.

A table that is too wide is continued below: its columns are divided among several blocks.
"""

from __future__ import annotations

from itertools import accumulate, zip_longest

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt, Signal
from PySide6.QtGui import QFontMetrics, QResizeEvent
from PySide6.QtWidgets import QAbstractItemView, QFrame, QHBoxLayout, QHeaderView, QTableView, QVBoxLayout, QWidget

from diffstudio.studio.evaluations.views.tables import Table
from diffstudio.ui.lab.results.saving import SaveButton, files_of_table
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import describe, plain_tooltip

_Index = QModelIndex | QPersistentModelIndex
_ROW_LINES = 2
_MOST_ROWS = 8  # without scrolling
_Role = Qt.ItemDataRole


class TableModel(QAbstractTableModel):
    """The names of the rows in the first column, then one column for each measure."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table("", "", (), ())

    def set_table(self, table: Table) -> None:
        self.beginResetModel()
        self.table = table
        self.endResetModel()

    def rowCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008 - as Qt declares it
        return 0 if parent.isValid() else len(self.table.rows)

    def columnCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else 1 + len(self.table.columns)

    def data(self, index: _Index, role: int = _Role.DisplayRole) -> object:
        if not index.isValid():
            return None
        row, place = self.table.rows[index.row()], index.column() - 1
        cell = row.cells[place] if place >= 0 else None
        match role:
            case _Role.DisplayRole if place < 0:
                return row.name
            case _Role.DisplayRole:
                return "–" if cell is None else "\n".join(filter(None, (cell.text(), cell.interval())))
            case _Role.AccessibleTextRole if place >= 0:
                name = self.table.columns[place].name
                shown = "not measured" if cell is None else cell.text()
                interval = f", 95% interval {cell.interval()}" if cell is not None and cell.interval() else ""
                return f"{row.name}: {name} {shown}{interval}"
            case _Role.ToolTipRole:
                return plain_tooltip(row.name if place < 0 else self.table.columns[place].about)
            case _Role.ForegroundRole if row.reference:
                return theme.colour("dim")
            case _Role.TextAlignmentRole:
                side = Qt.AlignmentFlag.AlignLeft if place < 0 else Qt.AlignmentFlag.AlignRight
                return side | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = _Role.DisplayRole) -> object:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        column = self.table.columns[section - 1] if section > 0 else None
        match role:
            case _Role.DisplayRole:
                return column.name if column is not None else self.table.names
            case _Role.ToolTipRole:
                return plain_tooltip(column.about or column.name) if column is not None else None
            case _Role.TextAlignmentRole:
                side = Qt.AlignmentFlag.AlignRight if column is not None else Qt.AlignmentFlag.AlignLeft
                return side | Qt.AlignmentFlag.AlignVCenter
        return None


def divided(columns: int, most: int) -> list[range]:
    """As few blocks of at most so many columns as possible, as even as possible: the places of each block's columns."""
    count = -(-columns // max(1, most))
    sizes = [columns // count + (place < columns % count) for place in range(count)]
    ends = list(accumulate(sizes))
    return [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]


class TableView(QWidget):
    """The table with its title and a save button."""

    message = Signal(str, str)  # kind, text

    def __init__(self) -> None:
        super().__init__()
        self.model = TableModel()
        self.heading = SectionLabel("Table")
        self.save = SaveButton("table")
        top = QHBoxLayout()
        top.addWidget(self.heading, 1)
        top.addWidget(self.save)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        self._column.addLayout(top)
        self.views: list[QTableView] = []  # the blocks; those that are not needed are hidden
        self.view = self._add_view()
        self.save.message.connect(self.message)

    def show_table(self, table: Table) -> None:
        self.model.set_table(table)
        self.heading.set_text(table.title)
        self.save.set_files(files_of_table(table) if table.rows else ())
        self.setVisible(bool(table.rows))
        self.fit_text()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit_text()

    def fit_text(self) -> None:
        """Fit rows to two lines, columns to their texts in as many blocks as needed, and heights to the rows up to a limit."""
        row_height = _ROW_LINES * QFontMetrics(theme.font()).lineSpacing() + 12
        names, widths = self._natural_widths()
        scrolls = self.model.rowCount() > _MOST_ROWS
        free = self.width() - names - (self.view.verticalScrollBar().sizeHint().width() if scrolls else 0)
        if sum(widths) > free:  # below each other, so columns of one width
            blocks = divided(len(widths), free // max(widths))
            widths = [max(*widths, free // len(blocks[0]))] * len(widths)
        else:
            blocks = [range(len(widths))]
        while len(self.views) < len(blocks):
            self._add_view()
        for view, block in zip_longest(self.views, blocks):
            view.setVisible(block is not None)
            for place, width in enumerate(widths if block is not None else ()):
                view.setColumnHidden(place + 1, place not in block)
                view.setColumnWidth(place + 1, width)
            view.setColumnWidth(0, names)
            self._fit_height(view, row_height, too_wide=max(widths, default=0) > free)

    def _natural_widths(self) -> tuple[int, list[int]]:
        """The width of the names, and of each measure, in px."""
        for place in range(self.model.columnCount()):
            self.view.setColumnHidden(place, False)
        self.view.resizeColumnsToContents()
        widths = [self.view.columnWidth(place) + 8 for place in range(1, self.model.columnCount())]
        widest = int(self.width() * 0.35)
        return min(max(self.view.columnWidth(0), theme.scaled(120)), max(widest, 80)), widths

    def _fit_height(self, view: QTableView, row_height: int, *, too_wide: bool) -> None:
        view.verticalHeader().setMinimumSectionSize(1)
        view.verticalHeader().setDefaultSectionSize(row_height)
        rows = min(self.model.rowCount(), _MOST_ROWS)
        bar = view.horizontalScrollBar().sizeHint().height() if too_wide else 0
        view.setFixedHeight(view.horizontalHeader().sizeHint().height() + rows * row_height + bar + 2)

    def _add_view(self) -> QTableView:
        view = QTableView()
        view.setModel(self.model)
        view.setFrameShape(QFrame.Shape.NoFrame)
        view.setShowGrid(False)
        view.setWordWrap(True)
        view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        view.setTabKeyNavigation(False)
        view.verticalHeader().hide()
        view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        view.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        header = view.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        describe(view, f"Table of the result{', continued' if self.views else ''}", " ")
        for other in self.views:  # all blocks show the same rows
            view.verticalScrollBar().valueChanged.connect(other.verticalScrollBar().setValue)
            other.verticalScrollBar().valueChanged.connect(view.verticalScrollBar().setValue)
        self.views.append(view)
        self._column.addWidget(view)
        return view
