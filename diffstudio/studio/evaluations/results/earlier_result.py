"""EarlierResult: what becomes of the finished result in a folder when another job of the same verb works there. No torch.

It stays until the new result replaces it. A job that ends without one leaves it, and it counts as finished again; where
that job has already replaced files of it, it is kept under another name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from diffstudio.atomic import move_numbered
from diffstudio.errors import RunProblem
from diffstudio.storage_errors import storage_errors
from diffstudio.studio.evaluations.job_folder import OF_JOB, JobFinished, JobFolder, JobRequest


@dataclass(frozen=True, slots=True)
class EarlierResult:
    """A finished job, before another one begins in its folder."""

    folder: JobFolder
    request: JobRequest
    finished: JobFinished
    file: Path
    files: Mapping[Path, tuple[int, int]]

    @classmethod
    def of(cls, folder: JobFolder) -> EarlierResult | None:
        """The finished job in this folder; None without one."""
        finished = folder.last_event()
        try:
            request, file = folder.request(), folder.result_file
        except RunProblem:
            return None
        if not isinstance(finished, JobFinished) or not file.is_file():
            return None
        return cls(folder, request, finished, file, _files_of(folder.path))

    def after_a_result(self) -> str:
        """What became of it after a job that wrote its own result; empty after the same request."""
        return "" if self._is_same() else f"The earlier result in {self.folder.path} was replaced."

    def after_no_result(self) -> str:
        """Keep it after a job without a result; returns what became of it. StorageProblem."""
        now = _files_of(self.folder.path)
        if all(now.get(path) == before for path, before in self.files.items()):
            self.folder.write_request(self.request)
            self.folder.append(self.finished)
            return f"The earlier result in {self.folder.path} was kept."
        if self._is_same() or not self.file.is_file():
            return ""
        kept = self.file.with_name(f"{self.file.stem}-earlier{self.file.suffix}")
        with storage_errors(f"The earlier result {self.file} cannot be renamed", self.folder.path):
            kept = move_numbered(self.file, kept)
        return f"The earlier result was kept as {kept}, but some of its files were replaced."

    def _is_same(self) -> bool:
        """Whether the job that has ended had the same request."""
        with suppress(RunProblem):
            now = self.folder.request()
            return (now.verb, now.arguments) == (self.request.verb, self.request.arguments)
        return False


def kind_of(verb: str, arguments: Sequence[str]) -> str:
    """The verb of a job, with the one below it for those of `models`."""
    return f"{verb} {arguments[0]}" if verb == "models" and arguments else verb


def _files_of(folder: Path) -> dict[Path, tuple[int, int]]:
    """When the files below a folder were last written, and their sizes, without those of the job itself."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names if Path(parent) != folder else set(names) - OF_JOB:
            with suppress(OSError):
                status = os.lstat(path := Path(parent, name))
                found[path] = status.st_mtime_ns, status.st_size
    return found
