"""The page Anomalies: finds the images of a folder that are unlike normal ones, to accept or reject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffstudio.errors import CHOOSE_IMAGE_FOLDER
from diffstudio.studio.evaluations.anomalies.request import AUTO, MOST_DRAWS
from diffstudio.studio.evaluations.anomalies.result import TITLES
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.anomalies import AnomaliesView, read_anomalies
from diffstudio.ui.lab.fields import ChoiceField, NumberField, only_if
from diffstudio.ui.lab.folder_field import FolderField
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.options import folder_field, has_denoising_error, name_of, seed_field
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.results.decisions_view import DecisionsView
from diffstudio.ui.lab.results.plot_view import PlotView
from diffstudio.ui.lab.results.result_view import HowToRead, ResultView, Sentences
from diffstudio.ui.lab.results.table_view import TableView
from diffstudio.ui.lab.subjects_field import SubjectsField
from diffstudio.ui.widgets.wrapping_text import WrappingText


def read(job: JobFolder, values: Mapping[str, Any]) -> AnomaliesView:
    return read_anomalies(job, values)


class AnomaliesResultView(ResultView):
    """The images, most anomalous first, with Accept and Reject; then the detectors, and how to read the result."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: AnomaliesView | None = None
        self.summary = WrappingText("", "dim")
        self.summary.setAccessibleName("Searched images")
        self.decisions = DecisionsView()
        self.why = Sentences("Detector used", "text")
        self.table, self.plot, self.how = TableView(), PlotView(), HowToRead()
        self.suspicious = Sentences("Held-out normal images that look anomalous", "warn")
        self.notes = Sentences("Notes", "warn")
        parts = (self.summary, self.decisions, self.how, self.why, self.table, self.plot, self.suspicious, self.notes)
        for part in parts:
            self.column.addWidget(part)
        for source in (self.decisions, self.table, self.plot):
            source.message.connect(self.message)
        self.decisions.menu_requested.connect(self.menu_requested)
        self.decisions.rate_changed.connect(self._draw)

    def show_result(self, result: AnomaliesView) -> None:
        self._shown = result
        self.summary.set_text(result.summary)
        self.decisions.show_view(result)
        self.why.show_sentences([result.result.why])
        self.table.show_table(result.table)
        self.how.show_sentences([result.how_to_read])
        self.suspicious.show_sentences(result.suspicious)
        self.notes.show_sentences(result.notes)
        self._draw(result.result.false_alarm)

    def shut_down(self) -> None:
        self.decisions.shut_down()

    def _draw(self, rate: float) -> None:
        if self._shown is not None:
            self.plot.show_figures(self._shown.figures_at(rate))


class SearchedField(FolderField):
    """The folder to search, which must not be one of the normal images."""

    def __init__(self, normals: FolderField) -> None:
        super().__init__(
            "Folder to search", CHOOSE_IMAGE_FOLDER, tooltip="Each of its images gets a score and a heat map"
        )
        self._normals = normals

    def problem(self) -> str:
        normals, folder = self._normals.folder(), self.folder()
        if normals is None or folder is None or not folder.absolute().is_relative_to(normals.absolute()):
            return super().problem()
        return f"The images of {folder.name} are normal images: choose another folder to search"


class TrainingField(NumberField):
    """Minutes of training on the normal images; not needed with a checkpoint."""

    def __init__(self, checkpoint: SubjectsField) -> None:
        super().__init__(
            "Train a model first",
            "--minutes",
            0,
            240,
            automatic="No",
            decimals=1,
            suffix=" min",
            tooltip="Minutes to first train a model on the normal images, to score by denoising errors and likelihoods too",
        )
        self._checkpoint = checkpoint

    def problem(self) -> str:
        both = self.value() > 0 and self._checkpoint.subjects()
        return "Remove the checkpoint, or do not train a model first" if both else ""


def make_form() -> LabForm:
    normals = folder_field(
        "Folder of normal images", "The images to compare with; part of them are held out for calibration"
    )
    folder = SearchedField(normals)
    checkpoint = SubjectsField(
        "Checkpoint of the normal images",
        "",
        tooltip="A diffusion model that was trained on the normal images; without one, only distances are used",
        folders=False,
        most=1,
    )
    rate = NumberField(
        "False-alarm rate",
        "--false-alarm",
        0,
        0.5,
        automatic="Automatic",
        step=0.01,
        decimals=3,
        tooltip="The share of normal images that may be called anomalous; automatic: 0.05, or the lowest above it "
        "that the normal images support",
    )
    draws = NumberField(
        "Noise samples", "--draws", 1, MOST_DRAWS, value=8, tooltip="Noise samples at each noise level, with a model"
    )
    detector = ChoiceField(
        "Detector",
        "--detector",
        (
            (AUTO, "Automatic: the best on drawn defects"),
            *((name, title.capitalize()) for name, title in TITLES.items()),
        ),
        tooltip="The score that decides which images are anomalous; all others are listed too",
    )
    training = TrainingField(checkpoint)
    for source in (checkpoint, training):
        only_if(source, lambda: bool(checkpoint.subjects()) or training.value() > 0, (draws,))
    return LabForm(
        (
            ("Images", (normals, folder)),
            ("Model", (checkpoint, training)),
            ("Options", (rate, detector, draws, seed_field())),
        ),
        positional=(checkpoint, normals, folder),
        name=name_of(folder),
    )


PAGE = LabPage(
    "anomalies",
    "Anomalies",
    "magnifying-glass",
    "Finds the images of a folder that are unlike normal ones, and where they differ: most anomalous first, with heat maps.",
    "Search",
    make_form,
    read,
    AnomaliesResultView,
    has_denoising_error,
)
