"""A checkpoint that lacks its text encoders: said, offered, agreed to, shown while they come, stopped, there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QMessageBox
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.models.components.download import DOWNLOAD_SOURCES
from diffstudio.ui.app import Desktop
from tests.models import headers
from tests.models.components.test_download import Hub, hub
from tests.models.headers import write_header
from tests.ui.desktop_helpers import PATIENCE_MS, close_desktop, open_desktop

__all__ = ["hub"]
PIECES = ("clip_l", "t5", "vae-flux", "tokenizer-t5")


@pytest.fixture
def desktop(qtbot: QtBot, hub: Hub) -> Iterator[Desktop]:
    for piece in PIECES:
        for origin in DOWNLOAD_SOURCES[piece]:
            hub.files.setdefault(f"/{origin.repository}/resolve/main/{origin.file}", b"some bytes of it")
    write_header(paths.checkpoints() / "flux1-dev.safetensors", headers.bfl_flux(), "BF16")
    desktop = open_desktop(qtbot)
    yield desktop
    close_desktop(desktop)


def boxes(desktop: Desktop) -> list[QMessageBox]:
    return [box for box in desktop.window.findChildren(QMessageBox) if box.isVisible()]


def agree(desktop: Desktop, verb: str) -> None:
    box = boxes(desktop)[0]
    next(button for button in box.buttons() if button.text() == verb).click()


def test_what_is_missing_is_fetched_on_a_click(qtbot: QtBot, desktop: Desktop, hub: Hub, tmp_path: Path) -> None:
    room, home = desktop.generate_room, desktop.model_library.library.folders[0]
    room.choose_checkpoint(next(each for each in desktop.checkpoints if each.name == "flux1-dev"))
    room.panel.prompt.setPlainText("a red apple")
    qtbot.waitUntil(room.panel.button.isEnabled)
    room.panel.button.click()
    qtbot.waitUntil(lambda: "has no CLIP-L text encoder" in room.banner.text(), timeout=PATIENCE_MS)
    assert room.banner.action.text().startswith("Download (") and room.banner.action.toolTip() and not hub.asked

    room.banner.action.click()
    box = boxes(desktop)[0]
    assert "comfyanonymous/flux_text_encoders" in box.informativeText() and str(home) in box.informativeText()
    box.reject()
    assert not hub.asked and not (home / "vae").exists()  # nothing without being agreed to

    room.banner.action.click()
    agree(desktop, room.banner.action.text().removesuffix("…"))
    qtbot.waitUntil(lambda: room.banner.text().endswith("have been downloaded."), timeout=PATIENCE_MS)
    assert room.banner.action.text() == "Try again"
    assert (home / "text_encoders" / "t5xxl_fp16.safetensors").read_bytes() == b"some bytes of it"
    assert (home / "tokenizers" / "t5" / "tokenizer.json").is_file() and (home / "vae" / "ae.safetensors").is_file()


def test_stop_ends_it_and_what_fails_is_said(qtbot: QtBot, desktop: Desktop, hub: Hub) -> None:
    room, home = desktop.generate_room, desktop.model_library.library.folders[0]
    hub.broken_after = 12_000_000
    desktop.downloads.start(("vae-flux",), home)
    qtbot.waitUntil(lambda: "Downloading FLUX.1 VAE: 1" in room.banner.text(), timeout=PATIENCE_MS)
    assert room.banner.action.text() == "Stop" and desktop.downloads.confirm(desktop.window, PIECES, home) is None
    room.banner.action.click()
    qtbot.waitUntil(lambda: "resumes from here" in room.banner.text(), timeout=PATIENCE_MS)
    hub.slow.set()
    assert not (home / "vae" / "ae.safetensors").exists() and (home / ".fetching").is_dir()
    hub.files.clear()
    desktop.downloads.start(("vae-flux",), home)
    qtbot.waitUntil(lambda: "could not be downloaded" in room.banner.text(), timeout=PATIENCE_MS)
