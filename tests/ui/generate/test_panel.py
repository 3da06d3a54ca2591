"""The left column: what it says becomes the request, and a request becomes what it says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QTextCursor
from PySide6.QtWidgets import QSpinBox, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.errors import BadRequest
from diffstudio.models.detection.families_table import PIXEL
from diffstudio.models.detection.types import Role
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.jobs.memory_forecast import MemoryForecast, MemoryQuery
from diffstudio.studio.prompts.prompt_hints import EMPTY_PROMPT
from diffstudio.studio.requests import GenerateRequest, SamplerName, SpacingName
from diffstudio.studio.requests.limits import LARGEST_SEED, LONGEST_PROMPT
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.labels import title_of
from diffstudio.ui.generate.loading import compare_panel, load_request
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.sections.size import SizeLimits, limits_of
from diffstudio.ui.widgets.inputs.number_fields import DecimalField
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from diffstudio.ui.wiring.panel_state import capture, show
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed")


@pytest.fixture
def panel(qtbot: QtBot) -> Panel:
    panel = Panel()
    qtbot.addWidget(panel)
    panel.resize(328, 900)
    panel.show()
    qtbot.waitExposed(panel)
    panel.set_checkpoints([checkpoint(), checkpoint("other", width=128, height=128)])
    return panel


def test_every_sampler_and_spacing_has_a_name_and_an_explanation() -> None:
    assert set(labels.SAMPLERS) == set(SamplerName)
    assert set(labels.SCHEDULERS) == set(SpacingName)


def test_what_the_column_says_is_the_request(panel: Panel, qtbot: QtBot) -> None:
    qtbot.keyClicks(panel.prompt, "red apple")
    panel.negative.set_text("worm")
    panel.sampling.steps.set_value(31)
    panel.sampling.cfg_scale.set_value(4.5)
    panel.sampling.sampler.set_value(SamplerName.UNIPC)
    panel.sampling.scheduler.set_value(SpacingName.KARRAS)
    panel.seed.set_fixed(77)
    panel.count.set_value(4)
    panel.size_control.set_size(96, 64)
    assert panel.request() == GenerateRequest(
        "red apple", "worm", "starter", 77, 31, SamplerName.UNIPC, SpacingName.KARRAS, 4.5, width=96, height=64, count=4
    )


def test_a_request_that_is_used_again_comes_back_the_same(panel: Panel) -> None:
    request = GenerateRequest(
        "ghost, happy",
        "sheet",
        "other",
        LARGEST_SEED - 8,
        12,
        SamplerName.DDPM,
        SpacingName.LOG_SNR,
        7.5,
        width=256,
        height=128,
        count=3,
    )
    assert load_request(panel, request)
    assert panel.request() == request
    assert panel.seed.is_fixed()


def test_a_request_whose_checkpoint_is_gone_is_taken_over_all_the_same(panel: Panel) -> None:
    assert not load_request(panel, GenerateRequest("ghost", checkpoint="deleted", steps=9))
    assert (panel.request().prompt, panel.request().steps, panel.request().checkpoint) == ("ghost", 9, "starter")


def test_another_autoencoder_is_offered_where_one_fits(panel: Panel, qtbot: QtBot) -> None:
    latent = checkpoint("dreamy", family="sd1", width=512, height=512, role=Role.CHECKPOINT)
    mse = checkpoint(
        "vae-ft-mse-840000", family="unknown", role=Role.VAE, conditioning=Conditioning.NONE, edition="4 channels"
    )
    flux = checkpoint("ae", family="unknown", role=Role.VAE, conditioning=Conditioning.NONE, edition="16 channels")
    panel.set_checkpoints([checkpoint(), latent, mse, flux])
    assert not panel.sampling.vae.isVisible()  # the starter has none
    panel.choose(latent)
    assert panel.sampling.vae.isVisible() and panel.request().vae == ""
    panel.sampling.vae.combo.setFocus()
    qtbot.keyClick(panel.sampling.vae.combo, Qt.Key.Key_Down)
    request = panel.request()
    assert request.vae == "vae-ft-mse-840000"
    panel.sampling.vae.set_value("")
    assert load_request(panel, request) and panel.request().vae == request.vae
    with qtbot.waitSignal(panel.message) as said:  # and where it is gone, that is said
        load_request(panel, dataclasses.replace(request, vae="ae"))
    assert "“ae” is missing" in said.args[0] and panel.request().vae == ""


def test_ctrl_enter_in_the_prompt_generates(qtbot: QtBot, panel: Panel) -> None:
    panel.prompt.setFocus()
    qtbot.keyClicks(panel.prompt, "pizza")
    for key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
        with qtbot.waitSignal(panel.generate_requested) as asked:
            qtbot.keyClick(panel.prompt, key, Qt.KeyboardModifier.ControlModifier)
        assert asked.args[0].prompt == "pizza"
    assert panel.prompt.text() == "pizza"


def test_ctrl_enter_before_the_checkpoints_are_found_is_not_lost(qtbot: QtBot) -> None:
    panel = Panel()
    qtbot.addWidget(panel)
    asked: list[GenerateRequest] = []
    panel.generate_requested.connect(asked.append)
    panel.prompt.set_text("early bird")
    qtbot.keyClick(panel.prompt, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert asked == []
    panel.set_checkpoints([checkpoint()])
    assert [request.prompt for request in asked] == ["early bird"]
    panel.set_checkpoints([])
    panel.submit()
    panel.set_checkpoints([checkpoint()])
    assert len(asked) == 1  # there were none then, and the room said so


def test_a_new_seed_each_time_or_the_same_one(qtbot: QtBot, panel: Panel) -> None:
    asked: list[GenerateRequest] = []
    panel.generate_requested.connect(asked.append)
    for _ in range(3):
        panel.submit()
    assert len({request.seed for request in asked}) == 3
    assert asked[-1].seed == panel.seed.value()  # the one shown is the one used
    panel.seed.fixed.click()
    panel.submit()
    assert asked[-1].seed == asked[-2].seed


def test_typing_a_seed_keeps_it(qtbot: QtBot, panel: Panel) -> None:
    panel.seed.field.selectAll()
    qtbot.keyClicks(panel.seed.field, "1234")
    assert panel.seed.is_fixed()
    asked: list[GenerateRequest] = []
    panel.generate_requested.connect(asked.append)
    panel.submit()
    assert asked[0].seed == 1234


@pytest.mark.parametrize("text", ["", "-1", "1e5", "apple", "٣", str(LARGEST_SEED + 1), "9" * 5000])
def test_a_seed_that_is_none_is_said_so(qtbot: QtBot, panel: Panel, text: str) -> None:
    panel.seed.field.setText("")
    panel.seed.field.setText(text)
    panel.seed.field.textEdited.emit(text)
    assert not panel.button.isEnabled()
    assert "seed" in panel.error_label.text()
    asked: list[GenerateRequest] = []
    panel.generate_requested.connect(asked.append)
    panel.submit()
    assert asked == []
    with pytest.raises(BadRequest):
        panel.request()
    panel.seed.dice.click()
    assert panel.button.isEnabled()
    assert not panel.error_label.isVisible()


def test_the_last_of_several_images_must_have_a_seed_too(panel: Panel) -> None:
    panel.seed.field.setText(str(LARGEST_SEED))
    panel.seed.field.textEdited.emit("")
    assert panel.button.isEnabled()
    panel.count.set_value(4)
    panel.count.value_changed.emit(4)
    assert not panel.button.isEnabled()


def test_a_prompt_that_is_too_long_is_said_so(panel: Panel) -> None:
    panel.prompt.set_text("a" * (LONGEST_PROMPT + 1))
    assert not panel.button.isEnabled()
    assert f"{LONGEST_PROMPT:,}" in panel.error_label.text()
    panel.prompt.set_text("a" * LONGEST_PROMPT)
    assert panel.button.isEnabled()


def test_the_history_is_walked_with_up_and_down(qtbot: QtBot, panel: Panel) -> None:
    panel.set_history(["newest", "older", "oldest"])
    panel.prompt.setFocus()
    for expected in ("newest", "older", "oldest", "oldest"):
        qtbot.keyClick(panel.prompt, Qt.Key.Key_Up)
        assert panel.prompt.text() == expected
    for expected in ("older", "newest", "", ""):
        qtbot.keyClick(panel.prompt, Qt.Key.Key_Down)
        assert panel.prompt.text() == expected


def test_up_in_a_text_moves_the_cursor_and_alt_up_the_history(qtbot: QtBot, panel: Panel) -> None:
    panel.set_history(["newest"])
    panel.prompt.set_text("one\ntwo")
    qtbot.keyClick(panel.prompt, Qt.Key.Key_Up)
    assert panel.prompt.text() == "one\ntwo"
    assert panel.prompt.textCursor().blockNumber() == 0
    qtbot.keyClick(panel.prompt, Qt.Key.Key_Up, Qt.KeyboardModifier.AltModifier)
    assert panel.prompt.text() == "newest"
    qtbot.keyClick(panel.prompt, Qt.Key.Key_Down, Qt.KeyboardModifier.AltModifier)
    assert panel.prompt.text() == "one\ntwo"  # what was being written is not lost


def test_the_history_menu_puts_a_prompt_back(panel: Panel) -> None:
    menu = panel.prompt.history_menu(panel)
    assert not menu.actions()[0].isEnabled()
    panel.set_history(["cats & dogs", "a " * 400])
    menu = panel.prompt.history_menu(panel)
    menu.actions()[0].trigger()
    assert panel.prompt.text() == "cats & dogs"
    assert len(menu.actions()[1].text()) < 120


def test_a_prompt_set_by_the_program_can_be_undone(panel: Panel) -> None:
    panel.prompt.set_text("mine")
    panel.prompt.moveCursor(QTextCursor.MoveOperation.End)
    panel.prompt.set_text("another")
    panel.prompt.undo()
    assert panel.prompt.text() == "mine"


def test_a_checkpoint_of_classes_offers_its_classes(panel: Panel) -> None:
    panel.set_checkpoints([checkpoint("digits", conditioning=Conditioning.CLASS, classes=("zero", "one"))])
    assert panel.classes.isVisible() and not panel.prompt.isVisible() and not panel.negative.isVisible()
    panel.classes.set_value("one")
    assert panel.request().prompt == "one"


def test_a_checkpoint_that_is_told_nothing_takes_no_prompt(panel: Panel) -> None:
    panel.prompt.set_text("rocket")
    panel.set_checkpoints([checkpoint("dreams", conditioning=Conditioning.NONE)])
    assert not panel.prompt.isVisible() and not panel.sampling.cfg_scale.isEnabled()
    assert "no prompt" in panel.unprompted.text() and panel.unprompted.isVisible()
    assert panel.request().prompt == ""
    panel.set_checkpoints([checkpoint()])
    assert panel.prompt.isVisible() and panel.prompt.text() == "rocket"


def test_without_a_checkpoint_nothing_can_be_made(panel: Panel) -> None:
    panel.set_checkpoints([])
    assert not panel.button.isEnabled()
    with pytest.raises(BadRequest):
        panel.request()


def test_the_checkpoints_own_guidance_is_taken_when_it_is_chosen(panel: Panel) -> None:
    assert panel.sampling.cfg_scale.value() == 4.0
    panel.sampling.cfg_scale.set_value(9.0)
    panel.set_checkpoints([checkpoint(), checkpoint("new")])  # a rescan
    assert panel.sampling.cfg_scale.value() == 9.0


def test_sizes_are_what_the_checkpoint_can_draw(panel: Panel) -> None:
    panel.size_control.set_size(70, 130)
    assert panel.size_control.requested_size() == (72, 128)
    assert "64 × 64" in panel.size_control.reason()
    panel.size_control.swap.click()
    assert panel.size_control.requested_size() == (128, 72)
    shape = panel.size_control.shapes
    shape.set_value((64, 64))
    shape.chosen.emit((64, 64))
    assert panel.size_control.requested_size() == (64, 64)
    assert panel.size_control.reason() == ""


def test_a_size_out_of_the_limits_keeps_its_aspect_ratio(panel: Panel) -> None:
    limits = SizeLimits(64, 64, step=8, smallest=16, largest=128)
    assert limits.fit(832, 1216) == (88, 128)
    assert limits.fit(1216, 832) == (128, 88)
    assert limits.fit(97, 61) == (96, 64)
    assert limits.fit(8, 12) == (16, 24)
    assert limits.fit(4096, 16) == (128, 16)
    assert SizeLimits(64, 48, 8, 64, 64).fit(832, 1216) == (64, 48)
    panel.size_control.set_size(832, 1216)
    assert panel.size_control.requested_size() == (88, 128)


def test_what_is_opened_is_scrolled_into_view(panel: Panel, qtbot: QtBot, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    panel.resize(panel.width(), 420)
    bar = panel._scroll.verticalScrollBar()
    bar.setValue(bar.maximum())
    assert panel.init_image.set_image(tmp_path / "photo.png")
    qtbot.waitUntil(lambda: panel.init_image.visibleRegion().boundingRect().height() == panel.init_image.height())


def test_the_focus_stays_at_an_init_image_that_is_removed(panel: Panel, qtbot: QtBot, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    panel.activateWindow()
    assert panel.init_image.set_image(tmp_path / "photo.png")
    panel.init_image.remove_button.setFocus()
    qtbot.waitUntil(panel.init_image.remove_button.hasFocus)
    qtbot.keyClick(panel.init_image.remove_button, Qt.Key.Key_Space)
    assert panel.init_image.image_path() is None and panel.init_image.choose_button.hasFocus()


def test_one_size_is_shown_disabled_with_its_reason(panel: Panel) -> None:
    panel.set_checkpoints([checkpoint("fixed", width=48, height=48, metadata={})])
    assert not panel.size_control.width_box.isEnabled()
    assert "only supports 48 × 48" in panel.size_control.reason()
    assert (panel.request().width, panel.request().height) == (None, None)


def test_limits_come_from_the_header_and_survive_a_bad_one() -> None:
    assert limits_of(checkpoint()) == SizeLimits(64, 64, 8, 16, 128)
    for patch in ("8", None, [], {}, "x", -8, 0):
        damaged = dataclasses.replace(checkpoint(), metadata={"diffstudio.network": json.dumps({"patch": patch})})
        assert limits_of(damaged).width == 64
    for width, _ in SizeLimits(64, 64, 8, 16, 128).shapes():
        assert all(side % 8 == 0 and 16 <= side <= 128 for side in width)


def test_while_something_is_made_the_button_says_that_it_queues(panel: Panel) -> None:
    panel.set_busy(True)
    assert panel.button.text() == "Add to queue"
    panel.set_busy(False)
    assert panel.button.accessibleName() == "Generate"


def test_only_what_makes_pictures_is_offered(panel: Panel) -> None:
    lora = checkpoint("a", family="sdxl", role=Role.LORA)
    bare = checkpoint("b", family="flux", role=Role.NETWORK, width=1024, height=1024, metadata={})
    unknown = checkpoint("c", family="unknown", role=Role.UNKNOWN)
    panel.set_checkpoints([lora, unknown, bare])
    assert panel.checkpoint.current() == bare
    panel.set_checkpoints([lora, unknown])
    assert panel.checkpoint.current() is None


def test_clip_skip_is_offered_where_there_is_a_choice(panel: Panel) -> None:
    """At the family's own layer the request leaves it open."""
    sd1 = checkpoint("sd", family="sd1", width=512, height=512, metadata={})
    xl = checkpoint("xl", family="sdxl", width=1024, height=1024, metadata={})
    panel.set_checkpoints([checkpoint(), sd1, xl])
    slider = panel.sampling.clip_skip
    assert not slider.isVisible() and panel.request().clip_skip is None
    panel.choose(sd1)
    assert slider.isVisible() and slider.value() == 1 and panel.request().clip_skip is None
    slider.set_value(2)
    request = panel.request()
    assert request.clip_skip == 2
    panel.choose(xl)
    assert slider.value() == 2 and panel.request().clip_skip is None  # where 2 is the family's own
    slider.set_value(3)
    panel.choose(sd1)
    assert panel.request().clip_skip == 3  # a choice is kept
    assert load_request(panel, request) and panel.request().clip_skip == 2
    assert load_request(panel, dataclasses.replace(request, clip_skip=None)) and slider.value() == 1
    panel.choose(checkpoint())
    assert not slider.isVisible() and panel.request().clip_skip is None


