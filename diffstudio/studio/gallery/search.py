"""What is looked for in the gallery: the search text, the filters and the order of the images.

Plain words are looked for in the prompts and in the name of the checkpoint. `seed:42 sampler:euler lora:ink tag:cat`
search by what an image was made with; `-tag:cat` leaves images out, and quotes hold a phrase together; in it, a quote is doubled.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from diffstudio.studio.metadata.sampler_names import SAMPLER_LABELS, named_sampler, reduced
from diffstudio.studio.requests import SamplerName
from diffstudio.studio.requests.limits import LARGEST_SEED

_MOST_TERMS = 32
_QUOTED = r"\"(?:[^\"]|\"\")*\"(?=\s|$)"  # a quote in it is doubled
_TERM = re.compile(rf"(-?)(\w+):({_QUOTED}|\"[^\"]*\"|\S*)|({_QUOTED})|(\S+)")
_SIZE = re.compile(r"(\d{1,6})[x×*](\d{1,6})", re.IGNORECASE)
_DAY = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")


class Key(StrEnum):
    """What can be searched for by name."""

    SEED = "seed"
    SAMPLER = "sampler"
    LORA = "lora"
    CHECKPOINT = "checkpoint"
    TAG = "tag"
    SIZE = "size"
    DATE = "date"


_OTHER_NAMES = {"model": Key.CHECKPOINT, "loras": Key.LORA, "tags": Key.TAG}


class SortOrder(StrEnum):
    """The order of the images; those that are equal in it follow each other from the newest to the oldest."""

    NEWEST = "newest"
    OLDEST = "oldest"
    STARRED = "starred"
    PROMPT = "prompt"
    CHECKPOINT = "checkpoint"
    SEED = "seed"
    PIXELS = "pixels"
    BYTES = "bytes"


class Period(StrEnum):
    """When the images were made, up to now."""

    ANY = "any"
    TODAY = "today"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


PERIOD_DAYS = {Period.TODAY: 1, Period.WEEK: 7, Period.MONTH: 30, Period.YEAR: 365}
TRASH_ORDER = "trashed DESC, images.id DESC"  # the latest deleted first
# Each has an index that begins with these columns: nothing is sorted.
ORDER_BY = {
    SortOrder.NEWEST: "created DESC, images.id DESC",
    SortOrder.OLDEST: "created, images.id",
    SortOrder.STARRED: "starred DESC, created DESC, images.id DESC",
    SortOrder.PROMPT: "prompt_key, created DESC, images.id DESC",
    SortOrder.CHECKPOINT: "checkpoint_key, created DESC, images.id DESC",
    SortOrder.SEED: "seed NULLS LAST, created DESC, images.id DESC",
    SortOrder.PIXELS: "pixels DESC, created DESC, images.id DESC",
    SortOrder.BYTES: "size_bytes DESC, created DESC, images.id DESC",
}
_LONGEST_KEY = 64  # characters
_LAST = "\U0010ffff"  # sorts after every text


@dataclass(frozen=True, slots=True)
class GalleryQuery:
    """Which images are shown, and in which order."""

    search: str = ""
    starred: bool = False
    order: SortOrder = SortOrder.NEWEST
    period: Period = Period.ANY
    trash: bool = False  # what is in the trash, and not the others

    @property
    def filters(self) -> bool:
        """Whether it leaves images out."""
        return bool(self.search.strip() or self.starred or self.period is not Period.ANY)


@dataclass(frozen=True, slots=True)
class Term:
    """One `key:value` of a search."""

    key: Key
    value: str
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    words: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()
    problems: tuple[str, ...] = ()  # sentences about values that cannot be searched for
    spans: tuple[tuple[float, float, bool], ...] = field(default=())  # of `created`: from, until, excluded


def parse_search(text: str, now: datetime | None = None) -> Search:
    """Read a search text. Text before a colon is part of a word unless it is a `Key`, as in `(cat:1.2)`."""
    words: list[str] = []
    terms: list[Term] = []
    problems: list[str] = []
    spans: list[tuple[float, float, bool]] = []
    for match in list(_TERM.finditer(text))[:_MOST_TERMS]:
        minus, name, value, phrase, word = match.groups()
        key = _key(name) if name is not None else None
        if key is None:
            words.append((_unquoted(phrase) if phrase else "") or word or match[0])
            continue
        value = _unquoted(value).strip()
        if not value:
            continue  # it is being typed
        if problem := _problem(key, value):
            problems.append(f"{match[0]}: {problem}.")
        if key is Key.DATE:
            span = _span(value, now or datetime.now())
            spans.append((*(span or (0.0, 0.0)), bool(minus)))  # no image is in an empty span
        terms.append(Term(key, value, bool(minus)))
    return Search(tuple(words), tuple(terms), tuple(problems), tuple(spans))


def term(key: Key, value: str) -> str:
    """The search text that finds this value, in quotes where it needs them."""
    needed = '"' in value or any(character.isspace() for character in value)
    return f"{key}:{_quote(value) if needed else value}"


def _quote(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _unquoted(text: str) -> str:
    inner = text[1:-1]
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return text.strip('"')


def _key(name: str) -> Key | None:
    name = name.lower()
    return Key(name) if name in list(Key) else _OTHER_NAMES.get(name)


def _problem(key: Key, value: str) -> str:
    if key is Key.SEED and seed_of(value) is None:
        return f"a seed is a whole number from 0 to {LARGEST_SEED}"
    if key is Key.SIZE and size_of(value) is None:
        return "write a size as 512x768"
    if key is Key.DATE and _span(value, datetime.now()) is None:
        return "write a date as 2026-11-26, 2026-11, 2026, today or yesterday, or two of them as 2026-10..2026-11"
    return ""


def seed_of(value: str) -> int | None:
    """The seed that a text means; None for anything else."""
    is_number = value.isascii() and value.isdigit() and len(value) <= len(str(LARGEST_SEED))
    return int(value) if is_number and int(value) <= LARGEST_SEED else None


def size_of(value: str) -> tuple[int, int] | None:
    """Width and height in px."""
    match = _SIZE.fullmatch(value)
    return (int(match[1]), int(match[2])) if match else None


def _span(value: str, now: datetime) -> tuple[float, float] | None:
    """From and until, in seconds since the epoch, of a day, month or year of local time, or of two of them."""
    first, dots, last = value.partition("..")
    start, end = _days(first, now), _days(last if dots else first, now)
    if start is None or end is None:
        return None
    return _midnight(start[0]), _midnight(end[1])


def _days(value: str, now: datetime) -> tuple[date, date] | None:
    """The first day, and the one after the last."""
    today = now.date()
    named = {"today": today, "yesterday": today - timedelta(days=1)}.get(value.lower())
    if named is not None:
        return named, named + timedelta(days=1)
    match = _DAY.fullmatch(value)
    if match is None:
        return None
    year, month, day = (int(part) if part else None for part in match.groups())
    try:
        if year is None or year >= date.max.year:
            return None
        if month is None:
            return date(year, 1, 1), date(year + 1, 1, 1)
        if day is None:
            last = calendar.monthrange(year, month)[1]
            return date(year, month, 1), date(year, month, last) + timedelta(days=1)
        return date(year, month, day), date(year, month, day) + timedelta(days=1)
    except ValueError:
        return None


def _midnight(day: date) -> float:
    try:
        return datetime(day.year, day.month, day.day).timestamp()
    except (OverflowError, OSError):  # before the epoch, on some systems
        return 0.0


def text_key(text: str) -> str:
    """What a prompt or name is sorted by: its beginning, without regard to case; an empty text comes last."""
    return " ".join(text[: 2 * _LONGEST_KEY].split()).casefold()[:_LONGEST_KEY] or _LAST


def start_of(period: Period, now: datetime) -> float:
    """The midnight that a period begins with, in seconds since the epoch; 0 for any time."""
    days = PERIOD_DAYS.get(period)
    return 0.0 if days is None else _midnight(now.date() - timedelta(days=days - 1))


def matching_names(value: str, names: list[str], reduce: Callable[[str], str] = str.casefold) -> list[str]:
    """The names that a search value means: the one that it is, or else those that contain it."""
    wanted = reduce(value)
    return [name for name in names if reduce(name) == wanted] or [name for name in names if wanted in reduce(name)]


def matching_samplers(value: str) -> list[str]:
    """The values of `SamplerName` that a name means, as any program writes it."""
    known = named_sampler(value)
    if known is not None:
        return [known.value]
    wanted = reduced(value)
    return [
        sampler.value
        for sampler in SamplerName
        if wanted and (wanted in reduced(sampler.value) or wanted in reduced(SAMPLER_LABELS[sampler]))
    ]
