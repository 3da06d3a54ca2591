"""Fields that several pages share."""

from __future__ import annotations

from collections.abc import Callable

from diffstudio.errors import CHOOSE_IMAGE_FOLDER
from diffstudio.evaluation.report import FEWEST
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import PIXEL, VAE, is_trained_here
from diffstudio.studio.evaluations.request import AUTO, FOLDER, IMAGENET
from diffstudio.studio.requests.limits import LARGEST_SIDE
from diffstudio.ui.lab.fields import ChoiceField, NumberField
from diffstudio.ui.lab.folder_field import FolderField
from diffstudio.ui.lab.subjects_field import SubjectsField

MOST_IMAGES = 5_000  # upper end of the slider
FEATURES = (
    (AUTO, "Automatic"),
    (IMAGENET, "ImageNet (EfficientNet-Lite0)"),
    (FOLDER, "Trained on the folder"),
    ("inception", "Inception, from your model folders"),
    ("dinov2", "DINOv2, from your model folders"),
    ("clip", "CLIP, from your model folders"),
)


def trained_here(checkpoint: Checkpoint) -> bool:
    return is_trained_here(checkpoint.family) and checkpoint.can_generate


def has_denoising_error(checkpoint: Checkpoint) -> bool:
    return checkpoint.family == PIXEL.name and checkpoint.can_generate


def has_likelihood(checkpoint: Checkpoint) -> bool:
    return checkpoint.family in (PIXEL.name, VAE) and checkpoint.can_generate


def checkpoint_field() -> SubjectsField:
    return SubjectsField(
        "Checkpoint", "Choose a checkpoint", tooltip="A checkpoint that was trained here", folders=False, most=1
    )


def real_folder_field(tooltip: str) -> FolderField:
    return folder_field("Folder of real images", tooltip)


def folder_field(text: str, tooltip: str) -> FolderField:
    return FolderField(text, CHOOSE_IMAGE_FOLDER, tooltip=tooltip)


def name_of(folder: FolderField) -> Callable[[], str]:
    """A function that names a job after its folder."""

    def name() -> str:
        chosen = folder.folder()
        return chosen.name if chosen is not None else ""

    return name


def count_field(text: str) -> NumberField:
    return NumberField(
        text,
        "--count",
        FEWEST - 1,
        MOST_IMAGES,
        automatic="Automatic",
        tooltip=f"Number of images to generate; automatic: as many as were held out, from {FEWEST} to 1,000",
    )


def features_field() -> ChoiceField:
    return ChoiceField("Features", "--features", FEATURES, tooltip="The network whose features are compared")


def seed_field() -> NumberField:
    return NumberField("Seed", "--seed", 0, 1_000_000, tooltip="Seed of the first image; later images count up from it")


def size_fields() -> tuple[NumberField, NumberField]:
    """Width and height of an image that is generated."""
    width, height = (
        NumberField(
            text,
            f"--{text.lower()}",
            0,
            LARGEST_SIDE,
            automatic="Automatic",
            step=8,
            suffix=" px",
            tooltip=f"{text} of the image; automatic: as the checkpoint recommends",
        )
        for text in ("Width", "Height")
    )
    return width, height
