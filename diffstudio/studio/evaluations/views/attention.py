"""AttentionView: the attention maps of a prompt's words for the window, by layer and step. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffstudio.errors import UnexpectedValue
from diffstudio.evaluation.attention.overlay import heat, over_image, shares_at
from diffstudio.studio.evaluations.attention.result import HOW_TO_READ, METHODS, AttentionResult, FollowedWord
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.results.stored import damage_named
from diffstudio.studio.evaluations.results.stored_arrays import read_arrays
from diffstudio.studio.evaluations.results.text import settings_text
from diffstudio.studio.evaluations.views.tables import Cell, Column, Table, TableRow

_MOST_BYTES = 400_000_000  # of the arrays in a file
_COLUMNS = (
    Column("ratio", "Ratio", "The change inside the word's region divided by the change outside, when it is masked"),
    Column("random", "Other places", "The mean ratio of the same region at all other places"),
    Column("beaten", "Beaten", "The share of those places with a smaller ratio", unit_range=True),
    Column("others", "Other words", "The mean ratio in the regions of the other words"),
)


@dataclass(frozen=True, eq=False)
class AttentionView:
    """A finished job. `layer` and `step` count from 0; None is all of them."""

    result: AttentionResult
    folder: Path
    maps: NDArray[np.float32]  # [words,layers,steps,h,w], NaN if a word was not in the prompt
    picture: NDArray[np.uint8]  # [H,W,3]

    @property
    def summary(self) -> str:
        settings = settings_text(self.result.settings)
        return f"{self.result.prompt} with {self.result.checkpoint}: {settings}."

    @property
    def words(self) -> tuple[FollowedWord, ...]:
        return tuple(self.result.words)

    @property
    def how_to_read(self) -> str:
        return f"{METHODS[self.result.maps]} {HOW_TO_READ}"

    @property
    def table(self) -> Table:
        """The deletion test of each word."""
        rows = []
        for word in self.words:
            test = word.test
            cells: tuple[Cell | None, ...] = (None,) * len(_COLUMNS)
            if test is not None:
                others = Cell(test.others) if test.others is not None else None
                cells = (Cell(test.ratio), Cell(test.random), Cell(test.beaten), others)
            rows.append(TableRow(word.text, cells))
        return Table("deletion-test", "Deletion test", _COLUMNS, tuple(rows), "Word")

    def heats(self, layer: int | None = None, step: int | None = None) -> NDArray[np.float32]:
        """A map [words,h,w] in [0,1] of each word; zeros for a word that is not in the prompt in this step."""
        chosen = self.maps[:, slice(None) if layer is None else slice(layer, layer + 1)]
        chosen = chosen[:, :, slice(None) if step is None else slice(step, step + 1)]
        flat = chosen.reshape(len(chosen), -1, *chosen.shape[3:])
        known = ~np.isnan(flat[:, :, :1, :1])
        counts = np.maximum(known.sum(axis=1), 1)
        return np.stack([heat(word) for word in np.where(known, flat, 0).sum(axis=1) / counts])

    def overlay(self, word: int, layer: int | None = None, step: int | None = None) -> NDArray[np.uint8]:
        """A grey version of the image with the map of one word over it: [H,W,3]."""
        return over_image(self.picture, self.heats(layer, step)[word])

    def here(self, x: float, y: float, layer: int | None = None, step: int | None = None) -> list[tuple[int, float]]:
        """The words that act at a place x, y in [0,1] of the image, with their shares, largest first."""
        heats = self.heats(layer, step)
        rows, columns = heats.shape[1:]
        row, column = min(rows - 1, max(0, int(y * rows))), min(columns - 1, max(0, int(x * columns)))
        shares = shares_at(heats, row, column)
        return [(int(word), float(shares[word])) for word in np.argsort(-shares, kind="stable")]

    def masked_file(self, word: int) -> Path | None:
        """The file of the image with a word masked; None if it was not masked."""
        name = self.words[word].masked
        return self.folder / name if name else None


def read_attention(job: JobFolder, values: Mapping[str, Any]) -> AttentionView:
    """The result in a job's folder, with its arrays. RunProblem if it is damaged."""
    with damage_named(f"The result of {job.path.name}"):
        result = AttentionResult.from_json(values)
        if result.maps not in METHODS:
            raise UnexpectedValue(f"maps of {result.maps!r}")
        maps, picture = _arrays(job.path / Path(result.arrays).name)
        if maps.shape[:3] != (len(result.words), len(result.layers), len(result.times)) or not len(maps):
            raise UnexpectedValue(f"maps of {maps.shape[:3]} words, layers and steps")
        return AttentionView(result, job.path, maps, picture)


def _arrays(path: Path) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    maps, picture = read_arrays(path, ("maps", "picture"), _MOST_BYTES)
    if maps.ndim != 5 or not maps.size or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise UnexpectedValue(f"maps of {maps.ndim} and an image of {picture.ndim} dimensions")
    if np.isinf(maps).any() or (np.isnan(maps).any(axis=(3, 4)) != np.isnan(maps).all(axis=(3, 4))).any():
        raise UnexpectedValue("the maps have infinite or single NaN values")
    return np.asarray(maps, np.float32), np.asarray(picture, np.uint8)
