"""A row of chips, one or several of which are selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QWidget

from diffstudio.ui.widgets.controls import Chip
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout


class ChipRow(QWidget):
    """Chips in rows that wrap. `value_changed` carries the value (exclusive) or a tuple of the selected values."""

    value_changed = Signal(object)

    def __init__(
        self, choices: Sequence[tuple[Any, str]], exclusive: bool = True, tooltips: Sequence[str] = (), name: str = ""
    ) -> None:
        super().__init__()
        self._exclusive = exclusive
        self._values = [value for value, _ in choices]
        self._chips = [
            Chip(text, tooltip=tooltips[index] if index < len(tooltips) else "")
            for index, (_, text) in enumerate(choices)
        ]
        if name:
            describe(self, name)
        self._group = QButtonGroup(self)
        self._group.setExclusive(exclusive)
        flow = FlowLayout(self)
        for index, chip in enumerate(self._chips):
            flow.addWidget(chip)
            self._group.addButton(chip, index)
        if exclusive and self._chips:
            self._chips[0].setChecked(True)
        self._group.idClicked.connect(lambda _: self.value_changed.emit(self.value()))

    def value(self) -> Any:
        on = tuple(value for value, chip in zip(self._values, self._chips, strict=True) if chip.isChecked())
        return (on[0] if on else None) if self._exclusive else on

    def set_value(self, value: Any) -> None:
        """Select one value (or None), or a sequence of values when not exclusive."""
        selected = (value,) if self._exclusive else tuple(value)
        self._group.setExclusive(False)
        for each, chip in zip(self._values, self._chips, strict=True):
            chip.setChecked(each in selected)
        self._group.setExclusive(self._exclusive)

    def chip(self, value: Any) -> Chip:
        return self._chips[self._values.index(value)]