def type_number(qtbot: QtBot, slider: LabelledSlider, text: str) -> None:
    """Into the field of a slider, and Enter."""
    field = slider.findChild(DecimalField)
    assert field is not None
    field.setFocus()
    field.selectAll()
    qtbot.keyClicks(field, text)
    qtbot.keyClick(field, Qt.Key.Key_Return)


def type_side(qtbot: QtBot, field: QSpinBox, text: str) -> None:
    field.setFocus()
    field.selectAll()
    qtbot.keyClicks(field, text)
    qtbot.keyClick(field, Qt.Key.Key_Return)


def test_settings_follow_the_family_where_nobody_changed_them(panel: Panel, qtbot: QtBot) -> None:
    small = checkpoint("small")
    xl = checkpoint("xl", family="sdxl", width=1024, height=1024, metadata={})
    quick = dataclasses.replace(xl, name="quick", path=xl.path.with_name("sdxl_lightning_4step.safetensors"))
    sd = checkpoint("sd", family="sd1", width=512, height=512, metadata={})
    panel.set_checkpoints([small, xl, quick, sd])

    def settings() -> tuple[int, str, str, float]:
        request = panel.request()
        return request.steps, request.sampler, request.spacing, request.guidance

    panel.choose(xl)
    assert settings() == (25, "dpmpp_2m", "karras", 6.0)
    assert (panel.size_control.requested_size(), panel.size_control.width_box.isEnabled()) == ((1024, 1024), True)
    panel.choose(quick)
    assert settings() == (4, "euler", "trailing", 1.0)
    type_number(qtbot, panel.sampling.steps, "33")
    panel.sampling.sampler.combo.setFocus()
    qtbot.keyClicks(panel.sampling.sampler.combo, "Heun")
    panel.choose(xl)
    assert settings() == (33, "heun", "karras", 6.0)
    panel.choose(small)
    type_number(qtbot, panel.sampling.cfg_scale, "9")
    type_side(qtbot, panel.size_control.width_box, "96")
    panel.choose(xl)
    assert settings()[3] == 9.0
    assert panel.size_control.requested_size() == (1024, 1024)  # 96 px are not supported
    type_side(qtbot, panel.size_control.width_box, "768")
    panel.choose(sd)
    assert panel.size_control.requested_size() == (768, 1024)
    panel.choose(xl)
    for text in (panel.sampling.steps, panel.sampling.cfg_scale, panel.sampling.sampler, panel.size_control.width_box):
        assert "Set by hand" in text.toolTip()
    assert "Set by hand" not in panel.sampling.scheduler.toolTip()
    panel.reset_to_recommended()
    assert settings() == (25, "dpmpp_2m", "karras", 6.0) and panel.size_control.requested_size() == (1024, 1024)
    assert "Set by hand" not in panel.sampling.steps.toolTip() + panel.size_control.width_box.toolTip()


