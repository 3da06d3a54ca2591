"""Notes on training runs: `notes.txt` in the folder of a run, which a person may edit too."""

from __future__ import annotations

from diffstudio.atomic import write_text
from diffstudio.storage_errors import storage_errors
from diffstudio.training.run.run_folder import RunFolder

LONGEST_NOTE = 10_000  # characters
FILE = "notes.txt"


def read_note(run: RunFolder) -> str:
    """The note on a run; empty without one, or when it cannot be read."""
    try:
        return (run.path / FILE).read_text(encoding="utf-8", errors="replace")[:LONGEST_NOTE]
    except OSError:
        return ""


def write_note(run: RunFolder, note: str) -> None:
    """Replace the note; an empty one is deleted. StorageProblem."""
    what = f"The note on the run {run.name} could not be saved"
    file = run.path / FILE
    if note.strip():
        write_text(file, note[:LONGEST_NOTE])
        return
    with storage_errors(what, file):
        file.unlink(missing_ok=True)
