"""The denoising strength that a mask sets by itself goes back with the mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from pytestqt.qtbot import QtBot

from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.generate.sections.init_image_section import InitImageSection

pytestmark = pytest.mark.usefixtures("dressed", "home")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    Image.new("L", (64, 48), 255).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.fixture
def section(qtbot: QtBot, image: Path, mask: Path) -> InitImageSection:
    """With an init image, strength 0.5, and then a mask."""
    section = InitImageSection()
    qtbot.addWidget(section)
    assert section.set_image(image)
    choose(section, 0.5)
    assert section.set_mask(mask) and section.strength.value() == 1.0
    return section


def choose(section: InitImageSection, strength: float) -> None:
    """As a person does it."""
    section.strength._box.setValue(strength)


@pytest.mark.parametrize(
    "take_away",
    [
        lambda section, image: section._apply_mask(None, (0, 0, 0, 0)),
        lambda section, image: section.remove_button.click(),
        lambda section, image: section.set_image(image),
        lambda section, image: section.load_from(GenerateRequest()),
    ],
    ids=["mask", "init image", "another init image", "settings without one"],
)
def test_the_strength_goes_back_with_the_mask(
    section: InitImageSection, image: Path, take_away: Callable[[InitImageSection, Path], object]
) -> None:
    take_away(section, image)
    assert not section.has_mask() and section.strength.value() == 0.5


def test_a_strength_that_was_changed_meanwhile_stays(section: InitImageSection, image: Path, mask: Path) -> None:
    choose(section, 0.8)
    section.set_image(image)
    assert section.strength.value() == 0.8
    section.set_mask(mask)
    section._apply_mask(None, (8, 0, 0, 0))  # outpainting is left: nothing changes
    assert section.strength.value() == 1.0
    section._apply_mask(None, (0, 0, 0, 0))
    assert section.strength.value() == 0.8


def test_settings_that_are_loaded_keep_their_strength_while_they_have_a_mask(
    section: InitImageSection, image: Path, mask: Path
) -> None:
    made = section.with_values(GenerateRequest())
    section.load_from(made)  # as Undo and a restart do
    assert section.strength.value() == 1.0
    section.set_image(image)
    assert section.strength.value() == 0.5
    section.load_from(GenerateRequest(init=image, mask=mask, strength=0.7))
    section.set_image(image)
    assert section.strength.value() == 0.7
    section.load_from(GenerateRequest(init=image, strength=1.0))
    section.set_image(image)
    assert section.strength.value() == 1.0