def test_settings_of_an_image_are_not_set_by_hand(panel: Panel, qtbot: QtBot) -> None:
    """Another checkpoint replaces them by its own, and a value that is set back to the default is no choice either."""
    xl = checkpoint("xl", family="sdxl", width=1024, height=1024, metadata={})
    panel.set_checkpoints([checkpoint(), xl])
    type_number(qtbot, panel.sampling.steps, "31")
    type_number(qtbot, panel.sampling.cfg_scale, "9")
    type_number(qtbot, panel.sampling.cfg_scale, "4")
    panel.choose(xl)
    assert (panel.request().steps, panel.request().guidance) == (31, 6.0)
    load_request(panel, GenerateRequest("a", checkpoint="starter", steps=7, guidance=2.0, width=96, height=96))
    panel.choose(xl)
    assert (panel.request().steps, panel.request().guidance, panel.request().width) == (25, 6.0, 1024)


def test_what_the_checkpoint_never_learnt_is_named_below_the_prompt(panel: Panel, qtbot: QtBot) -> None:
    captions = {"words": {"red": 3, "apple": 1}, "examples": []}
    captioned = checkpoint("captioned", metadata={"diffstudio.captions": json.dumps(captions)})
    xl = checkpoint("xl", family="sdxl", width=1024, height=1024, metadata={})
    panel.set_checkpoints([captioned, xl])
    panel.choose(captioned)
    assert panel.prompt_hint.isVisible() and panel.prompt_hint.text() == EMPTY_PROMPT
    panel.prompt.set_text("red wizards <lora:sketch:0.5>")
    assert panel.prompt_hint.text() == EMPTY_PROMPT  # not while it is typed
    qtbot.waitUntil(lambda: panel.prompt_hint.text().endswith("was trained on: wizards"))
    panel.choose(xl)
    assert not panel.prompt_hint.isVisible()
    panel.choose(captioned)
    assert panel.prompt_hint.isVisible()
    panel.prompt.set_text("Red apples")
    qtbot.waitUntil(lambda: not panel.prompt_hint.isVisible())
    panel.prompt.set_text("red wizards")
    panel.submit()
    assert panel.prompt_hint.isVisible()  # at once: this prompt is complete


