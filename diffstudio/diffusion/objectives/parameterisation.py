"""Parameterisation: what a network predicts, from which the clean image follows. No torch is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Prediction(StrEnum):
    """What the output of a network is; the names are a file format."""

    X0 = "x0"  # the clean image: JiT, Li & He 2025 (arXiv 2511.13720)
    VELOCITY = "velocity"  # eps - x_0: rectified flow, Liu et al. 2022 (arXiv 2209.03003)
    EPS = "eps"  # the noise: Ho et al. 2020 (arXiv 2006.11239)
    V = "v"  # alpha * eps - sigma * x_0: Salimans & Ho 2022 (arXiv 2202.00512)
    EDM = "edm"  # the preconditioned network F of Karras et al. 2022 (arXiv 2206.00364)


@dataclass(frozen=True, slots=True)
class Parameterisation:
    """What a network predicts. `diffusion.denoiser.denoiser_for` turns the prediction into the clean image.

    `sigma_data` is the standard deviation of the data, for EDM. ValueError unless it is positive.
    """

    prediction: Prediction = Prediction.X0
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < float("inf"):
            raise ValueError(f"sigma_data must be positive, not {self.sigma_data}")

    def to_json(self) -> dict[str, Any]:
        """The entry of checkpoint headers; those of clean-image predictions have none."""
        return {"type": self.prediction.value, "sigma_data": self.sigma_data}

    @classmethod
    def from_json(cls, values: object) -> Parameterisation:
        """The inverse of `to_json`. ValueError for what is missing, unknown or invalid."""
        match values:
            case {"type": str(prediction), "sigma_data": int() | float() as sigma_data, **rest} if not rest:
                return cls(Prediction(prediction), float(sigma_data))
        shown = dict(values) if isinstance(values, Mapping) else values
        raise ValueError(f"invalid prediction: {str(shown)[:80]}")


CLEAN_IMAGE = Parameterisation()
