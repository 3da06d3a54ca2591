"""Buttons that add something to a request, side by side: a word each, or a whole sentence where one stands alone."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import describe, set_style_property


class AddButton(SecondaryButton):
    """Its accessible name is the sentence, whichever is shown."""

    def __init__(self, sentence: str, word: str, icon: str, tooltip: str = "") -> None:
        super().__init__(sentence, icon, tooltip)
        self._sentence, self._word, self._brief = sentence, word, False

    def set_texts(self, sentence: str, tooltip: str) -> None:
        self._sentence = sentence
        describe(self, sentence, tooltip)
        self.set_brief(self._brief)

    def set_brief(self, brief: bool) -> None:
        self._brief = brief
        set_style_property(self, "brief", brief)
        self.setText(self._word if brief else self._sentence)


class AddButtons(QWidget):
    """Those of the buttons that are not hidden, equally wide; hidden itself where all are."""

    def __init__(self, buttons: Sequence[AddButton]) -> None:
        super().__init__()
        self._buttons = tuple(buttons)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        for button in buttons:
            hidden = button.isHidden()
            row.addWidget(button, 1)
            button.setVisible(not hidden)  # one that changes its parent is hidden
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            button.installEventFilter(self)
        self._follow()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.ShowToParent, QEvent.Type.HideToParent):
            self._follow()
        return super().eventFilter(watched, event)

    def _follow(self) -> None:
        shown = [button for button in self._buttons if not button.isHidden()]
        for button in shown:
            button.set_brief(len(shown) > 1)
        self.setVisible(bool(shown))
