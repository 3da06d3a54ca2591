"""The page Compare: a diffusion model, a VAE and a GAN, trained on one folder for the same time and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices

from diffstudio.studio.evaluations.compare.request import MODELS, TITLES
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.comparison import ComparisonView, read_comparison_view
from diffstudio.ui.lab.fields import NumberField, SeveralField
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.options import count_field, features_field, folder_field, name_of, seed_field, trained_here
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.results.grids_view import GridsView, ReadGrid, read_grids
from diffstudio.ui.lab.results.pairs_view import PairsView, ReadPair, read_pairs
from diffstudio.ui.lab.results.plot_view import PlotView
from diffstudio.ui.lab.results.result_view import HowToRead, ResultView, Sentences
from diffstudio.ui.lab.results.table_view import TableView
from diffstudio.ui.lab.results.verdicts_view import VerdictsView
from diffstudio.ui.lab.subjects_field import SubjectsField
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.formatting import human_duration
from diffstudio.ui.widgets.helpers import label
from diffstudio.ui.widgets.images.copy_and_drag import not_shown
from diffstudio.ui.widgets.wrapping_text import WrappingText

_SHOW_SEEDS, _HIDE_SEEDS = "Show each seed", "Hide each seed"


@dataclass(frozen=True)
class ComparisonResult:
    view: ComparisonView
    grids: list[ReadGrid]
    pairs: list[ReadPair]


def read(job: JobFolder, values: Mapping[str, Any]) -> ComparisonResult:
    view = read_comparison_view(job, values)
    return ComparisonResult(view, read_grids(view.grids), read_pairs(view.pairs))


class CompareView(ResultView):
    """The verdicts on each model with their evidence, then the tables, samples, plots and the closest pairs."""

    def __init__(self) -> None:
        super().__init__()
        self._page: Path | None = None
        self.summary = WrappingText("", "dim")
        self.summary.setAccessibleName("Compared models")
        self.problem = label("", "warn", wrap=True)
        self.verdicts = VerdictsView()
        self.table, self.grids, self.plot, self.pairs = TableView(), GridsView(), PlotView(), PairsView()
        self.seeds = TableView()
        self.show_seeds = SecondaryButton(_SHOW_SEEDS, tooltip="A table of each seed with its own 95% intervals")
        self.how, self.likelihoods = HowToRead(), Sentences("Bits per dimension")
        self.notes = Sentences("Notes", "warn")
        self.open_page = SecondaryButton("Open in browser", "globe", "Open the whole comparison in the web browser")
        self.column.addWidget(self.summary)
        self.column.addWidget(self.open_page, 0, Qt.AlignmentFlag.AlignLeft)
        parts = (self.problem, self.verdicts, self.table, self.seeds, self.how, self.grids, self.plot, self.pairs)
        for part in (*parts, self.likelihoods, self.notes):
            self.column.addWidget(part)
        below_table = self.column.indexOf(self.table) + 1
        self.column.insertWidget(below_table, self.show_seeds, 0, Qt.AlignmentFlag.AlignLeft)
        self.open_page.clicked.connect(self._open)
        self.show_seeds.clicked.connect(lambda: self._show_seeds(self.seeds.isHidden()))
        for part in (self.table, self.seeds, self.plot):
            part.message.connect(self.message)
        for shown in (self.grids, self.pairs):
            shown.menu_requested.connect(self.menu_requested)

    def show_result(self, result: ComparisonResult) -> None:
        view = result.view
        self.summary.set_text(view.summary)
        self.problem.setText(view.problem)
        self.problem.setVisible(bool(view.problem))
        self.verdicts.show_verdicts(view.verdicts)
        self.table.show_table(view.table)
        self.seeds.show_table(view.seeds)
        self._show_seeds(False)
        self.show_seeds.setVisible(bool(view.seeds.rows))
        self.how.show_sentences([view.how_to_read])
        self.grids.show_grids(result.grids)
        self.plot.show_figures(view.figures)
        self.pairs.show_pairs(result.pairs)
        self.likelihoods.show_sentences(view.likelihoods)
        self.notes.show_sentences(view.notes)
        self._page = view.page
        self.open_page.setVisible(view.page is not None)

    def _show_seeds(self, shown: bool) -> None:
        self.seeds.setVisible(shown)
        self.show_seeds.setText(_HIDE_SEEDS if shown else _SHOW_SEEDS)
        self.show_seeds.setAccessibleName(self.show_seeds.text())

    def _open(self) -> None:
        if self._page is not None and not QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._page))):
            self.message.emit("warn", not_shown(self._page))


class ModelsField(SeveralField):
    """The kinds of models to train; none only if there is something else to compare."""

    def __init__(self, others: SubjectsField) -> None:
        super().__init__(
            "Models",
            "--models",
            [(name, TITLES[name]) for name in MODELS],
            tooltip="The kinds of models to train",
            none="none",
        )
        self._others = others

    def problem(self) -> str:
        nothing = not self.value() and not self._others.subjects()
        return "Choose a model to train, or add a checkpoint or a folder to compare" if nothing else ""


def make_form() -> LabForm:
    folder = folder_field("Folder of images", "The images to train on; part of them are held out")
    others = SubjectsField(
        "Also compare", "", tooltip="Checkpoints and folders of generated images to add to the table", flag="--with"
    )
    models = ModelsField(others)
    minutes = NumberField(
        "Training time",
        "--minutes",
        1,
        240,
        value=10,
        suffix=" min",
        always=True,
        tooltip="Minutes for each model and seed",
    )
    seeds = NumberField(
        "Seeds", "--seeds", 1, 10, value=3, tooltip="Runs of each model; they show how much its results vary"
    )
    options = (count_field("Images per model"), features_field(), seed_field())
    return LabForm(
        (("Training", (folder, models, minutes, seeds)), ("Others", (others,)), ("Options", options)),
        positional=(folder,),
        name=name_of(folder),
        about=partial(_total, models, minutes, seeds),
    )


def _total(models: SeveralField, minutes: NumberField, seeds: NumberField) -> str:
    """A sentence about the total training time."""
    runs = len(models.value()) * int(seeds.value())
    if not runs:
        return "Trains nothing, and only evaluates what was added."
    total = human_duration(60 * runs * minutes.value())
    return f"Trains {runs:,} run{'s' if runs > 1 else ''}: {total} in all, plus the evaluation."


PAGE = LabPage(
    "compare",
    "Compare",
    "scales",
    "Shows which kind of model suits a folder: trains each for the same time, and compares their images.",
    "Compare",
    make_form,
    read,
    CompareView,
    trained_here,
)
