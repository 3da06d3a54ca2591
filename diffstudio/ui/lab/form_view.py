"""FormView: a page before a job is started, with a description, its form and the start button."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.ui.lab.page import LabPage
from diffstudio.ui.widgets import shortcuts, theme
from diffstudio.ui.widgets.controls import PrimaryButton
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, describe, label, scroll_area, set_tooltip

WIDEST = 560  # px, largest width of a form


class FormView(QWidget):
    """The form of one page. `start_requested` carries its arguments and the name of the job."""

    start_requested = Signal(object, str)  # list[str], name

    def __init__(self, page: LabPage) -> None:
        super().__init__()
        self.page, self.form = page, page.make_form()
        keys = shortcuts.START_JOB.text()
        self.start = PrimaryButton(page.start, keys, f"Start in a separate process ({keys})")
        self.problem = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(24, 20, 24 - SCROLL_BAR_WIDTH, 12)
        column.setSpacing(12)
        for part in (label(page.title, pixels=18, bold=True), label(page.shows, "dim", wrap=True), self.form):
            column.addWidget(part)
        column.addStretch(1)
        sides = column.contentsMargins().left() + column.contentsMargins().right()
        contents.setMaximumWidth(theme.scaled(WIDEST) + sides)  # of all, so that texts wrap at the width they get
        bottom = QHBoxLayout()
        bottom.setContentsMargins(24, 8, 24, 16)
        bottom.setSpacing(12)
        bottom.addWidget(self.start)
        bottom.addWidget(self.problem, 1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(scroll_area(contents), 1)
        whole.addLayout(bottom)
        describe(self, page.title)
        set_tooltip(self, "")
        self.setFocusProxy(self.form)
        self.form.changed.connect(self._update)
        self.start.clicked.connect(self._start)
        shortcuts.bind_in_window(shortcuts.START_JOB, self, self.start.click)
        self._update()

    def _update(self) -> None:
        problem = self.form.problem()
        self.problem.setText(f"{problem}." if problem else self.form.about())
        self.start.setEnabled(not problem)

    def _start(self) -> None:
        if not self.form.problem():
            self.start_requested.emit(self.form.arguments(), self.form.job_name())