def test_models_trained_here_bring_the_settings_of_their_header(panel: Panel) -> None:
    chosen = {"diffstudio.sampling": json.dumps({"sampler": "unipc", "spacing": "exponential", "steps": 6})}
    old = {"diffstudio.sampling": json.dumps({"sampler": "heun", "spacing": "uniform", "steps": 20})}
    fitted, before = checkpoint("fitted", metadata=chosen), checkpoint("before", metadata=old)
    panel.set_checkpoints([before, fitted])

    def settings() -> tuple[str, str, int]:
        request = panel.request()
        return request.sampler, request.spacing, request.steps

    panel.choose(fitted)
    assert settings() == ("unipc", "exponential", 6)
    panel.choose(before)
    assert settings() == (PIXEL.sampler, PIXEL.spacing, PIXEL.steps)


def test_what_it_takes_of_the_memory_is_said(qtbot: QtBot, panel: Panel) -> None:
    asked: list[MemoryQuery] = []
    panel.memory_forecast_requested.connect(asked.append)
    xl = checkpoint("xl", family="sdxl", width=1024, height=1024, parameters=3_500_000_000, metadata={})
    panel.set_checkpoints([checkpoint(), xl])
    panel.choose(xl)
    qtbot.waitUntil(lambda: bool(asked) and asked[-1].checkpoint == xl)
    panel.show_memory_forecast(asked[-1], MemoryForecast(9_000_000_000, 24_000_000_000, ""))
    assert panel.memory_label.isVisible() and panel.memory_label.text() == "Needs about 9.0 GB of 24.0 GB free memory"
    assert panel.memory_label.property("tone") == "dim" and panel.memory_label.toolTip()
    count = len(asked)
    panel.count.set_value(4)
    panel.count.value_changed.emit(4)
    qtbot.waitUntil(lambda: len(asked) > count)
    assert asked[-1].request.count == 4 and asked[-1].weak is None
    weaker = checkpoint("weaker", family="sdxl", width=1024, height=1024, parameters=2_000_000_000, metadata={})
    panel.set_checkpoints([checkpoint(), xl, weaker])
    load_request(panel, dataclasses.replace(panel.request(), autoguidance="weaker"))
    qtbot.waitUntil(lambda: asked[-1].weak == weaker)
    panel.show_memory_forecast(asked[-1], MemoryForecast(30_000_000_000, 24_000_000_000, "It is made in pieces."))
    assert panel.memory_label.property("tone") == "warn" and panel.memory_label.toolTip() == "It is made in pieces."
    panel.choose(checkpoint())
    panel.show_memory_forecast(
        asked[0], MemoryForecast(9_000_000_000, 24_000_000_000, "")
    )  # an answer about another checkpoint
    assert not panel.memory_label.isVisible()
    panel.show_memory_forecast(MemoryQuery(panel.request(), checkpoint()), MemoryForecast(1_000, 24_000_000_000, ""))
    assert not panel.memory_label.isVisible()


