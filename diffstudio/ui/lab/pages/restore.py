"""The page Restore: images denoised, deblurred, inpainted or enlarged, from the mean of all that fit to one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import DDPM, PIXEL
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.restore.request import RestoreTask
from diffstudio.studio.evaluations.views.restore import RestoredFiles, RestoreView, read_restore
from diffstudio.ui.lab.fields import ChoiceField, Field, NumberField, SwitchField
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.image_fields import ImagesField
from diffstudio.ui.lab.options import checkpoint_field, seed_field
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.results.before_after import BeforeAfter
from diffstudio.ui.lab.results.result_view import HowToRead, ResultView, Sentences
from diffstudio.ui.lab.results.saving import SaveButton, SavedFile
from diffstudio.ui.lab.text_field import TextField
from diffstudio.ui.widgets.helpers import ElidedLabel
from diffstudio.ui.widgets.images.image_reading import read_image
from diffstudio.ui.widgets.inputs.combo_box import ComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from diffstudio.ui.widgets.wrapping_text import WrappingText

FROM_MEAN_TO_SAMPLE = "From mean to sample"
LARGEST = 1024  # px of an image on the screen; files are saved whole
TASKS = (
    (RestoreTask.DENOISE.value, "Denoise"),
    (RestoreTask.DEBLUR.value, "Deblur"),
    (RestoreTask.INPAINT.value, "Inpaint"),
    (RestoreTask.SUPER_RESOLUTION.value, "Super-resolution"),
)


@dataclass(frozen=True, slots=True)
class ReadImage:
    """The images of one file; null where one cannot be read or was left out."""

    files: RestoredFiles
    before: QImage
    mean: QImage
    sample: QImage


@dataclass(frozen=True, slots=True)
class ReadResult:
    view: RestoreView
    images: tuple[ReadImage, ...]


def read(job: JobFolder, values: Mapping[str, Any]) -> ReadResult:
    view = read_restore(job, values)
    return ReadResult(
        view,
        tuple(
            ReadImage(
                files,
                read_image(files.before, LARGEST),
                read_image(files.mean, LARGEST),
                read_image(files.sample, LARGEST) if files.sample is not None else QImage(),
            )
            for files in view.images
        ),
    )


class RestoreResultView(ResultView):
    """One image at a time, before and after, with the slider from the mean to the sample."""

    def __init__(self) -> None:
        super().__init__()
        self._images: tuple[ReadImage, ...] = ()
        self.summary = WrappingText("", "dim")
        self.summary.setAccessibleName("Restored images")
        self.choice = ComboBox("Image", (), "The image to show")
        self.save = SaveButton("restored image")
        self.compared = BeforeAfter()
        self.slider = LabelledSlider(
            FROM_MEAN_TO_SAMPLE,
            0,
            100,
            0,
            suffix="%",
            tooltip="0% is the posterior mean, with the lowest error; 100% is a posterior sample, with more detail",
        )
        self.about = ElidedLabel("", "dim", mode=Qt.TextElideMode.ElideRight)
        self.how, self.notes = HowToRead(), Sentences("Notes", "warn")
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.choice, 1)
        top.addWidget(self.save)
        self.column.addWidget(self.summary)
        self.column.addLayout(top)
        for part in (self.slider, self.compared, self.about, self.how, self.notes):
            self.column.addWidget(part)
        self.choice.chosen.connect(lambda _: self._show())
        self.slider.value_changed.connect(self._slid)
        self.save.message.connect(self.message)
        self.compared.menu_requested.connect(self.menu_requested)

    def show_result(self, result: ReadResult) -> None:
        self._images = result.images
        self.summary.set_text(result.view.summary)
        self.choice.set_choices([(place, one.files.name) for place, one in enumerate(result.images)])
        self.choice.set_value(0)
        self.slider.set_value(100 * result.view.share)
        self.how.show_sentences([result.view.how_to_read])
        self.notes.show_sentences(result.view.notes)
        self._show()

    def share(self) -> float:
        return self.slider.value() / 100

    def _show(self) -> None:
        place = self.choice.value()
        if place is None:
            return
        one = self._images[place]
        self.compared.show_images(one.before, one.mean, one.sample)
        self.slider.setVisible(one.files.sample is not None)
        gone = "" if not one.before.isNull() else ". The original image no longer exists"
        self.about.setText(f"{one.files.text}{gone}")
        self._slid()

    def _slid(self) -> None:
        if self.choice.value() is None:  # a result without images
            return
        files = self._images[self.choice.value()].files
        share = self.share() if files.sample is not None else 0.0
        self.compared.set_share(share)
        name = f"{files.name}-restored.png"
        self.save.set_files([SavedFile("Image (PNG)", name, partial(files.png, share))])


def _sampling_fields() -> tuple[NumberField, NumberField, NumberField, SwitchField]:
    """How often and how long is sampled, and how much of a sample the restored files have."""
    draws = NumberField(
        "Draws",
        "--draws",
        1,
        32,
        value=4,
        tooltip="Samples to average for the mean: more are more accurate, and slower",
    )
    steps = NumberField("Steps", "--steps", 2, 100, value=20, tooltip="Network calls for each sample")
    share = NumberField(
        FROM_MEAN_TO_SAMPLE,
        "--share",
        0,
        1,
        step=0.05,
        decimals=2,
        tooltip="Share of the sample in the restored files: 0 is the posterior mean, 1 a sample; the result shows both",
    )
    mean_only = SwitchField("Mean only", "--mean-only", tooltip="Skip the sample, which takes most of the time")
    return draws, steps, share, mean_only


class RestoreForm(LabForm):
    """Shows the fields of the chosen task only; those of others are not arguments."""

    def __init__(self) -> None:
        images = ImagesField("Images", "Choose an image or a folder of images", tooltip="The images to restore")
        checkpoint = checkpoint_field()
        task = ChoiceField("Task", "--task", TASKS, tooltip="The kind of restoration")
        noise = NumberField(
            "Noise",
            "--noise",
            0,
            128,
            automatic="Automatic",
            tooltip="Standard deviation in levels of 255; automatic: estimated for Denoise and Deblur, otherwise only rounding",
        )
        blur = NumberField(
            "Blur", "--blur", 0.2, 10, value=1.5, step=0.1, decimals=1, suffix=" px",
            tooltip="Standard deviation of the Gaussian that blurred the images",
        )  # fmt: skip
        scale = NumberField("Scale", "--scale", 2, 8, value=2, tooltip="Factor of width and height")
        prompt = TextField(
            "Prompt",
            "--prompt",
            tooltip="A prompt or the name of a class that fits the images; without one, the model uses the image alone",
        )
        mask = ImagesField(
            "Mask",
            "",
            flag="--mask",
            optional=True,
            tooltip="White where an image is filled, or a folder of masks with the images' names; none: transparent pixels",
        )
        draws, steps, share, mean_only = _sampling_fields()
        only_of: dict[Field, tuple[str, ...]] = {
            blur: (RestoreTask.DEBLUR,),
            scale: (RestoreTask.SUPER_RESOLUTION,),
            mask: (RestoreTask.INPAINT,),
            mean_only: (RestoreTask.DENOISE,),
            draws: (RestoreTask.DEBLUR, RestoreTask.INPAINT, RestoreTask.SUPER_RESOLUTION),
        }
        super().__init__(
            (
                ("Images", (images, checkpoint, task, mask, prompt)),
                ("Options", (noise, blur, scale, share, mean_only, draws, steps, seed_field())),
            ),
            positional=(checkpoint, images),
            name=self._job_name,
        )
        self.images, self.task, self.mask_field, self._only_of = images, task, mask, only_of
        task.changed.connect(self._show_fields)
        self._show_fields()

    def arguments(self) -> list[str]:
        left_out = (*self._positional, *self._hidden())
        flagged = [field for field in self.fields if field not in left_out]
        return [argument for field in (*self._positional, *flagged) for argument in field.arguments()]

    def fill(self, arguments: Any) -> None:
        super().fill(arguments)
        self._show_fields()

    def chosen_task(self) -> str:
        return str(self.task.combo.value())

    def _hidden(self) -> list[Field]:
        return [field for field, tasks in self._only_of.items() if self.chosen_task() not in tasks]

    def _show_fields(self) -> None:
        for field, tasks in self._only_of.items():
            field.setVisible(self.chosen_task() in tasks)

    def _job_name(self) -> str:
        chosen = self.images.folder()
        return f"{dict(TASKS)[self.chosen_task()]} {chosen.stem}" if chosen is not None else ""


def restores(checkpoint: Checkpoint) -> bool:
    return checkpoint.family in (PIXEL.name, DDPM) and checkpoint.can_generate


PAGE = LabPage(
    "restore",
    "Restore",
    "first-aid-kit",
    "Restores images with a diffusion model of pixels, such as one that was trained here: removes noise and blur, fills "
    "holes and enlarges, from the posterior mean to a posterior sample.",
    "Restore",
    RestoreForm,
    read,
    RestoreResultView,
    restores,
)
