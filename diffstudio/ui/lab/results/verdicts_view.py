"""VerdictsView: what a comparison says of each model, with its evidence."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from diffstudio.studio.evaluations.views.comparison import SaidOfModel
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import label
from diffstudio.ui.widgets.wrapping_text import WrappingText

_TONES = {"poor": "bad", "fair": "warn", "unknown": "dim"}


class VerdictsView(QWidget):
    """For each model a heading, then sentences in the colour of their grade with the evidence of each seed."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: list[QLabel | WrappingText] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        self._column.addWidget(SectionLabel("Verdicts"))

    def show_verdicts(self, verdicts: Sequence[tuple[str, Sequence[SaidOfModel]]]) -> None:
        for widget in self._shown:
            self._column.removeWidget(widget)
            widget.hide()
            widget.deleteLater()
        self._shown = []
        for model, said in verdicts:
            self._add(label(model, bold=True, wrap=True))
            for one in said:
                self._add_text(one.sentence, _TONES.get(one.grade, "text"), f"Verdict on {model}")
                self._add_text("\n".join(one.evidence), "dim", f"Evidence on {model}")
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
