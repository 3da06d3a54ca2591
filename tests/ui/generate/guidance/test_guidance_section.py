"""The guidance section of the panel: what it says is the request, and a request becomes what it says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.jobs.job_records import QueuedJob
from diffstudio.studio.panel_state import PanelState
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.stored_values import StoredValues
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.loading import compare_panel, load_request
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.queue.job_dialog import job_facts
from diffstudio.ui.wiring.panel_state import capture, show
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed")
OTHER = checkpoint("other")


@pytest.fixture
def panel(qtbot: QtBot) -> Panel:
    panel = Panel()
    qtbot.addWidget(panel)
    panel.resize(328, 900)
    panel.show()
    qtbot.waitExposed(panel)
    panel.set_checkpoints([checkpoint(), OTHER, checkpoint("pipe", family="diffusers")])
    return panel


def open_section(panel: Panel, qtbot: QtBot) -> None:
    qtbot.mouseClick(panel.guidance.open_button, Qt.MouseButton.LeftButton)


def test_what_the_section_says_is_the_request(panel: Panel, qtbot: QtBot) -> None:
    section = panel.guidance
    closed = panel.request()
    open_section(panel, qtbot)
    assert panel.request() == closed  # nothing is on yet
    assert not (section.interval_low.isVisible() or section.tau1.isVisible() or section.autoguidance_scale.isVisible())
    with qtbot.waitSignal(panel.changed):
        section.interval.click()
    section.autoguidance.combo.setFocus()
    qtbot.keyClick(section.autoguidance.combo, Qt.Key.Key_Down)
    section.cads.set_value(0.2)
    section.cads.value_changed.emit(0.2)
    assert section.interval_low.isVisible() and section.tau1.isVisible() and section.autoguidance_scale.isVisible()
    request = panel.request()
    assert request == dataclasses.replace(closed, guidance_interval=(0.1, 0.8), autoguidance="other", cads=0.2)
    qtbot.mouseClick(section.remove_button, Qt.MouseButton.LeftButton)
    assert panel.request() == closed and section.open_button.isVisible()


def test_the_ends_of_a_range_push_each_other(panel: Panel, qtbot: QtBot) -> None:
    section = panel.guidance
    open_section(panel, qtbot)
    section.interval.click()
    for moved, value in (
        (section.interval_low, 0.9),
        (section.interval_high, 0.3),
        (section.tau2, 0.0),
        (section.tau1, 1.0),
    ):
        moved.set_value(value)
        moved.value_changed.emit(value)
        low, high = panel.request().guidance_interval or (1.0, 0.0)
        assert 0 <= low < high <= 1 and 0 <= section.tau1.value() < section.tau2.value() <= 1


GUIDED = GenerateRequest(
    "a",
    seed=3,
    steps=9,
    width=64,
    height=64,
    guidance_interval=(0.2, 0.7),
    autoguidance="other",
    autoguidance_scale=1.5,
    cads=0.15,
    cads_tau1=0.5,
    cads_tau2=0.85,
    cads_mixing=0.4,
)


def test_a_request_comes_back_and_what_is_missing_is_named(panel: Panel, qtbot: QtBot) -> None:
    assert load_request(panel, GUIDED) and panel.request() == GUIDED and panel.guidance.is_enabled()
    taken = compare_panel(panel, GUIDED).taken
    assert {"guidance interval", "autoguidance with “other”", "CADS noise", "CADS mixing"} <= set(taken)
    fine = dataclasses.replace(GUIDED, guidance_interval=(0.123, 0.7))
    load_request(panel, fine)
    assert compare_panel(panel, fine).changed == ("guidance interval 0.123 to 0.7 → 0.12 to 0.7",)
    gone = dataclasses.replace(GUIDED, autoguidance="gone")
    with qtbot.waitSignal(panel.message) as said:
        load_request(panel, gone)
    assert "“gone” for autoguidance is missing" in said.args[0]
    assert compare_panel(panel, gone).missing == ("autoguidance with “gone”",)
    load_request(panel, GenerateRequest("a"))
    assert not panel.guidance.is_enabled() and panel.request().cads == 0


def test_it_is_kept_with_the_panel_and_reset(panel: Panel) -> None:
    load_request(panel, GUIDED)
    state = PanelState.from_stored(StoredValues(capture(panel).to_json()))
    panel.reset_to_recommended()
    assert panel.request().guidance_interval is None and panel.request().autoguidance == ""
    assert show(panel, state) and panel.request() == GUIDED


def test_a_checkpoint_elsewhere_and_the_earlier_ones_of_a_run_are_offered(panel: Panel, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    paths = [write_tiny_checkpoint(folder / f"{step:08}.safetensors") for step in (100, 400, 800)]
    mine = checkpoint("mine", path=paths[-1])
    panel.set_checkpoints([mine])
    panel.choose(mine)
    combo = panel.guidance.autoguidance.combo
    assert [combo.itemText(index) for index in range(combo.count())] == [
        "None",
        "Step 100 of this run (suggested)",
        "Step 400 of this run",
    ]
    request = dataclasses.replace(GUIDED, checkpoint="mine", autoguidance=str(paths[1]))
    assert load_request(panel, request) and panel.request().autoguidance == str(paths[1])
    elsewhere = write_tiny_checkpoint(tmp_path / "elsewhere.safetensors")
    load_request(panel, dataclasses.replace(request, autoguidance=str(elsewhere)))
    assert panel.request().autoguidance == str(elsewhere) and combo.currentText() == "elsewhere.safetensors"


def test_what_a_checkpoint_cannot_do_is_off_and_says_why(panel: Panel) -> None:
    load_request(panel, GUIDED)
    flux = checkpoint("flux", family="flux", width=1024, height=1024)
    plain = checkpoint("dots", conditioning=Conditioning.NONE)
    panel.set_checkpoints([checkpoint(), OTHER, flux, plain, checkpoint("pipe", family="diffusers")])
    section = panel.guidance
    panel.choose(flux)
    assert not section.interval.isEnabled() and "uses distilled guidance" in section.interval.toolTip()
    assert panel.request().guidance_interval is None and panel.request().cads == 0.15
    panel.choose(plain)
    assert not section.cads.isEnabled() and section.autoguidance.isEnabled() and panel.request().cads == 0
    panel.choose(checkpoint("pipe", family="diffusers"))
    assert not section.isVisible() and panel.request().cads == 0
    panel.choose(checkpoint())
    assert panel.request().guidance_interval == (0.2, 0.7) and panel.request().cads == 0.15


def test_the_settings_of_an_image_and_of_a_waiting_job_name_it() -> None:
    facts = dict(labels.request_facts(GUIDED, "starter"))
    assert facts["Guidance interval"] == "0.2 to 0.7 of the noise"
    assert facts["Autoguidance"] == "away from other, scale 1.5"
    assert facts["CADS noise"] == "0.15, tau 0.5 to 0.85, mixing 0.4"
    assert facts.items() <= dict(job_facts(QueuedJob(1, GUIDED, 0, 0))).items()
    assert (
        not {"Guidance interval", "Autoguidance", "CADS noise"}
        & dict(labels.request_facts(GenerateRequest(), "a")).keys()
    )
