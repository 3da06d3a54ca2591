"""The page Likelihood: bits per dimension of held-out and training images under a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.likelihood import LikelihoodView, read_likelihood
from diffstudio.ui.lab.fields import NumberField, SwitchField
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.options import checkpoint_field, folder_field, has_likelihood, name_of, seed_field
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.results.plot_view import PlotView
from diffstudio.ui.lab.results.result_view import HowToRead, ResultView, Sentences
from diffstudio.ui.lab.results.table_view import TableView
from diffstudio.ui.widgets.wrapping_text import WrappingText


def read(job: JobFolder, values: Mapping[str, Any]) -> LikelihoodView:
    return read_likelihood(job, values)


class LikelihoodResultView(ResultView):
    """The table of both parts, a plot of individual images for each method, the formulas, and how to read them."""

    def __init__(self) -> None:
        super().__init__()
        self.summary = WrappingText("", "dim")
        self.summary.setAccessibleName("Measured images")
        self.table, self.plot = TableView(), PlotView()
        self.how, self.formulas = HowToRead(), Sentences("Formulas")
        self.notes = Sentences("Notes", "warn")
        for part in (self.summary, self.table, self.how, self.plot, self.formulas, self.notes):
            self.column.addWidget(part)
        self.table.message.connect(self.message)
        self.plot.message.connect(self.message)

    def show_result(self, result: LikelihoodView) -> None:
        self.summary.set_text(result.summary)
        self.table.show_table(result.table)
        self.how.show_sentences([result.how_to_read])
        self.plot.show_figures(result.figures)
        self.formulas.show_sentences(result.formulas)
        self.notes.show_sentences(result.notes)


def make_form() -> LabForm:
    folder = folder_field("Folder of images", "The folder the checkpoint was trained on, or another one")
    checkpoint = checkpoint_field()
    count = NumberField(
        "Images per split", "--count", 1, 1000, value=64, tooltip="At most, of the held-out and of the training images"
    )
    probes = NumberField(
        "Probes",
        "--probes",
        1,
        50,
        value=5,
        tooltip="Random probes of the divergence, for a diffusion model: more are more accurate, and slower",
    )
    levels = NumberField(
        "Noise levels",
        "--levels",
        8,
        1000,
        value=64,
        tooltip="Noise levels of the variational bound, for a diffusion model",
    )
    draws = NumberField("Samples", "--draws", 1, 1000, value=64, tooltip="Latent samples for each image, for a VAE")
    bound = SwitchField("Bound only", "--bound-only", tooltip="Skip the probability flow, which takes most of the time")
    return LabForm(
        (("Images", (folder, checkpoint)), ("Options", (count, bound, probes, levels, draws, seed_field()))),
        positional=(checkpoint, folder),
        name=name_of(folder),
    )


PAGE = LabPage(
    "likelihood",
    "Likelihood",
    "gauge",
    "Measures the likelihood of images under a checkpoint in bits per dimension: a gap between held-out and training images "
    "shows memorisation.",
    "Measure",
    make_form,
    read,
    LikelihoodResultView,
    has_likelihood,
)
