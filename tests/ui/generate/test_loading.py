"""Settings of images that hold only some: the rest of the panel stays as it is, and is not called loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtGui import QImage
from pytestqt.qtbot import QtBot

from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.choices import SamplerName, SpacingName
from diffstudio.ui.generate.image_settings_dialog import ImageSettingsDialog
from diffstudio.ui.generate.room import GenerateRoom
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed")
WHOLE = "a cat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, Model: starter"


@pytest.fixture
def room(qtbot: QtBot) -> GenerateRoom:
    room = GenerateRoom()
    qtbot.addWidget(room)
    room.set_checkpoints([checkpoint(), checkpoint("other")])
    return room


@pytest.fixture
def use(qtbot: QtBot, room: GenerateRoom, tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Use the settings of an image with this `parameters` text; the facts that its dialog lists."""

    def used(text: str) -> dict[str, str]:
        info = metadata.PngInfo()
        info.add_text("parameters", text)
        Image.new("RGB", (64, 64)).save(tmp_path / "a.png", pnginfo=info)
        dialog = ImageSettingsDialog(tmp_path / "a.png", QImage(), metadata.read(tmp_path / "a.png"))
        qtbot.addWidget(dialog)
        dialog.use_requested.connect(room.use_settings)
        dialog.use_button.click()
        return dict(dialog.facts.facts())

    return used


def test_a_prompt_alone_changes_the_prompt_alone(room: GenerateRoom, use: Callable[[str], dict[str, str]]) -> None:
    panel = room.panel
    panel.choose(checkpoint("other"))
    panel.sampling.load_from(GenerateRequest("", steps=33, sampler=SamplerName.UNIPC, spacing=SpacingName.KARRAS))
    panel.negative.set_text("blurry")
    panel.count.set_value(4)
    panel.sampling.steps.set_value(34)
    by_hand = panel.sampling.set_by_hand()
    before = panel.request()
    assert use("just a prompt") == {"Size": "64 × 64 px"}
    after = panel.request()
    assert after.prompt == "just a prompt" and after.to_json() | {"prompt": ""} == before.to_json() | {"prompt": ""}
    assert not panel.seed.is_fixed() and panel.sampling.set_by_hand() == by_hand == {"steps"}
    assert panel.loaded_line.taken.text() == (
        "Loaded: prompt. Not in the image, and left as set here: negative prompt, checkpoint, seed, steps, CFG scale, "
        "sampler, scheduler, images, size."
    )
    assert panel.loaded_line.not_taken.isHidden()


def test_values_that_cannot_be_used_stay_as_they_are(room: GenerateRoom, use: Callable[[str], dict[str, str]]) -> None:
    room.panel.sampling.steps.set_value(34)
    facts = use(
        WHOLE.replace("Seed: 1", "Seed: -1").replace("Steps: 20", "Steps: 0, Denoising strength: 0.5")
        .replace("starter", "gone")
    )  # fmt: skip
    assert {"Seed", "Steps"}.isdisjoint(facts) and facts["Checkpoint"] == "gone"
    assert not room.panel.seed.is_fixed() and room.panel.request().steps == 34 and room.panel.request().guidance == 7
    assert "“gone” is missing" in room.banner.text() and "All other settings" not in room.banner.text()
    loaded = room.panel.loaded_line.taken.text().partition(" Not in the image")[0]
    assert loaded == "Loaded: prompt, CFG scale, sampler, scheduler, size."


def test_whole_settings_are_loaded_as_before(room: GenerateRoom, use: Callable[[str], dict[str, str]]) -> None:
    assert use(WHOLE)["Seed"] == "1"
    assert room.panel.seed.is_fixed() and room.panel.request().steps == 20
    assert "left as set here" not in room.panel.loaded_line.taken.text()


def test_another_checkpoint_brings_what_it_recommends(room: GenerateRoom, use: Callable[[str], dict[str, str]]) -> None:
    panel = room.panel
    usual = panel.sampling.steps.value()
    panel.choose(checkpoint())
    panel.sampling.load_from(GenerateRequest(steps=50))
    use("a cat\nSampler: Euler, Seed: 1, Size: 64x64, Model: other")
    assert panel.request().checkpoint == "other" and panel.sampling.steps.value() == usual != 50
    assert panel.request().sampler is SamplerName.EULER
