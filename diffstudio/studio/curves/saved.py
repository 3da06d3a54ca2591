"""Drawn noise schedules saved by the user, one JSON file each; used as spacings by name, and as noise levels of recipes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.atomic import write_text
from diffstudio.diffusion.curve_points import UNREADABLE, NoiseCurve
from diffstudio.errors import NOT_A_JSON_OBJECT, BadRequest, DiffstudioError, StorageProblem, wrong_format
from diffstudio.storage_errors import storage_errors

FORMAT = 1
KIND = "noise_schedule"
LONGEST_NAME = 60  # characters
_LARGEST_BYTES = 64 << 10
_MEND = "Delete it, or save it again"
_UNSAFE = re.compile(r"[^\w .,()+-]|^[ .]|[ .]$|^-")  # not allowed in a file name, or looks like an option


@dataclass(frozen=True, slots=True)
class NamedCurve:
    """A named noise schedule, as in requests and files."""

    name: str
    curve: NoiseCurve

    def __post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not name or len(name) > LONGEST_NAME or _UNSAFE.search(name):
            raise BadRequest(
                _not_a_name(name),
                f"a name may have 1 to {LONGEST_NAME} letters, digits, spaces and . , ( ) + - _",
                "Choose another name",
            )

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "points": [list(point) for point in self.curve.points]}

    @classmethod
    def from_json(cls, values: object) -> NamedCurve:
        """The schedule from an untrusted JSON object. BadRequest if it is not a noise schedule."""
        if not isinstance(values, dict):
            raise BadRequest(UNREADABLE, NOT_A_JSON_OBJECT)
        return cls(values.get("name", ""), NoiseCurve.from_json(values.get("points")))


@dataclass(frozen=True, slots=True)
class CurvesFound:
    curves: tuple[NamedCurve, ...]  # sorted by name
    problems: tuple[str, ...] = ()  # a sentence for each file that cannot be read


def saved_curves(folder: Path | None = None) -> CurvesFound:
    """All noise schedules of a folder, by default the user's. Never raises."""
    found, problems = {}, []
    for file in _files(folder or paths.schedules()):
        try:
            curve = read_curve(file)
        except DiffstudioError as error:
            problems.append(str(error))
        else:
            found[curve.name.casefold()] = curve
    return CurvesFound(tuple(found[key] for key in sorted(found)), tuple(problems))


def read_curve(file: Path) -> NamedCurve:
    """The noise schedule in a file, named after the file. BadRequest if it cannot be read."""
    what = f"The noise schedule {file.name} cannot be read"
    try:
        with file.open("rb") as opened:
            values = json.loads(opened.read(_LARGEST_BYTES))
    except OSError as error:
        raise BadRequest(what, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise BadRequest(what, "its text is not JSON", _MEND) from error
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise BadRequest(what, "it is not a noise schedule", _MEND)
    if type(values.get("format")) is not int or values["format"] > FORMAT:
        raise BadRequest(what, wrong_format(values.get("format"), FORMAT), "Update diffstudio")
    try:
        return NamedCurve.from_json(values | {"name": file.stem})
    except BadRequest as error:
        raise BadRequest(what, error.why or error.what, error.remedy) from error


def save_curve(curve: NamedCurve, taken: Sequence[str] = (), folder: Path | None = None) -> Path:
    """Write a noise schedule, replacing one with the same name. BadRequest for a name in `taken`; StorageProblem."""
    if curve.name.casefold() in (name.casefold() for name in taken):
        raise BadRequest(_not_a_name(curve.name), "a scheduler has that name", "Choose another name")
    folder = folder or paths.schedules()
    target = next((one for one in _files(folder) if one.stem.casefold() == curve.name.casefold()), None)
    target = target or folder / f"{curve.name}.json"
    failed = f"The noise schedule could not be written to {target}"
    with storage_errors(failed, folder):
        folder.mkdir(parents=True, exist_ok=True)
    values = {"format": FORMAT, "kind": KIND} | curve.to_json()
    write_text(target, json.dumps(values, indent=2) + "\n", failed)
    return target


def delete_curve(name: str, folder: Path | None = None) -> None:
    """Delete a saved noise schedule. BadRequest if no schedule has this name; StorageProblem if it cannot be deleted."""
    folder = folder or paths.schedules()
    for file in _files(folder):
        if file.stem.casefold() == name.casefold():
            try:
                file.unlink()
            except OSError as error:
                raise StorageProblem(
                    f"The noise schedule {name!r} could not be deleted", error.strerror or str(error)
                ) from error
            return
    raise BadRequest(f"There is no noise schedule called {name[:80]!r}")


def find_curve(name: str, folder: Path | None = None) -> NamedCurve | None:
    """Find a saved noise schedule by name, ignoring case; None if it does not exist. BadRequest if its file is damaged."""
    folder = folder or paths.schedules()
    file = next((one for one in _files(folder) if one.stem.casefold() == name.casefold()), None)
    return read_curve(file) if file is not None else None


def _not_a_name(name: object) -> str:
    return f"A noise schedule cannot be called {str(name)[:80]!r}"


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))
