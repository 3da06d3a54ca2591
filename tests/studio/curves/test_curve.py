from __future__ import annotations

import numpy as np
import pytest

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.studio.curves.curve import curve_log_snr, curve_slope, curve_time

BENT = NoiseCurve(((0.0, 12.0), (0.1, 3.0), (0.35, 2.5), (0.8, -1.0), (1.0, -14.5)))


def test_values_slopes_and_times() -> None:
    u = np.linspace(0, 1, 101)
    values = curve_log_snr(BENT, u)
    assert values.tolist() == pytest.approx([BENT.log_snr(one) for one in u.tolist()], abs=1e-12)
    assert curve_time(BENT, values) == pytest.approx(u, abs=1e-9)
    assert curve_time(BENT, np.array([50.0, -50.0])).tolist() == [0.0, 1.0]
    inside = np.linspace(0.005, 0.995, 77)
    step = 1e-6
    numerical = (curve_log_snr(BENT, inside + step) - curve_log_snr(BENT, inside - step)) / (2 * step)
    np.testing.assert_allclose(curve_slope(BENT, inside), numerical, rtol=1e-5, atol=1e-5)
    assert (curve_slope(BENT, u) <= 0).all()
    assert curve_slope(BENT, np.array([p[0] for p in BENT.points])) == pytest.approx(BENT.slopes)
