"""The page Image map: training images, held-out images and samples laid out by their features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffstudio.studio.evaluations.image_map.request import ALL
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.image_map import ImageMapView, read_image_map
from diffstudio.ui.lab.fields import ChoiceField, NumberField
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.image_map.view import ImageMapResultView
from diffstudio.ui.lab.options import features_field, folder_field, name_of, seed_field, trained_here
from diffstudio.ui.lab.page import UNDERSTAND, LabPage
from diffstudio.ui.lab.subjects_field import SubjectsField

LAYOUTS = (
    ("pca", "PCA"),
    ("umap", "PCA and UMAP, if installed"),
    ("pacmap", "PCA and PaCMAP, if installed"),
    (ALL, "PCA, UMAP and PaCMAP"),
)


def read(job: JobFolder, values: Mapping[str, Any]) -> ImageMapView:
    return read_image_map(job, values)


def make_form() -> LabForm:
    folder = folder_field("Folder of images", "The folder the checkpoints were trained on, or any other")
    subjects = SubjectsField(
        "Checkpoints and other folders",
        "",
        tooltip="Checkpoints whose samples, and folders whose images, are added to the map",
        optional=True,
    )
    count = NumberField(
        "Samples per checkpoint",
        "--count",
        10,
        5000,
        value=500,
        step=10,
        tooltip="Number of images to generate with each checkpoint",
    )
    most = NumberField(
        "Images per split or folder",
        "--most",
        100,
        20_000,
        value=5000,
        step=100,
        tooltip="Training images, held-out images, and images of each folder: this many at most, evenly spaced if there are more",
    )
    layout = ChoiceField(
        "Layout",
        "--layout",
        LAYOUTS,
        tooltip="PCA takes almost no time; the others keep neighbours together and take longer",
    )
    return LabForm(
        (("Images", (folder, subjects)), ("Options", (layout, count, most, features_field(), seed_field()))),
        positional=(subjects, folder),
        name=name_of(folder),
    )


PAGE = LabPage(
    "map",
    "Image map",
    "map-trifold",
    "Shows the images of a folder and the samples of models on a map where similar images are close together.",
    "Create map",
    make_form,
    read,
    ImageMapResultView,
    trained_here,
    UNDERSTAND,
)
