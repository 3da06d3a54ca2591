"""The user's decisions on images that were flagged as anomalous, in a small file next to the result. No torch."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path

from diffstudio.atomic import write_text
from diffstudio.errors import NOT_A_JSON_OBJECT, RunProblem, reads_up_to, why_unreadable

FORMAT = 1
DECISIONS = "decisions.json"  # in the folder of the result
_MEND = "Correct the file, or delete it and decide again"


class Decision(StrEnum):
    ACCEPTED = "accepted"  # a normal image
    REJECTED = "rejected"  # an anomaly


def read_decisions(folder: Path) -> dict[str, Decision]:
    """The decisions on the images of a result, by path; empty if there are none yet.

    RunProblem if the file is damaged, or a newer version of the program wrote it.
    """
    file = folder / DECISIONS
    unreadable = f"The decisions in {file} cannot be read"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RunProblem(unreadable, why_unreadable(error)) from error
    if not isinstance(values, dict) or not isinstance(values.get("decisions"), dict):
        raise RunProblem(unreadable, NOT_A_JSON_OBJECT)
    if not isinstance(values.get("format"), int) or values["format"] > FORMAT:
        raise RunProblem(unreadable, reads_up_to(FORMAT), "Update diffstudio")
    found = {}
    for path, one in values["decisions"].items():
        try:
            found[path] = Decision(one)
        except ValueError as error:
            raise RunProblem(unreadable, f"the decision on {path} is {str(one)[:40]!r}", _MEND) from error
    return found


def write_decision(folder: Path, path: str, decision: Decision | None) -> dict[str, Decision]:
    """Store a decision on an image, or remove it (None); returns all decisions. RunProblem, StorageProblem."""
    found = read_decisions(folder)
    found.pop(path, None)
    if decision is not None:
        found[path] = decision
    values = {"format": FORMAT, "decisions": {name: one.value for name, one in sorted(found.items())}}
    write_text(folder / DECISIONS, json.dumps(values, ensure_ascii=False, indent=1))
    return found
