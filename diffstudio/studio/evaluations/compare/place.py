"""Where a comparison is written. No torch."""

from __future__ import annotations

from pathlib import Path

from diffstudio import paths
from diffstudio.errors import BadRequest

OTHER_FOLDER = "Name another folder with --out"


def default_out(folder: Path) -> Path:
    """A new folder for a comparison of models of this folder."""
    name = f"compare {folder.resolve().name}"
    number = 1
    while (path := paths.lab() / (name if number == 1 else f"{name} {number}")).exists():
        number += 1
    return path


def check_place(out: Path, folder: Path) -> None:
    """BadRequest for a place inside the folder of images."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise BadRequest(
            f"The comparison cannot be written to {out}",
            "it is inside the folder of real images, which would hold generated ones then",
            OTHER_FOLDER,
        )
