"""The pages Compare and Likelihood: their forms stand for the command line, and their results are shown."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.cli import _parser
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.synthesise.request import LEAST_SEEDS, SynthesiseRequest
from diffstudio.ui.lab.fields import Field, NumberField
from diffstudio.ui.lab.form_view import FormView
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.page_list import PAGES, page_of, title_of
from diffstudio.ui.lab.pages import anomalies, compare, features, likelihood, synthesise
from diffstudio.ui.lab.pages.compare import CompareView
from diffstudio.ui.lab.pages.likelihood import LikelihoodResultView
from tests.studio.evaluations.views.test_comparison import example as comparison
from tests.studio.evaluations.views.test_likelihood import example as likelihood_result
from tests.studio.evaluations.views.test_synthesis import example as synthesis


def parsed(verb: str, arguments: list[str]) -> argparse.Namespace:
    return _parser().parse_args([verb, *arguments, "--out", "/out"])


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("compare", ["/photos", "--minutes", "10"]),
        ("compare", ["/photos", "--models", "vae,gan", "--minutes", "3", "--seeds", "1", "--with", "starter", "/made"]),
        ("compare", ["/photos", "--models", "none", "--minutes", "10", "--with", "/made", "--seed", "4"]),
        ("compare", ["/photos", "--models", "diffusion,vae,gan,my recipe", "--minutes", "10"]),
        ("synthesise", ["starter", "300", "/photos", "--prove", "--seeds", "7"]),
        ("synthesise", ["starter", "/photos", "--per-class", "20", "--cads", "0"]),
        ("synthesise", ["starter", "9", "/photos", "--autoguidance", "/early", "--autoguidance-scale", "1.5"]),
        ("synthesise", ["starter", "9", "/photos", "--prove", "--ratios=0.5,3", "--cads", "0.25"]),
        ("reverse", ["starter", "--prompt=photos", "--spacing", "karras", "--width", "512", "--height", "256"]),
        ("features", ["starter", "/photos", "--layer=block 3", "--level", "0.4", "--levels=0.1,0.4"]),
        ("anomalies", ["/good", "/photos"]),
        ("anomalies", ["parts", "/good", "/photos", "--false-alarm", "0.01", "--draws", "4", "--detector", "pixels"]),
        ("anomalies", ["/good", "/photos", "--minutes", "2.5", "--seed", "3"]),
        ("likelihood", ["starter", "/photos"]),
        ("likelihood", ["starter", "/photos", "--count", "9", "--bound-only", "--levels", "16"]),
        ("likelihood", ["faces", "/photos", "--draws", "9"]),
        ("map", ["/photos"]),
        ("map", ["starter", "/made", "/photos", "--layout", "umap", "--count", "100", "--most", "900", "--seed", "2"]),
        ("restore", ["starter", "/photos", "--noise", "25", "--mean-only"]),
        ("restore", ["starter", "/photos", "--task", "deblur", "--blur", "2.5", "--share", "0.5", "--steps", "9"]),
        ("restore", ["starter", "/photos", "--task", "inpaint", "--mask", "/m.png", "--draws", "8"]),
        ("restore", ["starter", "/photos", "--task", "super-resolution", "--scale", "4"]),
    ],
)
def test_a_command_goes_through_its_form(verb: str, arguments: list[str], qtbot: QtBot, dressed: QApplication) -> None:
    page = page_of(verb)
    assert isinstance(page, LabPage)
    form = page.make_form()
    qtbot.addWidget(form)
    form.fill(arguments)
    assert vars(parsed(verb, form.arguments())) == vars(parsed(verb, arguments))
    assert form.problem() == "" and form.job_name().endswith("photos")


def test_every_page_starts_with_what_is_missing_and_says_what_it_shows(qtbot: QtBot, dressed: QApplication) -> None:
    for page in PAGES:
        assert page.shows.endswith(".")
        if not isinstance(page, LabPage):
            continue  # it shows what is missing in a way of its own
        view = FormView(page)
        qtbot.addWidget(view)
        assert not view.start.isEnabled() and view.problem.text()
    assert page_of("sing") is None and title_of("sing") == "sing" and title_of("compare") == "Compare"


def test_the_total_time_is_said_before_the_start(qtbot: QtBot, dressed: QApplication) -> None:
    view = FormView(compare.PAGE)
    qtbot.addWidget(view)
    view.form.fill(["/photos", "--minutes", "10"])
    assert view.problem.text() == "Trains 9 runs: 1 h 30 min in all, plus the evaluation."
    view.form.fill(["/photos", "--minutes", "1", "--models", "gan", "--seeds", "1"])
    assert view.problem.text() == "Trains 1 run: 1 min in all, plus the evaluation."
    view.form.fill(["/photos", "--minutes", "1", "--models", "none", "--with", "/made"])
    assert view.problem.text().startswith("Trains nothing") and view.start.isEnabled()
    view.form.fill(["/photos", "--minutes", "1", "--models", "none"])
    assert view.problem.text() == "Choose a model to train, or add a checkpoint or a folder to compare."
    assert not view.start.isEnabled()


def test_the_proof_has_no_fewer_classifiers_than_the_command_accepts(qtbot: QtBot, dressed: QApplication) -> None:
    form = synthesise.make_form()
    qtbot.addWidget(form)
    form.fill(["starter", "300", "/photos", "--prove", "--seeds", "1"])
    arguments = form.arguments()
    seeds = int(arguments[arguments.index("--seeds") + 1]) if "--seeds" in arguments else LEAST_SEEDS
    assert seeds == LEAST_SEEDS and SynthesiseRequest("", Path(), Path(), 1, seeds=seeds).seeds == seeds


def test_fields_of_synthetic_data_that_have_no_effect_are_disabled(qtbot: QtBot, dressed: QApplication) -> None:
    form = synthesise.make_form()
    qtbot.addWidget(form)
    by_name = {field.accessibleName(): field for field in form.findChildren(Field) if field.accessibleName()}
    sliders = {one.slider.accessibleName(): one for one in form.findChildren(NumberField)}
    fields = by_name | sliders
    usual = ["starter", "300", "/photos"]
    form.fill(usual)
    disabled = {name for name, field in fields.items() if not field.isEnabled()}
    assert disabled == {"Ratios", "Classifiers", "Autoguidance scale"}
    form.fill([*usual, "--ratios=1", "--seeds", "7"])
    assert form.arguments() == usual, "without a proof there are neither ratios nor seeds"
    form.fill([*usual, "--prove", "--ratios=1,x"])
    assert form.problem() == "The ratios are '1,x': they must be numbers. Separate numbers by commas"
    form.fill([*usual, "--prove", "--ratios=0"])
    assert form.problem() == "The ratios are 0: each must be above 0 and at most 100"
    form.fill(["starter", "/photos", "--per-class", "20"])
    assert not fields["Images"].isEnabled() and form.arguments() == ["starter", "/photos", "--per-class", "20"]
    form.fill(usual)
    assert fields["Images"].isEnabled() and form.arguments() == usual


def test_a_level_that_is_not_measured_is_said_before_the_start(qtbot: QtBot, dressed: QApplication) -> None:
    form = features.make_form()
    qtbot.addWidget(form)
    form.fill(["starter", "/photos", "--level", "0.3"])
    assert form.problem() == "Level: choose one of 0.02, 0.05, 0.1, 0.2, 0.4, or the best"
    form.fill(["starter", "/photos", "--level", "0.3", "--levels=0.1,0.3"])
    assert form.problem() == ""


def test_folders_that_cannot_be_used_are_said_before_the_start(
    qtbot: QtBot, dressed: QApplication, tmp_path: Path
) -> None:
    good, empty = tmp_path / "good", tmp_path / "empty"
    (good / "scratched").mkdir(parents=True)
    (good / "scratched" / "a.png").touch()
    empty.mkdir()
    view = FormView(anomalies.PAGE)
    qtbot.addWidget(view)
    view.form.fill([str(good), str(empty)])
    assert view.problem.text() == "empty is an empty folder." and not view.start.isEnabled()
    for inside in (good, good / "scratched"):
        view.form.fill([str(good), str(inside)])
        expected = f"The images of {inside.name} are normal images: choose another folder to search."
        assert view.problem.text() == expected and not view.start.isEnabled()
    view.form.fill([str(good / "scratched"), str(good)])
    assert view.start.isEnabled(), "some of its images are normal ones, which the result says"


def test_a_comparison_is_shown(
    qtbot: QtBot, dressed: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 32), "red").save(tmp_path / "images" / "held-out.png")
    (tmp_path / "compare.html").touch()
    view = CompareView()
    qtbot.addWidget(view)
    values = json.loads(json.dumps(comparison().to_json()))
    view.show_result(compare.read(JobFolder(tmp_path), values))
    view.show()
    assert "Mode collapse:" in view.verdicts.text() and view.verdicts.text().startswith("GAN\n")
    assert "Mean of 2 seeds" in view.verdicts.text() and not view.seeds.isVisible()
    qtbot.keyClick(view.show_seeds, Qt.Key.Key_Space)
    assert view.seeds.isVisible() and view.seeds.model.rowCount() == 3
    assert view.show_seeds.text() == view.show_seeds.accessibleName() == "Hide each seed"
    view.show_seeds.click()
    assert not view.seeds.isVisible() and view.show_seeds.text() == "Show each seed"
    assert view.table.model.rowCount() == 3 and view.pairs.count() == 1 and view.plot.choice.count() > 1
    assert not view.grids.sheet.target.image.isNull()
    before = view.grids.sheet.grab().toImage()
    assert view.grids.sheet.height() == view.grids.sheet.width() // 2, "no empty area below the image"
    view.grids.choice.set_value(1)
    view.grids.choice.chosen.emit(1)
    assert view.grids.sheet.grab().toImage() != before  # a sheet that cannot be read
    opened: list[object] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: bool(opened.append(url)))
    with qtbot.waitSignal(view.message):
        view.open_page.click()
    assert len(opened) == 1


def test_a_likelihood_is_shown(qtbot: QtBot, dressed: QApplication, tmp_path: Path) -> None:
    view = LikelihoodResultView()
    qtbot.addWidget(view)
    view.show_result(likelihood.read(JobFolder(tmp_path), likelihood_result()))
    assert view.table.model.rowCount() == 3 and "a formula" in view.formulas.text()
    assert view.plot.choice.itemText(0) == "Probability flow of individual images, sorted"


def test_synthetic_images_are_shown_with_their_proof(qtbot: QtBot, dressed: QApplication, tmp_path: Path) -> None:
    view = synthesise.SynthesisResultView()
    qtbot.addWidget(view)
    view.show_result(synthesise.read(JobFolder(tmp_path), synthesis()))
    assert view.verdict.text() == "They helped." and view.table.model.rowCount() == 2
    assert view.labels.text() == "cat: 5" and view.plot.choice.itemText(0) == "Accuracy"
    view.show_result(synthesise.read(JobFolder(tmp_path), synthesis() | {"proof": None, "problem": "Too few."}))
    assert view.verdict.isHidden() and view.table.isHidden() and view.problem.text() == "Too few."
