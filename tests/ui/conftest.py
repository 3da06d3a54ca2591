"""What tests of the window share: the application dressed as people see it."""

from __future__ import annotations

import pytest
from PySide6.QtWidgets import QApplication

from diffstudio.ui import assets, theme


@pytest.fixture
def dressed(qapp: QApplication) -> QApplication:
    """With the fonts and the dark theme."""
    if "Inter" not in theme.font().families():
        assets.load_fonts()
    theme.apply(qapp, "dark")
    return qapp
