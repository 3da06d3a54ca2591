"""The sampling section of VAEs and GANs: a truncation in place of steps, sampler, scheduler and CFG scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.generate.sections.sampling_section import SamplingSection


def checkpoint(family: str) -> Checkpoint:
    return Checkpoint(
        Path(f"/{family}.safetensors"),
        family,
        family,
        family,
        Conditioning.TEXT,
        (),
        32,
        32,
        1000,
        "F16",
        2000,
        Origin.TRAINED,
        0.0,
    )


@pytest.mark.parametrize("family", ["vae", "gan"])
def test_a_model_of_one_call_has_a_truncation_alone(qtbot: QtBot, family: str) -> None:
    section = SamplingSection()
    qtbot.addWidget(section)
    section.show()
    controls = (section.steps, section.cfg_scale, section.sampler, section.scheduler)
    section.set_checkpoint(checkpoint("pixel"))
    section.steps.set_value(33)
    assert all(control.isVisible() for control in controls) and not section.truncation.isVisible()
    section.set_checkpoint(checkpoint(family))
    assert not any(control.isVisible() for control in controls) and section.truncation.isVisible()
    section.truncation.set_value(0.6)
    asked = section.apply_to(GenerateRequest("cat"))
    assert (asked.steps, asked.guidance, asked.truncation) == (1, 1.0, 0.6)
    section.set_checkpoint(checkpoint("pixel"))
    again = section.apply_to(GenerateRequest("cat"))
    assert (again.steps, again.truncation) == (33, 1.0)  # what was set by hand came back, and nothing is truncated
    section.set_checkpoint(checkpoint(family))
    section.load_from(replace(asked, truncation=0.25))
    assert section.apply_to(GenerateRequest("cat")).truncation == 0.25
    section.reset()
    assert section.apply_to(GenerateRequest("cat")).truncation == 1
