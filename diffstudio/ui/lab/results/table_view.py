"""TableView: a table of numbers with intervals; the reference row comes first, in its own colour."""

from __future__ import annotations

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
                interval = f", 95 % interval {cell.interval()}" if cell is not None and cell.interval() else ""
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


class TableView(QWidget):
    """The table with its title and a save button."""

    message = Signal(str, str)  # kind, text

    def __init__(self) -> None:
        super().__init__()
        self.model = TableModel()
        self.heading = SectionLabel("Table")
        self.save = SaveButton("table")
        self.view = QTableView()
        self.view.setModel(self.model)
        self.view.setFrameShape(QFrame.Shape.NoFrame)
        self.view.setShowGrid(False)
        self.view.setWordWrap(True)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.view.setTabKeyNavigation(False)
        self.view.verticalHeader().hide()
        self.view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.view.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        header = self.view.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        describe(self.view, "Table of the result", " ")
        top = QHBoxLayout()
        top.addWidget(self.heading, 1)
        top.addWidget(self.save)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(self.view)
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
        """Fit rows to two lines, columns to their texts, and the height to the number of rows up to a limit."""
        metrics = QFontMetrics(theme.font())
        row_height = _ROW_LINES * metrics.lineSpacing() + 12
        vertical = self.view.verticalHeader()
        vertical.setMinimumSectionSize(1)
        vertical.setDefaultSectionSize(row_height)
        self.view.resizeColumnsToContents()
        for place in range(1, self.model.columnCount()):
            self.view.setColumnWidth(place, self.view.columnWidth(place) + 8)
        widest = int(self.width() * 0.35)
        self.view.setColumnWidth(0, min(max(self.view.columnWidth(0), theme.scaled(120)), max(widest, 80)))
        rows = min(self.model.rowCount(), _MOST_ROWS)
        bar = self.view.horizontalScrollBar().sizeHint().height()
        self.view.setFixedHeight(self.view.horizontalHeader().sizeHint().height() + rows * row_height + bar + 2)