def test_what_can_be_added_stands_in_one_row_and_alone_says_more(panel: Panel, tmp_path: Path) -> None:
    start = panel.init_image.choose_button
    assert (
        panel.add_buttons.isVisible() and start.text() == "Add init image (img2img)…"
    )  # a pixel model takes nothing else
    sd1 = checkpoint("sd1", family="sd1", metadata={})
    lora = checkpoint("ink", family="sd1", role=Role.LORA, metadata={})
    panel.set_checkpoints([sd1, lora])
    assert [button.text() for button in (panel.loras.add_button, start, panel.controlnets.add_button)] == [
        "LoRA",
        "img2img",
        "ControlNet",
    ]
    assert start.accessibleName() == "Add init image (img2img)…"
    assert (
        len(
            {
                button.mapTo(panel, QPoint()).y()
                for button in (panel.loras.add_button, start, panel.controlnets.add_button)
            }
        )
        == 1
    )
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    panel.init_image.set_image(tmp_path / "a.png")
    assert not start.isVisible() and panel.init_image.isVisible() and panel.controlnets.add_button.isVisible()
    panel.init_image.clear()
    assert start.isVisible() and not panel.init_image.isVisible()


def test_a_long_name_makes_the_column_no_wider(panel: Panel) -> None:
    sd1 = checkpoint("sd1", family="sd1", metadata={})
    long = checkpoint(
        "charcoal_sketches_of_the_nineteenth_century_v12_epoch_000014_of_20",
        family="sd1",
        role=Role.LORA,
        metadata={"modelspec.trigger_phrase": "a " * 80},
    )
    panel.set_checkpoints([sd1, long])
    panel.prompt.set_text(f"<lora:{long.name}:1> <lora:charcoal_sketches:1>")
    assert panel.loras.rows[1].suggestions and panel.loras.rows[0].trigger_chips
    assert contents(panel).minimumSizeHint().width() <= 254
    assert [panel.loras._column.indexOf(row) for row in panel.loras.rows] == [1, 2]  # below their heading


