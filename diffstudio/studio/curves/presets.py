"""Published noise schedules as curves to start from, sampled from their closed forms in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from diffstudio.diffusion.curve_points import HIGHEST, LOWEST, NoiseCurve
from diffstudio.studio.curves.curve import Array
from diffstudio.studio.curves.schedules import RectifiedFlow, ScheduleArrays, VarianceExploding, VariancePreserving

TIMES = (0.0, 0.02, 0.08, 0.2, 0.35, 0.5, 0.65, 0.8, 0.92, 0.98, 1.0)  # of the points; closer where curves are steep
_EDM = VarianceExploding()
_ENDS = 1e-3  # quantiles used as the ends of an unbounded distribution


@dataclass(frozen=True, slots=True)
class CurvePreset:
    name: str
    label: str
    explanation: str  # one sentence
    log_snr: Callable[[Array], Array]  # at times u in [0, 1]; may be infinite

    def curve(self) -> NoiseCurve:
        return curve_through(self.log_snr)


def curve_through(log_snr: Callable[[Array], Array]) -> NoiseCurve:
    """The curve through a schedule at TIMES, with log-SNRs clamped to the limits of a curve."""
    values = np.clip(log_snr(np.array(TIMES)), LOWEST, HIGHEST)
    for index in range(1, len(values)):  # clamped values would be equal
        values[index] = min(values[index], values[index - 1] - 0.01)
    return NoiseCurve(tuple(zip(TIMES, values.tolist(), strict=True)))


def curve_of_schedule(schedule: ScheduleArrays) -> NoiseCurve:
    """A model's own schedule over its own time, from t_min at u = 0 to t_max at u = 1."""
    return curve_through(lambda u: schedule.log_snr(schedule.t_min + u * (schedule.t_max - schedule.t_min)))


def _over_steps(curve: str, first: float = 1e-4, last: float = 0.02) -> Callable[[Array], Array]:
    schedule = VariancePreserving(curve, 1000, first, last)
    return lambda u: schedule.log_snr(1 + u * 999)


def _flow(u: Array) -> Array:
    flow = RectifiedFlow()
    return flow.log_snr(flow.t_min + u * (1 - flow.t_min))


def _edm_steps(u: Array) -> Array:
    first, last = (sigma ** (1 / 7) for sigma in (_EDM.sigma_max, _EDM.sigma_min))
    values: Array = -2 * 7 * np.log(last + u * (first - last))
    return values


def _log_normal(u: Array) -> Array:
    normal = NormalDist(-1.2, 1.2)
    return np.array([-2 * normal.inv_cdf(_ENDS + share * (1 - 2 * _ENDS)) for share in u.tolist()])


def _logit_normal(u: Array) -> Array:
    """logit(t) is log(sigma / alpha) of a flow, so its log-SNR is normal, like that of the log-normal distribution."""
    normal = NormalDist(0.6, 0.9)
    return np.array([-2 * normal.inv_cdf(_ENDS + share * (1 - 2 * _ENDS)) for share in u.tolist()])


PRESETS = (
    CurvePreset("linear", "Linear (DDPM)", "Betas rise linearly (Ho et al. 2020)", _over_steps("linear")),
    CurvePreset(
        "scaled_linear",
        "Scaled linear (Stable Diffusion)",
        "The square roots of the betas rise linearly (Rombach et al. 2021)",
        _over_steps("scaled_linear", 0.00085, 0.012),
    ),
    CurvePreset("cosine", "Cosine", "alpha falls as a cosine (Nichol & Dhariwal 2021)", _over_steps("cosine")),
    CurvePreset("sigmoid", "Sigmoid", "Betas rise as a sigmoid (GeoDiff, Xu et al. 2022)", _over_steps("sigmoid")),
    CurvePreset("flow", "Flow", "alpha = 1 - t: rectified flow (Liu et al. 2022). It starts at alpha = 0", _flow),
    CurvePreset("edm", "EDM (Karras) steps", "sigma from 80 to 0.002 with rho = 7 (Karras et al. 2022)", _edm_steps),
    CurvePreset(
        "edm_training", "EDM training (log-normal)", "log sigma is normal, -1.2 ± 1.2 (Karras et al. 2022)", _log_normal
    ),
    CurvePreset(
        "logit_normal", "Logit-normal", "logit t is normal, 0.6 ± 0.9: the default for models trained here", _logit_normal
    ),
    CurvePreset("log_snr", "Even log-SNR", "Equal steps of log-SNR from 12 to -12 (VDM, Kingma et al. 2021)",
                lambda u: 12 - 24 * u),
)  # fmt: skip


@cache
def preset_curves() -> Mapping[str, NoiseCurve]:
    """The curves of all presets by name."""
    return {one.name: one.curve() for one in PRESETS}


def preset(name: str) -> CurvePreset | None:
    return next((one for one in PRESETS if one.name == name), None)
