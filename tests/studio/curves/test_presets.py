from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diffstudio.diffusion.curve_points import HIGHEST, LOWEST
from diffstudio.diffusion.schedule import RectifiedFlow, VarianceExploding, VariancePreserving
from diffstudio.diffusion.spacing import sampling_times
from diffstudio.studio.curves.curve import curve_log_snr
from diffstudio.studio.curves.presets import PRESETS, TIMES, CurvePreset, curve_of_schedule, preset
from diffstudio.studio.curves.schedules import RECTIFIED_FLOW, schedule_arrays


@pytest.mark.parametrize("one", PRESETS, ids=lambda one: one.name)
def test_a_preset_goes_through_its_closed_form(one: CurvePreset) -> None:
    curve = one.curve()
    exact = np.clip(one.log_snr(np.array(TIMES)), LOWEST, HIGHEST)
    assert [point[1] for point in curve.points] == pytest.approx(exact.tolist(), abs=1e-9)
    u = np.linspace(0.02, 0.92, 300)
    assert np.abs(curve_log_snr(curve, u) - one.log_snr(u)).max() < 0.6  # nats, of a range of 12 to 34


def _at(name: str, u: list[float]) -> list[float]:
    one = preset(name)
    assert one is not None
    return one.log_snr(np.array(u)).tolist()


def test_the_closed_forms_are_those_of_the_mathematics() -> None:
    u = [0.1, 0.5, 0.9]
    t = torch.tensor([1 + 999 * one for one in u], dtype=torch.float64)
    for name, schedule in (
        ("linear", VariancePreserving.linear()),
        ("scaled_linear", VariancePreserving.scaled_linear()),
        ("cosine", VariancePreserving.cosine()),
        ("sigmoid", VariancePreserving.sigmoid()),
    ):
        assert _at(name, u) == pytest.approx(schedule.log_snr(t).tolist(), abs=1e-6)
    flow = RectifiedFlow()
    own = torch.tensor([flow.t_min + one * (1 - flow.t_min) for one in u], dtype=torch.float64)
    assert _at("flow", u) == pytest.approx(flow.log_snr(own).tolist(), abs=1e-6)
    edm = VarianceExploding()
    steps = edm.log_snr(sampling_times(edm, 11, "karras")[:-1]).tolist()
    assert _at("edm", [1 - index / 10 for index in range(11)]) == pytest.approx(steps, abs=1e-6)
    assert _at("log_snr", u) == pytest.approx([12 - 24 * one for one in u])
    assert _at("edm_training", [0.5]) == pytest.approx([2.4]) and _at("logit_normal", [0.5]) == pytest.approx([-1.2])


def test_flow_and_cosine_begin_without_image() -> None:
    assert {one.name for one in PRESETS if one.curve().starts_without_image} == {"flow", "cosine"}
    assert preset("none") is None


def test_the_schedule_of_a_model() -> None:
    curve = curve_of_schedule(schedule_arrays(RECTIFIED_FLOW))
    assert curve.log_snr(0.5) == pytest.approx(2 * math.log(0.4995 / 0.5005)) and curve.points[-1][1] == LOWEST
