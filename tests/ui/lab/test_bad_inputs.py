"""Each page of the Lab with inputs that something is wrong with, dropped and started as a person does: what the page says.

The table has what must be shown: a sentence with its reason and what to do, or a result with its warning.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.ui.lab.fields import ChoiceField, Field, NumberField
from diffstudio.ui.lab.form_view import FormView
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.widgets.wrapping_text import WrappingText
from tests.ui.lab.bad_inputs import FAR_AWAY, LONG, VANISHING, JobsInThread, write_inputs
from tests.ui.lab.test_room import drop

MISSING = "There is neither a checkpoint nor a folder of images at .*: it may have been moved, renamed or deleted"
NO_IMAGES = r"There is nothing to measure in .*"
DAMAGED = "damaged.safetensors is damaged or not a safetensors file: its header does not fit the file. "
NORMALS = "Folder of normal images"


class Page(NamedTuple):
    folder: str  # the field of the folder of real images
    model: str  # the field of the checkpoint
    numbers: dict[str, float] = {}  # so that little is computed


PAGES = {
    "evaluate": Page("Folder of real images", "Checkpoints and generated images"),
    "map": Page("Folder of images", "Checkpoints and other folders", {"Samples per checkpoint": 10}),
    "likelihood": Page(
        "Folder of images", "Checkpoint", {"Images per split": 2, "Noise levels": 8, "Samples": 2, "Probes": 1}
    ),
    "features": Page("Folder of images", "Checkpoint", {"Images": 40}),
    "synthesise": Page("Folder of real images", "Checkpoint", {"Images": 4}),
    "restore": Page("Images", "Checkpoint", {"Draws": 1, "Steps": 2}),
    "anomalies": Page("Folder to search", "Checkpoint of the normal images"),
    "compare": Page("Folder of images", "Also compare", {"Training time": 1, "Seeds": 1}),
    "reverse": Page("", "Checkpoint"),
    "attention": Page("", "Checkpoint"),
}

# What else a page is given beside a faulty folder of real images.
USUAL_MODELS = {
    "evaluate": "made",
    "map": "plain",
    "likelihood": "plain",
    "features": "plain",
    "synthesise": "plain",
    "compare": "",
}


class Case(NamedTuple):
    page: str
    folder: str
    model: str
    said: str  # what the page must show, a regular expression
    other: tuple[str, str] = ("", "")  # another field, and its input


# What is wrong with a folder of real images, on every page that takes one.
FOLDERS = {
    "empty": "empty is an empty folder",
    "hollow": f"{NO_IMAGES}hollow: it has no files. Choose a folder of images",
    "texts": rf"{NO_IMAGES}texts: it has 1 file \(1 .txt\) but no images. Choose a folder of images",
    "broken": rf"{NO_IMAGES}: none of its 4 images can be used \(0.png: it is not an image in a supported format\)",
    "gone": f"{NO_IMAGES}gone: the folder does not exist. Choose a folder of images",
}
# What is wrong with a checkpoint, on every page that takes those that were trained here.
MODELS = {
    "upscaler": "upscaler does not generate images: its type is upscaler. Choose a checkpoint that was trained here",
    "unknown": "unknown does not generate images: None of its tensor names is known. Choose a checkpoint",
    "damaged": DAMAGED,
    "lost": MISSING,
}
NOT_BY_STEPS = "it generates each image in one network call"
NO_DENOISER = (
    f"cannot restore images: {NOT_BY_STEPS} and has no denoiser. Choose a diffusion model of grey or RGB pixels"
)
OTHER_CLASSES = (
    "cannot be evaluated on one class: it generates from the classes blue, red, and the held-out images have none"
)
NOT_FINITE = (
    "spoiled cannot be measured: .* of its images have NaN or infinite values. Evaluate another checkpoint of its run"
)
IDENTICAL = "All 40 images of equal are identical"
AUTOGUIDANCE = "cannot guide diffusion: it does not generate from the same classes or captions. Choose an earlier"
LOST = "There is no checkpoint at .*lost.safetensors. Check the name, or choose another"
CASES = (
    # page, folder, model, what must be shown
    Case(
        "evaluate",
        "one",
        "made",
        "too few training images to compare: 100 are needed and there are 1. Use a larger folder",
    ),
    Case("evaluate", "equal", "made", "The training images of equal cannot be compared with: all 40 are equal"),
    Case(
        "evaluate",
        "good",
        "good",
        "80 of 80 images in good are real images of good: .* Give a folder that holds generated",
    ),
    Case("evaluate", "one class", "diffusion", OTHER_CLASSES),
    Case("evaluate", "made", "spoiled", NOT_FINITE),
    Case("evaluate", "good", "empty", f"{NO_IMAGES}empty: the folder is empty. Choose a folder of images"),
    Case("evaluate", "good", "gone", MISSING),
    Case("evaluate", "good", "broken", FOLDERS["broken"]),
    Case(
        "compare", "one", "", "too few training images to compare: 100 are needed and there are 1. Use a larger folder"
    ),
    Case("compare", "equal", "", "The training images of equal cannot be compared with: all 40 are equal"),
    Case("compare", "good", "empty", f"{NO_IMAGES}empty: the folder is empty"),
    Case("compare", "good", "good", "80 of 80 images in good are real images of good"),
    Case("compare", "good", "gone", MISSING),
    Case("map", "one class", "diffusion", OTHER_CLASSES),
    Case("map", "good", "gone", MISSING),
    Case("map", "made", "spoiled", NOT_FINITE),
    Case(
        "likelihood",
        "good",
        "gan",
        "The likelihood of gan cannot be measured: a GAN has no density.* Measure a diffusion",
    ),
    Case(
        "likelihood",
        "one class",
        "diffusion",
        "of 10 held-out images, 0 can be measured.* knows only the classes blue, red",
    ),
    Case(
        "likelihood", "one", "plain", "of 1 training images, 1 can be measured, and 2 are needed. Use the folder that"
    ),
    Case("likelihood", "equal", "plain", IDENTICAL),
    Case(
        "likelihood",
        "made",
        "spoiled",
        "The likelihood of spoiled cannot be computed: its estimates are NaN or infinite",
    ),
    Case("likelihood", FAR_AWAY, "plain", f"plain on .*{FAR_AWAY}: 768 values of 8 bits in each image"),
    Case("features", "one", "plain", "plain on .*one: 1 image."),
    Case("features", "mixed", "plain", "Left out because they are too small: .*1.png: too small"),
    Case("features", "one class", "plain", "The folder has no classes to separate, so there is no probe"),
    Case("features", LONG, "plain", f"plain on .*{LONG}: 24 images"),
    Case("features", "good", "vae", f"The features of vae cannot be read: {NOT_BY_STEPS}. Choose a diffusion model"),
    Case("features", "good", "gan", f"The features of gan cannot be read: {NOT_BY_STEPS}. Choose a diffusion model"),
    Case("features", "good", "upscaler", "upscaler is an upscaler and cannot generate images by itself"),
    Case("features", "good", "lost", LOST),
    Case("features", "good", "damaged", DAMAGED),
    Case(
        "synthesise",
        "one",
        "plain",
        "too few training images in one: the test for near-copies needs 3, and there are 1. Use",
    ),
    Case("synthesise", "equal", "plain", "The training images of equal cannot be compared with: all 40 are equal"),
    *(
        Case("synthesise", "good", "diffusion", said, ("Autoguidance", model))
        for model, said in (MODELS | {"plain": f"plain {AUTOGUIDANCE}"}).items()
    ),
    Case("restore", "empty", "plain", FOLDERS["empty"]),
    Case("restore", "hollow", "plain", "There are no images in .*hollow: subfolders are not searched"),
    Case("restore", "broken", "plain", "0.png cannot be read: it is not an image in a supported format"),
    Case("restore", "gone", "plain", "There is no image and no folder at .*gone. It may have been moved or deleted"),
    Case(
        "restore", "mixed", "plain", r"Denoise with plain: 1\d images(.|\n)*CMYK.tiff: its CMYK colours have no profile"
    ),
    Case("restore", LONG, "plain", "Denoise with plain: 24 images"),
    Case(
        "restore", "equal", "plain", "0.png, 1.png, 10.png and 37 more: no noise was found, so the image is unchanged"
    ),
    Case("restore", "one", "spoiled", "spoiled cannot restore images: it gives NaN or infinite values. Choose another"),
    Case("restore", "one", "vae", f"vae {NO_DENOISER}"),
    Case("restore", "one", "gan", f"gan {NO_DENOISER}"),
    Case("restore", "one", "upscaler", "upscaler cannot restore images: it is not a diffusion model of pixels"),
    Case("restore", "one", "lost", LOST),
    Case("restore", "one", "damaged", DAMAGED),
    Case("reverse", "", "vae", f"vae has no reverse process to record: {NOT_BY_STEPS}. Choose a diffusion model"),
    Case("reverse", "", "upscaler", "upscaler is an upscaler and cannot generate images by itself"),
    Case("reverse", "", "unknown", "unknown is not of a supported type: None of its tensor names is known"),
    Case(
        "reverse",
        "",
        "spoiled",
        "The reverse process of spoiled cannot be recorded: its image has NaN or infinite values",
    ),
    Case("reverse", "", "lost", LOST),
    Case("reverse", "", "damaged", DAMAGED),
    Case("attention", "", "vae", "vae has no attention maps of words: it generates from the name of a class. Choose a"),
    Case("attention", "", "plain", "plain has no attention maps of words: it generates from noise alone. Choose a"),
    Case("attention", "", "upscaler", "upscaler is an upscaler and cannot generate images by itself"),
    Case("attention", "", "lost", LOST),
    Case("attention", "", "damaged", DAMAGED),
    Case("anomalies", "made", "", "too few normal images in one: 8 different ones must be held out", (NORMALS, "one")),
    Case("anomalies", "made", "", "too few normal images in equal: 8 different ones must be", (NORMALS, "equal")),
    Case("anomalies", "made", "", "The images of made are normal images: choose another folder", (NORMALS, "made")),
    *(Case("anomalies", "made", "", said, (NORMALS, folder)) for folder, said in FOLDERS.items()),
    *(Case("anomalies", folder, "", said, (NORMALS, "good")) for folder, said in FOLDERS.items()),
    *(Case("anomalies", "made", model, said, (NORMALS, "good")) for model, said in MODELS.items()),
    *(Case(page, folder, model, said) for page, model in USUAL_MODELS.items() for folder, said in FOLDERS.items()),
    *(
        Case(page, "good", model, said)
        for page in ("evaluate", "map", "likelihood", "synthesise", "compare")
        for model, said in MODELS.items()
    ),
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("inputs")
    (place / "models").mkdir()
    return write_inputs(place)


@pytest.fixture
def room(qtbot: QtBot, dressed: QApplication, tmp_path: Path) -> Iterator[LabRoom]:
    room = LabRoom(JobsInThread(tmp_path / "lab"))
    qtbot.addWidget(room)
    room.resize(1200, 700)
    room.show()
    qtbot.waitExposed(room)
    yield room
    room.shut_down()


def field_of(view: FormView, name: str) -> Field:
    def named(field: Field) -> str:
        return field.slider.accessibleName() if isinstance(field, NumberField) else field.accessibleName()

    return next(field for field in view.form.fields if named(field) == name)


def start(room: LabRoom, qtbot: QtBot, case: Case, inputs: dict[str, Path], kept: Path) -> str:
    """Open the page, drop the inputs on its fields, and press Start: what the page says."""
    page = PAGES[case.page]
    room.jobs_list.page_cards[case.page].clicked.emit()
    view = room.form_view(case.page)
    assert view.isVisible()
    for name, number in page.numbers.items():
        field = field_of(view, name)
        assert isinstance(field, NumberField)
        field.slider.set_value(number)
    given = [(name, key) for name, key in ((page.folder, case.folder), (page.model, case.model), case.other) if key]
    if case.page == "attention":
        field_of(view, "Prompt").findChild(QLineEdit).setText("a red square")
    for name, key in given:
        assert drop(field_of(view, name), inputs[key])
    if not view.start.isEnabled():
        return view.problem.text()
    vanished = [inputs[key] for _, key in given if key in VANISHING]
    for path in vanished:
        path.rename(kept / path.name)
    try:
        qtbot.mouseClick(view.start, Qt.MouseButton.LeftButton)
        return outcome(room, qtbot)
    finally:
        for path in vanished:
            (kept / path.name).rename(path)


def outcome(room: LabRoom, qtbot: QtBot) -> str:
    """What the page shows once the job is over: its sentence, or the texts of its result."""
    qtbot.waitUntil(lambda: room.selected() is not None or room.message.isVisible())
    if room.selected() is None:
        return room.message.text()

    def is_over() -> bool:
        summary = room.summary()
        if summary is None or summary.alive or room.job_view.name.text() != summary.name:
            return False
        return room.job_view.result_view() is not None if summary.result else room.job_view.outcome.isVisible()

    qtbot.waitUntil(is_over)
    return "\n".join([room.job_view.outcome.text(), *texts(room.job_view.result_view())])


def texts(view: QWidget | None) -> Sequence[str]:
    parts = view.findChildren(QWidget) if view is not None else ()
    return [part.text() for part in parts if isinstance(part, QLabel | WrappingText) and part.isVisible()]


def named(case: Case) -> str:
    parts = (case.page, *(name[:9] for name in (case.folder, case.model, case.other[1])))
    return " ".join(part.encode("ascii", "replace").decode() for part in parts if part)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_what_is_wrong_is_said_in_the_page(
    case: Case, room: LabRoom, qtbot: QtBot, inputs: dict[str, Path], tmp_path: Path
) -> None:
    found = start(room, qtbot, case, inputs, tmp_path)
    assert re.search(case.said, found), found
    assert "Traceback" not in found and "Error" not in found and found.rstrip().endswith("."), found


@pytest.mark.parametrize("page", ["evaluate", "map", "synthesise", "compare"])
def test_a_feature_network_that_is_not_there_is_said(
    page: str, room: LabRoom, qtbot: QtBot, inputs: dict[str, Path], tmp_path: Path
) -> None:
    features = next(field for field in room.form_view(page).form.fields if getattr(field, "flag", "") == "--features")
    assert isinstance(features, ChoiceField)
    features.combo.set_value("dinov2")
    found = start(room, qtbot, Case(page, "good", USUAL_MODELS[page], ""), inputs, tmp_path)
    assert "There is no DINOv2 in the model folders" in found and found.endswith("."), found
    assert not list((tmp_path / "lab").rglob("recipe.toml")), "before anything is trained"


@pytest.mark.parametrize("page", ["evaluate", "anomalies", "reverse"])
def test_a_folder_of_jobs_that_cannot_be_written_to_is_said(
    page: str, room: LabRoom, qtbot: QtBot, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions do not hold every user back, so the answer of the system is imitated."""
    make = os.mkdir

    def refused(path: str | Path, *given: int, **options: int) -> None:
        if Path(path).is_relative_to(tmp_path / "lab"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        make(path, *given, **options)

    monkeypatch.setattr(os, "mkdir", refused)
    normals = (NORMALS, "good") if page == "anomalies" else ("", "")
    folder, model = ("", "plain") if page == "reverse" else ("made", "good" if page == "evaluate" else "")
    found = start(room, qtbot, Case(page, folder, model, "", normals), inputs, tmp_path)
    assert room.selected() is None and str(tmp_path / "lab") in found and found.endswith("."), found
    assert "ermission" in found, found
