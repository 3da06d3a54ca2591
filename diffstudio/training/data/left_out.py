"""Images and subfolders that the user leaves out of training, kept in diffstudio's own data, not in the folder itself."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from diffstudio import paths
from diffstudio.atomic import write_text
from diffstudio.errors import NOT_A_JSON_OBJECT, StorageProblem, unreadable, wrong_format

FORMAT = 1


def left_out_file(folder: Path) -> Path:
    """The file that has the choices made for this folder, whether it exists or not."""
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    return paths.data() / "folders" / f"{key}.json"


def read_left_out(folder: Path) -> frozenset[Path]:
    """Paths inside the folder. StorageProblem when the file that has them is damaged."""
    file = left_out_file(folder)
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise _not_read(file, unreadable(error)) from error
    except (ValueError, RecursionError) as error:
        raise _not_read(file, NOT_A_JSON_OBJECT) from error
    if not isinstance(stored, dict):
        raise _not_read(file, NOT_A_JSON_OBJECT)
    if type(stored.get("format")) is not int or stored["format"] > FORMAT:
        raise _not_read(file, wrong_format(stored.get("format"), FORMAT))
    names = stored.get("left_out")
    if not isinstance(names, list) or not all(isinstance(name, str) and "\0" not in name for name in names):
        raise _not_read(file, "left_out is not a list of paths")
    return frozenset(map(Path, names))


def write_left_out(folder: Path, left_out: Iterable[Path]) -> None:
    """Replace the choices made for this folder. StorageProblem."""
    file = left_out_file(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    names = sorted(path.as_posix() for path in left_out)
    values = {"format": FORMAT, "folder": str(folder.resolve()), "left_out": names}
    write_text(file, json.dumps(values, indent=1) + "\n", "What is left out could not be kept")


def _not_read(file: Path, why: str) -> StorageProblem:
    return StorageProblem(
        "What was left out of the folder cannot be read", f"{file}: {why}", "Delete that file, and leave it out again"
    )
