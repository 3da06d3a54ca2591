"""The training loop: a run from its first event to its last. Read `run_events` first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffstudio.errors import (
    CHOOSE_IMAGE_FOLDER,
    NO_FOLDER,
    DiffstudioError,
    Interrupted,
    OutOfMemory,
    RunProblem,
    StorageProblem,
)
from diffstudio.models.memory.devices import is_out_of_memory
from diffstudio.models.memory.lease import Lease
from diffstudio.storage_errors import storage_problem
from diffstudio.training.distributed.cluster import Address, Cluster, Place, join_command, torchrun_rank
from diffstudio.training.fold_networks import FoldNetworks
from diffstudio.training.run.command_listener import CommandListener, training_turn
from diffstudio.training.run.events import RunEvent, RunFailed, RunStopped, RunWaiting
from diffstudio.training.run.follow import follow, lead, leave_signals_to_the_leader
from diffstudio.training.run.resume import Length, resumed_run
from diffstudio.training.run.run_folder import CONTROL, RESUME_WITH_SPACE, Command, RunFolder
from diffstudio.training.run.setup import RunContext, new_run
from diffstudio.training.run.setup_progress import SetupProgress
from diffstudio.training.run.tensorboard import TensorBoardLog
from diffstudio.training.run.training import Training

if TYPE_CHECKING:
    from diffstudio.training.distributed.meeting import Host, TorchrunHost


def train(
    run: Path,
    folder: Path | None = None,
    *,
    recipe: str = "auto",
    steps: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    start_from: str | None = None,
    on_event: Callable[[RunEvent], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    cluster: Cluster = Cluster(),  # noqa: B008 (immutable)
) -> RunFolder:
    """Train on the images in `folder`, or resume the run in the folder `run`; returns when the run ends.

    `start_from` is the checkpoint whose weights a new run starts from, the name of an included one or `none`; by default
    the recipe's. With `resume`, steps or minutes are how much longer a run is trained, also a finished one, and `folder` is
    where its images are now. `cluster` says on how many processes and machines, which this one leads.

    Every RunEvent is appended to the run folder's events and passed to `on_event`. The setup ends early when
    `cancelled` returns True or the control file asks for a stop; once training has started, only the control file
    counts. Interrupted when it was stopped during the setup. DiffstudioError on failure, after recording RunFailed.
    """

    def record(event: RunEvent) -> None:
        run.mkdir(parents=True, exist_ok=True)  # events of the setup come before the run is created
        RunFolder(run).append(event)
        log.add(event)
        if on_event is not None:
            on_event(event)

    log = TensorBoardLog(RunFolder(run))
    with ExitStack() as locks:
        locks.enter_context(log)
        host = locks.enter_context(_hosting(cluster, folder))
        try:
            if resume:
                existing = RunFolder.open(run)
                locks.enter_context(existing.locked())
                context = _resumed(existing, Length(steps, minutes), folder, record, cancelled, alone=host is None)
            elif folder is not None:
                with _removed_on_failure(run):
                    context = new_run(
                        run,
                        folder,
                        recipe,
                        steps=steps,
                        minutes=minutes,
                        start_from=start_from,
                        alone=host is None,
                        progress=SetupProgress(RunFolder(run), record, cancelled),
                    )
                locks.enter_context(context.run.locked())
            else:
                raise RunProblem(NO_FOLDER, remedy=CHOOSE_IMAGE_FOLDER)
        except (RuntimeError, MemoryError, OSError) as error:
            raise _as_diffstudio_error(error) from error
        _record_events(context, record, host, cancelled)
    return context.run


def join(
    address: Address | None,
    folder: Path | None = None,
    *,
    processes: int = 1,
    on_event: Callable[[RunEvent], None] = lambda event: None,
    on_ready: Callable[[Callable[[], None]], None] = lambda stop: None,
) -> None:
    """Help to train a run that another process leads, until it ends. DiffstudioError when that comes early.

    `folder` has the images on this machine, where it is not the leader's own. This machine takes part with `processes`.
    Without an address, torchrun says where the leader is. `on_ready` gets, once the run begins, what asks the leader to
    stop it; before, Interrupted or KeyboardInterrupt ends the waiting.
    """
    from diffstudio.training.distributed import meeting

    place = Place.here()
    setup = SetupProgress(RunFolder(Path(os.devnull)), on_event, lambda: False)
    if address is None:
        leave_signals_to_the_leader()
        follow(meeting.from_torchrun(), folder, setup, place)
        return
    if place.index == 0:
        place = Place(0, meeting.processes_here(processes))
    if place.index:
        leave_signals_to_the_leader()
    guest = meeting.Guest(address, place)
    if place.index == 0:
        meeting.start_processes(_arguments(folder), address, place.processes)
    try:
        team = guest.team()
        if place.index == 0:
            on_ready(guest.ask_to_stop)
        follow(team, folder, setup, place)
    except (DiffstudioError, RuntimeError, MemoryError, OSError) as error:
        explained = error if isinstance(error, DiffstudioError) else _as_diffstudio_error(error)
        guest.fail(str(explained))
        raise explained from error


def _resumed(
    run: RunFolder,
    longer: Length,
    folder: Path | None,
    record: Callable[[RunEvent], None],
    cancelled: Callable[[], bool],
    *,
    alone: bool,
) -> RunContext:
    """A run that exists, as it was; `longer` is how much longer it is trained. Interrupted, after recording RunStopped."""
    run.send(Command.RUN)  # a stop or pause from before does not count
    events, _ = run.events()
    step = events[-1].step if events else 0
    try:
        context = resumed_run(run.path, SetupProgress(run, record, cancelled, step), longer, folder)
    except Interrupted:
        record(RunStopped(step))
        raise
    if context.awaits_cross_validation and not alone:
        raise RunProblem(
            f"The run {run.name} is still being cross-validated",
            "only a single process can do that",
            "Resume it with one process, on one machine",
        )
    return context


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    """Around the setup of a new run: if no run was created, the files and empty folders of the setup are deleted."""
    run, parents = RunFolder(path), [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        yield
    except BaseException:  # Interrupted and Ctrl+C too: no half-made run folder is left
        if not run.recipe_file.exists():
            with suppress(OSError):
                for name in ("events.jsonl", CONTROL):
                    (path / name).unlink(missing_ok=True)
                for folder in (path / "samples", path / "checkpoints", path, *parents):
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()
        raise


@contextmanager
def _hosting(cluster: Cluster, folder: Path | None) -> Iterator[Host | TorchrunHost | None]:
    """What brings the other processes of the run together; None for a run of one process."""
    if torchrun_rank() is None and cluster.is_one_process:
        yield None
        return
    from diffstudio.training.distributed.meeting import Host, TorchrunHost

    host = TorchrunHost() if torchrun_rank() is not None else Host(cluster, _arguments(folder))
    try:
        yield host
    except BaseException:  # Interrupted and Ctrl+C too: no process stays behind
        host.abandon()
        raise


def _arguments(folder: Path | None) -> list[str]:
    """Of `diffstudio`, for another process of this machine."""
    return ["train", *([str(folder)] if folder is not None else [])]


@contextmanager
def _team(
    host: Host | TorchrunHost | None,
    context: RunContext,
    record: Callable[[RunEvent], None],
    cancelled: Callable[[], bool],
) -> Iterator[None]:
    """Gather all processes of the run around what is done inside. Interrupted when it is stopped meanwhile."""
    if host is None:
        yield
        return
    step = context.trainer.step_number
    setup = SetupProgress(context.run, record, cancelled, step)
    try:
        team = host.team(
            context.trainer.device,
            lambda machines: record(
                RunWaiting(step, machines=machines, join_command=join_command(context.folder, host.port))
            ),
            setup.raise_if_stopped,
        )
    except Interrupted:
        record(RunStopped(step))
        raise
    try:
        lead(context, team)
        yield
    except BaseException:  # Ctrl+C too: the other processes wait for this one until the connection breaks
        team.abandon()
        raise
    team.close()


def _record_events(
    context: RunContext,
    record: Callable[[RunEvent], None],
    host: Host | TorchrunHost | None,
    cancelled: Callable[[], bool],
) -> None:
    try:
        with _team(host, context, record, cancelled):
            for event in run_events(context, Lease()):
                record(event)
    except DiffstudioError as error:
        with suppress(StorageProblem):  # on a full disk the error is raised but cannot be recorded
            record(RunFailed(context.trainer.step_number, str(error)))
        raise
    except (RuntimeError, MemoryError, OSError) as error:
        explained = _as_diffstudio_error(error)
        with suppress(StorageProblem):
            record(RunFailed(context.trainer.step_number, str(explained)))
        raise explained from error


def run_events(context: RunContext, lease: Lease) -> Iterator[RunEvent]:
    """Train and yield the events, up to RunFinished or RunStopped. Diverged, OutOfMemory, StorageProblem."""
    commands = CommandListener(context.run, lease, training_turn(), context.trainer.team.asked_to_stop)
    training = Training(context, commands)
    folds = FoldNetworks(context, commands) if context.awaits_cross_validation else None
    yield training.started_event() if folds is None else replace(training.started_event(), step=folds.step)
    clock = training.clock if folds is None else folds.clock
    try:
        with clock.stopped():
            yield from commands.start(context.trainer.step_number)
        if commands.stopped:  # nothing was trained meanwhile, so there is nothing to save
            yield RunStopped(context.trainer.step_number if folds is None else folds.step)
            return
        if folds is not None:
            training.save_state()
            chosen = yield from folds.events()
            if chosen is None:
                return
            training.close()
            training = Training(chosen, commands)
        yield from training.events()
    finally:
        training.close()
        commands.release()


def _as_diffstudio_error(error: Exception) -> DiffstudioError:
    if isinstance(error, OSError):
        path = Path(error.filename if isinstance(error.filename, str) else ".").absolute().parent
        return storage_problem("A file of the run cannot be written", path, error, when_full=RESUME_WITH_SPACE)
    if is_out_of_memory(error):
        return OutOfMemory(
            "Out of memory during training",
            (str(error).splitlines() or [""])[0][:200],
            "Choose a smaller batch size, image size or network",
        )
    return RunProblem(
        "Training failed",
        str(error).splitlines()[0][:300] if str(error) else type(error).__name__,
        "See the run's log.txt; resume the run or start a new one",
    )
