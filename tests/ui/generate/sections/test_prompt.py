"""The prompt's own line: how many tokens, what is cut; and Ctrl+Up, which makes a word stronger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QHelpEvent, QTextCursor
from PySide6.QtWidgets import QApplication, QToolTip
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.conditioning.prompt_weighting import TokenCount
from diffstudio.models.library.records import read_checkpoint
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.prompts.token_count import PromptTokenCount, count_tokens
from diffstudio.studio.settings import Settings
from diffstudio.ui.app import Desktop
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.sections.prompt import PromptEdit
from diffstudio.ui.widgets import theme
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed")
CTRL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def tiny() -> Checkpoint:
    """Reads four tokens."""
    return read_checkpoint(write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors"))


@pytest.fixture
def panel(qtbot: QtBot, tiny: Checkpoint) -> Panel:
    """Counts as the desktop does, but at once."""
    panel = Panel()
    qtbot.addWidget(panel)
    panel.resize(328, 900)
    panel.show()
    qtbot.waitExposed(panel)
    panel.token_count_requested.connect(
        lambda checkpoint, text: panel.show_token_count(checkpoint, text, count_tokens(checkpoint, text))
    )
    panel.set_checkpoints([tiny, checkpoint("sd", family="sd1", metadata={})])
    return panel


@pytest.fixture
def edit(qtbot: QtBot) -> PromptEdit:
    edit = PromptEdit("Prompt", "", "What it shows", 3)
    qtbot.addWidget(edit)
    edit.resize(300, edit.height())
    edit.show()
    qtbot.waitExposed(edit)
    return edit


def unread(edit: PromptEdit) -> str:
    return "".join(part.cursor.selectedText() for part in edit.extraSelections())


def test_tokens_are_counted_while_one_writes(qtbot: QtBot, panel: Panel) -> None:
    qtbot.keyClicks(panel.prompt, "red apple")
    qtbot.waitUntil(lambda: panel.prompt.count.text() == "2 / 4")
    assert panel.prompt.count.property("tone") == "dim"
    assert unread(panel.prompt) == ""
    assert panel.negative.count.text() == ""


def test_what_is_not_read_is_underlined_and_explained(qtbot: QtBot, panel: Panel) -> None:
    text = "red 😀😀"  # learnt as one word, and as four bytes each
    panel.prompt.set_text(text + ", rocket")
    qtbot.waitUntil(lambda: panel.prompt.count.property("tone") == "warn")
    assert unread(panel.prompt).endswith("rocket")
    assert not unread(panel.prompt).startswith("red")
    assert "is ignored" in panel.prompt.count.toolTip()
    assert panel.prompt.count.accessibleName() == f"Tokens: {panel.prompt.count.text()}"
    cursor = QTextCursor(panel.prompt.document())
    cursor.movePosition(QTextCursor.MoveOperation.End)
    cursor.movePosition(QTextCursor.MoveOperation.Left, n=3)
    at = panel.prompt.cursorRect(cursor).center()
    event = QHelpEvent(QEvent.Type.ToolTip, at, panel.prompt.viewport().mapToGlobal(at))
    QApplication.sendEvent(panel.prompt.viewport(), event)
    assert QToolTip.text() == panel.prompt.count.toolTip()
    QToolTip.hideText()
    panel.prompt.set_text("red")
    qtbot.waitUntil(lambda: panel.prompt.count.text() == "1 / 4")
    assert panel.prompt.extraSelections() == []


def test_a_negative_prompt_speaks_up_only_when_it_is_cut(qtbot: QtBot, panel: Panel) -> None:
    usual = panel.negative.height()
    panel.negative.set_text("red apple rocket, purple heart, grinning face")
    qtbot.waitUntil(lambda: panel.negative.count.text() != "")
    assert panel.negative.height() > usual
    panel.negative.set_text("red")
    qtbot.waitUntil(lambda: panel.negative.count.text() == "")
    assert panel.negative.height() == usual


def test_another_checkpoint_counts_otherwise(qtbot: QtBot, panel: Panel, tiny: Checkpoint) -> None:
    panel.prompt.set_text("red")
    qtbot.waitUntil(lambda: panel.prompt.count.text() == "1 / 4")
    asked: list[Checkpoint] = []
    panel.token_count_requested.disconnect()
    panel.token_count_requested.connect(lambda checkpoint, text: asked.append(checkpoint))
    other = checkpoint("sd", family="sd1", metadata={})
    panel.choose(other)
    qtbot.waitUntil(lambda: len(asked) == 2)  # for both fields
    panel.show_token_count(tiny, "red", PromptTokenCount(TokenCount(9, 9)))
    assert panel.prompt.count.text() == "1 / 4"  # an answer that comes too late is not shown
    panel.show_token_count(other, "red", PromptTokenCount(TokenCount(80, 150, 2)))
    assert panel.prompt.count.text() == "80 / 150"
    panel.show_token_count(other, "green", PromptTokenCount(TokenCount(5, 75)))
    assert panel.prompt.count.text() == "80 / 150"


def test_a_template_is_counted_as_drawn_or_said_to_be_broken(qtbot: QtBot, panel: Panel) -> None:
    panel.prompt.set_text("{red|red} apple")
    qtbot.waitUntil(lambda: panel.prompt.count.text() == "about 2 / 4")
    panel.prompt.set_text("{red apple")
    qtbot.waitUntil(lambda: panel.prompt.count.text() == "template error")
    assert "never closed" in panel.prompt.count.toolTip()


def test_tags_for_loras_are_not_counted(tiny: Checkpoint) -> None:
    assert count_tokens(tiny, "red <lora:a b:0.8> apple").tokens == TokenCount(2, 4)
    counted = count_tokens(tiny, "<lora:a:1> red rocket apple, red apple").tokens
    assert counted is not None
    assert counted.cut is not None
    assert "<lora:a:1> red rocket apple, red apple"[slice(*counted.cut)].endswith("apple")


@pytest.mark.parametrize("conditioning", [Conditioning.NONE, Conditioning.CLASS])
def test_without_a_prompt_nothing_is_counted(conditioning: Conditioning) -> None:
    assert count_tokens(checkpoint(conditioning=conditioning), "{") == PromptTokenCount()


def test_ctrl_up_makes_what_is_selected_stronger(qtbot: QtBot, edit: PromptEdit) -> None:
    edit.set_weighting_enabled(True)
    edit.set_text("a 😀 red cat")
    edit.moveCursor(QTextCursor.MoveOperation.Start)
    edit.find("red")
    qtbot.keyClick(edit, Qt.Key.Key_Up, CTRL)
    assert edit.text() == "a 😀 (red:1.1) cat"
    assert edit.textCursor().selectedText() == "red"
    qtbot.keyClick(edit, Qt.Key.Key_Up, CTRL)
    assert edit.text() == "a 😀 (red:1.2) cat"
    for _ in range(3):
        qtbot.keyClick(edit, Qt.Key.Key_Down, CTRL)
    assert edit.text() == "a 😀 (red:0.9) cat"
    edit.undo()
    assert edit.text() == "a 😀 red cat"
    assert "Ctrl+Up" in edit.toolTip()


def test_where_weights_mean_nothing_ctrl_up_changes_nothing(qtbot: QtBot, edit: PromptEdit) -> None:
    edit.set_text("red")
    edit.selectAll()
    qtbot.keyClick(edit, Qt.Key.Key_Up, CTRL)
    assert edit.text() == "red"
    assert "Ctrl+Up" not in edit.toolTip()


def test_only_up_and_alt_up_show_earlier_prompts(qtbot: QtBot) -> None:
    edit = PromptEdit("Prompt", "", "What it shows", 3, history=True)
    qtbot.addWidget(edit)
    edit.set_history(["newest", "older", "oldest"])
    for _ in range(2):
        qtbot.keyClick(edit, Qt.Key.Key_Up)
    for modifier in (CTRL, Qt.KeyboardModifier.ShiftModifier):  # weights, for other checkpoints; selecting
        for key in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            qtbot.keyClick(edit, key, modifier)
            assert edit.text() == "older"
    qtbot.keyClick(edit, Qt.Key.Key_Up)
    assert edit.text() == "oldest"


def test_the_marks_follow_the_theme(edit: PromptEdit, qapp: QApplication) -> None:
    edit.set_text("red apple")
    edit.show_token_count("red apple", PromptTokenCount(TokenCount(5, 2, cut=(4, 9))))
    dark = theme.colour("hint")
    theme.apply(qapp, "light")
    try:
        selection = edit.extraSelections()[0]
        assert selection.format.foreground().color() == theme.colour("hint") != dark
    finally:
        theme.apply(qapp, "dark")


@pytest.fixture
def desktop(qtbot: QtBot, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    monkeypatch.setattr(paths, "starter", lambda: paths.data() / "none")
    desktop = Desktop(Settings())
    qtbot.addWidget(desktop.window)
    desktop.window.show()
    yield desktop
    desktop.window.close()
    desktop.close()


def test_the_desktop_counts_beside_the_window(qtbot: QtBot, desktop: Desktop) -> None:
    panel = desktop.generate_room.panel
    qtbot.waitUntil(lambda: panel.checkpoint.current() is not None)
    qtbot.keyClicks(panel.prompt, "purple heart")
    qtbot.waitUntil(lambda: panel.prompt.count.text() == "2 / 4")
