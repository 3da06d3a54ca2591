from __future__ import annotations

import pytest

from diffstudio.diffusion.objectives.parameterisation import CLEAN_IMAGE, Parameterisation, Prediction


@pytest.mark.parametrize("prediction", Prediction)
def test_comes_back_from_a_header(prediction: Prediction) -> None:
    one = Parameterisation(prediction, 0.25)
    assert Parameterisation.from_json(one.to_json()) == one


def test_the_clean_image_is_the_default() -> None:
    assert CLEAN_IMAGE.prediction is Prediction.X0


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        "eps",
        {},
        {"type": "eps"},
        {"type": "noise", "sigma_data": 0.5},
        {"type": "eps", "sigma_data": "0.5"},
        {"type": "eps", "sigma_data": 0.5, "weather": 1},
        {"type": "eps", "sigma_data": 0},
        {"type": "eps", "sigma_data": float("inf")},
    ],
)
def test_what_is_invalid_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match="invalid prediction|valid Prediction|must be positive"):
        Parameterisation.from_json(values)
