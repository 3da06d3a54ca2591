"""Legend: what the marks on a map mean; each entry shows or hides its points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, Signal
from PySide6.QtWidgets import QWidget

from diffstudio.studio.evaluations.plots.scatter import Group
from diffstudio.ui.lab.image_map.colours import mark_icon
from diffstudio.ui.widgets.controls import Chip
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout


class Legend(QWidget):
    hidden_changed = Signal(object)  # frozenset of the numbers of groups

    _groups: Sequence[Group] = ()  # Qt sends change events before it is built

    def __init__(self) -> None:
        super().__init__()
        self.chips: list[Chip] = []
        self._flow = FlowLayout(self)
        describe(self, "Legend", " ")

    def show_groups(self, groups: Sequence[Group], group: NDArray[np.int64]) -> None:
        """An entry for each group, with the number of its points; all of them shown."""
        for chip in self.chips:
            self._flow.removeWidget(chip)
            chip.hide()
            chip.deleteLater()
        counts = Counter(group.tolist())
        self.chips = [
            Chip(f"{one.name} ({counts[number]:,})", tooltip=f"Show or hide: {one.name}")
            for number, one in enumerate(groups)
        ]
        for chip in self.chips:
            chip.setChecked(True)
            chip.clicked.connect(lambda _: self.hidden_changed.emit(self.hidden()))
            self._flow.addWidget(chip)
        self._groups = groups
        self._draw()

    def hidden(self) -> frozenset[int]:
        return frozenset(number for number, chip in enumerate(self.chips) if not chip.isChecked())

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._draw()

    def _draw(self) -> None:
        for one, chip in zip(self._groups, self.chips, strict=True):
            chip.setIcon(mark_icon(one))
