"""What the charts of a run show, as numbers: losses, losses by noise level, gradient norm, learning rate, throughput."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from diffstudio.studio.number_text import formatted
from diffstudio.studio.runs.history import HistoryView, smoothed
from diffstudio.training.run.events import RunCheckpointChosen, RunEarlyDecay, RunEarlyStop, RunHeldOut, RunRolledBack

_DECISIONS = {RunRolledBack: "rolled back", RunEarlyDecay: "rate falls early", RunEarlyStop: "stopped early"}

MOST_OTHERS = 4  # runs laid over the selected one
OTHER_ROLES = ("warn", "bad", "dim", "text")  # the colours of theirs

Curve = NDArray[np.float64]


class ChartKind(StrEnum):
    LOSS = "Loss"
    NOISE_LEVELS = "Loss by noise level"
    DRAWN_LEVELS = "Noise levels drawn"
    DIVERSITY = "Diversity of samples"
    GRADIENT_NORM = "Gradient norm"
    LEARNING_RATE = "Learning rate"
    THROUGHPUT = "Images per second"


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: y [N] over x [N]; `role` is a colour of the theme."""

    name: str
    role: str
    x: Curve
    y: Curve
    faint: bool = False  # thin and transparent
    dashed: bool = False
    compared: bool = True  # may stand for its run in the chart of another
    listed: bool = True  # in the legend


@dataclass(frozen=True, slots=True)
class Chart:
    lines: tuple[Line, ...] = ()
    marks: tuple[tuple[float, str], ...] = ()  # x, and what happened there
    logarithmic: bool = True
    over_levels: bool = False  # x is the noise level, 1 pure noise; otherwise the step
    description: str = ""  # of the newest values, for screen readers

    def is_empty(self) -> bool:
        return all(len(line.x) == 0 for line in self.lines)


@dataclass(frozen=True, slots=True)
class OtherRun:
    """A run that is laid over the selected one."""

    name: str
    history: HistoryView = field(repr=False)


def chart_of(kind: ChartKind, history: HistoryView, others: Sequence[OtherRun] = ()) -> Chart:
    """The chart of a run; of each other run its most telling line."""
    own = _own(kind, history)
    lines = list(own.lines)
    for other, role in zip(others, OTHER_ROLES, strict=False):
        found = _own(kind, other.history).lines
        line = next((each for each in reversed(found) if len(each.x) and each.compared and not each.dashed), None)
        if line is not None:
            lines.append(Line(f"{other.name}, {line.name}", role, line.x, line.y))
    return Chart(tuple(lines), own.marks, own.logarithmic, own.over_levels, own.description)


def _own(kind: ChartKind, history: HistoryView) -> Chart:
    match kind:
        case ChartKind.LOSS:
            return _losses(history)
        case ChartKind.NOISE_LEVELS:
            return _by_level(history)
        case ChartKind.DRAWN_LEVELS:
            return _drawn_levels(history)
        case ChartKind.DIVERSITY:
            return _diversity(history)
        case ChartKind.GRADIENT_NORM:
            return _measured(history, history.gradient_norms, "gradient norm", logarithmic=True)
        case ChartKind.LEARNING_RATE:
            line = Line("learning rate", "accent", history.steps, history.learning_rates)
            text = f"Learning rate {line.y[-1]:.3g}" if len(line.y) else ""
            return Chart((line,), logarithmic=False, description=text)
        case ChartKind.THROUGHPUT:
            return _measured(history, history.images_per_second, "images/s", logarithmic=False)


def _losses(history: HistoryView) -> Chart:
    lines = [
        Line("measured", "accent", history.steps, history.losses, faint=True, listed=False),
        Line("smoothed", "accent", history.steps, history.smoothed),
    ]
    compared = [each for each in history.held_out if each.training_loss is not None]
    if compared:
        steps = np.array([each.step for each in compared], dtype=np.float64)
        losses = np.array([each.training_loss for each in compared], dtype=np.float64)
        lines.append(Line("training, same noise", "accent", steps, losses, dashed=True))
    held_out = "cross-validated" if any(each.splits for each in history.held_out) else "held out"
    lines.append(Line(held_out, "good", history.held_out_steps, history.held_out_losses))
    upper = [(each.step, each.upper_loss) for each in history.held_out if each.upper_loss is not None]
    if upper:
        points = np.array(upper, dtype=np.float64)
        lines.append(Line("held out, upper level", "warn", points[:, 0], points[:, 1], compared=False))
    description = ""
    if len(history.losses):
        description = f"Loss {formatted(history.smoothed[-1], '.3g')} at step {history.steps[-1]:,.0f}"
        if len(history.held_out_losses):
            description += f", {held_out} {formatted(history.held_out_losses[-1], '.3g')}"
        if upper:
            description += f", upper level {formatted(upper[-1][1], '.3g')}"
    return Chart(tuple(lines), tuple(_marks(history)), description=description)


