"""What tests of the window share: the application dressed as people see it, and the loop its waiting runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import qasync
from PySide6.QtWidgets import QApplication

from diffstudio.ui.widgets import icons, theme


@pytest.fixture(autouse=True)
def waiting_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """asyncio's loop over Qt's, which pytest-qt runs piece by piece.

    qasync's `already_running` would do the same, but ends with `QApplication.exit()`, after which no wait of pytest-qt
    waits any more.
    """
    if "qtbot" not in request.fixturenames:
        yield
        return
    loop = qasync.QEventLoop(request.getfixturevalue("qapp"))
    asyncio.events._set_running_loop(loop)
    yield
    asyncio.events._set_running_loop(None)
    loop.close()


@pytest.fixture
def dressed(qapp: QApplication) -> QApplication:
    """With the fonts and the dark theme."""
    if "Inter" not in theme.font().families():
        icons.load_fonts()
    theme.apply(qapp, "dark")
    return qapp
