"""A seed or an image: which of them is used, and what is left when a model takes no images."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.studio.evaluations.latents.tasks import LatentPoint
from diffstudio.ui.lab.latents.point_field import LARGEST_SEED, PointField


def test_an_image_takes_the_place_of_the_seed_until_it_is_removed(qtbot: QtBot, dressed: QApplication) -> None:
    field = PointField("Image", 3)
    qtbot.addWidget(field)
    assert field.point(((0, 1.0),)) == LatentPoint(3, None, ((0, 1.0),))
    with qtbot.waitSignal(field.changed):
        field.set_image(Path("a.png"))
    assert field.point() == LatentPoint(3, Path("a.png"))
    with qtbot.waitSignal(field.changed):
        field.remove.click()
    assert field.image() is None
    with qtbot.waitSignal(field.changed):
        field.dice.click()
    assert 0 <= field.point().seed <= LARGEST_SEED


def test_a_model_without_latents_of_images_takes_seeds_alone(qtbot: QtBot, dressed: QApplication) -> None:
    field = PointField("Image", 3)
    qtbot.addWidget(field)
    field.set_image(Path("a.png"))
    field.set_takes_images(False)
    field.show()
    assert field.image() is None and not field.choose.isVisible() and field.seed.isVisible()
    field.set_takes_images(True)
    assert field.choose.isVisible()
