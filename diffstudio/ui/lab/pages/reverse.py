"""The page Reverse process: the steps from noise to an image as an animation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PySide6.QtWidgets import QHBoxLayout

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import FAMILIES, SAMPLER_NAMES
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.reverse import TITLES, FilmFrame, ReverseView, read_reverse
from diffstudio.studio.metadata.sampler_names import SPACING_LABELS
from diffstudio.studio.requests.choices import SpacingName
from diffstudio.ui.lab.fields import ChoiceField, NumberField
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.options import checkpoint_field, seed_field, size_fields
from diffstudio.ui.lab.page import UNDERSTAND, LabPage
from diffstudio.ui.lab.results.film_view import FilmView, ReadFrame
from diffstudio.ui.lab.results.plot_view import PlotView
from diffstudio.ui.lab.results.result_view import HowToRead, ResultView, Sentences
from diffstudio.ui.lab.results.saving import SaveButton, SavedFile
from diffstudio.ui.lab.text_field import TextField
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_reading import read_image
from diffstudio.ui.widgets.wrapping_text import WrappingText

AUTOMATIC = "Automatic: as the checkpoint recommends"
LARGEST = 512  # px of an image on the screen


@dataclass(frozen=True, slots=True)
class ReadFilm:
    view: ReverseView
    frames: tuple[ReadFrame, ...]


def read(job: JobFolder, values: Mapping[str, Any]) -> ReadFilm:
    view = read_reverse(job, values)
    frames = [_read(frame) for frame in view.frames]
    image = ImageTarget(view.image, read_image(view.image, LARGEST))
    if view.frames:
        frames.append(ReadFrame(dict(frames[-1].targets) | {"state": image, "estimate": image}, "Finished", ""))
    return ReadFilm(view, tuple(frames))


def _read(frame: FilmFrame) -> ReadFrame:
    targets = {part: ImageTarget(path, read_image(path, LARGEST)) for part, path in frame.files.items()}
    return ReadFrame(targets, frame.title, frame.text)


class ReverseResultView(ResultView):
    """The film with its slider, plots over its steps, and how to read it."""

    def __init__(self) -> None:
        super().__init__()
        self.summary = WrappingText("", "dim")
        self.summary.setAccessibleName("Recorded image")
        self.film, self.save = FilmView(TITLES), SaveButton("film")
        self.how, self.notes, self.plot = HowToRead(), Sentences("Notes"), PlotView()
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.summary, 1)
        top.addWidget(self.save)
        self.column.addLayout(top)
        for part in (self.film, self.how, self.plot, self.notes):
            self.column.addWidget(part)
        self.film.menu_requested.connect(self.menu_requested)
        self.save.message.connect(self.message)
        self.plot.message.connect(self.message)

    def show_result(self, result: ReadFilm) -> None:
        view = result.view
        self.summary.set_text(view.summary)
        self.film.show_frames(result.frames)
        self.how.show_sentences([view.how_to_read])
        self.plot.show_figures(view.figures)
        self.notes.show_sentences(view.notes)
        self.save.set_files(
            [
                SavedFile("Animation (GIF)", "reverse.gif", view.film_bytes),
                SavedFile("Frames (ZIP)", "reverse.zip", view.zipped),
            ]
        )


def make_form() -> LabForm:
    checkpoint = checkpoint_field()
    prompt = TextField("Prompt", "--prompt", tooltip="The prompt or the name of a class; without one the model chooses")
    negative = TextField("Negative prompt", "--negative", tooltip="What the image is guided away from")
    steps = NumberField("Steps", "--steps", 0, 100, automatic="Automatic", tooltip=AUTOMATIC)
    guidance = NumberField(
        "CFG scale",
        "--guidance",
        0,
        30,
        automatic="Automatic",
        step=0.5,
        decimals=1,
        tooltip=f"{AUTOMATIC}; 1 shows the model itself, without guidance",
    )
    sampler = ChoiceField(
        "Sampler", "--sampler", [("", "Automatic"), *((name, name) for name in SAMPLER_NAMES)], tooltip=AUTOMATIC
    )
    spacing = ChoiceField(
        "Scheduler",
        "--spacing",
        [
            ("", "Automatic"),
            *((str(name), title) for name, title in SPACING_LABELS.items() if name != SpacingName.CUSTOM),
        ],
        tooltip=f"How the noise levels of the steps are spaced. {AUTOMATIC}",
    )
    options = (seed_field(), steps, sampler, spacing, guidance, *size_fields())
    return LabForm(
        (("Image", (checkpoint, prompt, negative)), ("Options", options)),
        positional=(checkpoint,),
        name=lambda: prompt.value() or "film",
    )


def is_sampled_in_steps(checkpoint: Checkpoint) -> bool:
    family = FAMILIES.get(checkpoint.family)
    return checkpoint.can_generate and family is not None and not family.text_only


PAGE = LabPage(
    "reverse",
    "Reverse process",
    "film-strip",
    "Shows how an image is generated from noise: at each step the state, the estimate of the clean image, the noise and "
    "the score.",
    "Record",
    make_form,
    read,
    ReverseResultView,
    is_sampled_in_steps,
    section=UNDERSTAND,
)
