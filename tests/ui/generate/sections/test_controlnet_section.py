"""Guided by pictures: chosen, prepared, looked at as the network sees them; what comes of it is the request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QPushButton, QSlider, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.models.detection.types import Role
from diffstudio.studio.requests import ControlNetUse, GenerateRequest
from diffstudio.studio.requests.choices import PreprocessorName, ResizeName
from diffstudio.studio.requests.control_types import ControlTypeName
from diffstudio.studio.requests.limits import MOST_CONTROLS
from diffstudio.ui.generate.labels import request_facts
from diffstudio.ui.generate.loading import load_request
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.sections.controlnet_card import default_preprocessor
from diffstudio.ui.generate.sections.controlnet_section import ControlNetSection
from diffstudio.ui.models.model_info import type_text
from tests.ui.desktop_helpers import drop_folder
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed", "home")
SD1 = checkpoint("sd1", family="sd1", width=512, height=512, metadata={})
XL = checkpoint("xl", family="sdxl", width=1024, height=1024, metadata={})
FLUX = checkpoint("flux", family="flux", width=1024, height=1024, metadata={})
CANNY = checkpoint("sd15_canny", family="sd1", role=Role.CONTROLNET)
DEPTH = checkpoint("sd15_depth", family="sd1", role=Role.CONTROLNET)
XL_DEPTH = checkpoint("xl_depth", family="sdxl", role=Role.CONTROLNET)
MODELS = [checkpoint(), SD1, XL, FLUX, CANNY, DEPTH, XL_DEPTH]
UNION = checkpoint("xl_union", family="sdxl", role=Role.CONTROLNET, control_types=6)
PROMAX = checkpoint("xl_union_promax", family="sdxl", role=Role.CONTROLNET, control_types=8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    image = Image.new("RGB", (160, 120), "white")
    ImageDraw.Draw(image).ellipse((30, 20, 120, 100), fill=(200, 170, 160))
    image.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


class Threads:
    """What is asked to be done beside the window, done when the test says so."""

    def __init__(self, section: ControlNetSection) -> None:
        self.waiting: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        section.background_work_requested.connect(lambda work, answer: self.waiting.append((work, answer)))

    def do(self) -> None:
        work, answer = self.waiting.pop(0)
        answer(work())


@pytest.fixture
def section(qtbot: QtBot) -> ControlNetSection:
    section = ControlNetSection(lambda: (64, 64), lambda: ResizeName.CROP)
    qtbot.addWidget(section)
    section.resize(300, 700)
    section.set_models(MODELS)
    section.set_checkpoint(SD1)
    section.show()
    qtbot.waitExposed(section)
    return section


def choose(combo: QComboBox, text: str) -> None:
    """As a person does: from the list."""
    combo.setCurrentIndex(combo.findText(text))
    combo.activated.emit(combo.currentIndex())


def test_it_is_offered_where_a_network_fits(section: ControlNetSection, qtbot: QtBot) -> None:
    assert section.isVisible() and section.add_button.text() == "Add ControlNet…" and not section.heading.isVisible()
    section.set_models([SD1, XL_DEPTH])
    assert section.add_button.text() == "Get ControlNet…"
    with qtbot.waitSignal(section.models_room_requested):
        qtbot.mouseClick(section.add_button, Qt.MouseButton.LeftButton)
    for other in (FLUX, checkpoint()):
        section.set_checkpoint(other)
        assert not section.isVisible()


def test_what_is_chosen_is_in_the_request(section: ControlNetSection, picture: Path) -> None:
    request = GenerateRequest("a cat")
    assert section.apply_to(request) == request
    assert section.add_image(picture)
    (card,) = section.cards
    assert [card.network.combo.itemText(index) for index in range(2)] == [CANNY.title, DEPTH.title]
    assert section.uses() == (
        ControlNetUse("sd15_canny", picture, PreprocessorName.CANNY),
    )  # a canny network wants edges
    choose(card.network.combo, DEPTH.title)
    assert section.uses()[0].prepare is PreprocessorName.AS_GIVEN and not card.low.isVisible()
    choose(card.preprocessor.combo, "Canny edges")
    assert card.low.isVisible() and card.high.isVisible()
    card.low._slider.setValue(60)
    card.high._slider.setValue(150)
    card.scale._slider.setValue(14)
    card.start._slider.setValue(10)
    card.end._slider.setValue(80)
    wanted = ControlNetUse("sd15_depth", picture, PreprocessorName.CANNY, 0.7, 0.1, 0.8, 60, 150)
    assert section.uses() == (wanted,)
    choose(card.network.combo, CANNY.title)
    assert section.uses() == (replace(wanted, network="sd15_canny"),)  # what a person chose stays
    card.start._slider.setValue(95)  # the other end gives way
    assert (section.uses()[0].begins, section.uses()[0].ends) == (0.95, 0.96)
    card.low._slider.setValue(400)
    assert (section.uses()[0].low, section.uses()[0].high) == (400, 400)


def test_several_and_taken_away_again(section: ControlNetSection, qtbot: QtBot, picture: Path, tmp_path: Path) -> None:
    message: list[str] = []
    section.failed.connect(message.append)
    assert section.add_image(picture) and section.add_image(picture) and len(section.uses()) == 2
    assert section.heading.isVisible() and section.add_button.text() == "Add another ControlNet…"
    qtbot.mouseClick(section.cards[0].remove_button, Qt.MouseButton.LeftButton)
    assert len(section.uses()) == 1
    (tmp_path / "text.png").write_text("hello")
    assert not section.add_image(tmp_path / "text.png") and "cannot be read" in message[-1]
    for _ in range(MOST_CONTROLS - 1):
        section.add_image(picture)
    assert not section.add_button.isVisible() and not section.add_image(picture) and len(section.cards) == MOST_CONTROLS


def test_the_preview_is_fitted_by_the_resize_mode(qtbot: QtBot, tmp_path: Path) -> None:
    """White, of 2 : 1, for a square result: only padding leaves black borders."""
    Image.new("RGB", (128, 64), "white").save(tmp_path / "white.png")
    modes = [ResizeName.CROP]
    section = ControlNetSection(lambda: (64, 64), lambda: modes[-1])
    qtbot.addWidget(section)
    section.set_models([SD1, DEPTH])
    section.set_checkpoint(SD1)
    threads = Threads(section)
    assert section.add_image(tmp_path / "white.png")
    for mode, grey in ((ResizeName.CROP, 255), (ResizeName.PAD, 0), (ResizeName.STRETCH, 255)):
        modes.append(mode)
        section.schedule_preview()
        qtbot.waitUntil(lambda: bool(threads.waiting))
        threads.do()
        assert section.cards[0].preview.image().pixelColor(32, 4).lightness() == grey


def test_pictures_are_dropped_on_it(section: ControlNetSection, qtbot: QtBot, picture: Path) -> None:
    drop_folder(section, picture)
    qtbot.waitUntil(lambda: [use.image for use in section.uses()] == [picture])  # once the drop has returned


def test_what_the_network_sees_is_shown(section: ControlNetSection, qtbot: QtBot, picture: Path) -> None:
    threads = Threads(section)

    def white(card: Any) -> int:
        image = card.preview.image()
        return sum(
            image.pixelColor(x, y).lightness() > 200 for x in range(image.width()) for y in range(image.height())
        )

    section.add_image(picture)
    (card,) = section.cards
    qtbot.waitUntil(lambda: bool(threads.waiting))
    threads.do()
    assert (card.preview.image().width(), card.preview.image().height()) == (64, 64)
    edges = white(card)
    assert 60 < edges < 600
    card.high._slider.setValue(500)
    card.low._slider.setValue(500)
    qtbot.waitUntil(lambda: bool(threads.waiting))
    card.preprocessor.set_value(PreprocessorName.AS_GIVEN)  # while that is worked out it changes again
    card.changed.emit()
    qtbot.waitUntil(lambda: section._outdated)
    threads.do()
    assert white(card) < edges  # thresholds were higher
    qtbot.waitUntil(lambda: bool(threads.waiting))
    threads.do()
    assert white(card) > 1000
    picture.unlink()
    card.changed.emit()
    qtbot.waitUntil(lambda: bool(threads.waiting))
    threads.do()
    assert card.preview.image().isNull() and "picture.png" in card.preview.toolTip()
    card.changed.emit()
    qtbot.waitUntil(lambda: bool(threads.waiting))
    card.remove_requested.emit()
    threads.do()  # it is gone by then, and nobody minds


def test_a_request_comes_back_as_it_was(section: ControlNetSection, picture: Path, tmp_path: Path) -> None:
    message: list[str] = []
    section.failed.connect(message.append)
    uses = (
        ControlNetUse("sd15_depth", picture, PreprocessorName.INVERT, 0.35, 0.25, 0.75, 10, 20),
        ControlNetUse("sd15_canny", picture),
    )
    section.load_from(GenerateRequest(controls=uses))
    assert section.uses() == uses
    section.load_from(GenerateRequest(controls=(replace(uses[0], network=str(DEPTH.path)),)))
    assert section.uses() == uses[:1]
    section.load_from(
        GenerateRequest(controls=(replace(uses[0], network="gone"), replace(uses[1], image=tmp_path / "gone.png")))
    )
    assert (
        section.uses() == ()
        and "ControlNet gone is missing" in message[0]
        and "gone.png no longer exists" in message[1]
    )
    (tmp_path / "text.png").write_text("no image")
    section.load_from(GenerateRequest(controls=(replace(uses[1], image=tmp_path / "text.png"),)))
    assert section.uses() == () and "text.png cannot be read" in message[2]


def choices(combo: QComboBox) -> list[str]:
    return [combo.itemText(index) for index in range(combo.count())]


def test_the_control_type_is_chosen_for_a_union(section: ControlNetSection, picture: Path) -> None:
    section.set_models([*MODELS, UNION, PROMAX])
    section.set_checkpoint(XL)
    section.add_image(picture)
    (card,) = section.cards
    assert card.network.value() == "xl_depth" and not card.control_type.isVisible() and not card.type_note.isVisible()
    assert section.uses()[0].control_type is ControlTypeName.AUTO
    choose(card.network.combo, UNION.title)
    assert card.control_type.isVisible() and choices(card.control_type.combo) == [
        "Choose one…",
        "Pose (OpenPose)",
        "Depth",
        "Soft edge (HED, PiDiNet, TED, scribble)",
        "Lines (Canny, lineart, MLSD)",
        "Normal map",
        "Segmentation",
    ]
    assert card.type_note.isVisible()  # it cannot be used without one
    choose(card.preprocessor.combo, "Canny edges")
    assert not card.type_note.isVisible()
    assert card.control_type.combo.currentText() == "Auto: Lines (Canny, lineart, MLSD)"
    choose(card.preprocessor.combo, "Scribble (dark lines on white)")
    assert card.control_type.combo.currentText().startswith("Auto: Soft edge")
    assert section.uses()[0].control_type is ControlTypeName.AUTO
    changes: list[None] = []
    section.changed.connect(lambda: changes.append(None))
    choose(card.control_type.combo, "Depth")
    assert changes and section.uses()[0].control_type is ControlTypeName.DEPTH
    choose(card.preprocessor.combo, "None (already a map)")
    assert not card.type_note.isVisible()
    choose(card.control_type.combo, "Choose one…")
    assert card.type_note.isVisible()
    choose(card.control_type.combo, "Depth")
    choose(card.network.combo, PROMAX.title)
    assert section.uses()[0].control_type is ControlTypeName.DEPTH  # what a person chose stays
    assert choices(card.control_type.combo)[-2:] == ["Tile", "Repaint (inpainting)"]
    choose(card.control_type.combo, "Tile")
    choose(card.network.combo, UNION.title)
    assert section.uses()[0].control_type is ControlTypeName.AUTO  # it has no tile, and asks again
    choose(card.network.combo, XL_DEPTH.title)
    assert not card.control_type.isVisible() and section.uses()[0].control_type is ControlTypeName.AUTO


def test_the_control_types_of_a_request_come_back(section: ControlNetSection, picture: Path) -> None:
    section.set_models([*MODELS, UNION, PROMAX])
    section.set_checkpoint(XL)
    uses = (
        ControlNetUse("xl_union", picture, control_type=ControlTypeName.OPENPOSE),
        ControlNetUse("xl_union_promax", picture, control_type=ControlTypeName.REPAINT),
        ControlNetUse("xl_union", picture, PreprocessorName.CANNY),
    )
    section.load_from(GenerateRequest(controls=uses))
    assert section.uses() == uses


def test_the_control_type_is_among_the_settings_of_an_image(picture: Path) -> None:
    pose = ControlNetUse("xl_union", picture, scale=0.8, control_type=ControlTypeName.OPENPOSE)
    for use, text in (
        (pose, "picture.png as Pose (OpenPose), xl_union at 0.8"),
        (replace(pose, control_type=ControlTypeName.AUTO), "picture.png, xl_union at 0.8"),
    ):
        assert ("ControlNet", text) in request_facts(GenerateRequest(controls=(use,)), "xl")
    assert type_text(UNION) == "union ControlNet for Stable Diffusion XL"
    assert type_text(XL_DEPTH) == "ControlNet for Stable Diffusion XL"


def test_another_checkpoint_takes_the_network_most_alike(section: ControlNetSection, picture: Path) -> None:
    section.add_image(picture)
    choose(section.cards[0].network.combo, DEPTH.title)
    section.set_checkpoint(XL)
    assert [use.network for use in section.uses()] == ["xl_depth"]
    section.set_checkpoint(FLUX)
    assert section.uses() == ()
    section.set_checkpoint(SD1)
    assert [use.network for use in section.uses()] == ["sd15_depth"]


def test_the_whole_column_says_it_and_everything_has_a_name(qtbot: QtBot, picture: Path) -> None:
    panel = Panel()
    qtbot.addWidget(panel)
    panel.set_checkpoints(MODELS)
    panel.choose(SD1)
    panel.controlnets.add_image(picture)
    request = panel.request()
    assert [use.network for use in request.controls] == ["sd15_canny"]
    load_request(panel, replace(request, controls=()))
    assert panel.request().controls == ()
    load_request(panel, request)
    assert panel.request().controls == request.controls
    for kind in (QPushButton, QComboBox, QSlider):
        for widget in panel.controlnets.findChildren(kind):
            assert isinstance(widget, QWidget) and widget.accessibleName() and widget.toolTip()


def test_what_a_network_most_likely_wants() -> None:
    assert default_preprocessor("control_v11p_sd15_canny") is PreprocessorName.CANNY
    assert default_preprocessor("diffusers_xl_Scribble") is PreprocessorName.SCRIBBLE
    assert default_preprocessor("control_v11f1p_sd15_depth") is PreprocessorName.AS_GIVEN
