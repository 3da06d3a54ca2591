"""A whole desktop with a small Stable Diffusion: LoRAs chosen beside the prompt, a picture that guides, and what comes
of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from pytestqt.qtbot import QtBot

from diffstudio.studio.events import Failed, Finished, ImageSaved, Loading, Noted
from diffstudio.studio.jobs.memory_forecast import DeviceMemory
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import ControlNetUse, GenerateRequest
from diffstudio.studio.requests.choices import PreprocessorName
from diffstudio.studio.requests.control_types import ControlTypeName
from diffstudio.ui.app import Desktop
from tests.models.adapter_files import kohya, layers, write
from tests.studio.generation.test_controlnets import drawing, made, shelf  # noqa: F401 - fixtures
from tests.ui.desktop_helpers import PATIENCE_MS, EventRecorder, close_desktop, open_desktop

pytestmark = [
    pytest.mark.usefixtures("dressed"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # diffusers, with NumPy 2
    pytest.mark.filterwarnings("ignore:`Transformer2DModelOutput` is deprecated:FutureWarning"),
]


@pytest.fixture
def desktop(qtbot: QtBot, shelf: Path, made: dict[str, Any]) -> Iterator[Desktop]:  # noqa: F811
    tensors = kohya("lora_unet", layers(made["sd1"].unet, "to_q", "to_v"), seed=3, alpha=8.0)
    write(shelf / "loras" / "style.safetensors", tensors, {"ss_base_model_version": "sd_v1-5"})
    write(
        shelf / "loras" / "zeros.safetensors",
        {name: torch.zeros_like(value) for name, value in tensors.items()},
        {"ss_base_model_version": "sd_v1-5"},
    )
    desktop = open_desktop(qtbot)
    yield desktop
    close_desktop(desktop)


def test_loras_and_a_picture_that_guides(desktop: Desktop, qtbot: QtBot, drawing: Path) -> None:  # noqa: F811
    ears, room = EventRecorder(desktop), desktop.generate_room
    panel = room.panel
    panel.choose(next(each for each in desktop.checkpoints if each.name == "small"))
    panel.prompt.set_text("a red apple")
    qtbot.waitUntil(
        lambda: {"style", "zeros"} <= {model.name for model in panel.loras.offered()}, timeout=PATIENCE_MS
    )  # the window may still be reading the headers
    for name in ("style", "zeros"):
        picker = panel.loras.open_picker()
        row = [picker.list.item(index).text() for index in range(picker.list.count())].index(name)
        picker.list.setCurrentRow(row)
        qtbot.keyClick(picker.list, Qt.Key.Key_Return)
    assert panel.prompt.text() == "a red apple <lora:style:0.8> <lora:zeros:0.8>"
    panel.loras.rows[0].slider._slider.setValue(30)
    panel.controlnets.add_image(drawing)
    (card,) = panel.controlnets.cards
    assert [card.network.combo.itemText(index) for index in range(2)] == ["control_depth", "control_edges"]
    card.network.set_value("control_edges")
    card.preprocessor.set_value(PreprocessorName.CANNY)
    card.changed.emit()
    qtbot.waitUntil(lambda: not card.preview.image().isNull() and _black(card.preview.image()), timeout=PATIENCE_MS)
    panel.size_control.set_size(128, 128)
    panel.sampling.steps.set_value(2)
    panel.submit()
    qtbot.waitUntil(lambda: ears.count(Finished) + ears.count(Failed) == 1, timeout=PATIENCE_MS)
    assert ears.count(Finished) == 1, [event for event in ears.events if isinstance(event, Failed)]
    assert "Loading control_edges" in {event.what for event in ears.events if isinstance(event, Loading)}
    assert (
        ears.count(Noted) == 1
        and room.banner.isVisible()
        and "zeros is all zeros and has no effect" in room.banner.text()
    )
    saved = next(event for event in ears.events if isinstance(event, ImageSaved))
    request = metadata.read(saved.path).request
    assert request.prompt == "a red apple <lora:style:1.5> <lora:zeros:0.8>"
    assert request.controls == (ControlNetUse("control_edges", drawing, PreprocessorName.CANNY),)
    panel.prompt.set_text("something else")
    panel.controlnets.load_from(request.__class__())
    assert panel.loras.rows == [] and panel.controlnets.cards == []
    qtbot.mouseClick(room.controls.use_settings, Qt.MouseButton.LeftButton)
    assert panel.request().controls == request.controls and [row.name for row in panel.loras.rows] == ["style", "zeros"]
    assert panel.loras.rows[0].slider.value() == 1.5


def test_a_union_asks_for_the_control_type_and_use_settings_brings_it_back(
    desktop: Desktop,
    qtbot: QtBot,
    drawing: Path,  # noqa: F811
) -> None:
    ears, room = EventRecorder(desktop), desktop.generate_room
    panel = room.panel
    panel.choose(next(each for each in desktop.checkpoints if each.name == "small-xl"))
    panel.prompt.set_text("a red apple")
    panel.controlnets.add_image(drawing)
    (card,) = panel.controlnets.cards
    card.network.set_value("control_union")
    card.preprocessor.set_value(PreprocessorName.AS_GIVEN)
    card.network.value_changed.emit("control_union")
    panel.size_control.set_size(64, 64)
    panel.sampling.steps.set_value(1)
    panel.submit()
    qtbot.waitUntil(lambda: ears.count(Failed) == 1, timeout=PATIENCE_MS)
    failed = next(event for event in ears.events if isinstance(event, Failed))
    assert "Choose the control type: openpose, depth" in str(failed.error)
    card.control_type.set_value(ControlTypeName.DEPTH)
    panel.submit()
    qtbot.waitUntil(lambda: ears.count(Finished) + ears.count(Failed) == 2, timeout=PATIENCE_MS)
    assert ears.count(Finished) == 1
    use = ControlNetUse("control_union", drawing, control_type=ControlTypeName.DEPTH)
    saved = next(event for event in ears.events if isinstance(event, ImageSaved))
    assert metadata.read(saved.path).request.controls == (use,)
    panel.controlnets.load_from(GenerateRequest())
    assert panel.controlnets.cards == []
    qtbot.mouseClick(room.controls.use_settings, Qt.MouseButton.LeftButton)
    assert panel.request().controls == (use,)


def _black(image: QImage) -> bool:
    """Mostly, as edges are."""
    points = [
        image.pixelColor(x, y).lightness() for x in range(0, image.width(), 4) for y in range(0, image.height(), 4)
    ]
    return sum(point < 20 for point in points) > 0.8 * len(points)


def test_what_it_takes_is_said(desktop: Desktop, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = desktop.generate_room.panel
    assert desktop.worker is not None
    monkeypatch.setattr(desktop.worker, "device_memory", lambda: DeviceMemory("cpu", 1 << 30, 230_000_000))
    panel.choose(next(each for each in desktop.checkpoints if each.name == "small"))
    message = []
    for side, tone in ((128, "dim"), (192, "dim"), (256, "warn")):
        panel.size_control.set_size(side, side)
        panel.size_control.changed.emit()
        qtbot.waitUntil(lambda: panel.memory_label.text() not in ("", *message), timeout=PATIENCE_MS)
        message.append(panel.memory_label.text())
        assert message[-1].endswith("of 230 MB free memory") and panel.memory_label.property("tone") == tone
    assert "decoded in tiles" in panel.memory_label.toolTip()
