"""What is known about each candidate of a synthetic data set, in its folder, so that it can be continued. No torch.

settings.json    what the images depend on: checkpoint, sampling, seed, folder, numbers
records.jsonl    one object a line for each candidate: seed, label, attempt, and its file or why it was left out
metadata.jsonl   one object a line for each image: file_name, text (its caption) or label (its class), and seed
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffstudio.atomic import storage_errors, write_text
from diffstudio.errors import BadRequest
from diffstudio.studio.evaluations.job_folder import EVENTS, LOCK, REQUEST

FORMAT = 1
SETTINGS, RECORDS, METADATA, RESULT = "settings.json", "records.jsonl", "metadata.jsonl", "synthesise.json"
_OF_JOB = {EVENTS, LOCK, REQUEST, "control.json", "log.txt", "process.json", "process.lock"}
_OURS = {SETTINGS, RECORDS, METADATA, RESULT}


@dataclass(frozen=True, slots=True)
class Record:
    """One candidate: kept in a file, or left out as a near-copy."""

    seed: int
    label: str  # class or caption; empty for an unconditional model
    attempt: int  # of this label, from 0
    file: str = ""  # in the folder; empty for one that was left out
    copy_of: str = ""  # the training image that it is a near-copy of, in the folder of real images
    ratio: float = 1.0  # distance to it, over that to those around it, as a multiple of the test's threshold
    near_held_out: str = ""  # the held-out image that it is a near-copy of: no part of a proof


class SyntheticFolder:
    """The folder of a synthetic data set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []

    def open(self, settings: Mapping[str, Any], force: bool) -> None:
        """Read what an earlier process made with the same settings, or start anew.

        BadRequest for a folder that holds something else, or images of other settings; with `force` those are deleted,
        and everything else is left alone. StorageProblem.
        """
        before = _read(self.path / SETTINGS)
        self.records = list(self._read_records())
        now = json.loads(json.dumps({"format": FORMAT} | dict(settings)))
        if before == now:
            return
        if before is not None and not force:
            changed = [name for name in now if before.get(name) != now[name]]
            raise BadRequest(
                f"The folder {self.path} holds synthetic images of other settings",
                f"they differ in {', '.join(changed) or 'their format'}",
                "Name another folder, or give --force to replace them",
            )
        others = [path.name for path in self.path.iterdir() if path.name not in _OF_JOB | _OURS]
        if before is None and others and not force:
            raise BadRequest(
                f"The folder {self.path} is not empty",
                f"it holds {', '.join(sorted(others)[:3])}",
                "Name another folder, or give --force to write into it",
            )
        with storage_errors(f"The earlier images in {self.path} cannot be deleted", self.path):
            for record in self.records:
                if record.file and (path := self.path / record.file).resolve().is_relative_to(self.path.resolve()):
                    path.unlink(missing_ok=True)
                    path.with_suffix(".txt").unlink(missing_ok=True)
            for name in _OURS:
                (self.path / name).unlink(missing_ok=True)
        self.records = []
        write_text(self.path / SETTINGS, json.dumps(now, indent=1))

    def append(self, records: Sequence[Record]) -> None:
        """Note candidates whose files are written. StorageProblem."""
        path = self.path / RECORDS
        with storage_errors(f"The records {path} cannot be written", path):
            incomplete = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")  # of a process that was killed
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.write("\n" * incomplete)
                file.writelines(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records)
        self.records += records

    def write_metadata(self, captions: bool) -> None:
        """Write metadata.jsonl as Hugging Face's ImageFolder reads it. StorageProblem."""
        key = "text" if captions else "label"
        lines = [
            {"file_name": record.file, "seed": record.seed} | ({key: record.label} if record.label else {})
            for record in self.kept
        ]
        write_text(self.path / METADATA, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    @property
    def kept(self) -> list[Record]:
        """Of the images in the folder, by their seeds."""
        return sorted((record for record in self.records if record.file), key=lambda record: record.seed)

    def _read_records(self) -> Iterator[Record]:
        """Of images that are there. What a killed process left incomplete is skipped, and made again."""
        try:
            lines = (self.path / RECORDS).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return
        seen = set()
        for line in lines:
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError, RecursionError):
                continue
            if record.seed not in seen and (not record.file or (self.path / record.file).is_file()):
                seen.add(record.seed)
                yield record


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else {}
