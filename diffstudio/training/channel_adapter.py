"""Adapts a checkpoint's network to other channels, for runs that start from a checkpoint. No torch.

`mixing(known, wanted)` is exact: for a grey image the adapted network predicts the mean over red, green and blue of what
the original network predicts for the same image as RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffstudio.imaging.levels import PixelForm
from diffstudio.models.output_format import OutputFormat
from diffstudio.plurals import count_of

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Mixing:
    """Linear maps between the channels of the checkpoint and those of the run, with a row for each output channel."""

    to_known: Matrix  # from the run's channels to those of the checkpoint
    to_wanted: Matrix  # from the checkpoint's channels to those of the run


def mixing(known: OutputFormat, wanted: PixelForm) -> Mixing | None:
    """The maps between the channels; None if only one of the two is an array, or their channels differ."""
    if not (known.is_image and wanted.is_image):
        same = known.colours == wanted.colours and known.channels == wanted.channels
        identity = tuple(
            tuple(float(row == column) for column in range(known.channels)) for row in range(known.channels)
        )
        return Mixing(identity, identity) if same else None
    return Mixing(
        _between(wanted.colours, wanted.alpha, known.colours, known.alpha),
        _between(known.colours, known.alpha, wanted.colours, wanted.alpha),
    )


def _between(source: int, source_alpha: bool, target: int, target_alpha: bool) -> Matrix:
    """Grey is copied to three channels, three channels are averaged to grey, and new opacity is 0."""
    rows = [
        [float(row == column) if source == target else 1 / source for column in range(source)] for row in range(target)
    ]
    if source_alpha:
        rows = [[*row, 0.0] for row in rows]
    if target_alpha:
        rows.append([0.0] * source + [1.0] * source_alpha)
    return tuple(map(tuple, rows))


def channel_clauses(known: OutputFormat, wanted: PixelForm, name: str) -> list[str]:
    """Clauses that say how the weights of the checkpoint `name` are adapted to other channels; empty for the same ones."""
    if mixing(known, wanted) is None:
        has = f"{name} has {count_of(known.channels, 'channel')}"
        return [f"the layers that read and write {count_of(wanted.channels, 'channel')} are initialised, because {has}"]
    clauses = []
    if known.colours > wanted.colours:
        clauses.append(f"the weights of {name} for red, green and blue are combined for grey")
    elif known.colours < wanted.colours:
        clauses.append(f"the weights of {name} for grey are used for red, green and blue")
    if wanted.alpha and not known.alpha:
        clauses.append(f"the weights for opacity are initialised, because {name} has none")
    elif known.alpha and not wanted.alpha:
        clauses.append(f"the weights of {name} for opacity are not used")
    return clauses
