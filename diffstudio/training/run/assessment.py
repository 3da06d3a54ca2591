"""Measures what a run has learned while it trains: its held-out loss, the copies among its samples, and its verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cached_property

import torch
from torch import Tensor

from diffstudio.errors import Interrupted
from diffstudio.training.evidence.checkpoint_choice import CheckpointChoice
from diffstudio.training.evidence.cross_validation import CrossValidation
from diffstudio.training.evidence.evidence import FEWEST_SAMPLES, Copies, Evidence, SampleMetrics
from diffstudio.training.objectives.objective import FixedLosses
from diffstudio.training.run.events import RunDiversity, RunHeldOut, RunVerdict
from diffstudio.training.run.sample_sheets import SampleSheetRenderer, prompts_of_folder
from diffstudio.training.run.setup import RunContext
from diffstudio.training.run.verdict import Verdict, best_step, verdict


class Assessment:
    """`measure()` after a step, `judge_samples()` after samples; `verdict` is the newest one."""

    def __init__(self, context: RunContext, classes: tuple[str, ...]) -> None:
        self._context, self._classes = context, classes
        self._losses: FixedLosses | None = None
        self.verdict: Verdict | None = None
        self._evidence: Evidence | None = None  # of `verdict`
        self.choice: CheckpointChoice | None = None  # of the checkpoint to generate with, until there is a lower loss
        self._judged_step = -1  # of `verdict`
        self._copied_at_start: int | None = None

    @cached_property
    def sample_metrics(self) -> SampleMetrics:
        return SampleMetrics(self._context.dataset, self._context.recipe.data, self._context.recipe.run.seed)

    @cached_property
    def _baseline(self) -> float | None:
        return self._context.trainer.objective.baseline(self._context.batches)

    @property
    def held_out_loss(self) -> float | None:
        """Of the weights of now; None where it was not measured."""
        losses = self._context.trainer.held_out_losses
        return losses[-1][1] if losses and losses[-1][0] == self._context.trainer.step_number else None

    @property
    def best_step(self) -> int | None:
        return best_step(tuple(self._context.trainer.held_out_losses))

    @property
    def is_current(self) -> bool:
        """Whether the verdict is on the weights of now."""
        return self._judged_step == self._context.trainer.step_number

    def measure(self) -> RunHeldOut | None:
        """Measure the held-out loss; None without held-out images."""
        trainer = self._context.trainer
        self._losses = losses = trainer.fixed_losses(self._context.batches)
        if losses is None:
            return None
        trainer.held_out_losses = [one for one in trainer.held_out_losses if one[0] < trainer.step_number]
        lowest = min((loss for _, loss in trainer.held_out_losses if math.isfinite(loss)), default=math.inf)
        trainer.held_out_losses.append((trainer.step_number, losses.loss))
        if losses.loss < lowest:
            self.choice = None
        return RunHeldOut(
            trainer.step_number,
            losses.loss,
            losses.levels,
            losses.held_out,
            losses.training_loss,
            losses.training if losses.levels else (),
            losses.loss < lowest,
            losses.learned_levels,
            losses.learned,
            losses.drawn,
            losses.upper,
        )

    def copies(self, samples: Tensor) -> Copies | None:
        """Which of the samples [N,C,S,S] are copies of training images."""
        return self.sample_metrics.copies(samples)

    def judge_samples(
        self, progress: float, before_call: Callable[[], None], samples: Tensor | None = None
    ) -> Iterator[RunDiversity | RunVerdict]:
        """Yield the diversity of the samples, if it can be measured, and the current verdict.

        `samples` of the EMA weights, with prompts from all over the folder, save drawing some. Nothing is yielded when
        `before_call`, which runs before every call of the network, raises Interrupted.
        """
        trainer = self._context.trainer
        if self.is_current:
            return
        if self._losses is None:  # none was measured in this process
            self._losses = trainer.fixed_losses(self._context.batches)
        try:
            samples = self._samples(samples, before_call)
        except Interrupted:
            return
        copies, diversity = self.sample_metrics.copies(samples), self.sample_metrics.diversity(samples)
        copied = tuple(copies.nearest[index] for index in copies.copied) if copies is not None else ()
        spread, vendi, real_vendi = diversity if diversity is not None else (None, None, None)
        covered = trainer.objective.diversity(trainer.ema_network, self._context.batches)
        covered = covered or self.sample_metrics.coverage(samples)
        if diversity is not None:
            shares = {} if covered is None else asdict(covered)
            shares.pop("within", None)  # the verdict says it
            yield RunDiversity(trainer.step_number, *diversity, **shares)
        context, dataset, batch = self._context, self._context.dataset, self._context.recipe.run.batch
        training = len(dataset.training_indices)
        self._evidence = Evidence(
            step=trainer.step_number,
            progress=progress,
            images=training,
            different_images=self.sample_metrics.different_images,
            epochs=trainer.step_number * batch / max(1, training),
            held_out=len(dataset.held_out_indices),
            losses=tuple(trainer.held_out_losses),
            training_loss=self._losses.training_loss if self._losses is not None else None,
            baseline=self._baseline,
            samples=len(samples),
            copied=len(copied),
            copied_images=copied,
            copied_at_start=self._copied_by_start(len(copied)),
            spread=spread,
            vendi=vendi,
            real_vendi=real_vendi,
            finite=bool(torch.isfinite(samples).all()),
            kind=trainer.objective.kind.value,
            diversity=covered,
            cross=_cross_validation(context),
            choice=self.choice,
        )
        self._judged_step = trainer.step_number
        yield self._verdict_event()

    def judge_choice(self, choice: CheckpointChoice) -> Iterator[RunVerdict]:
        """The verdict again, once it is known which checkpoint is kept."""
        self.choice = choice
        if self._evidence is not None and self._evidence.choice != choice:
            self._evidence = replace(self._evidence, choice=choice)
            yield self._verdict_event()

    def _verdict_event(self) -> RunVerdict:
        assert self._evidence is not None
        self.verdict = found = verdict(self._evidence)
        return RunVerdict(
            self._evidence.step,
            str(found.outcome),
            found.sentence,
            found.evidence,
            found.best_step,
            self._evidence.copied_images,
        )

    def _copied_by_start(self, copied: int) -> int | None:
        """How many samples were copies at the first verdict, if a run from a checkpoint had not seen each image once then.

        They come from that checkpoint. Of a resumed run the recorded events say it.
        """
        context = self._context
        if not context.recipe.run.start_from:
            return None
        if self._copied_at_start is None:
            once = len(context.dataset.training_indices) / context.recipe.run.batch  # steps
            first = next((event for event in context.run.events()[0] if isinstance(event, RunVerdict)), None)
            if first is not None and first.step <= once:
                self._copied_at_start = len(first.copied)
            elif first is None and context.trainer.step_number <= once:
                self._copied_at_start = copied
        return self._copied_at_start

    def _samples(self, samples: Tensor | None, before_call: Callable[[], None]) -> Tensor:
        """At least FEWEST_SAMPLES samples, with prompts evenly spread over the folder's."""
        context = self._context
        drawn = 0 if samples is None else len(samples)
        if samples is not None and drawn >= FEWEST_SAMPLES:
            return samples
        prompts = prompts_of_folder(context.recipe, context.dataset)
        prompts = tuple(prompts[(drawn + index) % len(prompts)] for index in range(FEWEST_SAMPLES - drawn))
        renderer = SampleSheetRenderer(
            context.recipe,
            context.trainer.objective,
            context.tokenizer,
            self._classes,
            prompts,
            context.dataset.size,
            drawn,
        )
        more = renderer.draw(context.trainer.ema_network, before_call)
        return more if samples is None else torch.cat([samples.to(more), more])


def _cross_validation(context: RunContext) -> CrossValidation | None:
    """What chose the steps of the run, if that was a cross-validation."""
    found = context.chosen
    if found is None:
        return None
    losses = tuple(zip(found.steps, found.losses, strict=True))
    return CrossValidation(found.splits, found.images, losses, found.low, found.high, found.baseline)
