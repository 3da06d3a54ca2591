"""The page Latent space in the whole window: the worker answers with the model that Generate uses, before and after a job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.studio.events import Failed, Finished, ImageSaved
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.lab.latents.view import LatentSpaceView
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.wiring.navigation import LAB
from tests.models.families.test_one_call import written
from tests.ui.desktop_helpers import PATIENCE_MS, EventRecorder, close_desktop, open_desktop

pytestmark = pytest.mark.usefixtures("dressed", "home")


def test_a_slider_is_answered_by_the_worker_with_the_image_of_generate(qtbot: QtBot, tmp_path: Path) -> None:
    paths.checkpoints().mkdir(parents=True, exist_ok=True)
    path = written(paths.checkpoints() / "shapes.safetensors", "gan")
    desktop = open_desktop(qtbot)
    try:
        assert desktop.worker is not None
        room = desktop.window.show_room(LAB)
        assert isinstance(room, LabRoom)
        view = room.show_interactive("latent-space")
        assert isinstance(view, LatentSpaceView)
        qtbot.waitUntil(lambda: view.model.value() == str(path), timeout=PATIENCE_MS)
        with qtbot.waitSignal(view.shown, timeout=PATIENCE_MS):
            view.first.seed.setValue(7)
        recorder = EventRecorder(desktop)
        desktop.worker.submit(GenerateRequest(checkpoint="shapes", prompt="red", seed=7))
        qtbot.waitUntil(lambda: recorder.count(Finished) + recorder.count(Failed) == 1, timeout=PATIENCE_MS)
        (saved,) = [event.path for event in recorder.events if isinstance(event, ImageSaved)]
        with qtbot.waitSignal(view.shown, timeout=PATIENCE_MS) as shown:
            view.last.seed.setValue(99)
        assert shown.args is not None
        with Image.open(saved) as image:
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - shown.args[0].image).max() <= 1
    finally:
        close_desktop(desktop)
