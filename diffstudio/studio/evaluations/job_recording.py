"""JobRecording: what a job of the Lab writes into its folder while it runs, for the window that watches it. No torch.

with recorded("evaluate", arguments, request.out) as recording:
    result = evaluate(request, library, on_progress=recording.progress)
    recording.finish(result.problem)
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from diffstudio.atomic import make_folder
from diffstudio.errors import BadRequest, DiffstudioError, Interrupted, RunProblem, StorageProblem
from diffstudio.studio.evaluations.job_folder import (
    EVENTS,
    REQUEST,
    JobEvent,
    JobFailed,
    JobFinished,
    JobFolder,
    JobProgress,
    JobRequest,
    JobStarted,
    JobStopped,
    result_name,
    without_out,
)
from diffstudio.studio.evaluations.place import OTHER_FOLDER, check_place, not_written_to
from diffstudio.training.run.run_folder import Command

_LEAST_SECONDS = 0.5  # between two progress events of the same work; longer in a job of hours, so that files stay small
_SHARE = 500


class JobRecording:
    """Writes the events of one job. Without a folder it does nothing."""

    def __init__(self, verb: str, folder: JobFolder | None) -> None:
        self._verb, self._folder = verb, folder
        self._what, self._written, self._begun = "", -float("inf"), time.monotonic()

    def progress(self, what: str, done: int, total: int) -> None:
        """Write how far the work is: new work at once, the same at intervals."""
        now = time.monotonic()
        if what == self._what and done != total and now - self._written < self._interval(now):
            return
        self._what, self._written = what, now
        self.write(JobProgress(what, done, total))

    def finish(self, problem: DiffstudioError | None = None) -> None:
        """The result is written. `problem` is what it says could not be measured."""
        self.write(JobFinished(result_name(self._verb), str(problem) if problem is not None else ""))

    def write(self, event: JobEvent) -> None:
        if self._folder is not None:
            self._folder.append(event)

    def _interval(self, now: float) -> float:
        return max(_LEAST_SECONDS, (now - self._begun) / _SHARE)


@contextmanager
def recorded(
    verb: str, arguments: Sequence[str], out: Path | None, folders: Iterable[Path] = ()
) -> Iterator[JobRecording]:
    """Record what happens inside the `with` in the folder `out`: how it started, that it was stopped, or why it failed.

    Nothing is written where that is inside one of the `folders` of images that are read, or where files of the same
    names are not those of a job: BadRequest. RunProblem when another job writes there, StorageProblem when it cannot be
    written to.
    """
    if out is None:
        yield JobRecording(verb, None)
        return
    check_place(out, folders)
    folder = JobFolder(out)
    _check_free(folder)
    make_folder(out)
    with folder.locked():
        _write_request(folder, verb, without_out(arguments))
        recording = JobRecording(verb, folder)
        recording.write(JobStarted(os.getpid()))
        try:
            yield recording
        except Interrupted:
            recording.write(JobStopped())
            raise
        except KeyboardInterrupt:
            recording.write(JobStopped())
            raise
        except DiffstudioError as error:
            with suppress(StorageProblem):  # the error itself says more than that it could not be written
                recording.write(JobFailed(error.what, error.why, error.remedy))
            raise
        except BaseException as error:
            with suppress(StorageProblem):
                recording.write(JobFailed(f"Its process ended with an error, {type(error).__name__}", str(error)))
            raise
        finally:
            with suppress(StorageProblem):
                folder.send(Command.RUN)  # a command to stop is carried out: the folder may be used again


def _check_free(folder: JobFolder) -> None:
    """BadRequest for a folder with files that a job would write into, and that are those of something else."""
    found = next((name for name in (REQUEST, EVENTS) if os.path.lexists(folder.path / name)), None)
    if found is None:
        return
    try:
        folder.request()
    except RunProblem as error:
        raise BadRequest(
            not_written_to(folder.path), f"its {found} is not that of a job of the Lab", OTHER_FOLDER
        ) from error


def _write_request(folder: JobFolder, verb: str, arguments: tuple[str, ...]) -> None:
    """Write what the job does, unless it is written there: by the window, or by an earlier process of the same job."""
    with suppress(RunProblem):
        request = folder.request()
        if (request.verb, request.arguments) == (verb, arguments):
            return
    folder.write_request(JobRequest(verb, arguments, "", time.time(), os.getcwd()))
