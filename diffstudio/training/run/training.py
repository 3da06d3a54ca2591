"""Training: the steps of a run, and what happens between them: losses, samples, checkpoints, decisions."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

from diffstudio.errors import DiffstudioError, Diverged, Interrupted
from diffstudio.networks.conditioning import Conditioning
from diffstudio.plurals import by_number
from diffstudio.training.batches_ahead import BatchesAhead
from diffstudio.training.distributed.team import Kind, Order
from diffstudio.training.power_ema import forget_after
from diffstudio.training.recipe.optimiser_recipe import DecayName
from diffstudio.training.run.assessment import Assessment
from diffstudio.training.run.checkpoints.checkpoint_comparison import CheckpointComparison, event_of, recorded_choice
from diffstudio.training.run.checkpoints.checkpointing import Checkpointer
from diffstudio.training.run.clock import Cadence, RunClock
from diffstudio.training.run.command_listener import CommandListener
from diffstudio.training.run.events import (
    RunCheckpointChosen,
    RunEarlyDecay,
    RunEarlyStop,
    RunEvent,
    RunFinished,
    RunRolledBack,
    RunStarted,
    RunStopped,
)
from diffstudio.training.run.follow import restore_everywhere
from diffstudio.training.run.monitor import DivergenceMonitor, StepMeter
from diffstudio.training.run.run_folder import RunRequest
from diffstudio.training.run.setup import RunContext
from diffstudio.training.run.verdict import measurements_since_best, why_it_ends_early

DEFAULT_PATIENCE = 6  # held-out losses without a new minimum, of the 24 in a run whose length is a time
EARLIEST_END = 0.5  # share of the time after which a run may be shortened: before, a loss may rise that falls again
ROLL_BACK_SCALE, MOST_ROLL_BACKS = 0.5, 3
_SECONDS_BETWEEN_EVENTS = 1.0


class Training:
    """The steps of a run, and what happens between them."""

    def __init__(self, context: RunContext, commands: CommandListener) -> None:
        self._context, self._commands = context, commands
        self._recipe, self._trainer = context.recipe.run, context.trainer
        classes = context.dataset.classes if context.recipe.network.conditioning is Conditioning.CLASS else ()
        self._assessment = Assessment(context, classes)
        self._assessment.choice = recorded_choice(context.run.events()[0], self._assessment.best_step)
        self._checkpointer = Checkpointer(context, self._assessment, classes)
        self._meter = StepMeter(self._recipe.batch)
        self._comparison = CheckpointComparison(context, classes, lambda: self._assessment.sample_metrics)
        self._divergence = DivergenceMonitor.restored(context.monitor)
        trainer = self._trainer
        self.clock = RunClock(self._recipe, trainer.elapsed_seconds, trainer.progress, trainer.ends_after)
        self._cadence = Cadence(self._recipe, self._progress())
        self._ended_early = context.ended_early
        self._seconds_of_image = 0.0  # of a sample, drawn and judged
        self._batches = BatchesAhead(context.batches, context.trainer.device)

    def events(self) -> Iterator[RunEvent]:
        if self._trainer.step_number == self._recipe.first_step or not self._context.run.good_state_file.exists():
            self.save_state(good=True)
        forget_after(self._context.run.ema_folder, self._trainer.step_number)
        done = self._done()  # asked once after each step: what is due at the end depends on it
        while not done:
            with self.clock.stopped():
                yield from self._commands.wait_while_paused(self._trainer.step_number, self.save_state)
            if self._commands.stopped:
                self._checkpointer.save_averages()
                yield from self._checkpointer.save_checkpoint(self._assessment.held_out_loss, best=False)
                yield RunStopped(self._trainer.step_number)
                return
            try:
                self._step()
            except Diverged as error:
                yield from self._roll_back(error)
                done = self._done()
                continue
            done = self._done()
            if self._meter.seconds >= _SECONDS_BETWEEN_EVENTS or done:
                yield self._meter.step_event(self._trainer, self.clock)
            yield from self._after_step(done)
            done = done or self._ended_early
        yield from self._finish()

    def close(self) -> None:
        """End the threads that draw batches."""
        self._batches.close()

    def started_event(self) -> RunStarted:
        trainer, dataset, recipe = self._trainer, self._context.dataset, self._recipe
        return RunStarted(
            step=trainer.step_number,
            steps=self.clock.steps(trainer.step_number),
            pid=os.getpid(),
            parameters=sum(parameter.numel() for parameter in trainer.network.parameters()),
            images=len(dataset.training_indices),
            held_out=len(dataset.held_out_indices),
            device=recipe.device,
            dtype=recipe.dtype,
            threads=recipe.threads,
            why=f"{self._context.why}{self._team_sentence()}",
            minutes=recipe.minutes if self.clock.timed else 0.0,
            folder=str(self._context.folder),
            starter=_name(Path(recipe.start_from)),
            objective=self._trainer.objective.kind.value,
            splits=self._context.recipe.data.cross_splits,
        )

    def _team_sentence(self) -> str:
        world = self._trainer.team.world
        shards = ", which share the weights among them" if self._trainer.sharded else ""
        return f" {world} processes train it together{shards}." if world > 1 else ""

    def _progress(self) -> float:
        return self.clock.progress(self._trainer.step_number)

    def _done(self) -> bool:
        return self._progress() >= 1 or self._ended_early

    def _step(self) -> None:
        """One update. Diverged when the loss has left all bounds."""
        started = time.perf_counter()
        trainer = self._trainer
        trainer.team.order(Order(Kind.STEP, trainer.step_number, trainer.progress, trainer.rate_scale))
        result = trainer.step(self._batches.at(trainer.step_number))
        self._trainer.elapsed_seconds = self.clock.elapsed_seconds
        self._trainer.progress = self._progress()
        self._cadence.advance(self._trainer.progress)
        loss = result.loss + (result.upper_loss or 0.0)  # whichever level diverges
        self._divergence.update(self._trainer.step_number, loss, falls=self._trainer.objective.loss_falls)
        self._meter.update(result, time.perf_counter() - started)

    def _after_step(self, last: bool) -> Iterator[RunEvent]:
        """What is due: losses, an early stop, samples with their verdict, state and checkpoint."""
        step, best, checkpointer = self._trainer.step_number, False, self._checkpointer
        if last or self._cadence.held_out_due(step, self.clock.elapsed_seconds):
            started = self.clock.elapsed_seconds
            measured = self._assessment.measure()
            ended = self.clock.elapsed_seconds
            self._cadence.measured(ended - started, ended)
            if measured is not None:
                best = measured.best
                yield measured
        if not last and (decision := self._early_end()) is not None:
            self.save_state()
            self._ended_early = last = isinstance(decision, RunEarlyStop)
            yield decision
        if last or self._cadence.ema_snapshot_due():
            checkpointer.save_averages()
        sample, save = (self._commands.take(what) for what in (RunRequest.SAMPLE, RunRequest.SAVE))
        samples_due = last or sample or self._cadence.samples_due(step, self.clock.elapsed_seconds)
        with self.clock.final_work() if samples_due else nullcontext():
            if samples_due:
                yield from self._sample()
            if last or self._cadence.checkpoint_due(step):
                self.save_state(good=self._divergence.healthy)
                yield from checkpointer.save_checkpoint(self._assessment.held_out_loss, best=best)
            elif best or save:
                yield from checkpointer.save_checkpoint(self._assessment.held_out_loss, best=best)
        if samples_due and not last:
            self._reserve_comparison()
        if self.clock.state_due():
            self.save_state(good=self.clock.timed and self._divergence.healthy)

    def _sample(self) -> Iterator[RunEvent]:
        def check() -> None:
            with self.clock.stopped():  # what image jobs take meanwhile does not count
                self._commands.check_between_calls()

        started = self.clock.elapsed_seconds
        yield from self._checkpointer.save_samples(check)
        yield from self._assessment.judge_samples(self._progress(), check, self._checkpointer.samples)
        self._checkpointer.samples = None
        now = self.clock.elapsed_seconds
        self._cadence.sampled(now - started, now)
        self._seconds_of_image = (now - started) / (2 * max(1, self._recipe.sample_count))  # there are two sheets

    def _reserve_comparison(self) -> None:
        """Reserve time for comparing checkpoints at the end, by what the images of the sheets took."""
        if self.clock.timed:
            with suppress(DiffstudioError, RuntimeError, MemoryError):  # said at the end
                steps = self.clock.steps(self._trainer.step_number)
                self.clock.comparison_seconds = self._comparison.seconds(steps, self._seconds_of_image)

    def _early_end(self) -> RunEarlyDecay | RunEarlyStop | None:
        """The decision to end before the run's time, once the held-out loss has not fallen for long.

        The learning rate of a run whose length is a time falls first: images improve while it does, though the loss may
        not. A run of so many steps, or at a constant rate, ends at once, and so does one whose rate falls already, if its
        recipe sets the patience.
        """
        recipe, losses = self._recipe, self._trainer.held_out_losses
        if not math.isinf(self.clock.ends_after):
            return None  # it was shortened already
        patience = recipe.patience if recipe.patience >= 0 else DEFAULT_PATIENCE if self.clock.timed else 0
        best = self._assessment.best_step
        if not patience or best is None or losses[-1][0] != self._trainer.step_number:
            return None
        if recipe.patience < 0 and self._progress() < EARLIEST_END:
            return None
        kind = self._trainer.objective.kind.value
        since = measurements_since_best(kind, tuple(losses), recipe.first_step)
        if since < patience:
            return None
        step, optimiser = self._trainer.step_number, self._context.recipe.optimiser
        why = why_it_ends_early(kind, tuple(losses), best, since)
        falls = optimiser.decay is not DecayName.CONSTANT and optimiser.decay_share > 0
        later = self._progress() < 1 - optimiser.decay_share
        if self.clock.timed and falls and later:
            self.clock.begin_decay(optimiser.decay_share)
            self._trainer.ends_after, self._trainer.progress = self.clock.ends_after, self._progress()
            minutes = (
                f"{self.clock.seconds / 60:.{1 if self.clock.seconds >= 60 else 2}f} of {recipe.minutes:g} "
                f"{by_number(recipe.minutes, 'minute', 'minutes')}"
            )
            return RunEarlyDecay(step, best, f"Shortened to {minutes}, and the learning rate falls until then: {why}.")
        if recipe.patience < 0 and falls:
            return None  # it falls already, and the run ends with it
        return RunEarlyStop(step, best, f"Ended early: {why}.")

    def _roll_back(self, error: Diverged) -> Iterator[RunRolledBack]:
        """Go back to the last good state with a lower learning rate. The error itself after MOST_ROLL_BACKS of them."""
        trainer, run = self._trainer, self._context.run
        scale, from_step = trainer.rate_scale * ROLL_BACK_SCALE, trainer.step_number
        if trainer.rate_scale <= ROLL_BACK_SCALE**MOST_ROLL_BACKS:
            raise error
        restore_everywhere(trainer, run.good_state_file)
        forget_after(run.ema_folder, trainer.step_number)
        trainer.rate_scale = scale
        trainer.elapsed_seconds, trainer.progress = self.clock.elapsed_seconds, self._progress()
        trainer.ends_after = self.clock.ends_after
        self._divergence = DivergenceMonitor()
        yield RunRolledBack(  # written before the state: a run that is killed in between reads it
            trainer.step_number,
            from_step,
            scale,
            f"{error.what}: {error.why}. Training continues from step "
            f"{trainer.step_number:,} with the learning rate multiplied by {scale:g}.",
        )
        self.save_state(good=True)

    def _finish(self) -> Iterator[RunEvent]:
        """The verdict on the whole run, also on one that was resumed after its last step, before its checkpoint."""
        if not self._context.run.checkpoint(self._trainer.step_number).exists():
            yield from self._after_step(True)
        yield from self._assessment.judge_samples(1.0, self._commands.lend_between_calls)
        yield from self._choose_checkpoint()
        found = self._assessment.verdict
        assert found is not None
        yield RunFinished(
            self._trainer.step_number,
            self._checkpointer.latest,
            found.learned,
            found.sentence,
            str(found.outcome),
            found.evidence,
            found.best_step,
        )

    def _choose_checkpoint(self) -> Iterator[RunEvent]:
        """Choose the checkpoint to generate with, by images; it stays the same where they are not compared."""
        step, lowest_loss = self._trainer.step_number, self._assessment.best_step
        if lowest_loss is None:
            return
        choice = self._assessment.choice
        if choice is None or not choice.was_made_at(step):
            try:
                choice = yield from self._comparison.choose(lowest_loss, self._commands.check_between_calls)
            except Interrupted:
                with self.clock.stopped():
                    yield from self._commands.wait_while_paused(step, self.save_state)
                if self._commands.stopped:
                    yield self._not_compared("the run was stopped before images were compared")
                else:
                    yield from self._choose_checkpoint()
                return
            except (DiffstudioError, RuntimeError, MemoryError) as error:
                yield self._not_compared(f"images could not be compared ({error})")
                return
            if choice is None:
                return
            self._checkpointer.keep(choice.chosen, choice.min_timestep)
            yield event_of(choice, step)
        yield from self._assessment.judge_choice(choice)

    def _not_compared(self, why: str) -> RunCheckpointChosen:
        lowest_loss = self._assessment.best_step
        assert lowest_loss is not None
        kept = self._comparison.kept(lowest_loss)
        return RunCheckpointChosen(
            self._trainer.step_number, kept, f"The checkpoint of step {kept:,} is kept: {why}.", (), (), (), 0
        )

    def save_state(self, good: bool = False) -> None:
        """Write everything that resuming needs. StorageProblem when that fails."""
        self._trainer.elapsed_seconds = self.clock.elapsed_seconds
        self._checkpointer.save_state(self._divergence.state(), good=good)
        self.clock.state_saved()


def _name(checkpoint: Path) -> str:
    """Of a checkpoint that a run starts from: its file's, or its run's for one in a run's folder."""
    in_run = checkpoint.parent.name == "checkpoints" and len(checkpoint.parts) > 2
    return checkpoint.parents[1].name if in_run else checkpoint.stem
