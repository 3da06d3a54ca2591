"""Notes on training runs: `notes.txt` in the folder of a run, which a person may edit too."""

from __future__ import annotations

from dataclasses import dataclass

from diffstudio.atomic import write_text
from diffstudio.errors import why_unreadable
from diffstudio.storage_errors import storage_errors
from diffstudio.training.run.run_folder import RunFolder

LONGEST_NOTE = 10_000  # characters
FILE = "notes.txt"


@dataclass(frozen=True, slots=True)
class RunNote:
    text: str = ""
    problem: str = ""  # a sentence: why the text is not all of the note, so that it must not be replaced by it


def read_note(run: RunFolder) -> RunNote:
    """The note on a run; empty without one. Never raises."""
    try:
        data = (run.path / FILE).read_bytes()
    except FileNotFoundError:
        return RunNote()
    except OSError as error:
        return RunNote(problem=_problem(why_unreadable(error)))
    try:
        text, why = data.decode("utf-8"), ""
    except UnicodeDecodeError as error:
        text, why = data.decode("utf-8", errors="replace"), why_unreadable(error)
    if not why and len(text) > LONGEST_NOTE:
        why = f"it is longer than {LONGEST_NOTE:,} characters"
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return RunNote(text[:LONGEST_NOTE], _problem(why) if why else "")


def write_note(run: RunFolder, note: str) -> None:
    """Replace the note; an empty one is deleted. StorageProblem."""
    what = f"The note on the run {run.name} could not be saved"
    file = run.path / FILE
    if note.strip():
        write_text(file, note[:LONGEST_NOTE], what)
        return
    with storage_errors(what, file):
        file.unlink(missing_ok=True)


def _problem(why: str) -> str:
    return f"The note cannot be edited here: {FILE} in the run's folder cannot be shown completely ({why})."
