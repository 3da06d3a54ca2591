"""What the gallery's database says about the images: pages of them in any order, searches, and lists of names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.studio.gallery.database import GalleryDatabase
from diffstudio.studio.gallery.folders import use_folder
from diffstudio.studio.gallery.search import (
    ORDER_BY,
    TRASH_ORDER,
    GalleryQuery,
    Key,
    Search,
    SortOrder,
    Term,
    matching_names,
    matching_samplers,
    parse_search,
    seed_of,
    size_of,
    start_of,
    text_key,
)
from diffstudio.studio.gallery.sidecar import tags_from_json
from diffstudio.studio.metadata import metadata
from diffstudio.studio.prompts.lora_tags import lora_tags
from diffstudio.studio.requests import PictureRequest, TrainRequest, request_from_json

COLUMNS = (
    "images.id, path, request, created, width, height, starred, checkpoint, note, missing, seed, size_bytes, tags, "
    "trashed, prompt_key, home"
)
_TEXTS = "prompt", "negative", "checkpoint"  # what words are looked for in
_NEWEST_MATCHES = 200  # if the newer half has this many, scanning images in order finds a page fastest
_NONE = "+images.id < 0"  # what no image fulfils
_INDEX_BATCH = 500  # rows in one transaction, so that other threads need not wait
# The names in a column of images or labels, found one after the other in an index: never reads every row.
_NAMES = """
WITH RECURSIVE known (found) AS (
    SELECT min({column}) FROM {table} WHERE {where}
    UNION ALL SELECT (SELECT min({column}) FROM {table} WHERE {where} AND {column} > found) FROM known
    WHERE found IS NOT NULL
) SELECT found FROM known WHERE found IS NOT NULL"""


@dataclass(frozen=True, slots=True)
class GalleryImage:
    """One image of the gallery."""

    id: int
    path: Path
    created: float  # seconds since the epoch
    width: int  # px
    height: int
    starred: bool
    checkpoint: str  # the name of what made it; "" when unknown
    request_json: str | None  # as recorded: read when asked for, for there may be 100,000 of these
    note: str = ""
    missing: bool = False  # its folder is missing: its drive is not connected, or it was renamed or deleted
    seed: int | None = None
    size_bytes: int = 0
    tags: tuple[str, ...] = ()
    trashed: float | None = None  # when it was deleted; None while it is not in the trash
    prompt_key: str = ""  # what it is sorted by
    home: str = ""  # where it goes back to from the trash, as the records have it; "" while it is not in the trash

    @property
    def name(self) -> str:
        """The name of its file, in the trash the one that it had."""
        return PurePosixPath(self.home).name or self.path.name

    @property
    def request(self) -> PictureRequest | None:
        """The request for this image alone; None when it holds no settings, or a newer program's."""
        return _request(self.request_json) if self.request_json else None


@lru_cache(maxsize=2048)
def _request(text: str) -> PictureRequest | None:
    try:
        request = request_from_json({"kind": "generate"} | json.loads(text))
    except (BadRequest, ValueError, TypeError):
        return None
    return None if isinstance(request, TrainRequest) else request


SEARCH_COLUMNS = ("seed", "sampler", "loras", "prompt_key", "checkpoint_key", "pixels")


def search_values(
    request: PictureRequest | None, prompt: str, checkpoint: str, width: int, height: int
) -> tuple[int | str | None, ...]:
    """SEARCH_COLUMNS of an image, from its request and from other columns."""
    loras = dict.fromkeys(metadata.storable(use.name) for use in lora_tags(prompt)[1])
    return (
        request.seed if request is not None else None,
        request.sampler.value if request is not None else None,
        json.dumps(list(loras), ensure_ascii=False),
        text_key(lora_tags(prompt)[0]),
        text_key(checkpoint),
        width * height,
    )


def sort_key(image: GalleryImage, order: SortOrder, *, trash: bool = False) -> tuple[Any, ...]:
    """What sorts images in Python as ORDER_BY does in SQL."""
    newest = (-image.created, -image.id)
    if trash:
        return (-(image.trashed or 0.0), -image.id)
    match order:
        case SortOrder.NEWEST:
            return newest
        case SortOrder.OLDEST:
            return (image.created, image.id)
        case SortOrder.STARRED:
            return (not image.starred, *newest)
        case SortOrder.PROMPT:
            return (image.prompt_key, *newest)
        case SortOrder.CHECKPOINT:
            return (text_key(image.checkpoint), *newest)
        case SortOrder.SEED:
            return (image.seed is None, image.seed or 0, *newest)
        case SortOrder.PIXELS:
            return (-image.width * image.height, *newest)
        case SortOrder.BYTES:
            return (-image.size_bytes, *newest)


