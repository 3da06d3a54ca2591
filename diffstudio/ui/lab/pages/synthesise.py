"""The page Synthetic data: generates labelled images without copies, and tests whether they help a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.synthesise.request import LEAST_SEEDS
from diffstudio.studio.evaluations.views.synthesis import SynthesisView, read_synthesis
from diffstudio.ui.lab.fields import NumberField, SwitchField
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.options import (
    checkpoint_field,
    features_field,
    name_of,
    real_folder_field,
    seed_field,
    trained_here,
)
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.results.plot_view import PlotView
from diffstudio.ui.lab.results.result_view import HowToRead, ResultView, Sentences
from diffstudio.ui.lab.results.table_view import TableView
from diffstudio.ui.widgets.helpers import label
from diffstudio.ui.widgets.wrapping_text import WrappingText


def read(job: JobFolder, values: Mapping[str, Any]) -> SynthesisView:
    return read_synthesis(job, values)


class SynthesisResultView(ResultView):
    """The numbers of images, then the proof: a sentence, the table and plots."""

    def __init__(self) -> None:
        super().__init__()
        self.summary = WrappingText("", "text")
        self.summary.setAccessibleName("Generated images")
        self.problem = label("", "warn", wrap=True)
        self.verdict = Sentences("Do they help?", "text")
        self.table, self.plot = TableView(), PlotView()
        self.how, self.labels = HowToRead(), Sentences("Images of each class or caption")
        self.notes = Sentences("Notes", "warn")
        parts = (self.summary, self.problem, self.verdict, self.table, self.how, self.plot, self.labels, self.notes)
        for part in parts:
            self.column.addWidget(part)
        self.table.message.connect(self.message)
        self.plot.message.connect(self.message)

    def show_result(self, result: SynthesisView) -> None:
        self.summary.set_text(result.summary)
        self.problem.setText(result.problem)
        self.problem.setVisible(bool(result.problem))
        self.verdict.show_sentences([result.verdict])
        self.table.show_table(result.table)
        self.how.show_sentences([result.how_to_read])
        self.plot.show_figures(result.figures)
        self.labels.show_sentences(result.by_label)
        self.notes.show_sentences(result.notes)


def make_form() -> LabForm:
    folder = real_folder_field("The folder the checkpoint was trained on")
    checkpoint = checkpoint_field()
    count = NumberField("Images", "", 1, 5_000, value=200, tooltip="Number of images to generate in all")
    prove = SwitchField(
        "Prove that they help",
        "--prove",
        tooltip="Train small classifiers with and without the synthetic images, and compare their accuracy",
    )
    seeds = NumberField(
        "Classifiers", "--seeds", LEAST_SEEDS, 20, tooltip="Classifiers of each kind to train for the proof"
    )
    return LabForm(
        (("Images", (folder, checkpoint, count)), ("Options", (prove, seeds, features_field(), seed_field()))),
        positional=(checkpoint, count, folder),
        name=name_of(folder),
    )


PAGE = LabPage(
    "synthesise",
    "Synthetic data",
    "magic-wand",
    "Generates labelled images with a checkpoint, leaves out near-copies of training images, and tests whether the rest "
    "help a classifier.",
    "Synthesise",
    make_form,
    read,
    SynthesisResultView,
    trained_here,
)
