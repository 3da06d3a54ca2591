"""JobRecording: writes the events of a running Lab job into its folder, where the window reads them. No torch.

with recorded("evaluate", arguments, request.out) as recording:
    result = evaluate(request, library, on_progress=recording.progress)
    recording.finish(result.problem)

The finished result of an earlier request of the same verb stays until the new one is written: see `earlier_result`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
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
from diffstudio.studio.evaluations.place import OTHER_FOLDER, check_inputs, check_place, not_written_to
from diffstudio.studio.evaluations.results.earlier_result import EarlierResult, kind_of
from diffstudio.studio.evaluations.results.file_names import FILES, existing
from diffstudio.training.run.run_folder import CONTROL, Command

_LEAST_SECONDS = 0.5  # between two progress events of the same work; longer in long jobs, to keep files small
_SHARE = 500


class JobRecording:
    """Writes the events of one job; does nothing without a folder."""

    def __init__(self, verb: str, folder: JobFolder | None) -> None:
        self._verb, self._folder = verb, folder
        self._what, self._written, self._begun = "", -float("inf"), time.monotonic()

    def progress(self, what: str, done: int, total: int) -> None:
        """Record progress: new work at once, the same work at intervals."""
        now = time.monotonic()
        if what == self._what and done != total and now - self._written < self._interval(now):
            return
        self._what, self._written = what, now
        self.write(JobProgress(what, done, total))

    def finish(self, problem: DiffstudioError | None = None) -> None:
        """Record that the result is written. `problem` says what could not be measured."""
        self.write(JobFinished(result_name(self._verb), str(problem) if problem is not None else ""))

    def write(self, event: JobEvent) -> None:
        if self._folder is not None:
            self._folder.append(event)

    def _interval(self, now: float) -> float:
        return max(_LEAST_SECONDS, (now - self._begun) / _SHARE)


@contextmanager
def recorded(
    verb: str,
    arguments: Sequence[str],
    out: Path | None,
    inputs: Sequence[Path] = (),
    on_earlier: Callable[[str], object] = lambda sentence: None,
) -> Iterator[JobRecording]:
    """Record the work inside the `with` in the folder `out`: its start, a stop, or the reason for a failure.

    `on_earlier` is told what became of an earlier result there.

    BadRequest if `out` is inside one of the `inputs`, which are images or folders of images, or if one of them would be
    replaced; if `out` has the result of another verb, or files that would be replaced and do not belong to a job.
    RunProblem if another job writes there, StorageProblem if it cannot be written to.
    """
    if out is None:
        yield JobRecording(verb, None)
        return
    check_place(out, inputs)
    check_inputs(out, FILES.get(verb, ()), inputs)
    folder = JobFolder(out)
    _check_free(folder, verb, arguments)
    make_folder(out)
    with folder.locked():
        earlier = EarlierResult.of(folder)
        _write_request(folder, verb, without_out(arguments))
        recording = JobRecording(verb, folder)
        recording.write(JobStarted(os.getpid()))
        try:
            with _ends(recording):
                yield recording
        except BaseException:  # also when it is interrupted: the earlier result is brought back
            with suppress(StorageProblem):
                if earlier is not None and (sentence := earlier.after_no_result()):
                    on_earlier(sentence)
            raise
        else:
            if earlier is not None and (sentence := earlier.after_a_result()):
                on_earlier(sentence)
        finally:
            with suppress(StorageProblem):
                folder.send(Command.RUN)  # the stop command is done: the folder can be used again


@contextmanager
def _ends(recording: JobRecording) -> Iterator[None]:
    """Record how the block ends if it raises."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        recording.write(JobStopped())
        raise
    except DiffstudioError as error:
        with suppress(StorageProblem):  # the original error matters more than that it could not be recorded
            recording.write(JobFailed(error.what, error.why, error.remedy))
        raise
    except BaseException as error:
        with suppress(StorageProblem):
            recording.write(JobFailed(f"Its process ended with an error, {type(error).__name__}", str(error)))
        raise


def _check_free(folder: JobFolder, verb: str, arguments: Sequence[str]) -> None:
    """BadRequest for a folder with files that a job would overwrite and that are not of an earlier job of its kind."""
    found = next((name for name in (REQUEST, EVENTS) if os.path.lexists(folder.path / name)), "")
    if not found and folder.has_foreign_control():
        found = CONTROL
    if found:
        try:
            request = folder.request()
        except RunProblem as error:
            raise BadRequest(
                not_written_to(folder.path), f"its {found} does not belong to a Lab job", OTHER_FOLDER
            ) from error
        if (kind := kind_of(request.verb, request.arguments)) == kind_of(verb, arguments):
            return
        began = folder.last_event()
        if folder.result_file.is_file() or not (began is None or isinstance(began, JobFailed)):
            raise BadRequest(not_written_to(folder.path), f"it belongs to a job of `diffstudio {kind}`", OTHER_FOLDER)
    if name := existing(folder.path, verb):
        raise BadRequest(
            not_written_to(folder.path),
            f"its {name} would be replaced, which `diffstudio {kind_of(verb, arguments)}` has not written",
            OTHER_FOLDER,
        )


def _write_request(folder: JobFolder, verb: str, arguments: tuple[str, ...]) -> None:
    """Write the job's request, unless the window or an earlier process of the same job has written it. StorageProblem."""
    with suppress(RunProblem):
        request = folder.request()
        if (request.verb, request.arguments) == (verb, arguments):
            return
    folder.write_request(JobRequest(verb, arguments, "", time.time(), os.getcwd()))
