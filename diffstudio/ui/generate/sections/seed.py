"""The seed: a number to type, and whether each press of Generate takes a new one."""

from __future__ import annotations

import secrets

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from diffstudio.studio.requests import LARGEST_SEED
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import describe, label, set_style_property
from diffstudio.ui.widgets.inputs import Chip

LARGEST_DRAWN = 2**32 - 1  # a seed drawn here is one that every other program takes too


def new_seed() -> int:
    return secrets.randbelow(LARGEST_DRAWN + 1)


class SeedControl(QWidget):
    """`next()` is the seed of the request that is about to be made: a new one, or the one that is kept."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.field = QLineEdit(str(new_seed()))
        describe(
            self.field,
            "Seed",
            "The number that the noise is made from: the same seed and settings make the same picture",
        )
        self.dice = SecondaryButton("", "dice-five", "Draw a new seed now", role="dim")
        self.new = Chip("New each time", tooltip="Every press of Generate draws a new seed", icon="shuffle")
        self.keep = Chip("Keep", tooltip="Every press of Generate uses this seed", icon="push-pin")
        self.group = QButtonGroup(self)
        for chip in (self.new, self.keep):
            self.group.addButton(chip)
        self.new.setChecked(True)
        self._name = label("Seed")
        self._name.setBuddy(self.field)
        column, row, chips = QVBoxLayout(self), QHBoxLayout(), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        row.setSpacing(4)
        row.addWidget(self.field, 1)
        row.addWidget(self.dice)
        chips.setSpacing(6)
        chips.addWidget(self.new)
        chips.addWidget(self.keep)
        chips.addStretch(1)
        column.addWidget(self._name)
        column.addLayout(row)
        column.addSpacing(4)
        column.addLayout(chips)
        self.dice.clicked.connect(lambda: self._take(new_seed()))
        self.field.textEdited.connect(self._edited)

    def problem(self, count: int = 1) -> str:
        """Why the number cannot be used, or nothing."""
        text = self.field.text().strip().replace(",", "").replace(" ", "")
        if not text.isascii() or not text.isdigit():
            return "The seed is a whole number: 0 or more, digits alone."
        if int(text[:40]) > LARGEST_SEED - count + 1:
            return f"The seed is at most {LARGEST_SEED - count + 1:,}."
        return ""

    def value(self) -> int:
        """As shown. ValueError where `problem()` says something."""
        if self.problem():
            raise ValueError(self.problem())
        return int(self.field.text().strip().replace(",", "").replace(" ", ""))

    def keeps(self) -> bool:
        return self.keep.isChecked()

    def next(self) -> int:
        if not self.keeps():
            self.field.setText(str(new_seed()))
            set_style_property(self.field, "wrong", False)
        return self.value()

    def set_kept(self, seed: int) -> None:
        """Show this one and keep it."""
        self.field.setText(str(seed))
        self.keep.setChecked(True)
        set_style_property(self.field, "wrong", False)

    def _take(self, seed: int) -> None:
        self.set_kept(seed)
        self.changed.emit()

    def _edited(self) -> None:
        self.keep.setChecked(True)  # whoever types a seed means it
        set_style_property(self.field, "wrong", bool(self.problem()))
        self.changed.emit()