def contents(panel: Panel) -> QWidget:
    found = panel.prompt.parentWidget()
    assert found is not None
    return found


def test_a_title_leaves_out_the_tags_of_loras() -> None:
    def title(prompt: str) -> str:
        return title_of(GenerateRequest(prompt))

    assert title("a cat <lora:ink:0.8>, on a  mat <lyco:b:1>") == "a cat, on a mat"
    assert title("<lora:ink:0.8>") == "<lora:ink:0.8>"  # there is nothing else to call it by
    assert title("a cat,on  a mat") == "a cat,on a mat" and title("") == "no prompt"


def test_the_count_is_never_under_the_bar_that_scrolls(qtbot: QtBot, panel: Panel) -> None:
    panel.prompt.set_text("word " * 200)
    bar = panel.prompt.verticalScrollBar()
    qtbot.waitUntil(bar.isVisible)
    assert panel.prompt.count.geometry().right() < bar.mapTo(panel.prompt, QPoint()).x()


def test_a_file_that_is_dropped_on_the_prompt_is_the_windows(panel: Panel, tmp_path: Path) -> None:
    data = QMimeData()
    data.setText("a cat")
    assert panel.prompt.canInsertFromMimeData(data)
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "a.png"))])
    assert not panel.prompt.canInsertFromMimeData(data)
    data.setUrls([QUrl("https://example.org/a cat")])
    assert panel.prompt.canInsertFromMimeData(data)


