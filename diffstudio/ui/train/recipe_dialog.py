"""All values of a training recipe, to be changed: never into what cannot run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import StrEnum
from operator import attrgetter
from typing import Any, get_args, get_origin, get_type_hints

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QLineEdit, QPlainTextEdit, QVBoxLayout, QWidget

from diffstudio.errors import RunProblem
from diffstudio.training.network_sizes.recipe_size import size_problem
from diffstudio.training.recipe import Recipe, UpperRecipe
from diffstudio.training.recipe.data_recipe import MasksName
from diffstudio.training.recipe.limits import choices_of, is_of_kind, is_of_network, limits_of
from diffstudio.training.recipe.objective_recipe import NoiseLevelsName, WeightingName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.ui.train.recipe_labels import SECTIONS, SETTINGS, SettingText, choice_text
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.dialogs import FittedDialog, ask_to_discard
from diffstudio.ui.widgets.helpers import describe, label
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.combo_box import ComboBox

_TITLE = "All settings of the recipe"
# Set by the training time, by the choice of a recipe and of what it starts from, and when a run starts.
_ELSEWHERE = {
    "run.steps",
    "run.minutes",
    "run.schedule",
    "run.first_step",
    "run.end_step",
    "run.first_seconds",
    "objective.kind",
    "network.kind",
    "few_steps.enabled",
    "few_steps.teacher",
    "few_steps.teacher_sha256",
}
# Settings that only matter while another one has one of these values; with several others, any of them.
_MATTERS_WITH: dict[str, dict[str, tuple[object, ...]]] = {
    **{f"upper.{each.name}": {"upper.factor": (2, 4)} for each in dataclasses.fields(UpperRecipe)[1:]},
    "data.buckets": {"data.fit": ("auto", "bucket")},
    "data.unmasked_weight": {"data.masks": (MasksName.USE,)},
    "objective.noise_curve": {"objective.noise_levels": (NoiseLevelsName.CURVE,)},
    "objective.min_snr_gamma": {"objective.weighting": (WeightingName.MIN_SNR,)},
    "objective.sigma_data": {"objective.prediction": ("edm",), "objective.weighting": (WeightingName.EDM,)},
    "optimiser.muon_learning_rate": {"optimiser.name": (OptimiserName.MUON,)},
    "optimiser.muon_dtype": {"optimiser.name": (OptimiserName.MUON,)},
}


class RecipeDialog(FittedDialog):
    """Emits the recipe with the values that were entered, once it can run."""

    recipe_chosen = Signal(object)  # Recipe

    def __init__(self, recipe: Recipe, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(_TITLE)
        describe(self, _TITLE, " ")
        self.setMinimumWidth(380)
        self.resize(600, 10)
        self._recipe = recipe
        self.fields: dict[str, QWidget] = {}
        self._read: dict[str, Callable[[], Any]] = {}
        self._names: dict[str, QWidget] = {}  # the label and explanation of each field
        self.problem = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        self.cancel = SecondaryButton(actions.CANCEL, "", actions.CLOSE_WITHOUT_SAVING_TIP)
        self.accept_button = PrimaryButton("Use these settings", "", "Train with these settings")
        column, buttons = QVBoxLayout(), QHBoxLayout()
        column.setContentsMargins(24, 24, 24, 12)
        column.setSpacing(8)
        for section in SECTIONS:
            if section == (
                "upper" if recipe.few_steps.enabled else "few_steps"
            ):  # a distilled model has no upper level
                continue
            if (grid := self._section(section)).count():  # a VAE or U-Net has no upper level
                column.addSpacing(12 if column.count() else 0)
                column.addWidget(SectionLabel(SECTIONS[section]))
                column.addLayout(grid)
        buttons.setSpacing(8)
        buttons.addWidget(self.problem, 1)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.accept_button)
        self.set_contents(column, buttons)
        self.cancel.clicked.connect(self.reject)
        self.accept_button.clicked.connect(self._accept)
        self._before = self._values()
        self._check()

    def reject(self) -> None:
        """Close; ask first if settings were changed."""
        if self._values() != self._before:
            ask_to_discard(self, "the changed settings", super().reject)
        else:
            super().reject()

    def _values(self) -> dict[str, Any]:
        """What the fields hold, valid or not."""
        return {name: read() for name, read in self._read.items()}

    def recipe(self) -> Recipe:
        """The recipe with the values in the fields. RunProblem for a value that is invalid, and for sizes that do not fit."""
        values = self._recipe.to_json()
        for name, read in self._read.items():
            *sections, last = name.split(".")
            table = values
            for section in sections:
                table = table[section]
            table[_key_of(table, last)] = read()
        recipe = Recipe.from_json(values)
        if problem := size_problem(recipe):
            raise RunProblem(problem.rstrip("."))
        return recipe

    def _section(self, section: str) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(12)
        grid.setColumnStretch(0, 3)
        grid.setColumnStretch(1, 2)
        kind, network = self._recipe.objective.kind, self._recipe.network.kind
        fields = _fields(type(attrgetter(section)(self._recipe)), section)
        names = [one for one in fields if is_of_kind(one[0], kind) and is_of_network(one[0], network)]
        for row, (name, hint) in enumerate(names):
            field = self._field(name, hint, attrgetter(name)(self._recipe))
            text, limits = SETTINGS[name], limits_of(name)
            about = f"{text.explanation} ({limits[0]:g} to {limits[1]:g})" if limits else text.explanation
            describe(field, text.label, f"{about}. In the recipe's file: {name}")
            self._names[name] = _labels(text, field)
            grid.addWidget(self._names[name], row, 0)
            grid.addWidget(field, row, 1, Qt.AlignmentFlag.AlignTop)
            self.fields[name] = field
        return grid

    def _field(self, name: str, hint: Any, value: Any) -> QWidget:
        choices = list(hint) if isinstance(hint, type) and issubclass(hint, StrEnum) else list(choices_of(name))
        if choices:
            combo = ComboBox(SETTINGS[name].label, [(choice, choice_text(name, choice)) for choice in choices])
            combo.set_value(value)
            combo.chosen.connect(lambda _: self._check())
            self._read[name] = combo.value
            return combo
        if hint is bool:
            box = CheckBox("")
            box.setChecked(value)
            self._read[name] = box.isChecked
            return box
        if get_origin(hint) is tuple and get_args(hint)[0] is str:  # a prompt may hold commas
            lines = QPlainTextEdit("\n".join(value))
            lines.setTabChangesFocus(True)
            lines.setFixedHeight(theme.scaled(64))
            lines.setPlaceholderText("One per line")
            self._read[name] = lambda: [each.strip() for each in lines.toPlainText().splitlines() if each.strip()]
            return lines
        line = QLineEdit(_shown(value))
        line.textChanged.connect(lambda _: self._check())
        self._read[name] = lambda: _parsed(line.text(), hint)
        return line

    def _check(self) -> None:
        for name, others in _MATTERS_WITH.items():
            if name in self.fields:
                matters = any(self._read[other]() in values for other, values in others.items())
                self.fields[name].setVisible(matters)
                self._names[name].setVisible(matters)
        try:
            self.recipe()
        except RunProblem as problem:
            self.problem.setText(str(problem))
        else:
            self.problem.setText("")
        self.accept_button.setEnabled(not self.problem.text())

    def _accept(self) -> None:
        self.recipe_chosen.emit(self.recipe())
        self.accept()


def _fields(kind: type, section: str) -> list[tuple[str, Any]]:
    """The names, with those of their sections, and types of all values in a part of a recipe."""
    found: list[tuple[str, Any]] = []
    for name, hint in get_type_hints(kind).items():
        whole = f"{section}.{name}"
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            found += _fields(hint, whole)
        elif whole not in _ELSEWHERE:
            found.append((whole, hint))
    return found


def _labels(text: SettingText, field: QWidget) -> QWidget:
    """The label of a field, above its explanation."""
    whole = QWidget()
    column = QVBoxLayout(whole)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(0)
    name = label(text.label, wrap=True)
    name.setBuddy(field)
    column.addWidget(name)
    column.addWidget(label(text.explanation, "dim", pixels=theme.SMALL_PIXELS, wrap=True))
    column.addStretch(1)
    return whole


def _key_of(table: dict[str, Any], name: str) -> str:
    """The key of a value in a file, which is another than its name for one of them."""
    return name if name in table else "tell_augmentation"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_shown(each) for each in value)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _parsed(text: str, hint: Any) -> Any:
    """The value of a text. A text that is not a number is returned unchanged, and the recipe rejects it."""
    if get_origin(hint) is tuple:
        return [_parsed(part, get_args(hint)[0]) for part in text.split(",") if part.strip()]
    if hint is str:
        return text.strip()
    try:
        number = float(text)
    except ValueError:
        return text.strip()
    return int(number) if number.is_integer() and hint is int else number
