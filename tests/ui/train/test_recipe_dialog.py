"""The dialog of all settings of a recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtWidgets import QComboBox, QLabel, QLineEdit, QMessageBox, QPlainTextEdit
from pytestqt.qtbot import QtBot

from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.optimiser_recipe import DecayName
from diffstudio.training.recipe_choice import named_recipes
from diffstudio.ui.train.recipe_dialog import RecipeDialog
from diffstudio.ui.train.recipe_labels import SECTIONS, SETTINGS
from diffstudio.ui.train.run.sample_prompts_dialog import LONGEST_PROMPT, MOST_PROMPTS, SamplePromptsDialog
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.combo_box import ComboBox


def opened(qtbot: QtBot, recipe: Recipe) -> RecipeDialog:
    dialog = RecipeDialog(recipe)
    qtbot.addWidget(dialog)
    return dialog


def enter(dialog: RecipeDialog, name: str, text: str) -> None:
    field = dialog.fields[name]
    assert isinstance(field, QLineEdit)
    field.setText(text)


@pytest.mark.parametrize("name", list(named_recipes()))
def test_a_recipe_stays_as_it_is_when_nothing_is_changed(qtbot: QtBot, name: str) -> None:
    recipe = named_recipes()[name]
    assert opened(qtbot, recipe).recipe() == recipe


def test_changed_settings_are_not_discarded_without_a_question(qtbot: QtBot) -> None:
    dialog = opened(qtbot, named_recipes()["tiny"])
    dialog.show()
    usual = dialog.recipe().run.batch
    enter(dialog, "run.batch", "7")
    dialog.reject()
    (box,) = dialog.findChildren(QMessageBox)
    assert dialog.isVisible() and box.text() == "Discard the changed settings?"
    box.reject()
    enter(dialog, "run.batch", str(usual))
    dialog.reject()
    assert not dialog.isVisible()


def test_changed_sample_prompts_are_not_discarded_without_a_question(qtbot: QtBot) -> None:
    dialog = SamplePromptsDialog(["a red car"])
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.keyClicks(dialog.prompts, "a ball")
    dialog.reject()
    (box,) = dialog.findChildren(QMessageBox)
    assert dialog.isVisible() and box.text() == "Discard the changed prompts?"
    next(each for each in box.buttons() if each.text().replace("&", "") == "Discard").click()
    qtbot.waitUntil(lambda: not dialog.isVisible())


def test_more_sample_prompts_than_can_be_used_are_refused_not_left_out(qtbot: QtBot) -> None:
    dialog = SamplePromptsDialog([f"{number}" for number in range(MOST_PROMPTS)])
    qtbot.addWidget(dialog)
    dialog.show()
    assert dialog.accept_button.isEnabled() and not dialog.problem.isVisible()
    for text, why in (
        ("\n".join(map(str, range(MOST_PROMPTS + 2))), "There are 66 prompts. Remove 2 of them."),
        ("x" * (LONGEST_PROMPT + 1), "A prompt has 2,001 characters. The most are 2,000."),
    ):
        dialog.prompts.setPlainText(text)
        assert dialog.problem.isVisible() and dialog.problem.text() == why and not dialog.accept_button.isEnabled()
    dialog.prompts.setPlainText("x" * LONGEST_PROMPT + "\n\n")
    with qtbot.waitSignal(dialog.prompts_chosen) as chosen:
        dialog.accept_button.click()
    assert chosen.args == [["x" * LONGEST_PROMPT]]


def test_every_setting_has_a_label_and_an_explanation(qtbot: QtBot) -> None:
    dialogs = {name: opened(qtbot, named_recipes()[name]) for name in ("tiny", "unet", "few-steps", "vae", "gan")}
    assert set(SETTINGS) == {name for dialog in dialogs.values() for name in dialog.fields}
    labels = [text.label for text in SETTINGS.values()]
    assert len(set(labels)) == len(labels), "two settings with one label"
    shown = {each.text() for dialog in dialogs.values() for each in dialog.findChildren(QLabel)}
    for name, text in SETTINGS.items():
        assert {text.label, text.explanation} <= shown
        assert len(text.explanation.split()) >= 3, name
        field = next(dialog.fields[name] for dialog in dialogs.values() if name in dialog.fields)
        assert field.accessibleName() == text.label
        assert name in field.toolTip(), "people look it up in the recipe's file"


def test_settings_of_other_kinds_of_model_are_not_offered(qtbot: QtBot) -> None:
    recipes = named_recipes()
    fields = {name: set(opened(qtbot, recipes[name]).fields) for name in ("tiny", "unet", "vae", "gan")}
    assert "objective.noise_levels" in fields["tiny"] and "objective.gamma" not in fields["tiny"]
    assert "network.channels" in fields["unet"] and "network.channels" not in fields["tiny"] | fields["vae"]
    assert "network.dropout" in fields["unet"] & fields["tiny"] and "network.dropout" not in fields["vae"]
    assert not any(name.startswith("upper.") for name in fields["unet"])
    headings = {one: {each.text() for each in opened(qtbot, recipes[one]).findChildren(QLabel)} for one in fields}
    upper = SECTIONS["upper"].upper()
    assert upper in headings["tiny"] and upper not in headings["unet"] | headings["vae"]
    assert "network.heads" not in fields["unet"] and "optimiser.muon_dtype" not in fields["unet"]
    assert "objective.free_bits" in fields["vae"] and "network.heads" not in fields["vae"]
    assert "objective.gamma" in fields["gan"] and "run.sample_sampler" not in fields["gan"] | fields["vae"]
    assert "network.latent" in fields["gan"] & fields["vae"] and "run.seed" in fields["gan"] & fields["tiny"]


def test_settings_that_do_not_matter_are_hidden_until_they_do(qtbot: QtBot) -> None:
    dialog = opened(qtbot, named_recipes()["tiny"])
    dialog.show()
    for name, with_it, value in (
        ("upper.depth", "upper.factor", 2),
        ("objective.min_snr_gamma", "objective.weighting", "min_snr"),
        ("objective.sigma_data", "objective.prediction", "edm"),
        ("objective.noise_curve", "objective.noise_levels", "curve"),
        ("data.unmasked_weight", "data.masks", "use"),
    ):
        choice, field = dialog.fields[with_it], dialog.fields[name]
        (heading,) = (each for each in dialog.findChildren(QLabel) if each.text() == SETTINGS[name].label)
        assert isinstance(choice, ComboBox) and not field.isVisible() and not heading.isVisible()
        before = choice.value()
        choice.set_value(value)
        choice.chosen.emit(value)
        assert field.isVisible() and heading.isVisible()
        choice.set_value(before)
        choice.chosen.emit(before)
        assert not field.isVisible() and not heading.isVisible()


def test_what_a_new_run_sets_itself_is_not_offered(qtbot: QtBot) -> None:
    for name in ("tiny", "unet", "few-steps"):
        fields = set(opened(qtbot, named_recipes()[name]).fields)
        assert not fields & {"run.schedule", "run.first_step", "run.first_seconds"}
        assert ("upper.factor" in fields) == (name == "tiny"), "the others have no upper level"


def test_no_text_names_a_value_as_code_does(qtbot: QtBot) -> None:
    assert not [text for text in SETTINGS.values() if "_" in text.label + text.explanation]
    levels = opened(qtbot, Recipe()).fields["objective.noise_levels"]
    assert isinstance(levels, ComboBox) and levels.currentText() == "Logit-normal", "as in the form"


def test_no_choice_reads_like_code(qtbot: QtBot) -> None:
    for name, field in opened(qtbot, Recipe()).fields.items():
        if isinstance(field, ComboBox):
            texts = [field.itemText(index) for index in range(field.count())]
            assert all(text and "_" not in text for text in texts), (name, texts)


def test_every_value_can_be_changed(qtbot: QtBot) -> None:
    dialog = opened(qtbot, Recipe())
    kinds = (QLineEdit, QComboBox, CheckBox, QPlainTextEdit)
    assert len(dialog.fields) > 50 and all(isinstance(field, kinds) for field in dialog.fields.values())
    enter(dialog, "optimiser.learning_rate", "3e-4")
    enter(dialog, "optimiser.betas", "0.8, 0.95")
    enter(dialog, "run.batch", "32")
    decay, labels, prompts = (
        dialog.fields[f"{name}"] for name in ("optimiser.decay", "data.augment_labels", "run.prompts")
    )
    assert isinstance(decay, ComboBox) and isinstance(labels, CheckBox) and isinstance(prompts, QPlainTextEdit)
    decay.set_value(DecayName.COSINE)
    labels.setChecked(False)
    prompts.setPlainText("a cat, asleep\n\na dog")
    with qtbot.waitSignal(dialog.recipe_chosen) as chosen:
        dialog.accept_button.click()
    recipe = chosen.args[0]
    assert recipe == replace(
        Recipe(),
        optimiser=replace(Recipe().optimiser, learning_rate=3e-4, betas=(0.8, 0.95), decay=DecayName.COSINE),
        data=replace(Recipe().data, augment_labels=False),
        run=replace(Recipe().run, batch=32, prompts=("a cat, asleep", "a dog")),
    )


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("run.batch", "0", "recipe.run.batch is 0"),
        ("run.batch", "many", "recipe.run.batch is 'many'"),
        ("run.batch", "2.5", "a whole number"),
        ("network.heads", "3", "3 heads"),
        ("data.size", "60", "patch of 8 px"),
        ("optimiser.betas", "0.9", "list of two numbers"),
    ],
)
def test_what_cannot_run_is_refused_by_name(qtbot: QtBot, name: str, text: str, named: str) -> None:
    dialog = opened(qtbot, Recipe())
    assert dialog.accept_button.isEnabled()
    enter(dialog, name, text)
    assert named in dialog.problem.text() and not dialog.accept_button.isEnabled()


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("network.channels", "32, 60", "a multiple of 8 for each of 1 to 8 levels"),
        ("network.channels", "32, many", "is 'many': it must be a whole number"),
        ("network.condition_width", "20", "a multiple of 8 for a U-Net"),
        ("network.dropout", "1", "recipe.network.dropout is 1"),
        ("data.size", "30", "The size of 30 px cannot be halved 2 times"),
    ],
)
def test_what_a_unet_cannot_be_is_refused_by_name(qtbot: QtBot, name: str, text: str, named: str) -> None:
    dialog = opened(qtbot, named_recipes()["unet"])
    assert dialog.accept_button.isEnabled()
    enter(dialog, name, text)
    assert named in dialog.problem.text() and not dialog.accept_button.isEnabled()
    enter(dialog, name, "")
    assert not dialog.accept_button.isEnabled()