def test_what_the_panel_cannot_show_of_a_request_is_named(panel: Panel, tmp_path: Path) -> None:
    """Sliders have ranges and steps, and some settings have no control: none of that may change an image unnoticed."""
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    request = GenerateRequest("a", checkpoint="starter", steps=24, init=tmp_path / "photo.png", strength=0.6)
    load_request(panel, request)
    assert not compare_panel(panel, request).changed
    request = dataclasses.replace(
        request,
        steps=150,
        guidance=7.25,
        spacing=SpacingName.ALIGN_YOUR_STEPS,
        count=100,
        strength=0.333,
        enlarge=2.5,
        enlarge_guidance=20.0,
        width=500,
        height=64,
    )
    load_request(panel, request)
    shown = panel.request()
    assert compare_panel(panel, request).changed == (
        "steps 150 → 100",
        f"CFG scale 7.25 → {shown.guidance:g}",
        f"scheduler align_your_steps → {shown.spacing}",
        "images 100 → 64",
        "denoising strength 0.333 → 0.33",
        f"hires fix scale 2.5 → {shown.enlarge:g}",
        "hires CFG scale 20 → 15",
        "size 500 × 64 → 128 × 16 px",
    )


def test_scales_that_a_checkpoint_in_two_levels_cannot_make_are_not_offered(panel: Panel) -> None:
    levels = {
        "diffstudio.network": json.dumps({"patch": 8, "size": 64}),
        "diffstudio.upper": json.dumps({"network": {"patch": 8, "size": 128}}),
    }
    two = checkpoint("two", width=128, height=128, metadata=levels)
    panel.set_checkpoints([two, checkpoint()])
    panel.choose(two)
    hires = panel.hires_fix
    hires.open_button.click()
    hires.tiled.setChecked(False)
    assert [hires.scale.chip(scale).isEnabled() for scale, _ in labels.SCALES] == [True, True, False, False]
    assert "two levels, of up to 256 px" in hires.scale.chip(4.0).toolTip()
    assert not hires.tiled.isEnabled() and "two levels" in hires.tiled.toolTip()
    hires.restore(GenerateRequest(tiled=True), 4.0, enabled=True)  # as another checkpoint could
    assert "4× is too large" in hires.size_label.text()
    with pytest.raises(BadRequest, match="Choose a smaller scale"):
        hires.apply_to(GenerateRequest())
    hires.scale.set_value(2.0)
    assert not hires.apply_to(GenerateRequest()).tiled
    panel.choose(checkpoint())
    assert hires.scale.chip(4.0).isEnabled() and hires.tiled.isEnabled()
    assert hires.apply_to(GenerateRequest()).tiled, "kept for a checkpoint that can"


