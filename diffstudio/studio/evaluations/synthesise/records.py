"""The records of a synthetic dataset in its folder, so that it can be resumed. No torch.

settings.json    settings that the images depend on: checkpoint, sampling, seed, folder, numbers
records.jsonl    one object per line and candidate: seed, label, attempt, and its file or why it was left out
metadata.jsonl   one object per line and image: file_name, text (its caption) or label (its class), and seed
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffstudio.atomic import write_text
from diffstudio.errors import BadRequest, listed
from diffstudio.imaging.exact_files import EXACT_SUFFIX
from diffstudio.storage_errors import storage_errors
from diffstudio.studio.evaluations.job_folder import OF_JOB

FORMAT = 1
SETTINGS, RECORDS, METADATA, RESULT = "settings.json", "records.jsonl", "metadata.jsonl", "synthesise.json"
_SUFFIXES = {".png", EXACT_SUFFIX, ".txt"}  # of images and captions
_DIGITS = 9  # at least, in file names
_NAMED = 3  # files named in a message
_OURS = {SETTINGS, RECORDS, METADATA, RESULT}


@dataclass(frozen=True, slots=True)
class Record:
    """One candidate: kept in a file, or left out as a near-copy."""

    seed: int
    label: str  # class or caption; empty for an unconditional model
    attempt: int  # for this label, from 0
    file: str = ""  # in the folder; empty if it was left out
    copy_of: str = ""  # the training image that it is a near-copy of, in the folder of real images
    ratio: float = 1.0  # its distance ratio divided by the test's threshold
    near_held_out: str = ""  # the held-out image that it is a near-copy of: not used in a proof


class SyntheticFolder:
    """The folder of a synthetic dataset."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []

    def open(self, settings: Mapping[str, Any], force: bool, places: Collection[str] = ("",)) -> None:
        """Read the records of an earlier process with the same settings, or start a new dataset.

        `places`: the subfolders that images are written to. BadRequest for a folder with other files or with images of
        other settings. With `force` such images are deleted and other files are left alone; BadRequest if one of these
        would have to be replaced. StorageProblem.
        """
        now = json.loads(json.dumps({"format": FORMAT} | dict(settings)))
        before = _read(self.path / SETTINGS)
        is_ours = before is not None and now.keys() <= before.keys()
        self.records = list(self._read_records()) if is_ours else []
        if is_ours and before == now:
            return
        if before is not None and is_ours and not force:
            changed = [name for name in now if before[name] != now[name]]
            raise BadRequest(
                f"The folder {self.path} holds synthetic images with other settings",
                f"they differ in {', '.join(changed) or 'their format'}",
                "Name another folder, or give --force to replace them",
            )
        self._check_others(is_ours, force, places)
        with storage_errors(f"The earlier images in {self.path} cannot be deleted", self.path):
            for file in self._recorded_files():
                if (path := self.path / file).resolve().is_relative_to(self.path.resolve()):
                    path.unlink(missing_ok=True)
            if is_ours:
                for name in _OURS:
                    (self.path / name).unlink(missing_ok=True)
        self.records = []
        write_text(self.path / SETTINGS, json.dumps(now, indent=1))

    def _check_others(self, is_ours: bool, force: bool, places: Collection[str]) -> None:
        """BadRequest for files that are not known to be synthetic images; with `force` only if they would be replaced."""
        if not is_ours and not force:
            others = sorted(path.name for path in self.path.iterdir() if path.name not in OF_JOB)
            if others:
                raise BadRequest(
                    f"The folder {self.path} is not empty",
                    f"it holds {', '.join(others[:_NAMED])}",
                    "Name another folder, or give --force to write into it",
                )
        replaced = [] if is_ours else [name for name in sorted(_OURS) if (self.path / name).exists()]
        recorded = self._recorded_files()
        for place in places:
            found = sorted((self.path / place).iterdir()) if (self.path / place).is_dir() else []
            names = [path.relative_to(self.path).as_posix() for path in found if _is_named_as_ours(path)]
            replaced += [name for name in names if name not in recorded]
        if replaced:
            raise BadRequest(
                f"Files in {self.path} that may not be synthetic images would be replaced",
                listed(replaced, _NAMED),
                "Name another folder, or move them elsewhere",
            )

    def _recorded_files(self) -> set[str]:
        """The recorded images, and the captions of those that are not in a class subfolder."""
        files = {record.file for record in self.records if record.file}
        captioned = {record.file for record in self.records if record.file and record.label and "/" not in record.file}
        return files | {Path(file).with_suffix(".txt").as_posix() for file in captioned}

    def append(self, records: Sequence[Record]) -> None:
        """Record candidates whose files are written. StorageProblem."""
        path = self.path / RECORDS
        with storage_errors(f"The records {path} cannot be written", path):
            incomplete = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")  # of a process that was killed
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.write("\n" * incomplete)
                file.writelines(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records)
        self.records += records

    def write_metadata(self, captions: bool) -> None:
        """Write metadata.jsonl in the format of Hugging Face's ImageFolder. StorageProblem."""
        key = "text" if captions else "label"
        lines = [
            {"file_name": record.file, "seed": record.seed} | ({key: record.label} if record.label else {})
            for record in self.kept
        ]
        write_text(self.path / METADATA, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    @property
    def kept(self) -> list[Record]:
        """The records of the images in the folder, sorted by seed."""
        return sorted((record for record in self.records if record.file), key=lambda record: record.seed)

    def _read_records(self) -> Iterator[Record]:
        """The records of existing images. Incomplete lines of a killed process are skipped, and their images made again."""
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


def _is_named_as_ours(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.stem.isdecimal() and len(path.stem) >= _DIGITS


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else {}
