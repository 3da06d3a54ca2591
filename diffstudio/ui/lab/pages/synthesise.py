"""The page Synthetic data: generates labelled images without copies, and tests whether they help a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.synthesise.request import CADS_BY_DEFAULT, LEAST_SEEDS, RATIOS, problem_of_ratios
from diffstudio.studio.evaluations.views.synthesis import SynthesisView, read_synthesis
from diffstudio.studio.requests.limits import MOST_AUTOGUIDANCE, MOST_CADS
from diffstudio.ui.lab.fields import Field, NumberField, SwitchField, only_if
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
from diffstudio.ui.lab.subjects_field import SubjectsField
from diffstudio.ui.lab.text_field import TextField
from diffstudio.ui.widgets import terms
from diffstudio.ui.widgets.helpers import label
from diffstudio.ui.widgets.wrapping_text import WrappingText

MOST_OF_SLIDER = 5_000  # images
_CADS_STEP = 0.01


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


class TotalField(NumberField):
    """The number of images in all, unless a number for each class is set."""

    def __init__(self, per_class: NumberField) -> None:
        super().__init__("Images", "", 1, MOST_OF_SLIDER, value=200, tooltip="Number of images to generate in all")
        self._per_class = per_class
        only_if(per_class, lambda: not per_class.value(), (self,))

    def fill(self, rest: list[str]) -> None:
        if not self._per_class.value():
            super().fill(rest)


def make_form() -> LabForm:
    folder = real_folder_field("The folder the checkpoint was trained on")
    checkpoint = checkpoint_field()
    per_class = NumberField(
        "Images per class",
        "--per-class",
        0,
        MOST_OF_SLIDER,
        automatic="Off",
        tooltip="Number of images of each class or caption, instead of a number in all",
    )
    count = TotalField(per_class)
    prove = SwitchField(
        "Prove that they help",
        "--prove",
        tooltip="Train small classifiers on real images, on them with classic augmentation, and with synthetic images added, "
        "and compare their accuracy on held-out real images",
    )
    proof = (
        TextField(
            "Ratios",
            "--ratios",
            tooltip="Ratios of synthetic to real images to test, separated by commas",
            placeholder=f"Automatic: {', '.join(f'{ratio:g}' for ratio in RATIOS)}",
            check=problem_of_ratios,
        ),
        NumberField(
            "Classifiers",
            "--seeds",
            LEAST_SEEDS,
            20,
            tooltip="Classifiers of each kind to train for the proof: its seeds",
        ),
    )
    only_if(prove, lambda: bool(prove.arguments()), proof)
    return LabForm(
        (
            ("Images", (folder, checkpoint, count, per_class)),
            ("Variety", _variety_fields()),
            ("Proof", (prove, *proof)),
            ("Options", (features_field(), seed_field())),
        ),
        positional=(checkpoint, count, folder),
        name=name_of(folder),
    )


def _variety_fields() -> tuple[Field, ...]:
    cads = NumberField(
        terms.CADS,
        "--cads",
        -_CADS_STEP,
        MOST_CADS,
        automatic="Automatic",
        step=_CADS_STEP,
        decimals=2,
        tooltip="CADS scale: noise added to the condition, for more varied images; 0 turns it off. Automatic: "
        f"{CADS_BY_DEFAULT:g} with a class or caption",
    )
    autoguidance = SubjectsField(
        terms.AUTOGUIDANCE,
        "",
        tooltip="An earlier checkpoint of the same run to guide away from",
        flag="--autoguidance",
        folders=False,
        most=1,
    )
    scale = NumberField(
        "Autoguidance scale",
        "--autoguidance-scale",
        1,
        MOST_AUTOGUIDANCE,
        value=2.0,
        step=0.1,
        decimals=1,
        tooltip="How far to guide away from that checkpoint; 1 turns it off",
    )
    only_if(autoguidance, lambda: bool(autoguidance.subjects()), (scale,))
    return cads, autoguidance, scale


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
