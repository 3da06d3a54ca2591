"""The fields of the Lab's forms make the command line, and read it back."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.ui.lab.fields import ChoiceField, NumberField, SwitchField
from diffstudio.ui.lab.folder_field import FolderField
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.form_view import FormView
from diffstudio.ui.lab.options import has_denoising_error, has_likelihood, trained_here
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.page_list import page_of
from diffstudio.ui.lab.pages.evaluate import make_form
from diffstudio.ui.lab.subjects_field import SubjectsField
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DroppedKind
from tests.ui.samples import checkpoint


@pytest.fixture
def form(qtbot: QtBot, dressed: QApplication) -> LabForm:
    form = make_form()
    qtbot.addWidget(form)
    return form


@pytest.mark.parametrize(
    "arguments",
    [
        ["starter", "/photos"],
        ["starter", "/made", "/photos", "--count", "500", "--features", "dinov2", "--seed", "7"],
        ["starter", "/photos", "--features", "/networks/mine"],  # one that the drop-down does not offer
    ],
)
def test_a_command_goes_through_the_form_unchanged(form: LabForm, arguments: list[str]) -> None:
    form.fill(arguments)
    assert form.arguments() == arguments and form.problem() == ""


def test_options_are_found_wherever_they_stand_and_forgotten_by_the_next_command(form: LabForm) -> None:
    form.fill(["--seed=7", "starter", "--count", "many", "/photos"])
    assert form.arguments() == ["starter", "/photos", "--seed", "7"]
    assert form.job_name() == "photos"
    form.fill(["starter", "/photos"])
    assert form.arguments() == ["starter", "/photos"]


def test_what_is_missing_is_said_in_order(form: LabForm) -> None:
    assert form.problem() == "Choose a folder of images" and form.job_name() == ""
    folder, subjects = form.fields[0], form.fields[1]
    assert isinstance(folder, FolderField) and isinstance(subjects, SubjectsField)
    folder.set_folder(Path("/photos"))
    assert form.problem() == "Add a checkpoint or a folder of generated images"
    subjects.add("starter", "Starter")
    assert form.problem() == ""


def test_subjects_are_added_once_and_removed_by_their_button(form: LabForm, tmp_path: Path) -> None:
    subjects = form.fields[1]
    assert isinstance(subjects, SubjectsField)
    run = tmp_path / "cats" / "checkpoints" / "latest.safetensors"
    for path in (tmp_path, run, run):
        subjects.add_path(path)
    assert subjects.subjects() == [str(tmp_path), str(run)]
    names = [button.accessibleName() for button in subjects.findChildren(SecondaryButton) if not button.isHidden()]
    assert "Remove cats" in names
    next(one for one in subjects.findChildren(SecondaryButton) if one.accessibleName() == "Remove cats").click()
    assert subjects.subjects() == [str(tmp_path)]


def test_a_drop_goes_to_the_field_that_still_needs_it(form: LabForm, tmp_path: Path) -> None:
    folder = [DroppedItem(DroppedKind.FOLDER, tmp_path)]
    model = DroppedItem(DroppedKind.MODEL, tmp_path / "a.safetensors")
    assert form.drop_text(folder) == f"Drop to use {tmp_path.name} as: folder of real images"
    form.take(folder)
    assert form.drop_text(folder) == f"Drop to add {tmp_path.name}"
    assert form.drop_text([model, *folder]) == "Drop to add 2 items"
    form.take([model])
    assert form.arguments() == [str(model.path), str(tmp_path)]
    assert form.drop_text([DroppedItem(DroppedKind.IMAGE, tmp_path / "a.png")]) == ""
    form.take([DroppedItem(DroppedKind.IMAGE, tmp_path / "a.png")])  # nothing takes it
    assert form.arguments() == [str(model.path), str(tmp_path)]


def test_one_subject_replaces_the_other_where_only_one_is_taken(qtbot: QtBot, tmp_path: Path) -> None:
    field = SubjectsField("Checkpoint", "Choose one", tooltip="What is used", folders=False, most=1)
    qtbot.addWidget(field)
    assert field.drop_text([DroppedItem(DroppedKind.FOLDER, tmp_path)]) == ""
    for name in "ab":
        field.add(name, name)
    assert field.arguments() == ["b"]
    with qtbot.waitSignal(field.changed):
        field.remove("b")


def test_checkpoints_are_offered_by_name(qtbot: QtBot) -> None:
    field, own = SubjectsField("Checkpoints", "Choose one", tooltip="What is measured"), checkpoint("own")
    qtbot.addWidget(field)
    assert not field.combo.isEnabled()
    field.offer([own])
    field.combo.activated.emit(1)
    field.combo.activated.emit(0)  # the invitation adds nothing
    assert field.subjects() == [str(own.path)]


def test_numbers_and_choices_leave_their_flag_out_by_default(qtbot: QtBot) -> None:
    minutes = NumberField("Minutes", "--minutes", 1, 60, tooltip="Time", value=10, step=0.5, decimals=1)
    kind = ChoiceField("Kind", "--kind", ((None, "Any"), ("x", "X")), tooltip="Which")
    switch = SwitchField("All", "--all", tooltip="Everything")
    for field in (minutes, kind, switch):
        qtbot.addWidget(field)
        assert field.arguments() == [] and field.problem() == ""
        field.take([])
        field.offer([])
    minutes.fill(rest := ["--minutes", "2.5", "--all", "rest"])
    switch.fill(rest)
    kind.combo.set_value("x")
    assert minutes.arguments() == ["--minutes", "2.5"] and kind.arguments() == ["--kind", "x"]
    assert switch.arguments() == ["--all"] and rest == ["rest"]


def test_likelihood_offers_diffusion_models_and_vaes_trained_here() -> None:
    offered = {family: has_likelihood(checkpoint("own", family=family)) for family in ("pixel", "vae", "gan", "sd1")}
    assert offered == {"pixel": True, "vae": True, "gan": False, "sd1": False}


def test_checkpoints_trained_here_are_offered_whatever_their_kind() -> None:
    offered = {family: trained_here(checkpoint("own", family=family)) for family in ("pixel", "vae", "gan", "sd1")}
    assert offered == {"pixel": True, "vae": True, "gan": True, "sd1": False}


def test_searches_for_anomalies_offer_diffusion_models_alone() -> None:
    offered = {family: has_denoising_error(checkpoint("own", family=family)) for family in ("pixel", "vae", "gan")}
    assert offered == {"pixel": True, "vae": False, "gan": False}


@pytest.mark.usefixtures("dressed")
def test_nothing_in_a_form_is_squeezed_when_a_row_is_added(qtbot: QtBot) -> None:
    """In a wide room, where the text above the form wraps at the width of the form and not at that of the room."""
    page = page_of("compare")
    assert isinstance(page, LabPage)
    view = FormView(page)
    qtbot.addWidget(view)
    view.resize(1180, 600)
    view.show()
    qtbot.waitExposed(view)
    view.form.offer([checkpoint("starter", family="pixel", metadata={})])
    (subjects,) = (field for field in view.form.fields if isinstance(field, SubjectsField))
    for name in ("anna", "berta"):
        before = subjects.height()
        subjects.add(name, name)
        qtbot.waitUntil(lambda before=before: subjects.height() > before)
        qtbot.waitUntil(lambda: view.form.height() >= view.form.minimumSizeHint().height())
        assert subjects.combo.height() >= subjects.combo.minimumSizeHint().height()
