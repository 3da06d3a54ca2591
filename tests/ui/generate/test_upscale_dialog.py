"""The dialog for upscaling offers what the checkpoint that refines can do; hires fix is tested with its panel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PySide6.QtCore import QSize
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.requests import UpscaleRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.sections.size import largest_untiled, refined_size
from diffstudio.ui.generate.upscale_dialog import UpscaleDialog
from tests.ui.samples import checkpoint

NETWORK = json.dumps({"patch": 8, "size": 64})


def two_levels(upper: str) -> Checkpoint:
    metadata = {"diffstudio.network": NETWORK, "diffstudio.upper": upper}
    return checkpoint("two", width=128, height=128, metadata=metadata)


TWO = two_levels(json.dumps({"network": {"patch": 8, "size": 128}}))


def test_sizes_by_checkpoint() -> None:
    assert refined_size(None, 65, 40, 2) == (130, 80)
    assert refined_size(checkpoint(), 65, 40, 2) == (128, 80), "multiples of its patch size"
    assert refined_size(checkpoint(), 128, 128, 4) == (512, 512), "in tiles"
    assert refined_size(TWO, 128, 128, 2) == (256, 256)
    with pytest.raises(BadRequest, match="3× is too large for this checkpoint: .* up to 256 px"):
        refined_size(TWO, 128, 128, 3)
    assert largest_untiled(two_levels("damaged")) is None


def test_the_dialog_offers_the_scales_of_the_checkpoint_that_refines(
    qtbot: QtBot, tmp_path: Path, dressed: QApplication
) -> None:
    request = UpscaleRequest(tmp_path / "a.png", scale=4, checkpoint="two", tiled=True)
    image = QImage(128, 128, QImage.Format.Format_RGB32)
    dialog = UpscaleDialog(request, image, QSize(128, 128), [TWO, checkpoint()], "two", sampled=True)
    qtbot.addWidget(dialog)
    dialog.show()

    def offered() -> list[bool]:
        return [dialog.scale.chip(scale).isEnabled() for scale, _ in labels.SCALES]

    assert offered() == [True, True, False, False] and not dialog.tiled.isEnabled()
    assert "4× is too large" in dialog.size_label.text() and not dialog.button.isEnabled()
    dialog.scale.chip(2.0).click()
    assert dialog.button.isEnabled() and not dialog.request().tiled
    dialog.sampled.click()
    assert all(offered()), "the upscaler alone makes any size"
    dialog.sampled.click()
    dialog.checkpoint.set_value("starter")
    dialog.checkpoint.value_changed.emit("starter")
    assert all(offered()) and dialog.tiled.isEnabled() and dialog.request().tiled
