"""The training loop: a run from its first event to its last. Read `run_events` first."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

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
from diffstudio.training.run.checkpointing import Checkpointer
from diffstudio.training.run.events import (
    RunEvent,
    RunFailed,
    RunFinished,
    RunHeldOut,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStep,
    RunStopped,
    RunWaiting,
)
from diffstudio.training.run.monitor import DivergenceMonitor, StepMeter, verdict
from diffstudio.training.run.run_folder import RESUME_WITH_SPACE, Command, RunFolder
from diffstudio.training.run.setup import RunContext, new_run, resumed_run
from diffstudio.training.run.setup_progress import SetupProgress

_POLL_SECONDS = 0.1
_SECONDS_BETWEEN_EVENTS = 1.0


def train(
    run: Path,
    folder: Path | None = None,
    *,
    recipe: str = "auto",
    steps: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    on_event: Callable[[RunEvent], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> RunFolder:
    """Train on the images in `folder`, or resume the run in the folder `run`; returns when the run ends.

    Every RunEvent is appended to the run folder's events and passed to `on_event`. The setup ends early when
    `cancelled` returns True or the control file asks for a stop; once training has started, only the control file
    counts. Interrupted when it was stopped during the setup. DiffstudioError on failure, after recording RunFailed.
    """

    def record(event: RunEvent) -> None:
        run.mkdir(parents=True, exist_ok=True)  # events of the setup come before the run is created
        RunFolder(run).append(event)
        if on_event is not None:
            on_event(event)

    with ExitStack() as locks:
        try:
            if resume:
                existing = RunFolder.open(run)
                locks.enter_context(existing.locked())
                existing.send(Command.RUN)  # a stop or pause from before does not count
                events, _ = existing.events()
                step = events[-1].step if events else 0
                try:
                    context = resumed_run(run, SetupProgress(existing, record, cancelled, step))
                except Interrupted:
                    record(RunStopped(step))
                    raise
            elif folder is not None:
                with _removed_on_failure(run):
                    context = new_run(
                        run,
                        folder,
                        recipe,
                        steps=steps,
                        minutes=minutes,
                        progress=SetupProgress(RunFolder(run), record, cancelled),
                    )
                locks.enter_context(context.run.locked())
            else:
                raise RunProblem(NO_FOLDER, remedy=CHOOSE_IMAGE_FOLDER)
        except (RuntimeError, MemoryError, OSError) as error:
            raise _as_diffstudio_error(error) from error
        _record_events(context, record)
    return context.run


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    """Around the setup of a new run: if no run was created, the files and empty folders of the setup are deleted."""
    run, parents = RunFolder(path), [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        yield
    except BaseException:  # Interrupted and Ctrl+C too: no half-made run folder is left
        if not run.recipe_file.exists():
            with suppress(OSError):
                for name in ("events.jsonl", "control.json"):
                    (path / name).unlink(missing_ok=True)
                for folder in (path / "samples", path / "checkpoints", path, *parents):
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()
        raise


def _record_events(context: RunContext, record: Callable[[RunEvent], None]) -> None:
    try:
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
    run, trainer, recipe = context.run, context.trainer, context.recipe.run
    checkpointer, meter, divergence = Checkpointer(context), StepMeter(recipe.batch), DivergenceMonitor()
    commands = CommandListener(run, lease)
    first_step = trainer.step_number
    yield started_event(context)
    if not commands.acquire_lease():  # nothing was trained meanwhile, so there is nothing to save
        yield RunStopped(trainer.step_number)
        return
    try:
        baseline = trainer.mean_image_loss(context.batches)
        held_out = trainer.held_out_loss(context.batches)
        while trainer.step_number < recipe.steps:
            yield from commands.wait_while_paused(trainer.step_number, checkpointer.save_state)
            if commands.stopped:
                yield from checkpointer.save_checkpoint(held_out)
                yield RunStopped(trainer.step_number)
                return

            step_started = time.perf_counter()
            result = trainer.step(context.batches.at(trainer.step_number))
            trainer.elapsed_seconds += time.perf_counter() - step_started
            step, last = trainer.step_number, trainer.step_number == recipe.steps
            divergence.update(step, result.loss)
            meter.update(result, time.perf_counter() - step_started)

            if meter.seconds >= _SECONDS_BETWEEN_EVENTS or last:
                yield meter.step_event(trainer, recipe.steps)
            if step % recipe.held_out_every == 0 or last:
                held_out = trainer.held_out_loss(context.batches)
                if held_out is not None:
                    yield RunHeldOut(step, held_out)
            if step % recipe.sample_every == 0 or last:
                yield from checkpointer.save_samples(commands.check_between_calls)
            if step % recipe.checkpoint_every == 0 or last:
                checkpointer.save_state()
                yield from checkpointer.save_checkpoint(held_out)
        loss = held_out
        if loss is None:
            loss = meter.recent_loss if trainer.step_number > first_step else _recorded_loss(run)
        learned, sentence = verdict(loss, baseline)
        yield RunFinished(trainer.step_number, checkpointer.latest, learned, sentence)
    finally:
        lease.release()


def _recorded_loss(run: RunFolder) -> float:
    """The last loss in the events of a run, for one resumed after its last step; NaN without such an event."""
    events, _ = run.events()
    return next((event.loss for event in reversed(events) if isinstance(event, RunStep)), math.nan)


def started_event(context: RunContext) -> RunStarted:
    trainer, dataset, recipe = context.trainer, context.dataset, context.recipe.run
    return RunStarted(
        step=trainer.step_number,
        steps=recipe.steps,
        pid=os.getpid(),
        parameters=sum(parameter.numel() for parameter in trainer.network.parameters()),
        images=len(dataset.training_indices),
        held_out=len(dataset.held_out_indices),
        device=recipe.device,
        dtype=recipe.dtype,
        threads=recipe.threads,
        why=context.why,
    )


class CommandListener:
    """Pauses or stops a run between two steps: on a command in its control file, or to release the accelerator."""

    def __init__(self, run: RunFolder, lease: Lease) -> None:
        self._run, self._lease = run, lease
        self._last_poll = 0.0
        self._command = Command.RUN
        self.stopped = False

    def wait_while_paused(self, step: int, save_state: Callable[[], None]) -> Iterator[RunEvent]:
        """Wait until the run may continue, and yield the events; afterwards `stopped` is True if it has to end."""
        while not self.stopped:
            match self._poll():
                case Command.STOP:
                    self.stopped = True
                    save_state()
                case Command.PAUSE:
                    save_state()
                    self._lease.release()
                    yield RunPaused(step)
                    while self._poll() is Command.PAUSE:
                        time.sleep(_POLL_SECONDS)
                    if self.stop_requested() or not self.acquire_lease():
                        continue
                    yield RunResumed(step)
                case Command.RUN if self._lease.wanted_by_other():
                    yield RunWaiting(step)
                    self._lease.release()
                    if not self.acquire_lease():
                        continue
                    yield RunResumed(step)
                case Command.RUN:
                    return

    def check_between_calls(self) -> None:
        """During sampling: release the accelerator if it is wanted. Interrupted on a pause or stop command."""
        if self._poll() is not Command.RUN:
            raise Interrupted("The samples were not finished")
        self._lease.yield_if_wanted(cancelled=self.stop_requested)

    def stop_requested(self) -> bool:
        return self._poll() is Command.STOP

    def acquire_lease(self) -> bool:
        """Wait for the lease; False when the run is asked to stop meanwhile."""
        try:
            self._lease.acquire(f"training {self._run.name}", cancelled=self.stop_requested)
        except Interrupted:
            return False
        return True

    def _poll(self) -> Command:
        now = time.monotonic()
        if now - self._last_poll >= _POLL_SECONDS / 2:
            self._last_poll, self._command = now, self._run.command()
        return self._command


def _as_diffstudio_error(error: Exception) -> DiffstudioError:
    if isinstance(error, OSError):
        return StorageProblem("A file of the run cannot be written", error.strerror or str(error), RESUME_WITH_SPACE)
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
