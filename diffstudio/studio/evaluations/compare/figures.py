"""The plots of a comparison. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path

from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.compare.result import MEASURES, PLOTS, Comparison, Entry
from diffstudio.studio.evaluations.plots.figure import Figure, Series
from diffstudio.studio.evaluations.plots.files import save

REAL_COLOUR = 7  # grey
_SHARES = ("precision", "density", "recall", "coverage", "modes")
_COPYING = ("copies", "nearer_to_training")
_ROOM = 0.5  # width over which the models are spread within a category


def plots_of(found: Comparison) -> list[Figure]:
    """All plots that have data: of all models together, then of the training of each."""
    plots = [*_of_measures(found)]
    for model in found.models:
        plots += _of_training(model, found.of_model(model), found.models.index(model))
    return plots


def save_plots(found: Comparison, out: Path) -> list[Path]:
    """Save every plot as SVG, PNG and CSV in the folder of the comparison. StorageProblem."""
    return [path for figure in plots_of(found) for path in save(figure, out / PLOTS)]


def _of_measures(found: Comparison) -> Iterator[Figure]:
    measures = found.measures()
    if shown := [name for name in _SHARES if name in measures]:
        yield _dots(found, "fidelity-and-diversity", "Fidelity (left) and diversity (right)", shown, (0.0, 1.2))
    if "frechet_distance" in measures:
        yield _by_model(found, "fid", "FID of each run", "frechet_distance")
    if shown := [name for name in _COPYING if name in measures]:
        yield _dots(found, "copying", "The tests for copies", shown, (0.0, 1.0))


def _dots(found: Comparison, name: str, title: str, measures: Sequence[str], y_range: tuple[float, float]) -> Figure:
    """The mean of each model with its spread, and that of real images, next to each other for each measure."""
    rows = [
        (model, [found.figure(model, one) for one in measures], number) for number, model in enumerate(found.models)
    ]
    if found.real is not None:
        real = found.real
        rows.insert(0, ("real images", [real.figures.get(one) for one in measures], REAL_COLOUR))
    series = []
    for index, (title_of, values, colour) in enumerate(rows):
        shift = _ROOM * (index / max(1, len(rows) - 1) - 0.5)
        known = [(x + shift, one) for x, one in enumerate(values) if one is not None]
        series.append(_points(title_of, known, colour))
    titles = tuple(MEASURES[one].title for one in measures)
    return Figure(name, title, "", "", tuple(series), categories=titles, y_range=y_range)


def _by_model(found: Comparison, name: str, title: str, measure: str) -> Figure:
    """Every run with its interval, grouped by model; real images are a line."""
    series = []
    for number, model in enumerate(found.models):
        entries = [entry for entry in found.of_model(model) if measure in entry.figures]
        middle = (len(entries) - 1) / 2
        known = [
            (number + _ROOM * (index - middle) / max(1, len(entries)), entry.figures[measure])
            for index, entry in enumerate(entries)
        ]
        series.append(_points(model, known, number))
    real = found.real.figures.get(measure) if found.real is not None else None
    references = (("real images", real.value, REAL_COLOUR),) if real is not None else ()
    return Figure(name, title, "", MEASURES[measure].title, tuple(series), found.models, references)


def _points(name: str, known: Sequence[tuple[float, Interval]], colour: int) -> Series:
    finite = [(x, one) for x, one in known if isfinite(one.value)]
    x, y, low, high = (
        (tuple(values) for values in zip(*((x, one.value, one.low, one.high) for x, one in finite), strict=True))
        if finite
        else ((), (), (), ())
    )
    return Series(name, x, y, low, high, points=True, colour=colour)


def _of_training(model: str, entries: Sequence[Entry], colour: int) -> Iterator[Figure]:
    trained = [(entry, entry.training) for entry in entries if entry.training is not None]
    if not any(one.loss[0] for _, one in trained):
        return
    losses = [Series("training loss", *one.loss, colour=colour) for _, one in trained]
    losses += [Series("held-out measure", *one.held_out, colour=REAL_COLOUR) for _, one in trained if one.held_out[0]]
    name = "".join(letter if letter.isalnum() else "-" for letter in model)
    yield Figure(f"loss-{name}", f"{model}: loss of each seed", "minutes of training", "loss", tuple(losses))
    norms = tuple(Series("gradient norm", *one.gradient_norm, colour=colour) for _, one in trained)
    yield Figure(
        f"gradient-{name}",
        f"{model}: gradient norm of each seed",
        "minutes of training",
        "norm",
        norms,
        logarithmic=True,
    )
