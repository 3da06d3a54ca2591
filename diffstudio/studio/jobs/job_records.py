"""The jobs of the queue as records, and how they are read from its database. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from diffstudio.errors import BadRequest
from diffstudio.studio.events import JobId
from diffstudio.studio.requests import PictureRequest, TrainRequest, UpscaleRequest, request_from_json


class JobKind(StrEnum):
    """What a job makes. The database may hold others, of a newer program: they are named, kept and not run."""

    IMAGE = "image"
    UPSCALE = "upscale"
    TRAINING = "training"
    EVALUATION = "evaluation"


RUN_HERE = (JobKind.IMAGE, JobKind.UPSCALE)  # the kinds that the worker runs


def kind_of(request: PictureRequest) -> JobKind:
    return JobKind.UPSCALE if isinstance(request, UpscaleRequest) else JobKind.IMAGE


@dataclass(frozen=True, slots=True)
class RestartPoint:
    """The step from which a job restarts an earlier one, and the image whose saved steps it can replay for that."""

    step: int
    token: str = ""  # of the image's job; empty where its steps are not in the step store
    index: int = 0  # of the image in its request


def restart_text(restart: RestartPoint | None) -> str:
    """A restart point as the database holds it."""
    return json.dumps(asdict(restart)) if restart is not None else ""


def restart_from_text(text: str) -> RestartPoint | None:
    """What `restart_text` wrote. One that cannot be read has no image: its job cannot be run from its first step."""
    if not text:
        return None
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        values = json.loads(text)
        step, token, index = values["step"], values["token"], values["index"]
        if type(step) is int and type(index) is int and index >= 0 and _TOKEN.fullmatch(token):
            return RestartPoint(step, token, index)
    return RestartPoint(1)


@dataclass(frozen=True, slots=True)
class QueuedJob:
    job: JobId
    request: PictureRequest
    done: int  # images already saved
    attempts: int  # times it was started without saving an image or ending
    paused: bool = False  # it was paused when the program ended
    token: str = ""  # unique, and stored with each of its images; empty in memory
    kind: JobKind = JobKind.IMAGE
    restart: RestartPoint | None = None  # it restarts an earlier job from a step


@dataclass(frozen=True, slots=True)
class PendingJobs:
    """The first pending jobs, how many there are in all, and how many more cannot be read, as far as was seen."""

    jobs: list[QueuedJob]
    count: int
    unreadable: int = 0
    other_kinds: tuple[
        tuple[str, int], ...
    ] = ()  # kinds that this version does not run, and how many jobs wait of each
    paused: bool = False  # the queue as a whole: no job is started


@dataclass(frozen=True, slots=True)
class RemovedJob:
    """A pending job that was taken out of the queue, with all that is needed to put it back."""

    job: JobId
    after: JobId | None  # the job before it in the queue; None when it was the first
    values: tuple[object, ...]  # of the columns REMOVED

    @property
    def restart(self) -> RestartPoint | None:
        return restart_from_text(str(self.values[REMOVED.index("restart")]))

    def with_request(self, change: Callable[[PictureRequest], PictureRequest]) -> RemovedJob:
        """The same job with a changed request; one that this version cannot read stays as it is."""
        at = REMOVED.index("request")
        request = _request_in(str(self.values[at]))
        if request is None or isinstance(request, TrainRequest) or (changed := change(request)) is request:
            return self
        return replace(self, values=(*self.values[:at], json.dumps(changed.to_json()), *self.values[at + 1 :]))


_TOKEN = re.compile("([0-9a-f]{32})?")
REMOVED = (
    "id",
    "done",
    "attempts",
    "submitted",
    "request",
    "paused",
    "token",
    "kind",
    "restart",
)  # columns of a RemovedJob

# id, request, done, attempts, paused, token, kind, restart
JobRow: TypeAlias = tuple[int, str, int, int, int, str, str, str]


class CountedRows:
    """An iterator over rows that counts what was taken from it."""

    def __init__(self, rows: Iterator[JobRow]) -> None:
        self._rows, self.count = rows, 0

    def __iter__(self) -> Iterator[JobRow]:
        for row in self._rows:
            self.count += 1
            yield row


def readable(rows: Iterable[JobRow]) -> Iterator[QueuedJob]:
    """The jobs in these rows; rows that this version cannot read are skipped.

    A row of version 0.1 has no kind: its request says what it makes.
    """
    for row, text, done, attempts, paused, token, kind, restart in rows:
        request = _request_in(text)
        if request is not None and not isinstance(request, TrainRequest) and kind in ("", kind_of(request)):
            yield QueuedJob(
                row, request, done, attempts, bool(paused), token, kind_of(request), restart_from_text(restart)
            )


def _request_in(text: str) -> PictureRequest | TrainRequest | None:
    """None for one that this version cannot read."""
    try:
        return request_from_json(json.loads(text))
    except (ValueError, BadRequest, RecursionError, AttributeError):
        return None