def test_a_mask_or_a_hires_fix_that_the_panel_shows_differently_is_named(panel: Panel, tmp_path: Path) -> None:
    for name in ("photo.png", "mask.png"):
        Image.new("L", (64, 64), 255).save(tmp_path / name)
    request = GenerateRequest(
        "a", checkpoint="starter", init=tmp_path / "photo.png", mask=tmp_path / "mask.png", feather=300, padding=400
    )
    load_request(panel, request)
    assert compare_panel(panel, request).changed == ("mask blur 300 → 128", "only-masked padding 400 → 256")
    request = GenerateRequest("a", checkpoint="starter", enlarge=2.0, enlarge_guidance=None, tiled=True)
    load_request(panel, request)
    assert not compare_panel(panel, request).changed
    panel.hires_fix.set_inpainting(True)
    assert compare_panel(panel, request).changed == ("hires fix 2× → off",)
    panel.set_checkpoints([])
    assert not compare_panel(panel, request).changed


@pytest.mark.parametrize("family", ["vae", "gan", "diffusers"])
def test_what_a_checkpoint_cannot_use_is_not_offered_and_comes_back(panel: Panel, tmp_path: Path, family: str) -> None:
    usual = checkpoint("usual", family="sd1", width=512, height=512, role=Role.CHECKPOINT)
    weaker = checkpoint("weaker", family="sd1", width=512, height=512, role=Role.CHECKPOINT)
    lora = checkpoint("ink", family="sd1", role=Role.LORA, metadata={})
    network = checkpoint("canny", family="sd1", role=Role.CONTROLNET, metadata={})
    other = checkpoint("other", family=family, metadata={})
    panel.set_checkpoints([usual, weaker, lora, network, other])
    panel.choose(usual)
    Image.new("RGB", (512, 512)).save(tmp_path / "a.png")
    assert panel.init_image.set_image(tmp_path / "a.png") and panel.controlnets.add_image(tmp_path / "a.png")
    panel.negative.set_text("worm")
    load_request(
        panel,
        dataclasses.replace(
            panel.request(), enlarge=2.0, upscaler="latent", autoguidance="weaker", cads=0.1, clip_skip=2, strength=0.4
        ),
    )
    before = panel.request()
    assert (
        before.init,
        before.enlarge,
        before.autoguidance,
        before.upscaler,
        len(before.controls),
        before.clip_skip,
    ) == (tmp_path / "a.png", 2.0, "weaker", "latent", 1, 2)
    offered = (panel.init_image, panel.hires_fix, panel.guidance, panel.controlnets)
    assert all(part.isVisible() for part in offered) and panel.negative.isVisible()
    panel.choose(other)
    for part in (*offered, panel.init_image.choose_button, panel.loras.add_button, panel.controlnets.add_button):
        assert not part.isVisible() or (family == "diffusers" and part is panel.loras.add_button)
    now = panel.request()
    assert now.init is None and now.enlarge == 1 and not now.autoguidance and now.cads == 0 and not now.controls
    kept = capture(panel)  # as over a restart, or when a change is undone
    panel.set_checkpoints([])
    panel.set_checkpoints([usual, weaker, lora, network, other])
    assert show(panel, kept) and panel.request() == now
    assert panel.negative.isVisible() == (family == "diffusers") and bool(now.negative) == (family == "diffusers")
    panel.choose(usual)
    again = dataclasses.replace(panel.request(), width=before.width, height=before.height)  # the size follows the model
    assert again == before and panel.negative.isVisible()


def test_an_image_for_a_checkpoint_of_text_alone_is_kept_and_that_is_said(
    panel: Panel, qtbot: QtBot, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    panel.set_checkpoints([checkpoint(), checkpoint("faces", family="gan", metadata={})])
    panel.checkpoint.choose("faces")
    panel.show_checkpoint(panel.checkpoint.current())
    with qtbot.waitSignal(panel.init_image.failed) as said:
        assert not panel.init_image.set_image(tmp_path / "a.png")
    assert "text alone" in said.args[0] and panel.request().init is None and not panel.init_image.isVisible()
    panel.choose(checkpoint())
    assert panel.request().init == tmp_path / "a.png" and panel.init_image.isVisible()