class GalleryRecords(GalleryDatabase):
    """The records, in the file `database`, of the images below `folder` and below those that it was before."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder = folder
        super().__init__(database)
        try:
            self.folders = use_folder(self, folder, paths.images())
        except BaseException:  # whatever it is: nobody else can close the database
            self.close()
            raise

    def page(self, query: GalleryQuery, offset: int = 0, limit: int = 200) -> list[GalleryImage]:
        """A page of the images that match, in the order of the query."""
        statement, values = self.page_statement(query)
        return [self._image(row) for row in self.read(statement, [*values, limit, offset])]

    def page_statement(self, query: GalleryQuery) -> tuple[str, list[Any]]:
        """The SELECT of `page` and its values, without limit and offset.

        The rows of a page are found in an index first and read afterwards: those that are skipped are never read.
        """
        where, values = self._where(query, paged=True)
        order = TRASH_ORDER if query.trash else ORDER_BY[query.order]
        ids = f"SELECT id FROM images WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
        return f"SELECT {COLUMNS} FROM images WHERE images.id IN ({ids}) ORDER BY {order}", values

    def images(self, offset: int = 0, limit: int = 200, search: str = "", starred: bool = False) -> list[GalleryImage]:
        """A page of images, the newest first."""
        return self.page(GalleryQuery(search, starred), offset, limit)

    def count(self, search: str = "", starred: bool = False) -> int:
        return self.number_of(GalleryQuery(search, starred))

    def number_of(self, query: GalleryQuery) -> int:
        """How many images match."""
        where, values = self._where(query)
        by_index = (
            query.trash or query.starred or "seed = ?" in where
        )  # of few rows; by_time has what the others ask for
        table = "images" if by_index else "images INDEXED BY by_time"
        return int(self.read(f"SELECT count(*) FROM {table} WHERE {where}", values)[0][0])

    def fits(self, image_id: int, search: str | GalleryQuery = "", starred: bool = False) -> bool:
        """Whether an image matches a search, or a query."""
        query = search if isinstance(search, GalleryQuery) else GalleryQuery(search, starred)
        where, values = self._where(query)
        return bool(self.read(f"SELECT 1 FROM images WHERE {where} AND id = ?", [*values, image_id]))

    def fitting(self, image_ids: Sequence[int], query: GalleryQuery) -> set[int]:
        """Those of some images that match a query."""
        where, values = self._where(query)
        statement = f"SELECT id FROM images WHERE {where} AND id IN (SELECT value FROM json_each(?))"
        return {row[0] for row in self.read(statement, [*values, json.dumps(list(image_ids))])}

    def get(self, image_id: int) -> GalleryImage | None:
        rows = self.read(f"SELECT {COLUMNS} FROM images WHERE id = ? AND trashed IS NULL", [image_id])
        return self._image(rows[0]) if rows else None

    def find(self, path: Path) -> GalleryImage | None:
        """The record of a file of the gallery."""
        if not path.is_absolute() and not path.is_relative_to(self.folder):
            return None
        recorded = self.folders.recorded(path)
        if recorded != metadata.storable(recorded):  # no record can hold its name
            return None
        rows = self.read(f"SELECT {COLUMNS} FROM images WHERE path = ? AND trashed IS NULL", [recorded])
        return self._image(rows[0]) if rows else None

    def made_with(self, checkpoint: str, most: int) -> list[GalleryImage]:
        """The newest images made with a checkpoint, the newest first."""
        rows = self.read(
            f"SELECT {COLUMNS} FROM images WHERE checkpoint = ? AND trashed IS NULL "
            "ORDER BY created DESC, id DESC LIMIT ?",
            [checkpoint, most],
        )
        return [self._image(row) for row in rows]

    def all_tags(self) -> list[tuple[str, int]]:
        """The tags of the images that are not in the trash, with their numbers, the most frequent first.

        `Cat` and `cat` are one tag, in the spelling that is used more often.
        """
        statement = (
            "SELECT name, count(*) FROM labels JOIN images ON images.id = image "
            "WHERE kind = 'tag' AND trashed IS NULL GROUP BY name ORDER BY 2 DESC, 1"
        )
        tags: dict[str, tuple[str, int]] = {}
        for name, count in self.read(statement):
            spelling, before = tags.get(name.casefold(), (name, 0))
            tags[name.casefold()] = spelling, before + count
        return sorted(tags.values(), key=lambda tag: (-tag[1], tag[0]))

    def index_requests(self, cancelled: Callable[[], bool] = lambda: False) -> int:
        """Fill in what is searched and sorted by in rows that an earlier version recorded; returns how many."""
        done = 0
        assignments = ", ".join(f"{column} = ?" for column in SEARCH_COLUMNS)
        while not cancelled():
            rows = self.read(
                "SELECT request, prompt, checkpoint, width, height, id FROM images WHERE indexed = 0 LIMIT ?",
                [_INDEX_BATCH],
            )
            if not rows:
                break
            values = [
                [*search_values(_request.__wrapped__(text) if text else None, *columns), image_id]
                for text, *columns, image_id in rows
            ]
            with self.writing() as connection:
                connection.executemany(f"UPDATE images SET {assignments}, indexed = 1 WHERE id = ?", values)
            done += len(rows)
        return done

    # Inside

    def _where(self, query: GalleryQuery, *, paged: bool = False) -> tuple[str, list[Any]]:
        """The condition of a query and its values. `paged`: only the first rows in its order are read."""
        search = parse_search(metadata.storable(query.search))
        conditions = [_place(trash=query.trash)]
        values: list[Any] = []
        if query.starred:
            conditions.append("starred = 1")
        if begins := start_of(query.period, datetime.now()):
            conditions.append("+created >= ?")
            values.append(begins)
        for part, its_values in (self._words(search.words, paged=paged), *self._terms(search, trash=query.trash)):
            if part:
                conditions.append(part)
                values += its_values
        return " AND ".join(conditions), values

    def _words(self, words: Sequence[str], *, paged: bool) -> tuple[str, list[Any]]:
        """Words from the text index; where most images have them, the first rows are sooner found one by one."""
        conditions, values = list[str](), list[Any]()
        long = [word for word in words if len(word) >= 3] if self._has_text_index else []  # what trigrams can find
        match = " AND ".join('"' + word.replace('"', '""') + '"' for word in long)
        is_ascii = all(word.isascii() for word in long)  # LIKE folds ASCII only
        if paged and long and is_ascii and self._is_frequent(match):
            long, match = [], ""
        if match:
            conditions.append("+images.id IN (SELECT rowid FROM words WHERE words MATCH ?)")
            values.append(match)
        for word in words:
            if word in long:
                continue
            if not word.isascii() and word.lower() != word.upper():
                conditions.append("(" + " OR ".join(f"has_folded({column}, ?)" for column in _TEXTS) + ")")
                values += [word.casefold()] * len(_TEXTS)
            else:
                like = "%" + re.sub(r"([\\%_])", r"\\\1", word) + "%"
                conditions.append("(" + " OR ".join(rf"{column} LIKE ? ESCAPE '\'" for column in _TEXTS) + ")")
                values += [like] * len(_TEXTS)
        return " AND ".join(conditions), values

    def _is_frequent(self, match: str) -> bool:
        """Whether many of the newer images match. The text index gives the newest matches without finding the others."""
        statement = (
            "SELECT 2 * rowid > (SELECT max(id) FROM images) FROM words WHERE words MATCH ? "
            "ORDER BY rowid DESC LIMIT 1 OFFSET ?"
        )
        found = self.read(statement, [match, _NEWEST_MATCHES - 1])
        return bool(found and found[0][0])

    def _terms(self, search: Search, *, trash: bool) -> list[tuple[str, list[Any]]]:
        found = []
        for term in search.terms:
            if term.key is not Key.DATE:
                condition, values = self._term(term, trash=trash)
                found.append((f"NOT ifnull({condition}, 0)" if term.excluded else condition, values))
        for begins, ends, excluded in search.spans:
            not_in = "NOT " * excluded
            found.append((f"{not_in}(+created >= ? AND +created < ?)", [begins, ends]))
        return found

    def _term(self, term: Term, *, trash: bool) -> tuple[str, list[Any]]:
        """An SQL condition and its values; _NONE for a value that no image can have.

        A plus keeps SQLite on the index of the order, so that nothing is sorted however many images match. Only a seed
        is so rare that its own index is quicker.
        """
        match term.key:
            case Key.SEED:
                seed = seed_of(term.value)
                return (_NONE, []) if seed is None else ("seed = ?", [seed])
            case Key.SIZE:
                size = size_of(term.value)
                return (_NONE, []) if size is None else ("(+width = ? AND +height = ?)", list(size))
            case Key.SAMPLER:
                return _any_of("sampler", matching_samplers(term.value))
            case Key.CHECKPOINT:
                names = self._names("images", "checkpoint", _place(trash=trash))
                return _any_of("checkpoint", matching_names(term.value, names))
            case _:
                kind = "tag" if term.key is Key.TAG else "lora"
                names = matching_names(term.value, self._names("labels", "name", f"kind = '{kind}'"))
                labelled = "SELECT image FROM labels WHERE kind = ? AND name IN (SELECT value FROM json_each(?))"
                return f"+images.id IN ({labelled})", [kind, json.dumps(names)]

    def _names(self, table: str, column: str, where: str) -> list[str]:
        return [row[0] for row in self.read(_NAMES.format(table=table, column=column, where=where))]

    def _image(self, row: tuple[Any, ...]) -> GalleryImage:
        image_id, path, text, created, width, height, starred, checkpoint, note, missing, *rest = row
        seed, size_bytes, tags, trashed, prompt_key, home = rest
        return GalleryImage(
            image_id,
            self.folders.file(path),
            created,
            width,
            height,
            bool(starred),
            checkpoint,
            text,
            note,
            bool(missing),
            seed,
            size_bytes,
            tags_from_json(tags) if tags != "[]" else (),
            trashed,
            prompt_key,
            home or "",
        )


def _place(*, trash: bool) -> str:
    return "trashed IS NOT NULL" if trash else "trashed IS NULL"


def _any_of(column: str, names: list[str]) -> tuple[str, list[Any]]:
    return f"+{column} IN (SELECT value FROM json_each(?))", [json.dumps(names)]
