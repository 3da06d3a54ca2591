"""The seed: a number, and whether each request uses a new one."""

from __future__ import annotations

import secrets

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from diffstudio.studio.requests.limits import LARGEST_SEED
from diffstudio.ui.widgets import terms
from diffstudio.ui.widgets.controls import Chip, SecondaryButton
from diffstudio.ui.widgets.helpers import describe, label, set_style_property, takes_text_only

LARGEST_DRAWN = 2**32 - 1  # 32 bits: every other program accepts such a seed


def new_seed() -> int:
    return secrets.randbelow(LARGEST_DRAWN + 1)


class SeedControl(QWidget):
    """`next_seed()` is the seed of the next request: random, or the fixed one."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.field = QLineEdit(str(new_seed()))
        takes_text_only(self.field)
        describe(self.field, terms.SEED, "The random seed: the same seed and settings give the same image")
        self.dice = SecondaryButton("", "dice-five", "New random seed", role="dim")
        self.random = Chip("Random", tooltip="A new random seed for every request", icon="shuffle")
        self.fixed = Chip("Fixed", tooltip="Use this seed for every request", icon="push-pin")
        self.group = QButtonGroup(self)
        for chip in (self.random, self.fixed):
            self.group.addButton(chip)
        self.random.setChecked(True)
        self._name = label(terms.SEED)
        self._name.setBuddy(self.field)
        column, row, chips = QVBoxLayout(self), QHBoxLayout(), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        row.setSpacing(4)
        row.addWidget(self.field, 1)
        row.addWidget(self.dice)
        chips.setSpacing(6)
        chips.addWidget(self.random)
        chips.addWidget(self.fixed)
        chips.addStretch(1)
        column.addWidget(self._name)
        column.addLayout(row)
        column.addSpacing(4)
        column.addLayout(chips)
        self.dice.clicked.connect(lambda: self._set_and_notify(new_seed()))
        self.field.textEdited.connect(self._edited)
        self.group.buttonClicked.connect(self.changed)

    def problem(self, count: int = 1) -> str:
        """Why the seed is invalid, or an empty string."""
        text = self.field.text().strip().replace(",", "").replace(" ", "")
        if not text.isascii() or not text.isdigit():
            return "The seed must be a whole number, 0 or more."
        if int(text[:40]) > LARGEST_SEED - count + 1:
            return f"The largest seed is {LARGEST_SEED - count + 1:,}."
        return ""

    def value(self) -> int:
        """The seed as shown. ValueError when it is invalid."""
        if self.problem():
            raise ValueError(self.problem())
        return int(self.field.text().strip().replace(",", "").replace(" ", ""))

    def is_fixed(self) -> bool:
        return self.fixed.isChecked()

    def next_seed(self) -> int:
        if not self.is_fixed():
            self.field.setText(str(new_seed()))
            set_style_property(self.field, "wrong", False)
        return self.value()

    def set_fixed(self, seed: int) -> None:
        """Show this seed and keep it."""
        self.field.setText(str(seed))
        self.fixed.setChecked(True)
        set_style_property(self.field, "wrong", False)

    def restore(self, text: str, *, is_fixed: bool) -> None:
        """Show a text as it was typed, valid or not."""
        self.field.setText(text)
        (self.fixed if is_fixed else self.random).setChecked(True)
        set_style_property(self.field, "wrong", bool(self.problem()))

    def _set_and_notify(self, seed: int) -> None:
        self.set_fixed(seed)
        self.changed.emit()

    def _edited(self) -> None:
        self.fixed.setChecked(True)  # a seed that was typed is meant to be used
        set_style_property(self.field, "wrong", bool(self.problem()))
        self.changed.emit()
