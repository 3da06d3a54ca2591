"""The sampling section: of VAEs and GANs a truncation in place of the rest; the steps fitted to a checkpoint."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.fitted_steps.ladders import NONE, Ladder
from diffstudio.models.fitted_steps.stored import KEY
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.curves.saved import NamedCurve, delete_curve, save_curve
from diffstudio.studio.requests import GenerateRequest, SamplerName, SpacingName
from diffstudio.ui.generate.labels import request_facts
from diffstudio.ui.generate.sections.sampling_section import SamplingSection
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from tests.models.fitted_steps.some_ladders import ladder


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


# ---- the spacing fitted to this checkpoint ---------------------------------------------------------------------------


def fitted(*ladders: Ladder, name: str = "pixel") -> Checkpoint:
    metadata = {KEY: NONE.with_ladders(ladders).to_json()} if ladders else {}
    return replace(checkpoint("pixel"), path=Path(f"/{name}.safetensors"), metadata=metadata)


@pytest.fixture
def section(qtbot: QtBot) -> SamplingSection:
    section = SamplingSection()
    qtbot.addWidget(section)
    section.show()
    return section


def choose(control: LabelledComboBox | LabelledSlider, value: object) -> None:
    """As a person does."""
    control.set_value(value)  # type: ignore[arg-type]
    control.value_changed.emit(value)


def offered(section: SamplingSection) -> bool:
    return section.scheduler.combo.findText("Fitted to this checkpoint") >= 0


def test_it_is_offered_where_steps_are_fitted(section: SamplingSection) -> None:
    section.set_checkpoint(fitted())
    assert not offered(section)
    section.set_checkpoint(fitted(ladder("euler", 4), name="other"))
    assert offered(section) and not section.fitted.isVisible()
    choose(section.sampler, SamplerName.EULER)
    choose(section.steps, 4)
    choose(section.scheduler, SpacingName.FITTED)
    asked = section.apply_to(GenerateRequest("cat"))
    assert (asked.spacing, asked.times) == (SpacingName.FITTED, ladder("euler", 4).times)
    assert section.fitted.isVisible() and "10.0 times closer" in section.fitted.text()


def test_without_some_for_these_steps_it_says_what_is_used(section: SamplingSection) -> None:
    section.set_checkpoint(fitted(ladder("euler", 4)))
    choose(section.sampler, SamplerName.EULER)
    choose(section.scheduler, SpacingName.FITTED)
    choose(section.steps, 7)
    assert "No 7 steps are fitted" in section.fitted.text() and "instead" in section.fitted.text()
    assert section.apply_to(GenerateRequest("cat")).times == ()
    choose(section.scheduler, SpacingName.UNIFORM)
    assert not section.fitted.isVisible()


def test_a_checkpoint_without_any_gets_its_recommended_spacing(section: SamplingSection) -> None:
    section.set_checkpoint(fitted(ladder("euler", 4)))
    choose(section.scheduler, SpacingName.FITTED)
    section.set_checkpoint(fitted(name="other"))
    assert section.scheduler.value() == SpacingName.LOG_SNR and not offered(section)


def test_recommended_steps_are_loaded_with_the_checkpoint(section: SamplingSection) -> None:
    section.set_checkpoint(fitted(ladder("unipc", 6, recommended=True)))
    asked = section.apply_to(GenerateRequest("cat"))
    assert (asked.sampler, asked.steps, asked.times) == (SamplerName.UNIPC, 6, ladder("unipc", 6).times)
    assert section.set_by_hand() == frozenset()


def test_the_times_of_a_loaded_image_stay_until_something_changes(section: SamplingSection) -> None:
    loaded = GenerateRequest(
        "cat", steps=4, sampler=SamplerName.EULER, spacing=SpacingName.FITTED, times=(1.0, 0.8, 0.4, 0.2)
    )
    section.set_checkpoint(fitted())  # it has none of its own, or no longer
    section.load_from(loaded)
    assert offered(section) and section.apply_to(GenerateRequest("cat")).times == loaded.times
    assert "those of the loaded image" in section.fitted.text()
    section.set_checkpoint(fitted())  # the library was scanned again
    assert section.apply_to(GenerateRequest("cat")).times == loaded.times
    choose(section.steps, 5)
    assert section.apply_to(GenerateRequest("cat")).times == ()
    section.set_checkpoint(fitted(name="other"))
    choose(section.steps, 4)
    assert section.apply_to(GenerateRequest("cat")).times == ()


def test_what_is_kept_of_the_panel_follows_steps_that_are_fitted_anew(section: SamplingSection) -> None:
    """After a restart, or an undone change. The times of a loaded image are kept."""
    section.set_checkpoint(fitted(ladder("unipc", 6, recommended=True)))
    kept = section.as_kept(GenerateRequest("cat"))
    again = Ladder(**asdict(ladder("unipc", 6)) | {"times": (1.0, 0.9, 0.7, 0.5, 0.3, 0.1)})
    section.set_checkpoint(fitted(again))
    section.load_from(kept)
    assert section.apply_to(GenerateRequest("cat")).times == again.times
    assert "loaded image" not in section.fitted.text()
    loaded = replace(kept, times=ladder("unipc", 6).times)
    section.load_from(loaded)
    assert section.as_kept(GenerateRequest("cat")).times == loaded.times


# ---- noise schedules that were drawn ---------------------------------------------------------------------------------

STEEP = NamedCurve("steep", NoiseCurve(((0.0, 9.0), (0.3, 2.0), (1.0, -9.0))))


def texts(section: SamplingSection) -> list[str]:
    combo = section.scheduler.combo
    return [combo.itemText(index) for index in range(combo.count())]


def test_a_saved_noise_schedule_is_a_scheduler(section: SamplingSection) -> None:
    section.set_checkpoint(checkpoint("pixel"))
    assert "steep" not in texts(section) and "Noise schedule" not in texts(section)
    save_curve(STEEP)
    section.hide()
    section.show()  # back from the Lab
    choose(section.scheduler, STEEP)
    asked = section.apply_to(GenerateRequest("cat"))
    assert (asked.spacing, asked.curve) == (SpacingName.CUSTOM, STEEP)
    assert request_facts(asked, "tiny")[4] == ("Scheduler", "steep")
    choose(section.scheduler, SpacingName.KARRAS)
    assert section.apply_to(asked).curve is None


def test_a_schedule_that_was_saved_again_or_deleted_stays_chosen(section: SamplingSection) -> None:
    section.set_checkpoint(checkpoint("pixel"))
    save_curve(STEEP)
    section.hide()
    section.show()
    choose(section.scheduler, STEEP)
    flat = NamedCurve("steep", NoiseCurve(((0.0, 3.0), (1.0, -3.0))))
    save_curve(flat)
    section.hide()
    section.show()
    assert section.scheduler.value() == flat
    delete_curve("steep")
    section.hide()
    section.show()
    assert section.scheduler.value() == flat and "steep (not saved)" in texts(section)


def test_an_image_brings_its_schedule_along(section: SamplingSection) -> None:
    section.set_checkpoint(checkpoint("pixel"))
    section.load_from(GenerateRequest("cat", spacing=SpacingName.CUSTOM, curve=STEEP))
    assert section.scheduler.value() == STEEP and "steep (not saved)" in texts(section)
    save_curve(NamedCurve("steep", NoiseCurve(((0.0, 3.0), (1.0, -3.0)))))
    section.hide()
    section.show()
    assert section.apply_to(GenerateRequest("cat")).curve == STEEP, (
        "that of the image, not the one saved under its name"
    )
