"""The page Evaluate: compares checkpoints and folders of generated images with a folder of real images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.evaluation import EvaluationView, read_evaluation
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.options import count_field, features_field, name_of, real_folder_field, seed_field, trained_here
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.results.pairs_view import PairsView, ReadPair, read_pairs
from diffstudio.ui.lab.results.plot_view import PlotView
from diffstudio.ui.lab.results.result_view import HowToRead, ResultView, Sentences
from diffstudio.ui.lab.results.table_view import TableView
from diffstudio.ui.lab.subjects_field import SubjectsField
from diffstudio.ui.widgets.helpers import label
from diffstudio.ui.widgets.wrapping_text import WrappingText


@dataclass(frozen=True)
class EvaluationResult:
    view: EvaluationView
    pairs: list[ReadPair]


def read(job: JobFolder, values: Mapping[str, Any]) -> EvaluationResult:
    view = read_evaluation(job, values)
    return EvaluationResult(view, read_pairs(view.pairs))


class EvaluateView(ResultView):
    """The table, a plot of each measure with intervals, the closest pairs, and how to read them."""

    def __init__(self) -> None:
        super().__init__()
        self.summary = WrappingText("", "dim")
        self.summary.setAccessibleName("Measured images")
        self.problem = label("", "warn", wrap=True)
        self.table, self.diversity = TableView(), TableView()
        self.plot, self.pairs = PlotView(), PairsView()
        self.how = HowToRead()
        self.findings, self.notes = Sentences("Findings"), Sentences("Notes", "warn")
        for part in (
            self.summary,
            self.problem,
            self.table,
            self.diversity,
            self.how,
            self.plot,
            self.pairs,
            self.findings,
            self.notes,
        ):
            self.column.addWidget(part)
        for table in (self.table, self.diversity):
            table.message.connect(self.message)
        self.plot.message.connect(self.message)
        self.pairs.menu_requested.connect(self.menu_requested)

    def show_result(self, result: EvaluationResult) -> None:
        view = result.view
        self.summary.set_text(view.summary)
        self.problem.setText(view.problem)
        self.problem.setVisible(bool(view.problem))
        self.table.show_table(view.table)
        self.diversity.show_table(view.diversity)
        self.plot.show_figures(view.figures)
        self.pairs.show_pairs(result.pairs)
        self.how.show_sentences([view.how_to_read])
        self.findings.show_sentences(view.findings)
        self.notes.show_sentences(view.notes)


def make_form() -> LabForm:
    folder = real_folder_field(
        "The images that the checkpoints were trained on; generated images are compared with them"
    )
    subjects = SubjectsField(
        "Checkpoints and generated images",
        "Add a checkpoint or a folder of generated images",
        tooltip="The checkpoints trained here and folders of generated images to measure",
    )
    options = (count_field("Images per checkpoint"), features_field(), seed_field())
    return LabForm(
        (("Images", (folder, subjects)), ("Options", options)), positional=(subjects, folder), name=name_of(folder)
    )


PAGE = LabPage(
    "evaluate",
    "Evaluate",
    "ruler",
    "Measures how realistic, diverse and original generated images are, compared with a folder of real images.",
    "Evaluate",
    make_form,
    read,
    EvaluateView,
    trained_here,
)
