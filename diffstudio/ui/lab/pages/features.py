"""The page Representations: the features of a denoiser by layer and noise level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.studio.evaluations.features.request import HIGHEST_LEVEL, LEVELS, LOWEST_LEVEL, MOST_LEVELS, MOST_PARTS
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.features import FeaturesView, read_features
from diffstudio.ui.lab.fields import NumberField
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.options import folder_field, name_of, seed_field
from diffstudio.ui.lab.page import UNDERSTAND, LabPage
from diffstudio.ui.lab.results.plot_view import PlotView
from diffstudio.ui.lab.results.result_view import HowToRead, ResultView, Sentences
from diffstudio.ui.lab.results.table_view import TableView
from diffstudio.ui.lab.subjects_field import SubjectsField
from diffstudio.ui.lab.text_field import TextField
from diffstudio.ui.widgets.wrapping_text import WrappingText


def read(job: JobFolder, values: Mapping[str, Any]) -> FeaturesView:
    return read_features(job, values)


def has_blocks(checkpoint: Checkpoint) -> bool:
    return checkpoint.can_generate and checkpoint.family != "diffusers" and not FAMILIES[checkpoint.family].one_call


class FeaturesResultView(ResultView):
    """Whether the features beat raw pixels, the heat map of all layers and noise levels, and what was exported."""

    def __init__(self) -> None:
        super().__init__()
        self.summary = WrappingText("", "dim")
        self.summary.setAccessibleName("Measured images")
        self.verdict = Sentences("Verdict", "text")
        self.plot, self.table = PlotView("heat map"), TableView()
        self.how, self.exported = HowToRead(), Sentences("Exported", "text")
        self.notes = Sentences("Notes", "warn")
        for part in (self.summary, self.verdict, self.plot, self.table, self.how, self.exported, self.notes):
            self.column.addWidget(part)
        self.table.message.connect(self.message)
        self.plot.message.connect(self.message)

    def show_result(self, result: FeaturesView) -> None:
        self.summary.set_text(result.summary)
        self.verdict.show_sentences([result.verdict])
        self.plot.show_figures(result.plots)
        self.table.show_table(result.table)
        self.how.show_sentences([result.how_to_read])
        self.exported.show_sentences([result.exported])
        self.notes.show_sentences(result.notes)


def _why_not(levels: str) -> str:
    """Why a text is no list of noise levels; empty if it is one."""
    try:
        values = [float(level) for level in levels.split(",")]
    except ValueError:
        values = []
    usable = 0 < len(values) <= MOST_LEVELS and all(LOWEST_LEVEL <= level <= HIGHEST_LEVEL for level in values)
    return "" if usable else f"Write noise levels from {LOWEST_LEVEL:g} to {HIGHEST_LEVEL:g}, separated by commas"


class LevelField(NumberField):
    """The noise level whose features are exported: one of those that are measured."""

    def __init__(self, levels: TextField) -> None:
        super().__init__(
            "Level",
            "--level",
            0,
            HIGHEST_LEVEL,
            automatic="The best",
            step=0.001,
            decimals=3,
            tooltip="Export the features at this noise level, one of those above",
        )
        self._levels = levels

    def problem(self) -> str:
        text = self._levels.value()
        measured = LEVELS if not text.strip() else [float(level) for level in text.split(",")]
        if not self.value() or self.value() in measured:
            return ""
        return f"Level: choose one of {', '.join(f'{level:g}' for level in measured)}, or the best"


def make_form() -> LabForm:
    folder = folder_field(
        "Folder of images", "Images in a subfolder for each class; without classes, features are only exported"
    )
    checkpoint = SubjectsField(
        "Checkpoint",
        "Choose a checkpoint",
        tooltip="A diffusion model of any family",
        folders=False,
        most=1,
        none="No checkpoint fits",
    )
    levels = TextField(
        "Noise levels",
        "--levels",
        tooltip="Shares of the noise schedule, from 0.001 to 1, separated by commas",
        placeholder=",".join(f"{level:g}" for level in LEVELS),
        check=_why_not,
    )
    count = NumberField(
        "Images", "--count", 10, 20_000, value=2_000, tooltip="Images at most, evenly spaced over the folder"
    )
    pool = NumberField(
        "Patches per side",
        "--pool",
        1,
        MOST_PARTS,
        value=1,
        tooltip="1 averages a feature over the whole image; 2 over each quarter, which keeps where things are",
    )
    layer = TextField(
        "Layer", "--layer", tooltip="Export the features of this layer, as the result names it", placeholder="The best"
    )
    exported = (layer, LevelField(levels))
    return LabForm(
        (("Images", (folder, checkpoint)), ("Options", (levels, pool, count, seed_field())), ("Export", exported)),
        positional=(checkpoint, folder),
        name=name_of(folder),
    )


PAGE = LabPage(
    "features",
    "Representations",
    "stack",
    "Shows the representations of a denoiser: how well its features separate classes, for every layer and noise level.",
    "Compute features",
    make_form,
    read,
    FeaturesResultView,
    has_blocks,
    UNDERSTAND,
)
