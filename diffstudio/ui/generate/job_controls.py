"""The buttons below the canvas: Pause, Stop, Use settings, Restart from a step."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QWidget

from diffstudio.ui.generate import labels
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel, set_tooltip

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
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        for button in (self.pause, self.stop, self.use_settings, self.restart):
            row.addWidget(button)
        row.addWidget(self.hint, 1)
        row.addStretch(0)
        self.setFixedHeight(_HEIGHT)

    def show_job(self, *, busy: bool, paused: bool) -> None:
        """Show Pause, or Resume, and Stop while a job runs."""
        self.pause.setVisible(busy)
        self.stop.setVisible(busy)
        self.pause.setText("Resume" if paused else "Pause")
        self.pause.set_icon("play-fill" if paused else "pause-fill")
        self.pause.setAccessibleName(self.pause.text())
        set_tooltip(self.pause, "Resume (Ctrl+P)" if paused else labels.PAUSE_TIP)

    def show_restart(self, step: int | None, *, resumes: bool = False, takes_prompt: bool = False) -> None:
        """Show Restart from `step`, or Resume if that is the first step not made yet; None hides the button.

        `takes_prompt`: the restarted job uses the current prompt and CFG scale.
        """
        self.restart.setVisible(step is not None)
        if step is None:
            return
        self.restart.setText(f"Resume from step {step}" if resumes else f"Restart from step {step}")
        self.restart.set_icon("play-fill" if resumes else "arrow-counter-clockwise")
        self.restart.setAccessibleName(self.restart.text())
        kept = {1: "Generate it again", 2: "Keep the first step and continue from there"}.get(
            step, f"Keep the first {step - 1} steps and continue from there"
        )
        set_tooltip(self.restart, f"{kept}{', with the current prompt and CFG scale' if takes_prompt else ''}")

    def job_button_has_focus(self) -> bool:
        return self.pause.hasFocus() or self.stop.hasFocus()

    def set_narrow(self, narrow: bool) -> None:
        """Show Use settings as an icon alone."""
        self.use_settings.setText("" if narrow else actions.USE_SETTINGS)
