"""How the gallery is shown, as it is kept from one start of the program to the next: order, filters, thumbnail size."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from diffstudio import paths
from diffstudio.studio.gallery.search import GalleryQuery, Period, SortOrder
from diffstudio.studio.stored_json import read_object, set_aside, write_object

FORMAT = 1
SMALLEST_CELL, LARGEST_CELL, USUAL_CELL = 96, 320, 156  # px, of a thumbnail with the gap around it
_WHAT = "The view of the gallery"
_LONGEST_SEARCH = 1000

_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class GalleryViewState:
    query: GalleryQuery = GalleryQuery()  # noqa: RUF009 - frozen
    cell: int = USUAL_CELL

    def to_json(self) -> dict[str, Any]:
        query = self.query
        return {
            "format": FORMAT,
            "search": query.search,
            "starred": query.starred,
            "order": query.order.value,
            "period": query.period.value,
            "cell": self.cell,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> GalleryViewState:
        """Values of the wrong type become their defaults."""
        search, cell = values.get("search"), values.get("cell")
        query = GalleryQuery(
            search[:_LONGEST_SEARCH] if isinstance(search, str) else "",
            values.get("starred") is True,
            _choice(SortOrder, values.get("order"), SortOrder.NEWEST),
            _choice(Period, values.get("period"), Period.ANY),
        )
        usable = isinstance(cell, int) and SMALLEST_CELL <= cell <= LARGEST_CELL
        return cls(query, int(cell) if usable and cell is not None else USUAL_CELL)


@dataclass(frozen=True, slots=True)
class LoadedView:
    state: GalleryViewState
    problem: str = ""  # a sentence to show when the file could not be read


def read_view(path: Path | None = None) -> LoadedView:
    """What was kept. Never raises; a file that is damaged, or of a newer program, is set aside."""
    path = path or paths.gallery_view_file()
    stored = read_object(path, FORMAT)
    if stored.why:
        return LoadedView(GalleryViewState(), set_aside(path, _WHAT, stored.why, "it shows all images"))
    return LoadedView(GalleryViewState.from_json(stored.values))


def save_view(state: GalleryViewState, path: Path | None = None) -> None:
    """StorageProblem when it cannot be written."""
    write_object(path or paths.gallery_view_file(), state.to_json(), _WHAT)


def _choice(names: type[_Choice], value: object, default: _Choice) -> _Choice:
    return names(value) if isinstance(value, str) and value in list(names) else default
