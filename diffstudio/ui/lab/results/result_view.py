"""ResultView: the base of a page's result, made of parts such as a table, plots, pairs of images and sentences."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.wrapping_text import WrappingText


class ResultView(QWidget):
    """A column of parts. `show_result` gets the return value of `LabPage.read_result`."""

    message = Signal(str, str)  # kind, text
    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self) -> None:
        super().__init__()
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(16)

    @abstractmethod
    def show_result(self, result: Any) -> None: ...

    def use(self, live: LiveTasks) -> None:
        """Where tasks that need a network are submitted; called before the first result is shown."""

    def shut_down(self) -> None:
        """Stop the threads of the view, if it has any."""


class Sentences(QWidget):
    """Sentences below a heading; hidden if there are none."""

    def __init__(self, heading: str, tone: str = "dim") -> None:
        super().__init__()
        self._text = WrappingText("", tone)
        self._text.setAccessibleName(heading)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(SectionLabel(heading))
        column.addWidget(self._text)

    def show_sentences(self, sentences: Sequence[str]) -> None:
        self._text.set_text("\n".join(filter(None, sentences)))
        self.setVisible(bool(self._text.text()))

    def text(self) -> str:
        return self._text.text()


class HowToRead(Sentences):
    """An explanation of the measures of a page."""

    def __init__(self) -> None:
        super().__init__("How to read it")
