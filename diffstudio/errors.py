"""Every error that is shown to the user, and Interrupted, which is not an error.

    DiffstudioError
    ├── BadRequest              the request cannot be carried out: its size, seed, sampler or a name in it
    ├── FolderProblem           a folder of images that cannot be trained on
    ├── ImageProblem            an image that cannot be read or written
    ├── CheckpointProblem       a checkpoint that cannot be used
    │   ├── CheckpointMissing
    │   ├── CheckpointDamaged
    │   ├── CheckpointDangerous    loading it would run code from the file
    │   └── CheckpointUnknown
    ├── RunProblem              a training run that cannot be started, found or resumed
    │   └── Diverged            its loss is NaN or Inf, or has grown far beyond its minimum
    ├── StorageProblem          the disk is full, or a folder cannot be written to
    └── OutOfMemory             the job does not fit into memory, even in the smallest batch and tiles

    Interrupted                 the user stopped the work; `except DiffstudioError` does not catch it

An error says what happened, why, and what to do next; `str(error)` is that as one or two sentences.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

_Item = TypeVar("_Item")

# Clauses that errors of several packages share; others stand next to the code that uses them.
CHOOSE_IMAGE_FOLDER = "Choose a folder of images"
DISK_FULL = "the disk is full"
FREE_SPACE = "Free some space and try again"
FREE_SPACE_OR_FOLDER = "Free some space, or choose another folder"
IS_A_FOLDER = "it is a folder"
MOVED_OR_DELETED = "It may have been moved or deleted"
NOT_A_JSON_OBJECT = "it is not a JSON object"
NOT_A_PLAIN_FILE = "it is not a plain file"
NOT_FOUND_AGAIN = "no file with that content was found where it was used, or in the gallery"
NOT_UTF_8 = "it is not text in UTF-8"
NO_FOLDER = "No folder was given"
WRONG_VALUE = "a value in it is missing, of the wrong type or out of range"


class DiffstudioError(Exception):
    """A failure that the user can understand and act on.

    `what` happened, `why`, and the `remedy`: clauses without their final full stop. `why` and `remedy` may be empty.
    """

    exit_code = 1

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what, why, remedy)
        self.what, self.why, self.remedy = what, why, remedy

    def __str__(self) -> str:
        sentence = f"{self.what}: {self.why}" if self.why else self.what
        return f"{sentence}. {self.remedy}." if self.remedy else f"{sentence}."


class BadRequest(DiffstudioError):
    exit_code = 2


class FolderProblem(DiffstudioError):
    exit_code = 2


class ImageProblem(DiffstudioError):
    pass


class CheckpointProblem(DiffstudioError):
    pass


class CheckpointMissing(CheckpointProblem):
    """`missing_components`: keys of `models.components.requirements.COMPONENT_KINDS` (text encoders, VAEs, tokenizers)."""

    exit_code = 2
    missing_components: tuple[str, ...] = ()


class CheckpointDamaged(CheckpointProblem):
    pass


class CheckpointDangerous(CheckpointProblem):
    pass


class CheckpointUnknown(CheckpointProblem):
    pass


class RunProblem(DiffstudioError):
    pass


class Diverged(RunProblem):
    pass


class StorageProblem(DiffstudioError):
    pass


class OutOfMemory(DiffstudioError):
    pass


class Interrupted(Exception):
    """The work ended early because the user stopped it.

    It is not a DiffstudioError, so handlers for failures let it pass: a job becomes Cancelled, a training run
    `stopped`. `message` and `remedy` are clauses without their final full stop; `remedy` may be empty.
    """

    exit_code = 130

    def __init__(self, message: str = "Stopped", remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message, self.remedy = message, remedy

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}." if self.remedy else f"{self.message}."


class UnexpectedValue(ValueError):
    """A stored value that is missing, of the wrong type or out of range; its text is a clause for the user."""


def no_image_at(path: Path) -> ImageProblem:
    return ImageProblem(f"There is no image at {path}", remedy=MOVED_OR_DELETED)


def missing_sources(needed: Sequence[str]) -> str:
    """`The init image photo.png is needed`, from the name and kind of each file."""
    return f"The {' and the '.join(needed)} {'is' if len(needed) == 1 else 'are'} needed"


def unreadable(error: OSError) -> str:
    """The clause for a file that the operating system refuses to read."""
    return f"it cannot be read ({(error.strerror or str(error)).lower()})"


def damaged_header(error: Exception) -> str:
    """The clause for a checkpoint whose header cannot be used, from the error of reading it."""
    return f"its header is damaged: {why_unreadable(error)}"


def why_unreadable(error: Exception) -> str:
    """The clause for a stored file that is damaged, from the error of reading it: no name or message of Python's own."""
    match error:
        case UnexpectedValue():
            return str(error)[:200]
        case OSError():
            return (error.strerror or str(error)).lower()
        case json.JSONDecodeError():
            return f"it is not valid JSON (line {error.lineno}, column {error.colno})"
        case UnicodeError():
            return NOT_UTF_8
        case RecursionError():
            return "its values are nested too deeply"
        case KeyError(args=[name]):
            return f"“{name!s:.80}” is missing"
        case _:
            return WRONG_VALUE


def unknown_name(kind: str, name: str) -> str:
    return f"There is no {kind} called {name[:80]!r}"


def listed(items: Sequence[_Item], most: int, name: Callable[[_Item], str] = str) -> str:
    """Items in a sentence by their names: `a.png, b.png and 7 more` for more than `most` of them."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(map(name, items[:most])) + more


def must_be_between(lowest: object, highest: object) -> str:
    return f"it must be between {lowest} and {highest}"


def wrong_format(stored: object, newest_format: int) -> str:
    return f"it has format {stored!r}, and {reads_up_to(newest_format)}"


def reads_up_to(newest_format: int) -> str:
    """The clause for a file written by a newer version of the program."""
    return f"this program reads formats up to {newest_format}"


def newer_format(what: str, stored: object, newest_format: int) -> RunProblem:
    """The error for a file of a run or Lab job that a newer version of the program wrote."""
    return RunProblem(f"{what} has format {stored!r}", reads_up_to(newest_format), "Update diffstudio")
