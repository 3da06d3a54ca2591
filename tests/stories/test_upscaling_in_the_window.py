"""Enlarging in the window: the section of the left column, the sheet for finished pictures, and what comes of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PySide6.QtCore import QPoint, QSize, Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QMenu
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.models.detection.types import Role
from diffstudio.studio.events import Finished, ImageSaved, Loading, Started, Stepped
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest
from diffstudio.studio.requests.choices import LANCZOS, LATENT
from diffstudio.studio.settings import load_settings
from diffstudio.ui.app import GALLERY, Desktop
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.image_settings_dialog import ImageSettingsDialog
from diffstudio.ui.generate.loading import load_request
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.generate.upscale_dialog import UpscaleDialog
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.samples import checkpoint, picture, stepped
from tests.ui.test_app import LONG, EventRecorder

pytestmark = pytest.mark.usefixtures("dressed", "home")

SHARP = checkpoint("4x-sharp", role=Role.UPSCALER, family="unknown")
MODELS = [
    checkpoint(),
    checkpoint("dreams", family="sd1", width=512, height=512, metadata={}),
    SHARP,
    checkpoint("odd", family="diffusers", width=512, height=512, metadata={}),
]


# ---- the left column -------------------------------------------------------------------------------------------------


@pytest.fixture
def panel(qtbot: QtBot) -> Panel:
    panel = Panel()
    qtbot.addWidget(panel)
    panel.resize(328, 1200)
    panel.show()
    qtbot.waitExposed(panel)
    panel.set_checkpoints(MODELS)
    return panel


def test_nothing_is_enlarged_until_it_is_asked_for(panel: Panel) -> None:
    assert panel.hires_fix.open_button.isVisible() and not panel.hires_fix.scale.isVisible()
    assert panel.request().enlarge == 1


def test_what_is_chosen_is_in_the_request_and_the_size_is_said(panel: Panel, qtbot: QtBot) -> None:
    section = panel.hires_fix
    qtbot.keyClick(section.open_button, Qt.Key.Key_Space)
    assert section.scale.chip(2.0).hasFocus() and section.size_label.text() == "64 × 64 → 128 × 128 px"
    section.scale.chip(3.0).click()
    assert section.size_label.text() == "64 × 64 → 192 × 192 px"
    panel.size_control.set_size(96, 64)
    panel.size_control.changed.emit()
    assert section.size_label.text() == "96 × 64 → 288 × 192 px"
    assert section.upscaler.set_value("4x-sharp")
    section.strength.set_value(0.25)
    section.tiled.click()
    request = panel.request()
    assert request.enlarge_guidance is None
    section.guidance._box.setValue(2.5)
    assert panel.request().enlarge_guidance == 2.5
    section.guidance._slider.setValue(0)
    assert panel.request().enlarge_guidance == 0
    section.guidance._slider.setValue(section.guidance._slider.minimum())
    assert section.guidance._box.text() == "same" and panel.request().enlarge_guidance is None
    assert (request.enlarge, request.upscaler, request.enlarge_strength, request.enlarge_steps, request.tiled) == (
        3,
        "4x-sharp",
        0.25,
        0,
        True,
    )
    section.remove_button.click()
    assert panel.request().enlarge == 1 and section.open_button.hasFocus()


def test_a_request_that_is_used_again_comes_back_the_same(panel: Panel, qtbot: QtBot) -> None:
    request = GenerateRequest(
        "ghost",
        checkpoint="dreams",
        width=512,
        height=512,
        enlarge=4,
        upscaler=LATENT,
        enlarge_strength=0.6,
        enlarge_steps=12,
        enlarge_guidance=2.5,
        tiled=True,
        seed=5,
    )
    assert load_request(panel, request) and panel.request() == request
    with qtbot.waitSignal(panel.hires_fix.failed) as failed:
        load_request(panel, GenerateRequest("ghost", checkpoint="starter", enlarge=2, upscaler="gone"))
    assert "“gone” is missing" in failed.args[0] and panel.request().upscaler == LANCZOS
    load_request(panel, GenerateRequest("ghost"))
    assert panel.request().enlarge == 1


def test_it_is_offered_only_where_it_works(panel: Panel) -> None:
    for name, shown in (("starter", True), ("odd", False), ("dreams", True)):
        assert panel.checkpoint.choose(name)
        panel.show_checkpoint(panel.checkpoint.current())
        assert panel.hires_fix.isVisible() == shown
    texts = [panel.hires_fix.upscaler.combo.itemText(index) for index in range(panel.hires_fix.upscaler.combo.count())]
    assert texts == ["Lanczos: fast, smooth", "Latent: needs a denoising strength above 0.5", "4X-Sharp"]
    panel.hires_fix.open_button.click()
    panel.hires_fix.set_inpainting(True)
    assert not panel.hires_fix.isVisible() and panel.request().enlarge == 1


def test_what_would_be_too_large_is_said_there_and_refused(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    panel.hires_fix.open_button.click()
    monkeypatch.setattr(panel.hires_fix, "_size_to_make", lambda: (8192, 8192))
    panel.hires_fix.update_size()
    assert "at most" in panel.hires_fix.size_label.text() and panel.hires_fix.size_label.property("tone") == "bad"
    with pytest.raises(BadRequest, match="16,384 × 16,384"):
        panel.request()
    panel.submit()
    assert "16,384 × 16,384" in panel.error_label.text()


# ---- the sheet -------------------------------------------------------------------------------------------------------


def sheet(
    qtbot: QtBot, base: UpscaleRequest | None = None, size: QSize | None = None, *, sampled: bool = False
) -> UpscaleDialog:
    base = base or UpscaleRequest(Path("/images/apple.png"), prompt="red apple", checkpoint="dreams", steps=30, seed=4)
    image = QImage(16, 16, QImage.Format.Format_RGB32)
    dialog = UpscaleDialog(base, image, size or QSize(100, 60), MODELS, "starter", sampled=sampled)
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.waitExposed(dialog)
    return dialog


def test_a_checkpoint_with_an_upper_level_is_an_upscaler_in_both_places(qtbot: QtBot, panel: Panel) -> None:
    two = checkpoint("two", metadata={"diffstudio.upper": "{}"})
    panel.set_checkpoints([*MODELS, two])
    panel.hires_fix.open_button.click()
    assert panel.hires_fix.upscaler.set_value("two")
    dialog = UpscaleDialog(
        UpscaleRequest(Path("/images/apple.png")),
        QImage(16, 16, QImage.Format.Format_RGB32),
        QSize(100, 60),
        [*MODELS, two],
        "",
    )
    qtbot.addWidget(dialog)
    assert dialog.upscaler.set_value("two") and not dialog.upscaler.set_value("starter")
    dialog.upscaler.set_value("two")
    assert dialog.request().upscaler == "two" and dialog.request().checkpoint == ""


def test_by_an_upscaler_alone(qtbot: QtBot) -> None:
    dialog = sheet(qtbot)
    assert not dialog.checkpoint.isVisible() and dialog.focusWidget() is dialog.scale.chip(2.0)
    dialog.scale.chip(4.0).click()
    assert dialog.size_label.text() == "100 × 60 → 400 × 240 px"
    dialog.upscaler.set_value("4x-sharp")
    dialog.activateWindow()
    qtbot.waitUntil(dialog.isActiveWindow)
    with qtbot.waitSignal(dialog.upscale_requested) as asked:
        qtbot.keyClick(dialog, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert asked.args == [
        UpscaleRequest(Path("/images/apple.png"), 4, "4x-sharp", prompt="red apple", steps=30, seed=4)
    ]
    assert not dialog.isVisible()


def test_and_finer_with_the_checkpoint_that_made_it(qtbot: QtBot) -> None:
    dialog = sheet(qtbot)
    low = dialog.height()
    dialog.sampled.click()
    assert dialog.height() > low and dialog.checkpoint.value() == "dreams"
    assert "odd" not in [
        dialog.checkpoint.combo.itemText(index).lower() for index in range(dialog.checkpoint.combo.count())
    ]
    assert dialog.size_label.text() == "100 × 60 → 200 × 120 px"
    dialog.scale.chip(1.5).click()
    assert dialog.size_label.text() == "100 × 60 → 152 × 88 px"  # in multiples of 8
    dialog.strength.set_value(0.45)
    dialog.prompt.setPlainText("green apple")
    dialog.upscaler.set_value(LATENT)
    with qtbot.waitSignal(dialog.upscale_requested) as asked:
        dialog.button.click()
    assert asked.args == [
        UpscaleRequest(
            Path("/images/apple.png"), 1.5, LATENT, "dreams", prompt="green apple", strength=0.45, steps=30, seed=4
        )
    ]


def test_as_it_was_asked_before_and_what_is_not_here_any_more(qtbot: QtBot) -> None:
    before = UpscaleRequest(Path("/a.png"), 3, "gone", "dreams", prompt="x", strength=0.2, tiled=True)
    dialog = sheet(qtbot, before, sampled=True)
    assert dialog.sampled.isChecked() and dialog.request().scale == 3 and dialog.request().tiled
    assert dialog.request().upscaler == LANCZOS
    assert dialog.warning.isVisible() and dialog.warning.text() == (
        "The upscaler “gone” is missing; Lanczos is used instead."
    )
    dialog.upscaler.set_value(LATENT)
    dialog.sampled.click()
    assert dialog.request().upscaler == LANCZOS  # without a checkpoint there is no latent
    lost = sheet(qtbot, UpscaleRequest(Path("/a.png"), 2.4, checkpoint="lost"), sampled=True)
    assert lost.request().checkpoint == "starter" and lost.request().scale == 2
    assert lost.warning.text() == (
        "The scale 2.4× is not offered here; 2× is chosen instead. "
        "The checkpoint lost is missing; starter is chosen instead."
    )
    assert not sheet(qtbot).warning.isVisible()


def test_fitted_times_are_kept_for_their_checkpoint_alone(qtbot: QtBot) -> None:
    values: dict[str, Any] = {"steps": 2, "spacing": "fitted", "times": (1.0, 0.4)}
    assert sheet(
        qtbot, UpscaleRequest(Path("/a.png"), checkpoint="dreams", **values), sampled=True
    ).request().times == (1.0, 0.4)
    lost = sheet(qtbot, UpscaleRequest(Path("/a.png"), checkpoint="lost", **values), sampled=True).request()
    assert lost.checkpoint == "starter" and lost.times == () and lost.spacing == "fitted"


def test_a_size_that_cannot_be_is_said_and_not_asked_for(qtbot: QtBot) -> None:
    dialog = sheet(qtbot, size=QSize(9000, 9000))
    assert not dialog.button.isEnabled() and "18,000 × 18,000" in dialog.size_label.text()
    qtbot.keyClick(dialog, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert dialog.isVisible()


# ---- the rooms -------------------------------------------------------------------------------------------------------


def test_the_room_shows_what_is_enlarged_and_no_film_where_nothing_is_sampled(qtbot: QtBot, tmp_path: Path) -> None:
    room = GenerateRoom()
    qtbot.addWidget(room)
    room.panel.background_work_requested.connect(lambda work, done: done(work()))
    room.resize(1200, 800)
    room.show()
    room.set_checkpoints(MODELS)
    Image.fromarray(picture(77, 32)).save(tmp_path / "small.png")
    plain = UpscaleRequest(tmp_path / "small.png", 4)
    room.handle_event(Started(1, plain))
    assert room.canvas.image().pixelColor(0, 0).red() == 77 and not room.filmstrip.isVisible()
    room.handle_event(Loading(1, "Enlarging", 0.5))
    assert room.status.text() == "Enlarging… 50%" and room.title.text() == "small"
    room.handle_event(ImageSaved(1, 0, tmp_path / "large.png", picture(80, 64)))
    room.handle_event(Finished(1, 0.5))
    room.activateWindow()
    qtbot.waitUntil(room.isActiveWindow)
    room.canvas.setFocus()
    with qtbot.waitSignal(room.upscale_requested) as wanted:
        qtbot.keyClick(room.canvas, Qt.Key.Key_E, Qt.KeyboardModifier.ControlModifier)
    assert wanted.args == [tmp_path / "large.png", None]
    assert room.right.thumbs[0].recent_image.request == plain and not room.controls.restart.isVisible()
    assert "upscaled 4× with Lanczos" in room.right.thumbs[0].toolTip()
    with qtbot.waitSignal(room.upscale_requested) as wanted:
        room.controls.use_settings.click()
    assert wanted.args == [plain.source, plain]
    sampled = UpscaleRequest(tmp_path / "small.png", 2, checkpoint="starter", prompt="ghost", strength=0.5)
    room.handle_event(Started(2, sampled))
    room.handle_event(stepped(2, 1, 2))
    assert room.filmstrip.isVisible() and room.filmstrip.maximum() == 2 and room.title.text() == "ghost"
    room.handle_event(stepped(2, 2, 2))
    room.handle_event(ImageSaved(2, 0, tmp_path / "larger.png", picture(81, 64)))
    room.handle_event(Finished(2, 0.5))
    room.filmstrip.setValue(1)
    room.panel.prompt.set_text("something else")
    with qtbot.waitSignal(room.restart_requested) as again:
        room.controls.restart.click()
    assert again.args == [2, 1, sampled]  # the left column is not about it


def test_the_menu_offers_it(qtbot: QtBot, tmp_path: Path) -> None:
    room = GenerateRoom()
    qtbot.addWidget(room)
    Image.fromarray(picture(9)).save(tmp_path / "a.png")
    menu = room.menu(QImage(str(tmp_path / "a.png")), tmp_path / "a.png", None)
    action = next(action for action in menu.actions() if action.text() == "Upscale…")
    with qtbot.waitSignal(room.upscale_requested) as wanted:
        action.trigger()
    assert wanted.args == [tmp_path / "a.png", None]


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (UpscaleRequest(Path("a.png"), 4, "4x-sharp"), "upscaled 4× with 4x-sharp"),
        (
            UpscaleRequest(Path("a.png"), 2, checkpoint="dreams", strength=0.25),
            "upscaled 2× with Lanczos, refined with dreams at 0.25",
        ),
        (GenerateRequest(enlarge=1.5), "10 steps · DPM++ 2M · CFG 3 · seed 0 · hires fix 1.5×"),
    ],
)
def test_what_was_done_in_a_line(request_: Any, line: str) -> None:
    assert labels.settings_line(request_) == line


# ---- the whole -------------------------------------------------------------------------------------------------------


@pytest.fixture
def desktop(qtbot: QtBot, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    monkeypatch.setattr(paths, "starter", lambda: home / "none")
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    desktop = Desktop(load_settings())
    qtbot.addWidget(desktop.window)
    desktop.window.resize(1280, 900)
    desktop.window.show()
    qtbot.waitExposed(desktop.window)
    qtbot.waitUntil(lambda: desktop.worker is not None and bool(desktop.checkpoints), timeout=LONG)
    yield desktop
    desktop.window.close()
    desktop.close()


def opened_sheet(qtbot: QtBot, desktop: Desktop) -> UpscaleDialog:
    found: list[UpscaleDialog] = []

    def there() -> bool:
        found[:] = [dialog for dialog in desktop.window.findChildren(UpscaleDialog) if dialog.isVisible()]
        return bool(found)

    qtbot.waitUntil(there, timeout=LONG)
    return found[0]


def saved(ears: EventRecorder) -> list[Path]:
    return [event.path for event in ears.events if isinstance(event, ImageSaved)]


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_made_enlarged_found_in_the_gallery_and_enlarged_again(qtbot: QtBot, desktop: Desktop) -> None:
    room, ears = desktop.generate_room, EventRecorder(desktop)
    room.panel.sampling.steps.set_value(4)
    room.panel.prompt.set_text("red apple")
    room.panel.hires_fix.open_button.click()
    room.panel.hires_fix.strength.set_value(0.5)
    room.panel.submit()
    qtbot.waitUntil(ears.heard(Finished), timeout=LONG)
    assert max(event.steps for event in ears.events if isinstance(event, Stepped)) == 6
    assert size_of(saved(ears)[0]) == (32, 32) and room.filmstrip.last_step() == 6

    gallery: Any = desktop.window.show_room(GALLERY)
    qtbot.waitUntil(lambda: gallery.model.rowCount() == 1, timeout=LONG)
    gallery.grid.setCurrentIndex(gallery.model.index(0))
    gallery.grid.selectAll()
    gallery.details.upscale.click()
    dialog = opened_sheet(qtbot, desktop)
    assert dialog.prompt.toPlainText() == "red apple" and dialog.checkpoint.value() == "tiny"
    dialog.scale.chip(3.0).click()
    dialog.button.click()
    qtbot.waitUntil(ears.heard(Finished, 2), timeout=LONG)
    assert size_of(saved(ears)[1]) == (96, 96)
    record = desktop.gallery.find(saved(ears)[1])  # type: ignore[union-attr]
    assert record is not None and record.request == UpscaleRequest(
        saved(ears)[0], 3, prompt="red apple", steps=4, seed=record.request.seed
    )
    qtbot.waitUntil(lambda: gallery.model.rowCount() == 2, timeout=LONG)

    gallery.open_image(saved(ears)[1])
    qtbot.waitUntil(gallery.is_full)
    gallery.selection_actions.use_settings()
    again = opened_sheet(qtbot, desktop)
    assert again.request() == record.request
    again.sampled.click()
    again.scale.chip(2.0).click()
    again.button.click()
    qtbot.waitUntil(ears.heard(Finished, 3), timeout=LONG)
    assert size_of(saved(ears)[2]) == (64, 64)


def test_a_image_dropped_on_the_window_can_be_enlarged(qtbot: QtBot, desktop: Desktop, tmp_path: Path) -> None:
    desktop.gallery.add(
        Image.new("RGB", (20, 10)),
        UpscaleRequest(tmp_path / "a.png", 2, prompt="moon"),  # type: ignore[union-attr]
        extra={},
    )
    (path,) = [image.path for image in desktop.gallery.images()]  # type: ignore[union-attr]
    desktop.images.open(path)
    dropped: Callable[[], list[ImageSettingsDialog]] = lambda: desktop.window.findChildren(ImageSettingsDialog)  # noqa: E731
    qtbot.waitUntil(lambda: bool(dropped()) and dropped()[0].isVisible(), timeout=LONG)
    assert dropped()[0].use_button.text() == "Upscale again…"
    dropped()[0].upscale_button.click()
    dialog = opened_sheet(qtbot, desktop)
    assert dialog.request().source == path and dialog.size_label.text().startswith("20 × 10 → 40 × 20")
    dialog.reject()


def test_what_is_no_picture_is_said_so(qtbot: QtBot, desktop: Desktop, tmp_path: Path) -> None:
    message: list[str] = []
    desktop.window.show_message = lambda kind, text, *rest: message.append(text)  # type: ignore[method-assign]
    desktop.images.upscale(tmp_path / "gone.png")
    qtbot.waitUntil(lambda: bool(message), timeout=LONG)
    assert "gone.png cannot be upscaled" in message[0]


def test_the_gallerys_menu_offers_it(qtbot: QtBot, desktop: Desktop) -> None:
    desktop.gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("moon"), extra={})  # type: ignore[union-attr]
    gallery: Any = desktop.window.show_room(GALLERY)
    qtbot.waitUntil(lambda: gallery.model.rowCount() == 1, timeout=LONG)
    gallery.grid.selectAll()
    with qtbot.waitSignal(gallery.upscale_requested) as wanted:
        qtbot.keyClick(gallery.grid, Qt.Key.Key_E, Qt.KeyboardModifier.ControlModifier)
    assert wanted.args == [gallery.current().path]
    opened_sheet(qtbot, desktop).reject()
    gallery.grid.customContextMenuRequested.emit(QPoint(5, 5))
    (menu,) = [menu for menu in gallery.findChildren(QMenu) if menu.isVisible()]
    assert "Upscale…" in [action.text() for action in menu.actions()]
    menu.close()
