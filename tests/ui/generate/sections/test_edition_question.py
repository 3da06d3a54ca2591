"""The question which edition a checkpoint is of, in the Generate room."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.models.library.library import Library
from diffstudio.ui.generate.panel import Panel
from tests.models import headers
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed")


@pytest.fixture
def panel(qtbot: QtBot, tmp_path: Path) -> Panel:
    headers.write_header(tmp_path / "mix.safetensors", headers.comfy_z_image())
    library = Library([tmp_path])
    panel = Panel()
    qtbot.addWidget(panel)
    panel.resize(328, 900)
    panel.rescan_requested.connect(lambda: panel.set_checkpoints([checkpoint(), *library.scan()]))
    panel.show()
    qtbot.waitExposed(panel)
    panel.rescan_requested.emit()
    return panel


def settings(panel: Panel) -> tuple[int, float]:
    request = panel.request()
    return request.steps, request.guidance


def test_it_is_answered_with_a_click(panel: Panel, qtbot: QtBot) -> None:
    question = panel.edition_question
    assert panel.request().checkpoint == "starter" and not question.isVisibleTo(panel)
    assert panel.checkpoint.choose("mix")
    panel.checkpoint.chosen.emit(panel.checkpoint.current())
    assert question.isVisibleTo(panel) and "Turbo, Base, Omni?" in question.question.text()
    assert settings(panel) == (9, 0.0)
    qtbot.mouseClick(question.buttons["Base"], Qt.MouseButton.LeftButton)
    assert not question.isVisibleTo(panel) and settings(panel) == (50, 5.0)
    panel.rescan_requested.emit()
    assert panel.request().checkpoint == "mix" and not question.isVisibleTo(panel)


def test_an_answer_that_cannot_be_saved_is_reported(panel: Panel, qtbot: QtBot) -> None:
    paths.overrides().parent.mkdir(parents=True, exist_ok=True)
    paths.overrides().write_text("{", encoding="utf-8")
    panel.checkpoint.choose("mix")
    panel.checkpoint.chosen.emit(panel.checkpoint.current())
    with qtbot.waitSignal(panel.message) as said:
        qtbot.mouseClick(panel.edition_question.buttons["Turbo"], Qt.MouseButton.LeftButton)
    assert str(paths.overrides()) in said.args[0] and panel.edition_question.isVisibleTo(panel)
