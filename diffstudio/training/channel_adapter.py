"""How a network for images of some channels becomes one for others, for runs that start from a checkpoint. No torch.

`mixing(known, wanted)` is exact: of a grey image the adapted network predicts what the other predicts, averaged over
red, green and blue, of an image with three equal channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffstudio.imaging.levels import PixelForm
from diffstudio.models.output_format import OutputFormat
from diffstudio.training.data.folder_report import count_of

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Mixing:
    """Linear maps between the channels of two kinds of images; both have a row for each channel of the result."""

    to_known: Matrix  # an image of the run's channels, as the checkpoint's network reads it
    to_wanted: Matrix  # what that network predicts, in the run's channels


def mixing(known: OutputFormat, wanted: PixelForm) -> Mixing | None:
    """The maps between images; None where one of the two is an array that the other is not."""
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
    """A grey image has its value in each of three channels, three channels have their mean in grey; new opacity is 0."""
    rows = [
        [float(row == column) if source == target else 1 / source for column in range(source)] for row in range(target)
    ]
    if source_alpha:
        rows = [[*row, 0.0] for row in rows]
    if target_alpha:
        rows.append([0.0] * source + [1.0] * source_alpha)
    return tuple(map(tuple, rows))


def channel_clauses(known: OutputFormat, wanted: PixelForm, name: str) -> list[str]:
    """What becomes of the weights of the checkpoint `name` for other channels; empty for the same ones."""
    if mixing(known, wanted) is None:
        has = f"{name} has {count_of(known.channels, 'channel')}"
        return [f"the layers that read and write {count_of(wanted.channels, 'channel')} start new, because {has}"]
    clauses = []
    if known.colours > wanted.colours:
        clauses.append(f"the weights of {name} for red, green and blue are joined for grey")
    elif known.colours < wanted.colours:
        clauses.append(f"the weights of {name} for grey are shared by red, green and blue")
    if wanted.alpha and not known.alpha:
        clauses.append(f"opacity starts new, because {name} has none")
    elif known.alpha and not wanted.alpha:
        clauses.append(f"the weights of {name} for opacity are not used")
    return clauses
