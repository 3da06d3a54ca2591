"""How the gallery is shown, as it is kept from one start of the program to the next: order, filters, thumbnail size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.studio.gallery.search import GalleryQuery, Period, SortOrder
from diffstudio.studio.stored_json import write_object
from diffstudio.studio.stored_values import Loaded, StoredValues, load

FORMAT = 1
SMALLEST_CELL, LARGEST_CELL, USUAL_CELL = 96, 320, 156  # px, of a thumbnail with the gap around it
_WHAT = "The settings of the gallery's view"


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
    def from_stored(cls, values: StoredValues) -> GalleryViewState:
        query = GalleryQuery(
            values.text("search"),
            values.flag("starred"),
            values.choice("order", SortOrder.NEWEST),
            values.choice("period", Period.ANY),
        )
        return cls(query, values.whole("cell", USUAL_CELL, SMALLEST_CELL, LARGEST_CELL, "thumbnail size"))


def read_view(path: Path | None = None) -> Loaded[GalleryViewState]:
    """What was kept. Never raises; a file that is damaged, or of a newer program, is set aside."""
    return load(
        path or paths.gallery_view_file(),
        FORMAT,
        GalleryViewState.from_stored,
        GalleryViewState(),
        what=_WHAT,
        instead="it shows all images",
    )


def save_view(state: GalleryViewState, path: Path | None = None) -> None:
    """StorageProblem when it cannot be written."""
    write_object(path or paths.gallery_view_file(), state.to_json(), _WHAT)
