"""A training run from beginning to end. READ `run_events` FIRST: it is the whole run on one page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from diffstudio.errors import DiffstudioError, Interrupted, OutOfMemory, RunProblem, StorageProblem
from diffstudio.models.memory.devices import is_out_of_memory
from diffstudio.models.memory.lease import Lease
from diffstudio.training.run.checkpointing import Checkpointer
from diffstudio.training.run.monitor import DivergenceMonitor, StepMeter, verdict
from diffstudio.training.run.run_folder import (
    Command,
    RunEvent,
    RunFailed,
    RunFinished,
    RunFolder,
    RunHeldOut,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
    RunWaiting,
)
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
    """Train on `folder` in the run folder `run`, or resume what is there, until it ends.

    Every RunEvent is appended to the run's events and given to `on_event`. Preparations end when `cancelled` says so or the
    control file does; a run that steps listens to its control file. Raises what went wrong as DiffstudioError, after writing
    it down as RunFailed.
    """

    def say(event: RunEvent) -> None:
        run.mkdir(parents=True, exist_ok=True)  # it is prepared before it is made
        RunFolder(run).append(event)
        if on_event is not None:
            on_event(event)

    with ExitStack() as until_the_end:
        try:
            if resume:
                left = RunFolder.open(run)
                until_the_end.enter_context(left.locked())
                left.send(Command.RUN)  # whatever ended it; what is asked from now on counts
                events, _ = left.events()
                step = events[-1].step if events else 0
                try:
                    context = resumed_run(run, SetupProgress(left, say, cancelled, step))
                except Interrupted:
                    say(RunStopped(step))
                    raise
            elif folder is not None:
                with _nothing_left_behind(run):
                    context = new_run(
                        run,
                        folder,
                        recipe,
                        steps=steps,
                        minutes=minutes,
                        preparation=SetupProgress(RunFolder(run), say, cancelled),
                    )
                until_the_end.enter_context(context.run.locked())
            else:
                raise RunProblem("No folder was given", remedy="Name a folder of pictures to train on")
        except (RuntimeError, MemoryError, OSError) as error:
            raise _explained(error) from error
        _work(context, say)
    return context.run


@contextmanager
def _nothing_left_behind(path: Path) -> Iterator[None]:
    """A run that could not be made leaves nothing of what its preparation wrote."""
    run, above = RunFolder(path), [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        yield
    except BaseException:
        if not run.recipe_file.exists():
            with suppress(OSError):
                for name in ("events.jsonl", "control.json"):
                    (path / name).unlink(missing_ok=True)
                for folder in (path / "samples", path / "checkpoints", path, *above):
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()
        raise


def _work(context: RunContext, say: Callable[[RunEvent], None]) -> None:
    try:
        for event in run_events(context, Lease()):
            say(event)
    except DiffstudioError as error:
        with suppress(StorageProblem):  # a full disk takes no last word either; the error itself is raised
            say(RunFailed(context.trainer.step_number, str(error)))
        raise
    except (RuntimeError, MemoryError, OSError) as error:
        explained = _explained(error)
        with suppress(StorageProblem):
            say(RunFailed(context.trainer.step_number, str(explained)))
        raise explained from error


def run_events(context: RunContext, lease: Lease) -> Iterator[RunEvent]:
    """The run, as what happens. It ends with RunFinished or RunStopped, or raises Diverged, OutOfMemory, StorageProblem."""
    run, trainer, recipe = context.run, context.trainer, context.recipe.run
    keeper, meter, watch = Checkpointer(context), StepMeter(recipe.batch), DivergenceMonitor()
    interruption = RunCommands(run, lease)
    yield started(context)
    if not interruption.acquire_lease():  # nothing was trained meanwhile, so there is nothing to save
        yield RunStopped(trainer.step_number)
        return
    try:
        ignorant = trainer.mean_image_loss(context.batches)
        held_out = trainer.held_out_loss(context.batches)
        while trainer.step_number < recipe.steps:
            yield from interruption.events(trainer.step_number, keeper.save_state)
            if interruption.stopped:
                yield from keeper.checkpoint(held_out)
                yield RunStopped(trainer.step_number)
                return

            began = time.perf_counter()
            result = trainer.step(context.batches.at(trainer.step_number))
            trainer.elapsed_seconds += time.perf_counter() - began
            step, last = trainer.step_number, trainer.step_number == recipe.steps
            watch.see(step, result.loss)
            meter.see(result, time.perf_counter() - began)

            if meter.seconds >= _SECONDS_BETWEEN_EVENTS or last:
                yield meter.event(trainer, recipe.steps)
            if step % recipe.held_out_every == 0 or last:
                held_out = trainer.held_out_loss(context.batches)
                if held_out is not None:
                    yield RunHeldOut(step, held_out)
            if step % recipe.sample_every == 0 or last:
                yield from keeper.samples(interruption.check_between_calls)
            if step % recipe.checkpoint_every == 0 or last:
                keeper.save_state()
                yield from keeper.checkpoint(held_out)
        learned, said = verdict(held_out if held_out is not None else meter.recent_loss, ignorant)
        yield RunFinished(trainer.step_number, keeper.latest, learned, said)
    finally:
        lease.release()


def started(context: RunContext) -> RunStarted:
    trainer, dataset, recipe = context.trainer, context.dataset, context.recipe.run
    parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
    return RunStarted(
        trainer.step_number,
        recipe.steps,
        os.getpid(),
        parameters,
        len(dataset.training_indices),
        len(dataset.held_out_indices),
        recipe.device,
        recipe.dtype,
        recipe.threads,
        context.why,
    )


class RunCommands:
    """What a person, or pictures that want the accelerator, ask of a run between two steps."""

    def __init__(self, run: RunFolder, lease: Lease) -> None:
        self._run, self._lease = run, lease
        self._looked = 0.0
        self._command = Command.RUN
        self.stopped = False

    def events(self, step: int, save_state: Callable[[], None]) -> Iterator[RunEvent]:
        """Waits for as long as it is asked to, saying so; `stopped` says that the run is to end here."""
        while not self.stopped:
            match self._asked():
                case Command.STOP:
                    self.stopped = True
                    save_state()
                case Command.PAUSE:
                    save_state()
                    self._lease.release()
                    yield RunPaused(step)
                    while self._asked() is Command.PAUSE:
                        time.sleep(_POLL_SECONDS)
                    if not self.acquire_lease():
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
        """While samples are drawn: step aside for pictures, and raise Interrupted when asked to pause or stop."""
        if self._asked() is not Command.RUN:
            raise Interrupted("The samples were not finished")
        self._lease.yield_if_wanted(cancelled=self.stop_asked)

    def stop_asked(self) -> bool:
        return self._asked() is Command.STOP

    def acquire_lease(self) -> bool:
        """Wait for the lease; False when the run is asked to stop meanwhile."""
        try:
            self._lease.acquire(f"training {self._run.name}", cancelled=self.stop_asked)
        except Interrupted:
            return False
        return True

    def _asked(self) -> Command:
        now = time.monotonic()
        if now - self._looked >= _POLL_SECONDS / 2:
            self._looked, self._command = now, self._run.command()
        return self._command


def _explained(error: Exception) -> DiffstudioError:
    if isinstance(error, OSError):
        return StorageProblem(
            "The run could not be written", error.strerror or str(error), "Free some space and resume it"
        )
    if is_out_of_memory(error):
        return OutOfMemory(
            "The training needs more memory than there is",
            (str(error).splitlines() or [""])[0][:200],
            "Choose a smaller batch, size or network",
        )
    return RunProblem(
        "The training broke off",
        str(error).splitlines()[0][:300] if str(error) else type(error).__name__,
        "The run's log.txt says more; resume it, or start anew",
    )