def _marks(history: HistoryView) -> list[tuple[float, str]]:
    """At which steps something was decided, and where the best checkpoint is."""
    chosen = [each for each in history.decisions if isinstance(each, RunCheckpointChosen)]
    marks = [(float(each.step), _DECISIONS[type(each)]) for each in history.decisions if type(each) in _DECISIONS]
    if len(history.held_out_losses) > 1:
        lowest = float(history.held_out_steps[int(np.argmin(history.held_out_losses))])
        kept = float(chosen[-1].chosen) if chosen else lowest
        marks += [(kept, "best")] if kept == lowest else [(lowest, "lowest"), (kept, "kept")]
    return marks


def _by_level(history: HistoryView) -> Chart:
    """The newest measurement on held-out and on training images, and the first one to compare with."""
    measured = [each for each in history.held_out if each.levels and len(each.levels) == len(each.level_losses)]
    if not measured:
        return Chart(over_levels=True)
    first, newest = measured[0], measured[-1]
    lines = []
    if first is not newest:
        lines.append(_level_line(first, f"held out, step {first.step:,}", "good", faint=True))
    if len(newest.training_level_losses) == len(newest.levels):
        losses = np.array(newest.training_level_losses)
        lines.append(Line("training", "accent", np.array(newest.levels), losses, dashed=True))
    if newest.learned_levels and len(newest.learned_losses) == len(newest.learned_levels):
        learned = np.array(newest.learned_losses)
        lines.append(Line("training, as followed", "accent", np.array(newest.learned_levels), learned, faint=True))
    lines.append(_level_line(newest, f"held out, step {newest.step:,}", "good"))
    low, high = (formatted(newest.level_losses[end], ".3g") for end in (0, -1))
    text = f"Held-out loss {low} at low noise, {high} at high noise"
    return Chart(tuple(lines), over_levels=True, description=text)


def _drawn_levels(history: HistoryView) -> Chart:
    """The density of adaptive noise levels, without the share that is drawn from the fixed distribution."""
    adapted = [each for each in history.held_out if each.drawn and len(each.drawn) == len(each.learned_levels)]
    lines = []
    for each in dict.fromkeys((*adapted[:1], *adapted[-1:])):
        x, y = np.array(each.learned_levels), np.array(each.drawn)
        lines.append(Line(f"density, step {each.step:,}", "accent", x, y, faint=each is not adapted[-1]))
    if not lines:
        return Chart(logarithmic=False, over_levels=True)
    peak = float(lines[-1].x[int(np.argmax(lines[-1].y))])
    text = f"Noise levels are drawn most densely at {peak:.2f}"
    return Chart(tuple(lines), logarithmic=False, over_levels=True, description=text)


def _level_line(event: RunHeldOut, name: str, role: str, *, faint: bool = False) -> Line:
    return Line(name, role, np.array(event.levels), np.array(event.level_losses), faint)


def _diversity(history: HistoryView) -> Chart:
    """The diversity of samples relative to as many training images, whose line is at 1; a collapse falls towards 0."""
    measured = history.diversity
    steps = np.array([each.step for each in measured], dtype=np.float64)
    shares = {
        "recall": ("dim", [_share(each.recall, each.real_recall) for each in measured]),
        "distance of samples": ("warn", [each.spread for each in measured]),
        "Vendi score": ("accent", [_share(each.vendi, each.real_vendi) for each in measured]),
        "coverage": ("good", [_share(each.coverage, each.real_coverage) for each in measured]),
    }
    lines = [Line("training images", "faint", steps, np.ones(len(steps)), dashed=True)]
    for name, (role, values) in shares.items():
        known = np.isfinite(np.array(values, dtype=np.float64))
        lines.append(Line(name, role, steps[known], np.array(values, dtype=np.float64)[known]))
    text = ", ".join(f"{name} {values[-1]:.2f}" for name, (_, values) in shares.items() if measured)
    description = f"Relative to training images: {text}" if measured else ""
    return Chart(tuple(lines) if measured else (), logarithmic=False, description=description)


def _share(value: float | None, real: float | None) -> float:
    """A value relative to that of training images; NaN if either is missing or that of training images is 0."""
    return value / real if value is not None and real else np.nan


def _measured(history: HistoryView, values: Curve, name: str, *, logarithmic: bool) -> Chart:
    if not len(values):
        return Chart(logarithmic=logarithmic)
    smooth = smoothed(history.steps, values)
    lines = (
        Line("measured", "accent", history.steps, values, faint=True, listed=False),
        Line("smoothed", "accent", history.steps, smooth),
    )
    return Chart(
        lines, logarithmic=logarithmic, description=f"{name[:1].upper()}{name[1:]} {formatted(smooth[-1], '.3g')}"
    )
