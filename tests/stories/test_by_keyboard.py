"""Every control of the sections, sheets and windows that open on demand has a name, a tooltip and a way by keyboard."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QDialog, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.models.detection.types import Layout, Role
from diffstudio.studio.metadata.metadata import ImageSettings
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest
from diffstudio.studio.settings import Settings
from diffstudio.ui.generate.image_settings_dialog import ImageSettingsDialog
from diffstudio.ui.generate.mask.dialog import MaskDialog
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.upscale_dialog import UpscaleDialog
from diffstudio.ui.models.details import CheckpointDetails
from diffstudio.ui.models.weight_tool_dialogs import (
    ConvertDialog,
    ExportDialog,
    FuseLoraDialog,
    MergeDialog,
    PruneDialog,
)
from diffstudio.ui.settings_dialog import SettingsDialog
from diffstudio.ui.widgets import dialogs as dialogs_module
from diffstudio.ui.widgets.controls import PrimaryButton
from tests.ui.accessibility import accessibility_problems, controls
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed", "home")

SD1 = checkpoint("sd1", family="sd1", width=512, height=512, metadata={}, layout=Layout.ORIGINAL)
INK = checkpoint(
    "ink", family="sd1", role=Role.LORA, metadata={"ss_tag_frequency": json.dumps({"a": {"sumi-e": 9, "cat": 2}})}
)
CANNY = checkpoint("canny", family="sd1", role=Role.CONTROLNET, metadata={})
SHARP = checkpoint("4x-sharp", family="unknown", role=Role.UPSCALER, metadata={})
MODELS = [SD1, replace(SD1, name="other", path=Path("/models/other.safetensors")), INK, CANNY, SHARP]


@pytest.fixture
def panel(qtbot: QtBot, tmp_path: Path) -> Panel:
    """With everything that can be in it: LoRAs that are here and not, a picture to start from and one that guides,
    enlarged.
    """
    Image.new("RGB", (64, 48), "red").save(tmp_path / "a.png")
    panel = Panel()
    qtbot.addWidget(panel)
    panel.resize(288, 3000)
    panel.set_checkpoints(MODELS)
    panel.choose(SD1)
    panel.show()
    qtbot.waitExposed(panel)
    panel.prompt.set_text("a cat <lora:ink:1> <lora:inc:1>")
    assert panel.init_image.set_image(tmp_path / "a.png") and panel.controlnets.add_image(tmp_path / "a.png")
    panel.hires_fix.open_button.click()
    return panel


def test_the_left_column_with_everything_in_it(panel: Panel) -> None:
    assert (
        panel.loras.rows[1].suggestions
        and panel.init_image.strength.isVisible()
        and panel.controlnets.cards
        and panel.hires_fix.scale.isVisible()
    )
    assert not accessibility_problems(panel)
    picker = panel.loras.open_picker()
    assert not accessibility_problems(picker)
    picker.close()


def test_tab_comes_to_every_control_of_the_column(panel: Panel) -> None:
    seen: set[QWidget] = set()
    here: QWidget = panel.checkpoint
    for _ in range(len(panel.findChildren(QWidget)) + 1):
        seen.add(here)
        here = here.nextInFocusChain()
        if here is panel.checkpoint:
            break
    wanted = {widget for widget in controls(panel) if widget.isVisible() and widget.isEnabled()}
    missing = [widget.accessibleName() for widget in wanted if widget not in seen and widget.focusProxy() not in seen]
    assert not missing
    places = [widget.mapTo(panel, widget.rect().topLeft()).y() for widget in tabbed(panel)]
    assert all(after > before - 60 for before, after in zip(places, places[1:], strict=False)), (
        "it goes down, and not up and down"
    )


def tabbed(panel: Panel) -> list[QWidget]:
    """The visible controls in the order in which Tab comes to them, from the prompt to the button at the foot."""
    order: list[QWidget] = []
    here: QWidget = panel.prompt
    while here is not panel.button:
        if here.isVisible() and here.focusPolicy() & Qt.FocusPolicy.TabFocus and here in controls(panel):
            order.append(here)
        here = here.nextInFocusChain()
    return order


@pytest.fixture
def dialogs(qtbot: QtBot, tmp_path: Path) -> list[QDialog]:
    image = QImage(64, 48, QImage.Format.Format_RGB32)
    image.fill(0)
    dialogs: list[QDialog] = [
        ConvertDialog(SD1, tmp_path),
        MergeDialog(SD1, tmp_path, MODELS),
        FuseLoraDialog(SD1, tmp_path, MODELS),
        PruneDialog(SD1, tmp_path, {"EMA copies of the weights": 1000}),
        ExportDialog(SD1, tmp_path),
        MaskDialog(image, None, (0, 0, 0, 0)),
        UpscaleDialog(UpscaleRequest(tmp_path / "a.png"), image, QSize(64, 48), MODELS, "sd1", sampled=True),
        ImageSettingsDialog(tmp_path / "a.png", image, ImageSettings(GenerateRequest("a cat"), "ComfyUI")),
        SettingsDialog(Settings(), "no accelerator"),
    ]
    for dialog in dialogs:
        qtbot.addWidget(dialog)
    return dialogs


def test_a_dialog_fits_on_a_small_screen(
    request: pytest.FixtureRequest, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1366 x 768 px at 150%: the buttons at its foot must be on the screen."""
    monkeypatch.setattr(dialogs_module, "available_size", lambda window: QSize(911, 512))
    for dialog in request.getfixturevalue("dialogs"):
        dialog.show()
        qtbot.waitExposed(dialog)
        least = dialog.minimumSizeHint().expandedTo(dialog.minimumSize()).expandedTo(dialog.size())
        assert least.width() <= 895 and least.height() <= 456, f"{dialog.windowTitle()}: {least.toTuple()}"
        (main,) = dialog.findChildren(PrimaryButton)
        assert dialog.rect().contains(QRect(main.mapTo(dialog, QPoint()), main.size()))
        dialog.close()


def test_the_main_button_of_a_dialog_is_its_default(dialogs: list[QDialog]) -> None:
    """Enter presses it, and not the first button."""
    for dialog in dialogs:
        dialog.show()
        (main,) = dialog.findChildren(PrimaryButton)
        assert main.isDefault(), dialog.windowTitle()
        dialog.close()


def test_the_buttons_of_a_dialog_do_not_touch(qtbot: QtBot, dialogs: list[QDialog]) -> None:
    for dialog in dialogs:
        dialog.show()
        qtbot.waitExposed(dialog)
        buttons = [button for button in dialog.findChildren(QPushButton) if button.isVisible()]
        places = [QRect(button.mapTo(dialog, QPoint()), button.size()) for button in buttons]
        for one, place in zip(buttons, places, strict=True):
            near = place.adjusted(-3, -1, 3, 1)
            touching = [
                other.text()
                for other, there in zip(buttons, places, strict=True)
                if other is not one and near.intersects(there)
            ]
            assert not touching, f"{dialog.windowTitle()}: {one.text()} touches {touching}"
        dialog.close()


def test_the_sheets_and_windows(dialogs: list[QDialog]) -> None:
    for dialog in dialogs:
        assert len(controls(dialog)) > 3 and not accessibility_problems(dialog), dialog.windowTitle()


def test_the_details_of_models_of_every_role(qtbot: QtBot) -> None:
    details = CheckpointDetails()
    qtbot.addWidget(details)
    for model in MODELS:
        details.show_entry(model, QImage())
        assert not accessibility_problems(details), model.name
