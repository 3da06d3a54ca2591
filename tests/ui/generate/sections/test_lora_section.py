"""LoRAs beside the prompt: choosing writes a tag, sliders move its number, and the text moves the sliders."""

from __future__ import annotations

import json

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QTextCursor
from PySide6.QtWidgets import QPushButton, QSlider
from pytestqt.qtbot import QtBot

from diffstudio.models.detection.types import Role
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.prompts.lora_tags import lora_tags
from diffstudio.studio.prompts.wildcards import expand
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.sections.lora_section import LoraPicker
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed", "home")
SD1 = checkpoint("sd1", family="sd1", width=512, height=512, metadata={})
XL = checkpoint("xl", family="sdxl", width=1024, height=1024, metadata={})
STYLE = checkpoint(
    "Style One",
    family="sd1",
    role=Role.LORA,
    metadata={"ss_output_name": "by-training", "ss_tag_frequency": json.dumps({"a": {"sks (hat)": 9, "cat": 2}})},
)
SIGNS = checkpoint("my__style__{v2}", family="sd1", role=Role.LORA, metadata={})
XL_STYLE = checkpoint("xl style", family="sdxl", role=Role.LORA, metadata={})
WORD = checkpoint("charmander", family="sd1", role=Role.EMBEDDING, metadata={})
LEFT_OUT = checkpoint("EasyNegative", family="sd1", role=Role.EMBEDDING, metadata={})
MODELS = [checkpoint(), SD1, XL, STYLE, SIGNS, XL_STYLE, WORD, LEFT_OUT]


@pytest.fixture
def panel(qtbot: QtBot) -> Panel:
    panel = Panel()
    qtbot.addWidget(panel)
    panel.resize(328, 1000)
    panel.set_checkpoints(MODELS)
    panel.choose(SD1)
    panel.show()
    qtbot.waitExposed(panel)
    return panel


def names(picker: LoraPicker) -> list[str]:
    return [picker.list.item(index).text() for index in range(picker.list.count())]


def test_what_fits_is_offered_and_one_is_chosen(panel: Panel, qtbot: QtBot) -> None:
    panel.prompt.set_text("a cat")
    picker = panel.loras.open_picker()
    assert names(picker) == ["my__style__{v2}", "Style One", "charmander", "EasyNegative"]
    assert not picker.search.isVisible()
    qtbot.keyClick(picker.list, Qt.Key.Key_Down)
    qtbot.keyClick(picker.list, Qt.Key.Key_Return)
    assert panel.prompt.text() == "a cat <lora:Style One:0.8>" and not picker.isVisible()
    (row,) = panel.loras.rows
    assert row.slider.value() == 0.8 and not row.warning.isVisible()
    assert panel.loras.add_button.accessibleName() == "Add another LoRA…"
    panel.use_lora(STYLE)
    assert panel.prompt.text() == "a cat <lora:Style One:0.8>"  # once is enough


def test_among_many_one_is_searched(panel: Panel, qtbot: QtBot) -> None:
    others = [checkpoint(f"other {number}", family="sd1", role=Role.LORA, metadata={}) for number in range(9)]
    panel.set_checkpoints([*MODELS, *others])
    picker = panel.loras.open_picker()
    qtbot.waitExposed(picker)
    assert picker.search.isVisible()
    for typed, found in (("one st", ["Style One"]), ("SKS", ["Style One"]), ("nothing", [])):
        picker.search.clear()
        qtbot.keyClicks(picker.search, typed)
        assert names(picker) == found
    qtbot.keyClick(picker.search, Qt.Key.Key_Return)
    assert panel.prompt.text() == ""
    picker.search.setText("other 7")
    qtbot.keyClick(picker.search, Qt.Key.Key_Return)
    assert panel.prompt.text() == "<lora:other 7:0.8>"


def test_the_slider_writes_its_number_into_the_prompt(panel: Panel) -> None:
    panel.prompt.set_text("a <lora:Style One:0.8:0.5> cat <lora:by-training:1>")
    panel.prompt.moveCursor(QTextCursor.MoveOperation.Start)
    one, two = panel.loras.rows
    assert (one.slider.value(), two.slider.value()) == (0.5, 1.0) and two.lora == STYLE
    for position in (-10, -20, -27):
        two.slider._slider.setValue(position)
    assert panel.prompt.text() == "a <lora:Style One:0.8:0.5> cat <lora:by-training:-1.35>"
    one.slider._slider.setValue(40)
    assert panel.prompt.text() == "a <lora:Style One:0.8:2> cat <lora:by-training:-1.35>"
    assert panel.loras.rows == [one, two] and panel.prompt.textCursor().position() == 0
    panel.prompt.undo()
    panel.prompt.undo()  # one move of the hand is one step
    assert panel.prompt.text() == "a <lora:Style One:0.8:0.5> cat <lora:by-training:1>"
    assert (one.slider.value(), two.slider.value()) == (0.5, 1.0)


