"""Buttons that add something to a request (LoRA, img2img, ControlNet): short side by side, long when alone."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import describe, set_style_property


class AddButton(SecondaryButton):
    """Shows `text`, or `short_text` beside other buttons; its accessible name is always `text`."""

    def __init__(self, text: str, short_text: str, icon: str, tooltip: str = "") -> None:
        super().__init__(text, icon, tooltip)
        self._text, self._short_text, self._brief = text, short_text, False

    def set_texts(self, text: str, tooltip: str) -> None:
        self._text = text
        describe(self, text, tooltip)
        self.set_brief(self._brief)

    def set_brief(self, brief: bool) -> None:
        self._brief = brief
        set_style_property(self, "brief", brief)
        self.setText(self._short_text if brief else self._text)


class AddButtons(QWidget):
    """The visible buttons in one row, hidden when there are none."""

    def __init__(self, buttons: Sequence[AddButton]) -> None:
        super().__init__()
        self._buttons = tuple(buttons)
        row = self._row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        for button in buttons:
            hidden = button.isHidden()
            row.addWidget(button, 1)
            button.setVisible(not hidden)  # Qt hides a widget that changes its parent
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            button.installEventFilter(self)
        self._update_state()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.ShowToParent, QEvent.Type.HideToParent):
            self._update_state()
        return super().eventFilter(watched, event)

    def _update_state(self) -> None:
        shown = [button for button in self._buttons if not button.isHidden()]
        for button in shown:
            button.set_brief(len(shown) > 1)
            self._row.setStretchFactor(button, button.sizeHint().width())  # wider for a longer text
        self.setVisible(bool(shown))
