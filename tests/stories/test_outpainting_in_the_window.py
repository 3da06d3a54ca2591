"""Starting from an image in the window: its size is followed, it is extended, cropped, padded or stretched, and what is
made of it is said and drawn before it is generated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QRectF, Qt
from pytestqt.qtbot import QtBot

from diffstudio.cli import main
from diffstudio.studio.events import Failed, Finished, ImageSaved, Started
from diffstudio.studio.jobs.memory_forecast import MemoryQuery
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import ControlNetUse, GenerateRequest
from diffstudio.studio.requests.choices import ResizeName
from diffstudio.ui.app import Desktop
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.loading import compare_panel
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.queue_and_history import RecentImage
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.generate.sections.loaded_settings import Shown, compare
from diffstudio.ui.widgets.images.image_reading import read_image
from tests.ui.desktop_helpers import PATIENCE_MS, EventRecorder, close_desktop, open_desktop
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed", "home")
LEFT = Qt.MouseButton.LeftButton


def photo(path: Path, width: int, height: int) -> Path:
    pixels = np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


# ---- in the panel ----------------------------------------------------------------------------------------------------


@pytest.fixture
def room(qtbot: QtBot) -> GenerateRoom:
    room = GenerateRoom()
    qtbot.addWidget(room)
    room.panel.background_work_requested.connect(lambda work, done: done(work()))
    room.resize(1360, 1000)
    room.show()
    qtbot.waitExposed(room)
    room.set_checkpoints([checkpoint(), checkpoint("sd15", family="sd1", width=512, height=512, metadata={})])
    return room


@pytest.fixture
def panel(room: GenerateRoom) -> Panel:
    return room.panel


def extend(panel: Panel, qtbot: QtBot, side: int, pixels: int) -> None:
    """Open the mask editor, move one of the sliders under Outpaint, and accept."""
    dialog = panel.init_image.open_mask_editor()
    assert dialog is not None
    dialog.sides[side]._box.setValue(pixels)
    qtbot.mouseClick(dialog.accept_button, LEFT)


def test_an_outpainting_is_as_large_as_its_canvas(panel: Panel, qtbot: QtBot, tmp_path: Path) -> None:
    panel.init_image.set_image(photo(tmp_path / "a.png", 64, 64))
    assert (panel.request().width, panel.request().height) == (64, 64)
    extend(panel, qtbot, 2, 32)
    request = panel.request()
    assert (request.outpaint, request.width, request.height) == ((0, 0, 32, 0), None, None)
    assert (panel.size_control.width_box.value(), panel.size_control.height_box.value()) == (96, 64)
    overlay = panel.init_image.preview.overlay()
    assert overlay is not None and overlay.frame == QRectF(0, 0, 96, 64) and not panel.init_image.fit_label.isVisible()
    panel.init_image.masked_only.click()
    panel.init_image.padding._box.setValue(0)
    assert panel.size_control.pastes() and panel.request().masked_only
    assert "96 × 64 px" in panel.size_control.reason() and "64 × 64 px" in panel.size_control.reason()
    overlay = panel.init_image.preview.overlay()
    assert overlay is not None and overlay.frame == QRectF(32, 0, 64, 64)  # the margin, in the result's aspect ratio


def test_the_memory_forecast_is_of_what_is_generated(panel: Panel, qtbot: QtBot, tmp_path: Path) -> None:
    panel.init_image.set_image(photo(tmp_path / "a.png", 64, 64))
    extend(panel, qtbot, 1, 64)
    asked: list[MemoryQuery] = []
    panel.memory_forecast_requested.connect(asked.append)
    panel.request_memory_forecast()
    assert (asked[0].request.width, asked[0].request.height) == (64, 128)


def test_what_is_cropped_padded_or_stretched_is_said(panel: Panel, tmp_path: Path) -> None:
    section = panel.init_image
    section.set_image(photo(tmp_path / "a.png", 128, 64))
    assert (panel.request().width, panel.request().height) == (128, 64) and not section.resize_mode.isVisible()
    panel.size_control.shapes.chosen.emit((64, 64))
    assert section.resize_mode.isVisible() and section.fit_label.text() == "Crops 25% left and right (32 px each)"
    for mode, text in (
        (ResizeName.PAD, "Pads 25% top and bottom with white (16 px each)"),
        (ResizeName.STRETCH, "Stretches the height by 100%"),
    ):
        section.resize_mode.set_value(mode)
        section.resize_mode.value_changed.emit(mode)
        assert section.fit_label.text() == text and panel.request().resize is mode
    panel.size_control.follow_box.click()
    assert not section.resize_mode.isVisible() and panel.request().width == 128
    section.set_image(photo(tmp_path / "b.png", 100, 67))  # 104 × 64 or so: sides are multiples of 8
    assert section.fit_label.text().startswith("Stretches the width by")
    section.resize_mode.set_value(ResizeName.CROP)
    section.resize_mode.value_changed.emit(ResizeName.CROP)
    assert section.fit_label.text().startswith("Crops ")


@pytest.mark.parametrize(
    "change",
    [
        {"width": 96, "height": 64},
        {"width": 64, "height": 64, "resize": ResizeName.PAD},
        {"width": 64, "height": 64, "resize": ResizeName.STRETCH},
        {"outpaint": (32, 0, 0, 0), "feather": 4},
        {"outpaint": (32, 0, 0, 0), "width": 64, "height": 64, "resize": ResizeName.PAD},
        {"outpaint": (32, 0, 0, 0), "width": 128, "height": 64},
        {"outpaint": (30, 0, 0, 0), "masked_only": True},
    ],
)
def test_use_settings_brings_all_of_it_back(room: GenerateRoom, tmp_path: Path, change: dict[str, object]) -> None:
    request = GenerateRequest(
        "ghost", checkpoint="starter", init=photo(tmp_path / "a.png", 96, 64), strength=0.5, seed=3
    )
    request = replace(request, **change)  # type: ignore[arg-type]
    room.use_settings(request)
    assert room.panel.request() == request and not compare_panel(room.panel, request).changed
    again = room.panel.request()
    room.use_settings(GenerateRequest("nothing"))
    assert room.panel.request().resize is ResizeName.CROP
    room.use_settings(again)
    assert room.panel.request() == request


def test_a_resize_mode_of_control_images_alone_is_named(tmp_path: Path) -> None:
    use = ControlNetUse("canny", photo(tmp_path / "a.png", 96, 64))
    asked = GenerateRequest("a", checkpoint="starter", resize=ResizeName.PAD, controls=(use,))
    shown = Shown(replace(asked, resize=ResizeName.CROP), (64, 64))
    assert compare(asked, shown).changed == ("resize mode pad → crop",)


def test_the_frame_and_the_mask_are_drawn_on_the_canvas_too(room: GenerateRoom, qtbot: QtBot, tmp_path: Path) -> None:
    """Where the init image itself is shown, and nowhere else."""
    path = photo(tmp_path / "a.png", 64, 64)
    room.show_image(RecentImage(path, read_image(path), None))
    before = dict(room.canvas.cells())[0]
    room.start_from(path)
    assert room.canvas.init_overlay() is None  # it is used just as it is
    extend(room.panel, qtbot, 0, 64)
    assert room.canvas.init_overlay() is not None
    cell = dict(room.canvas.cells())[0]
    assert cell.right() == pytest.approx(before.right(), abs=2) and cell.width() < 0.6 * before.width()
    left = room.canvas.grab().toImage().pixelColor(round(cell.left()) - 40, round(cell.center().y()))
    assert left.red() > left.green()  # the tint of the margin
    other = photo(tmp_path / "b.png", 64, 64)
    room.show_image(RecentImage(other, read_image(other), None))
    assert room.canvas.init_overlay() is None


def test_borders_of_less_than_a_pixel_are_said() -> None:
    def text(source: tuple[int, int], mode: ResizeName) -> str:
        return labels.fit_text(source, (512, 512), mode)

    assert text((1000, 1001), ResizeName.CROP) == "Crops 0.1% top and bottom (less than 1 px each)"
    assert text((1000, 1010), ResizeName.CROP) == "Crops 0.5% top and bottom (5 px each)"
    assert text((64, 64), ResizeName.CROP) == ""


def test_the_empty_cells_have_the_shape_of_the_canvas(room: GenerateRoom, tmp_path: Path) -> None:
    request = GenerateRequest("a", init=photo(tmp_path / "a.png", 64, 64), outpaint=(0, 0, 64, 0))
    room.handle_event(Started(1, request))
    cell = dict(room.canvas.cells())[0]
    assert cell.width() == pytest.approx(2 * cell.height(), abs=2)
    room.handle_event(Started(2, replace(request, init=tmp_path / "gone.png")))
    cell = dict(room.canvas.cells())[0]
    assert cell.width() == pytest.approx(cell.height(), abs=2)


def test_without_a_checkpoint_nothing_is_said_to_be_cropped(qtbot: QtBot, tmp_path: Path) -> None:
    panel = Panel()
    qtbot.addWidget(panel)
    panel.init_image.set_image(photo(tmp_path / "a.png", 96, 64))
    assert panel.init_image.fit_label.text() == ""
    panel.set_checkpoints([checkpoint("fixed", width=48, height=48, metadata={})])
    assert panel.init_image.fit_label.text().startswith("Crops 17% left and right")
    assert panel.request().width is None and panel.init_image.resize_mode.isVisibleTo(panel)


# ---- and what comes of it --------------------------------------------------------------------------------------------


@pytest.fixture
def desktop(qtbot: QtBot) -> Iterator[Desktop]:
    desktop = open_desktop(qtbot)
    yield desktop
    close_desktop(desktop)


def test_the_window_and_the_command_line_outpaint_alike(desktop: Desktop, qtbot: QtBot, tmp_path: Path) -> None:
    """To the bit: the whole canvas where the checkpoint can generate it, and the new area alone where it cannot."""
    ears, panel = EventRecorder(desktop), desktop.generate_room.panel
    panel.prompt.set_text("red apple")
    panel.sampling.steps.set_value(2)
    panel.seed.set_fixed(5)
    for number, (width, height) in enumerate(((16, 16), (20, 12)), 1):
        init = photo(tmp_path / f"{width}.png", width, height)
        desktop.generate_room.start_from(init)
        extend(panel, qtbot, 2, 8)
        panel.submit()
        qtbot.waitUntil(lambda n=number: ears.count(Finished) + ears.count(Failed) == n, timeout=PATIENCE_MS)
        assert ears.count(Failed) == 0, ears.events[-1]
        saved = [event for event in ears.events if isinstance(event, ImageSaved)][-1].path
        out, request = tmp_path / f"cli{number}.png", metadata.read(saved).request
        assert isinstance(request, GenerateRequest)
        options = ["--checkpoint", "tiny", "--seed", "5", "--steps", "2", "--init", str(init), "--outpaint", "0,0,8,0"]
        options += ["--feather", str(request.feather), "--guidance", str(request.guidance), "--out", str(out)]
        assert main(["generate", "red apple", *options]) == 0
        with Image.open(saved) as window, Image.open(out) as line:
            assert window.size == (width + 8, height)
            assert np.array_equal(np.array(window), np.array(line))
    qtbot.mouseClick(desktop.generate_room.controls.use_settings, LEFT)
    assert panel.request() == replace(request, init=init, checkpoint="tiny", masked_only=False)
    desktop.generate_room.use_settings(replace(request, init=init))  # as it is read from the file
    assert panel.request() == replace(request, init=init, checkpoint="tiny") and request.masked_only
