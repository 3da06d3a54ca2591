"""Every option of a verb of the Lab is a field of its form, with the same name and the same choices."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import import_module

import pytest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.cli.arguments import Parser
from diffstudio.cli.verbs import VERBS
from diffstudio.studio.evaluations.anomalies.result import TITLES
from diffstudio.studio.evaluations.compare.request import MODELS
from diffstudio.studio.requests.choices import SamplerName, SpacingName
from diffstudio.ui.lab.fields import ChoiceField, Field, SeveralField
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.lab.page_list import PAGES

NO_FIELD = {  # options that the room decides itself
    "--help": "the manual",
    "--json": "the room reads the result from its file",
    "--csv": "the list is saved with the disk button, with the decisions",
    "--device": "the device of the settings",
    "--out": "the folder of the job",
    "--force": "the folder of a job is new",
}
OTHER_WORDS = {  # what stands in the form, and in the help of the command, for the words of an option
    "--count": "images",
    "--with": "add to the table",
    "--guidance": "cfg scale",
    "--spacing": "scheduler",
    "--draws": "samples",
    "--pool": "patches",
    "--test": "words",
    "--bound-only": "skip the probability flow",
}
POSITIONAL = {
    "anomalies": ["starter", "/normals", "/photos"],
    "attention": ["starter", "a heart"],
    "compare": ["/photos", "--minutes", "10"],
    "evaluate": ["starter", "/photos"],
    "map": ["starter", "/photos"],
    "synthesise": ["starter", "200", "/photos"],
}
VALUES = {  # of options whose value is text; numbers are one above the usual
    "--models": "vae",
    "--with": "/made",
    "--features": "clip",
    "--detector": "pixels",
    "--autoguidance": "earlier",
    "--ratios": "0.5,3",
    "--layout": "umap",
    "--task": "deblur",
    "--mask": "/m.png",
    "--maps": "outputs",
    "--layer": "block 3",
    "--levels": "0.3",
    "--level": "0.4",
    "--negative": "blue",
    "--prompt": "-dashed",
    "--sampler": "euler",
    "--spacing": "karras",
}
PAGES_OF_VERBS = [page for page in PAGES if isinstance(page, LabPage)]


def command(verb: str) -> Parser:
    module = next(module for name, module, _ in VERBS if name == verb)
    parser = Parser(verb)
    import_module(f"diffstudio.cli.{module}").add_arguments(parser)
    return parser


def options(verb: str) -> Iterator[argparse.Action]:
    for action in command(verb)._actions:
        if action.option_strings and not NO_FIELD.keys() & set(action.option_strings):
            yield action


def used(action: argparse.Action) -> list[str]:
    """The option with a value that is not the usual one."""
    flag = action.option_strings[0]
    if action.nargs == 0:
        return [flag]
    if flag in VALUES:
        return [flag, VALUES[flag]]
    if action.default is None:
        return [flag, "0.5" if flag in ("--false-alarm", "--cads") else "200"]
    return [flag, f"{float(action.default) + 1:g}"]


def texts_of(field: Field) -> str:
    widgets = [field, *field.findChildren(QWidget)]
    return " ".join(filter(None, (text for one in widgets for text in (one.accessibleName(), one.toolTip())))).lower()


def field_of(form: LabForm, flag: str) -> Field | None:
    """The field that writes the flag first; what no field knows ends up among the positional arguments."""
    for field in form.fields:
        if any(argument == flag or argument.startswith(f"{flag}=") for argument in field.arguments()[:1]):
            return field
    return None


@pytest.mark.parametrize("page", PAGES_OF_VERBS, ids=lambda page: page.verb)
def test_every_option_of_a_command_is_a_field_of_its_form(page: LabPage, qtbot: QtBot, dressed: QApplication) -> None:
    form = page.make_form()
    qtbot.addWidget(form)
    positional = POSITIONAL.get(page.verb, ["starter", "/photos"])
    missing, other_name = [], []
    assert any(options(page.verb))
    for action in options(page.verb):
        flag = action.option_strings[0]
        form.fill([*(one for one in positional if flag != "--minutes" or not one.startswith("--")), *used(action)])
        if (field := field_of(form, flag)) is None:
            missing.append(flag)
            continue
        words = OTHER_WORDS.get(flag, flag.strip("-").replace("-", " "))
        if flag in OTHER_WORDS and words not in (action.help or "").lower():
            other_name.append((flag, action.help))
        if words not in texts_of(field).replace("-", " "):
            other_name.append((flag, texts_of(field)))
    assert not missing and not other_name


@pytest.mark.parametrize("page", PAGES_OF_VERBS, ids=lambda page: page.verb)
def test_the_choices_of_a_form_are_those_that_the_command_names(
    page: LabPage, qtbot: QtBot, dressed: QApplication
) -> None:
    form = page.make_form()
    qtbot.addWidget(form)
    elsewhere = {
        "--features": next(one.help or "" for one in options("evaluate") if "--features" in one.option_strings),
        "--sampler": " ".join(SamplerName),  # as in `generate`, like the next
        "--spacing": " ".join(SpacingName),
    }
    for field in form.fields:
        if not isinstance(field, ChoiceField | SeveralField):
            continue
        (action,) = (one for one in options(page.verb) if field.flag in one.option_strings)
        known = f"{action.help} {elsewhere.get(field.flag, '')}"
        for value in field.values():
            assert value == "auto" or str(value) in known, (field.flag, value)


def test_no_choice_of_a_command_is_missing_in_its_form(qtbot: QtBot, dressed: QApplication) -> None:
    for verb, flag, known in (("anomalies", "--detector", ("auto", *TITLES)), ("compare", "--models", tuple(MODELS))):
        (page,) = (page for page in PAGES_OF_VERBS if page.verb == verb)
        form = page.make_form()
        qtbot.addWidget(form)
        (field,) = (one for one in form.fields if isinstance(one, ChoiceField | SeveralField) and one.flag == flag)
        assert tuple(field.values()) == known
