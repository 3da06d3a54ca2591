"""The parts of a result: the table, plots, pairs of images, and the files that they are saved as."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QFileDialog, QMenu, QMessageBox, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.plots.figure import HEIGHT, WIDTH, Figure
from diffstudio.studio.evaluations.views.evaluation import read_evaluation
from diffstudio.studio.evaluations.views.tables import Cell, Column, Table, TableRow
from diffstudio.ui.lab.pages.evaluate import EvaluateView, read
from diffstudio.ui.lab.results.plot_view import PlotView
from diffstudio.ui.lab.results.saving import SaveButton
from diffstudio.ui.lab.results.table_view import TableView, divided
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from tests.ui import walk


@pytest.fixture
def view(qtbot: QtBot, dressed: QApplication, result: dict[str, Any], tmp_path: Path) -> EvaluateView:
    view = EvaluateView()
    qtbot.addWidget(view)
    view.resize(900, 900)
    view.show_result(read(JobFolder(tmp_path), result))
    view.show()
    qtbot.waitExposed(view)
    return view


def test_the_table_has_the_real_row_first_with_intervals(view: EvaluateView) -> None:
    model = view.table.model
    header = [model.headerData(column, Qt.Orientation.Horizontal) for column in range(model.columnCount())]
    assert header == ["Images", "Fréchet distance", "Precision", "Recall", "Copies"]
    assert [model.index(row, 0).data() for row in range(3)] == ["real images (training part)", "tiny", "made"]
    assert model.index(1, 1).data() == "0.600\n0.500 to 0.700"
    accessible = model.index(1, 1).data(Qt.ItemDataRole.AccessibleTextRole)
    assert accessible == "tiny: Fréchet distance 0.600, 95% interval 0.500 to 0.700"
    assert "Lower is better" in str(model.headerData(1, Qt.Orientation.Horizontal, Qt.ItemDataRole.ToolTipRole))
    assert model.index(0, 1).data(Qt.ItemDataRole.ForegroundRole) == theme.colour("dim")
    assert model.index(1, 1).data(Qt.ItemDataRole.ForegroundRole) is None
    assert model.headerData(0, Qt.Orientation.Vertical) is None and model.data(model.index(9, 9)) is None


def wide_table(rows: int) -> Table:
    columns = tuple(Column(f"c{place}", f"A measure {place}") for place in range(11))
    cells = tuple(Cell(0.5, 0.4, 0.6) for _ in columns)
    return Table("wide", "Wide", columns, tuple(TableRow(f"model {row}", cells) for row in range(rows)))


def shown_columns(table: TableView) -> list[list[int]]:
    return [
        [place for place in range(1, 12) if not block.isColumnHidden(place)]
        for block in table.views
        if block.isVisible()
    ]


@pytest.mark.parametrize(("width", "rows", "blocks"), [(1600, 3, 1), (860, 3, 2), (860, 20, 2), (440, 3, 6)])
def test_a_wide_table_is_continued_below_instead_of_scrolling_sideways(
    width: int, rows: int, blocks: int, qtbot: QtBot, dressed: QApplication
) -> None:
    table = TableView()
    qtbot.addWidget(table)
    table.resize(width, 400)
    table.show()
    qtbot.waitExposed(table)
    table.show_table(wide_table(rows))
    walk.settle()
    shown = shown_columns(table)
    assert sum(shown, []) == list(range(1, 12)) and len(shown) == blocks
    assert all(block.horizontalScrollBar().maximum() == 0 for block in table.views if block.isVisible())
    names = [block.accessibleName() for block in table.views[:blocks]]
    assert names == ["Table of the result", *["Table of the result, continued"] * (blocks - 1)]


def test_the_blocks_of_a_table_scroll_together_and_go_when_there_is_room(qtbot: QtBot, dressed: QApplication) -> None:
    table = TableView()
    qtbot.addWidget(table)
    table.resize(860, 400)
    table.show()
    qtbot.waitExposed(table)
    table.show_table(wide_table(20))
    walk.settle()
    first, second = table.views[:2]
    for one, other in ((first, second), (second, first)):
        one.verticalScrollBar().setValue(one.verticalScrollBar().maximum() // (1 if one is first else 2))
        assert other.verticalScrollBar().value() == one.verticalScrollBar().value() > 0
    table.resize(1800, 400)
    walk.settle()
    assert shown_columns(table) == [list(range(1, 12))]
    table.show_table(Table("none", "None", (), (TableRow("a", ()),)))
    assert divided(11, 4) == [range(0, 4), range(4, 8), range(8, 11)] and divided(2, 0) == [range(0, 1), range(1, 2)]


def test_every_measure_is_a_plot_with_error_bars(view: EvaluateView, qtbot: QtBot) -> None:
    plot = view.plot
    titles = [plot.choice.itemText(place) for place in range(plot.choice.count())]
    assert titles[:2] == ["Fréchet distance", "Precision"] and any("by noise level" in title for title in titles)
    description = plot.canvas.accessibleDescription()
    assert "tiny 0.6" in description and "made 0.7" in description
    before = plot.canvas.grab().toImage()
    plot.choice.set_value(2)
    plot.choice.chosen.emit(2)
    assert plot.canvas.grab().toImage() != before and plot.canvas.accessibleName() == "Recall"


def test_pairs_show_copies_first_and_say_how_close_they_are(view: EvaluateView, qtbot: QtBot) -> None:
    thumbnails = view.pairs.findChildren(ImageThumbnail)
    names = [one.accessibleName() for one in thumbnails]
    assert names == ["tiny: seed 3", "Training image a.png", "tiny: seed 4", "Training image b.png"]
    assert thumbnails[0].image().isNull() and not thumbnails[1].image().isNull()
    with qtbot.waitSignal(view.menu_requested):
        thumbnails[1].menu_requested.emit(thumbnails[1].target, thumbnails[1].pos())


def test_a_result_without_a_table_says_why(view: EvaluateView, result: dict[str, Any], tmp_path: Path) -> None:
    result |= {"rows": [], "problem": "There are too few images."}
    view.show_result(read(JobFolder(tmp_path), result))
    assert view.problem.isVisible() and view.problem.text() == "There are too few images."
    assert view.table.model.rowCount() == 2  # the tests for copies
    view.show_result(read(JobFolder(tmp_path), {}))
    assert view.table.isHidden() and view.diversity.isHidden() and view.plot.isHidden() and view.pairs.isHidden()


def saved(button: SaveButton, ending: str, target: Path) -> Path:
    """Choose a kind of file in the menu, and a place in the dialog."""
    button.click()
    menu = next(each for each in button.findChildren(QMenu) if each.isVisible())
    place = next(place for place, one in enumerate(button.files()) if one.name.endswith(ending))
    menu.actions()[place].trigger()
    menu.close()
    dialog = button.window().findChild(QFileDialog)
    assert isinstance(dialog, QFileDialog)
    dialog.fileSelected.emit(str(target))
    dialog.close()
    dialog.setParent(None)
    return target


def test_plots_and_tables_are_saved_as_files(view: EvaluateView, tmp_path: Path, qtbot: QtBot) -> None:
    with qtbot.waitSignal(view.message):
        picture = saved(view.plot.save, ".png", tmp_path / "plot.png")
    with Image.open(picture) as image:
        assert image.format == "PNG" and image.width > 600
    assert saved(view.plot.save, ".svg", tmp_path / "plot.svg").read_text().startswith("<svg")
    assert "tiny" in saved(view.plot.save, ".csv", tmp_path / "plot.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(saved(view.table.save, ".csv", tmp_path / "table.csv").read_text())))
    assert rows[1]["name"] == "tiny" and rows[1]["recall"] == "0.6" and rows[1]["recall_low"] == "0.5"
    table = json.loads(saved(view.table.save, ".json", tmp_path / "table.json").read_text())
    assert table["rows"][1]["recall"] == {"value": 0.6, "low": 0.5, "high": 0.7}


def test_a_file_is_replaced_only_after_a_question(view: EvaluateView, tmp_path: Path, qtbot: QtBot) -> None:
    target = tmp_path / "table.csv"
    target.write_text("mine")
    saved(view.table.save, ".csv", target)
    box = view.findChild(QMessageBox)
    assert isinstance(box, QMessageBox) and target.read_text() == "mine"
    next(button for button in box.buttons() if button.text() == "Replace").click()
    assert target.read_text() != "mine"
    with qtbot.waitSignal(view.message) as message:
        saved(view.table.save, ".csv", tmp_path / "no" / "such.csv")
    assert message.args[0] == "bad"


def test_an_empty_figure_is_painted_as_nothing(view: EvaluateView) -> None:
    view.plot.show_figures([Figure("a", "Nothing", "x", "y", ())])
    view.plot.canvas.grab()
    assert view.plot.canvas.accessibleDescription() == ""
    view.plot.show_figures([])
    assert view.plot.save.files() == ()


def test_long_plots_are_described_by_their_first_values(view: EvaluateView, result: dict[str, Any]) -> None:
    result["details"][0]["loss_gap_by_noise_level"] = [
        {"noise_level": 0.05 * level, "value": 1.0} for level in range(1, 20)
    ]
    figures = read_evaluation(JobFolder(Path("/")), result).figures
    view.plot.show_figures([figure for figure in figures if figure.name == "loss-gap"])
    assert view.plot.canvas.accessibleDescription().endswith("and 7 more")


@pytest.mark.parametrize(("width", "plot"), [(400, 376), (800, 776), (1400, 896)])
def test_a_plot_is_as_wide_as_there_is_room_and_never_cut_off(
    width: int, plot: int, qtbot: QtBot, dressed: QApplication
) -> None:
    view, contents = PlotView(), QWidget()
    column = QVBoxLayout(contents)
    column.setContentsMargins(12, 0, 12, 0)
    column.addWidget(view)
    column.addStretch(1)
    qtbot.addWidget(contents)
    view.show_figures([Figure("f", "Title", "x", "y", ())])
    contents.resize(width, 1000)
    contents.show()
    qtbot.waitExposed(contents)
    canvas = view.canvas
    assert (canvas.width(), canvas.height()) == (plot, round(plot * HEIGHT / WIDTH))
    assert canvas.y() <= view.choice.geometry().bottom() + 6