def test_the_text_moves_the_slider(panel: Panel, qtbot: QtBot) -> None:
    qtbot.keyClicks(panel.prompt, "<lora:Style One:0.2>")
    (row,) = panel.loras.rows
    assert row.slider.value() == 0.2
    panel.prompt.moveCursor(QTextCursor.MoveOperation.Left)
    qtbot.keyClicks(panel.prompt, "5")
    assert row.slider.value() == 0.25 and panel.loras.rows == [row]
    panel.prompt.set_text("<lora:Style One:7>")
    assert row.slider.value() == 7.0  # beyond the slider's usual end
    panel.prompt.set_text("a cat")
    assert panel.loras.rows == [] and not panel.loras.heading.isVisible()


def test_words_it_was_trained_with_are_added_before_the_tags(panel: Panel, qtbot: QtBot) -> None:
    panel.prompt.set_text("a dog <lora:Style One:0.8>")
    sks, cat = panel.loras.rows[0].trigger_chips
    assert (sks.text(), cat.text()) == ("sks (hat)", "cat")
    qtbot.mouseClick(cat, Qt.MouseButton.LeftButton)
    assert panel.prompt.text() == "a dog, cat <lora:Style One:0.8>" and not cat.isEnabled()
    qtbot.mouseClick(sks, Qt.MouseButton.LeftButton)
    assert panel.prompt.text() == r"a dog, cat, sks \(hat\) <lora:Style One:0.8>" and not sks.isEnabled()
    panel.prompt.set_text("<lora:Style One:0.8>")
    qtbot.mouseClick(panel.loras.rows[0].trigger_chips[1], Qt.MouseButton.LeftButton)
    assert panel.prompt.text() == "cat <lora:Style One:0.8>"
    panel.prompt.set_text("concatenated <lora:Style One:0.8>")
    qtbot.mouseClick(panel.loras.rows[0].trigger_chips[1], Qt.MouseButton.LeftButton)
    assert panel.prompt.text() == "concatenated, cat <lora:Style One:0.8>"


def test_learnt_words_go_where_they_belong(panel: Panel) -> None:
    panel.prompt.set_text("a cat")
    panel.use_lora(WORD)
    panel.use_lora(LEFT_OUT)
    panel.use_lora(LEFT_OUT)
    assert (panel.prompt.text(), panel.negative.text()) == ("a cat, charmander", "EasyNegative")


def test_names_with_the_signs_of_templates_mean_themselves(panel: Panel) -> None:
    panel.use_lora(SIGNS)
    (row,) = panel.loras.rows
    assert row.lora == SIGNS and row.problem == ""
    row.slider._slider.setValue(10)
    text, (use,) = lora_tags(expand(panel.prompt.text(), "1"))
    assert (text, use.name, use.network) == ("", SIGNS.name, 0.5)


def test_a_tag_that_names_nothing_is_marked_and_can_be_put_right(panel: Panel, qtbot: QtBot) -> None:
    panel.prompt.set_text("a cat <lora:Stile On:0.4>")
    (row,) = panel.loras.rows
    qtbot.waitUntil(row.warning.isVisible)
    assert "No LoRA has this name" in row.warning.text()
    near = next(chip for chip in row.suggestions if chip.text() == "Style One")
    qtbot.mouseClick(near, Qt.MouseButton.LeftButton)
    assert panel.prompt.text() == "a cat <lora:Style One:0.4>" and not panel.loras.rows[0].warning.isVisible()
    panel.choose(XL)
    assert "Made for Stable Diffusion 1" in panel.loras.rows[0].warning.text()
    assert [model.name for model in panel.loras.offered()] == ["xl style"]
    qtbot.mouseClick(panel.loras.rows[0].remove_button, Qt.MouseButton.LeftButton)
    assert panel.prompt.text() == "a cat" and panel.loras.rows == []


def test_it_is_hidden_where_there_is_nothing_to_choose(panel: Panel) -> None:
    assert panel.loras.add_button.isVisible() and not panel.loras.isVisible()  # a button, and no rows
    panel.choose(MODELS[0])
    assert not panel.loras.isVisible()
    panel.prompt.set_text("<lora:Style One:1>")
    assert panel.loras.isVisible() and not panel.loras.add_button.isVisible()
    assert "does not support LoRAs" in panel.loras.rows[0].warning.text()
    panel.set_checkpoints([checkpoint("digits", conditioning=Conditioning.CLASS, classes=("zero",))])
    assert not panel.loras.isVisible()


def test_everything_has_a_name(panel: Panel) -> None:
    panel.prompt.set_text("<lora:Style One:1> <lora:x:1>")
    for kind in (QPushButton, QSlider):
        for widget in panel.loras.findChildren(kind):
            assert widget.accessibleName() and widget.toolTip()
