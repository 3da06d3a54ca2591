"""VerdictsView: what a comparison says of each model, with the measures that it is based on."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from diffstudio.studio.evaluations.views.comparison import ModelVerdicts
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import label
from diffstudio.ui.widgets.wrapping_text import WrappingText

_TONES = {"poor": "bad", "fair": "warn", "unknown": "dim"}


class VerdictsView(QWidget):
    """For each model a heading, sentences in the colour of their grade, and the measures over its seeds."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: list[QLabel | WrappingText] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        self._column.addWidget(SectionLabel("Verdicts"))

    def show_verdicts(self, verdicts: Sequence[ModelVerdicts]) -> None:
        for widget in self._shown:
            self._column.removeWidget(widget)
            widget.hide()
            widget.deleteLater()
        self._shown = []
        for one in verdicts:
            heading = label(one.model, bold=True, wrap=True)
            heading.setContentsMargins(0, 8 if self._shown else 0, 0, 0)
            self._add(heading)
            for said in one.said:
                self._add_text(said.sentence, _TONES.get(said.grade, "text"), f"Verdict on {one.model}")
            self._add_text(one.evidence, "dim", f"Evidence on {one.model}")
        self.setVisible(bool(verdicts))

    def text(self) -> str:
        """Everything that is shown, as lines."""
        return "\n".join(widget.text() for widget in self._shown)

    def _add_text(self, text: str, tone: str, name: str) -> None:
        if text:
            shown = WrappingText(text, tone)
            shown.setAccessibleName(name)
            self._add(shown)

    def _add(self, widget: QLabel | WrappingText) -> None:
        self._shown.append(widget)
        self._column.addWidget(widget)
