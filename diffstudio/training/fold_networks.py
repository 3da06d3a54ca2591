"""FoldNetworks: trains the networks of a cross-validation in parallel, step by step, and chooses the run's number of steps.

It comes before the steps of a run whose recipe has `data.cross_splits`. All networks start as the run does and follow its
schedule; then the run trains on all images with the same schedule, up to the step of their lowest loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import replace
from statistics import fmean

import torch

from diffstudio.errors import Diverged, RunProblem
from diffstudio.plurals import count_of
from diffstudio.training.data.batches import Batches
from diffstudio.training.evidence.cross_validation import has_passed_minimum, next_measurement, pooled
from diffstudio.training.run.checkpoints.checkpointing import write_state
from diffstudio.training.run.clock import RunClock
from diffstudio.training.run.command_listener import CommandListener
from diffstudio.training.run.events import RunCrossValidated, RunEvent, RunHeldOut, RunStep, RunStopped
from diffstudio.training.run.monitor import DivergenceMonitor, StepMeter
from diffstudio.training.run.setup import RunContext, build_trainer, cross_validated
from diffstudio.training.run.training import DEFAULT_PATIENCE
from diffstudio.training.trainer import StepResult, Trainer

FINAL_PARTS = 1.5  # of the time, in those of one network: the run on all images, with its samples and checkpoints
_SECONDS_BETWEEN_EVENTS = 1.0


class FoldNetworks:
    """`events()` returns the context of the run with its steps chosen, or None if it was stopped."""

    def __init__(self, context: RunContext, commands: CommandListener) -> None:
        self._context, self._commands = context, commands
        recipe, dataset = context.recipe, context.dataset
        self._folds = recipe.data.cross_splits
        self._batches = [Batches(dataset.held_out_fold(fold), recipe, context.tokenizer) for fold in range(self._folds)]
        for batches in self._batches:
            batches.keep_on(context.trainer.device)
        self._trainers = [self._new_trainer() for _ in range(self._folds)]
        self._losses: list[tuple[int, float]] = []
        self._lowest: tuple[float, float, float] = (math.inf, math.nan, math.nan)  # loss with its interval
        self._divergence = DivergenceMonitor()
        self._restore()
        share = self._folds / (self._folds + FINAL_PARTS)
        first = self._trainers[0]
        self.clock = RunClock(
            replace(recipe.run, minutes=share * recipe.run.minutes), first.elapsed_seconds, first.progress
        )
        self._meter = StepMeter(recipe.run.batch * self._folds)

    @property
    def step(self) -> int:
        """How many steps each network has done."""
        return self._trainers[0].step_number

    def events(self) -> Generator[RunEvent, None, RunContext | None]:
        """Train and measure all networks until their loss has passed its minimum, or they run out of steps or time."""
        patience = self._context.recipe.run.patience
        patience = patience if patience >= 0 else DEFAULT_PATIENCE
        self._save()
        done = self.clock.progress(self.step) >= 1 or has_passed_minimum(self._losses, patience)
        while not done:
            with self.clock.stopped():
                yield from self._commands.wait_while_paused(self.step, self._save)
            if self._commands.stopped:
                yield RunStopped(self.step)
                return None
            try:
                self._do_step()
            except Diverged:
                if not math.isfinite(self._lowest[0]):
                    raise
                break  # earlier measurements say when to end
            done = self.clock.progress(self.step) >= 1
            if self._meter.seconds >= _SECONDS_BETWEEN_EVENTS or done:
                yield self._step_event()
            if done or self.step >= self._next_measurement():
                yield self._measure()
                done = done or has_passed_minimum(self._losses, patience)
            if self.clock.state_due():
                self._save()
        chosen = self._choice()
        yield chosen  # recorded before the recipe is written: a run that is killed in between reads it
        return cross_validated(self._context, chosen, self._trainers[0].elapsed_seconds)

    def _new_trainer(self) -> Trainer:
        """A network that starts like the run's own."""
        context = self._context
        trainer = build_trainer(context.recipe, context.dataset, context.tokenizer, context.trainer.device)
        trainer.restore(context.trainer.state())
        return trainer

    def _do_step(self) -> None:
        """One step of every network. Diverged when their mean loss diverges."""
        started = time.perf_counter()
        results = [
            trainer.step(batches.at(trainer.step_number, trainer.device))
            for trainer, batches in zip(self._trainers, self._batches, strict=True)
        ]
        for trainer in self._trainers:
            trainer.elapsed_seconds, trainer.progress = self.clock.elapsed_seconds, self.clock.progress(self.step)
        loss, norm = (fmean(values) for values in ([r.loss for r in results], [r.gradient_norm for r in results]))
        self._divergence.update(self.step, loss)
        self._meter.update(StepResult(loss, norm, results[0].learning_rate), time.perf_counter() - started)

    def _step_event(self) -> RunStep:
        """The time left includes the run on all images, estimated like the part of one network."""
        event = self._meter.step_event(self._trainers[0], self.clock)
        run = self._context.recipe.run
        if run.schedule == "time":
            left = max(0.0, 60 * run.minutes - self.clock.elapsed_seconds)
        else:
            left = event.left_seconds + run.steps * event.left_seconds / max(1, run.steps - event.step) / self._folds
        return replace(event, splits=self._folds, left_seconds=left)

    def _next_measurement(self) -> int:
        run = self._context.recipe.run
        last = self._losses[-1][0] if self._losses else 0
        return next_measurement(last, run.steps if run.schedule == "steps" else 0)

    def _measure(self) -> RunHeldOut:
        """The loss of all networks on the images that each holds out."""
        measured = [
            losses
            for trainer, batches in zip(self._trainers, self._batches, strict=True)
            if (losses := trainer.fixed_losses(batches)) is not None
        ]
        found = pooled(measured)
        best = found.loss.value < self._lowest[0]
        if best:
            self._lowest = (found.loss.value, found.loss.low, found.loss.high)
        self._losses.append((self.step, found.loss.value))
        return RunHeldOut(
            self.step,
            found.loss.value,
            found.levels,
            found.held_out,
            sum(found.training) / len(found.training),
            found.training,
            best,
            splits=self._folds,
            low=found.loss.low,
            high=found.loss.high,
        )

    def _choice(self) -> RunCrossValidated:
        """The step of the lowest loss, with what it is based on."""
        dataset, run = self._context.dataset, self._context.recipe.run
        loss, low, high = self._lowest
        best = next(step for step, measured in self._losses if measured == loss)
        timed = run.schedule == "time"
        length = max(self.step, round(self.step / self.clock.progress(self.step))) if timed else run.steps
        images = sum(fold >= 0 for fold in dataset.folds)
        return RunCrossValidated(
            step=0,
            splits=self._folds,
            images=images,
            best_step=best,
            length=length,
            loss=loss,
            low=low,
            high=high,
            steps=tuple(step for step, _ in self._losses),
            losses=tuple(measured for _, measured in self._losses),
            why=f"Cross-validated over {self._folds} folds of {count_of(images, 'image')}: the held-out loss was lowest "
            f"at step {best:,}, {loss:.4f} (95% interval {low:.4f} to {high:.4f}). Training starts on all images, for "
            f"{count_of(best, 'step')}.",
            baseline=self._baseline(),
        )

    def _baseline(self) -> float | None:
        """The loss of a Gaussian model of the training images of each fold, over all images that are held out."""
        sizes = [len(self._context.dataset.held_out_fold(fold).held_out_indices) for fold in range(self._folds)]
        found = [
            trainer.objective.baseline(batches) for trainer, batches in zip(self._trainers, self._batches, strict=True)
        ]
        losses = [loss for loss in found if loss is not None]
        if len(losses) < len(found):
            return None
        return sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / sum(sizes)

    def _save(self) -> None:
        """Write what resuming needs: these networks, and the run's own, which starts later. StorageProblem."""
        state = {
            "networks": [trainer.state() for trainer in self._trainers],
            "losses": self._losses,
            "lowest": self._lowest,
            "monitor": self._divergence.state(),
        }
        write_state(self._context.run.splits_file, state, "The state of the cross-validation could not be written")
        self.clock.state_saved()

    def _restore(self) -> None:
        """Continue from the last state, if there is one. RunProblem if it cannot be read."""
        run = self._context.run
        if not run.splits_file.exists():
            return
        try:
            state = torch.load(run.splits_file, map_location=self._context.trainer.device, weights_only=True)
            for trainer, stored in zip(self._trainers, state["networks"], strict=True):
                trainer.restore(stored)
            self._losses = [(int(step), float(loss)) for step, loss in state["losses"]]
            loss, low, high = state["lowest"]
            self._lowest = float(loss), float(low), float(high)
            self._divergence = DivergenceMonitor.restored(state["monitor"])
        except Exception as error:  # noqa: BLE001 - unpickling and loading raise all kinds of errors
            raise RunProblem(
                f"The cross-validation of the run {run.name} cannot be resumed",
                f"its file {run.splits_file.name} is damaged",
                "Delete that file to repeat the cross-validation, or start a new run",
            ) from error
