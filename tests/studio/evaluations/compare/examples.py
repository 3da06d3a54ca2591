"""Rows of a comparison with the figures that were measured on scikit-learn's digits (FD, precision, recall, coverage)."""

from __future__ import annotations

from diffstudio.evaluation.interval import Interval
from diffstudio.evaluation.report import REAL
from diffstudio.studio.evaluations.compare.history import TrainingHistory
from diffstudio.studio.evaluations.compare.result import Entry, OfClass

NAMES = ("frechet_distance", "precision", "recall", "coverage", "nearer_to_training", "copies")
MEASURED = {  # 2,000 samples with classes; Vendi scores within a class beside those of real images
    REAL: ((12.7, 0.978, 0.964, 0.986, 0.697, 1.0), (1.6, 1.6)),
    "flow, 1,000 steps": ((29.8, 0.974, 0.818, 0.938, 0.575, 0.0), (1.5, 1.6)),
    "flow, 20,000 steps": ((11.1, 0.978, 0.918, 0.986, 0.774, 0.141), (1.6, 1.6)),
    "r3gan": ((9.6, 0.970, 0.924, 0.974, 0.56, 0.0), (1.6, 1.6)),
    "non-saturating gan": ((1668.0, 1.0, 0.0, 0.024, 0.023, 0.0), (1.01, 1.6)),
    "noise": ((9000.0, 0.0, 1.0, 0.0, 0.5, 0.0), (9.0, 1.6)),
}


def entry(name: str, model: str = "", seed: int | None = None) -> Entry:
    """One of the rows above; `model` and `seed` for a run of a model."""
    values, (vendi, real_vendi) = MEASURED[name]
    figures = {one: around(value) for one, value in zip(NAMES, values, strict=True)}
    by_class = {digit: OfClass(vendi, real_vendi, values[3]) for digit in "01"}
    return Entry(model and f"{model}, seed {seed}" or name, model or name, seed, 2000, 500, figures, by_class)


def around(value: float) -> Interval:
    return Interval(value, value - 0.01, value + 0.01)


HISTORY = TrainingHistory(
    steps=1200,
    images_seen=76_800,
    seconds=60.0,
    parameters=123_456,
    device="cpu",
    loss=((0.0, 0.5, 1.0), (0.9, float("nan"), 0.2)),
    gradient_norm=((0.0, 0.5, 1.0), (9.0, 3.0, 1.0)),
    held_out=((1.0,), (0.3,)),
    rolled_back=("The loss was NaN.",),
    restarts=2,
    ended="",
)
