"""The page Noise schedule: a curve to draw, with what a model makes of it."""

from __future__ import annotations

from diffstudio.ui.lab.noise_schedule.view import SHOWS, TITLE, NoiseScheduleView
from diffstudio.ui.lab.page import InteractivePage

PAGE = InteractivePage("noise-schedule", TITLE, "waves", SHOWS, NoiseScheduleView)
