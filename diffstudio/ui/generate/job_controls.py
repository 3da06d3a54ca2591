"""The buttons below the canvas: Pause, Stop, Use settings, Restart from a step."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QWidget

from diffstudio.ui.generate import labels
from diffstudio.ui.generate.job_state import Restart
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel, set_tooltip
from diffstudio.ui.widgets.text_size import fix_size

_HEIGHT = 34  # px


class JobControls(QWidget):
    """Shows the buttons that apply to the state of the job, and a hint to the right of them."""

    def __init__(self) -> None:
        super().__init__()
        self.pause = SecondaryButton("Pause", "pause-fill")
        self.stop = SecondaryButton(actions.STOP, "stop-fill", "Stop after the current network call (Ctrl+.)")
        self.use_settings = SecondaryButton(actions.USE_SETTINGS, "sliders-horizontal", actions.USE_SETTINGS_TIP)
        self.restart = SecondaryButton("Restart from step 1", "arrow-counter-clockwise")
        self.hint = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._row = row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        for button in (self.pause, self.stop, self.use_settings, self.restart):
            row.addWidget(button)
        row.addWidget(self.hint, 1)
        row.addStretch(0)
        fix_size(self, height=_HEIGHT)

    def show_job(self, *, busy: bool, paused: bool) -> None:
        """Show Pause, or Resume, and Stop while a job runs."""
        self.pause.setVisible(busy)
        self.stop.setVisible(busy)
        text = "Resume" if paused else "Pause"
        self.pause.set_icon("play-fill" if paused else "pause-fill")
        self.pause.setAccessibleName(text)
        set_tooltip(self.pause, "Resume (Ctrl+P)" if paused else labels.PAUSE_TIP)
        self.fit()

    def show_restart(self, restart: Restart | None) -> None:
        """Show Restart from a step, or Resume if that is the first step not made yet; None hides the button."""
        self.restart.setVisible(restart is not None)
        if restart is None:
            self.fit()
            return
        step, count = restart.step, restart.request.count if restart.request is not None else 1
        self.restart.setText(f"Resume from step {step}" if restart.resumes else f"Restart from step {step}")
        self.restart.set_icon("play-fill" if restart.resumes else "arrow-counter-clockwise")
        self.restart.setAccessibleName(self.restart.text())
        kept = {1: "Generate it again", 2: "Keep the first step and continue from there"}.get(
            step, f"Keep the first {step - 1} steps and continue from there"
        )
        images = f", all {count} images" if count > 1 else ""
        settings = ", with the current prompt and CFG scale" if restart.takes_prompt else ", with the same settings"
        set_tooltip(self.restart, f"{kept}{images}{settings}")
        self.fit()

    def job_button_has_focus(self) -> bool:
        return self.pause.hasFocus() or self.stop.hasFocus()

    def fit(self) -> None:
        """Show all buttons but Restart as icons alone where their texts do not fit beside each other."""
        texts = (
            (self.pause, self.pause.accessibleName()),
            (self.stop, actions.STOP),
            (self.use_settings, actions.USE_SETTINGS),
        )
        for button, text in texts:
            button.setText(text)
        shown = [each for each in (self.pause, self.stop, self.use_settings, self.restart) if not each.isHidden()]
        if sum(each.sizeHint().width() + self._row.spacing() for each in shown) > self.width():
            for button, _ in texts:
                button.setText("")

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit()
