"""CheckpointComparison: at the end of a diffusion run, images say which checkpoint to generate with, and how."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.evaluation.energy_distance import energy_distance
from diffstudio.evaluation.even_spacing import evenly_spaced
from diffstudio.evaluation.features.feature_network import FeatureNetwork, extract, imagenet_network
from diffstudio.evaluation.features.random_network import random_network
from diffstudio.models.families import pixel_file
from diffstudio.models.sampling import times_of
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.evidence.checkpoint_choice import CheckpointChoice, JudgedCheckpoint
from diffstudio.training.evidence.evidence import SampleMetrics
from diffstudio.training.recipe import RunRecipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.recipe import MIN_TIMESTEP
from diffstudio.training.run.events import RunCheckpoint, RunCheckpointChosen, RunComparing, RunEvent
from diffstudio.training.run.sample_sheets import MOST_PROMPTS, SampleSheetRenderer
from diffstudio.training.run.setup import RunContext

MOST_IMAGES, FEWEST_IMAGES = 256, 64  # of each checkpoint
FEWEST_HELD_OUT, MOST_HELD_OUT = 16, 256
_SHARE = 0.05  # of the calculations of the training that all images may take
_CALLS_OF_A_STEP = 3  # a step costs about as much as three calls of the network with as many images
_AT_ONCE = 32  # images, for features
_FIRST_SEED = 10_000  # after the run's: not those of the sample sheets


def images_to_compare(run: RunRecipe, steps: int, sets: int = 2) -> int:
    """How many images there are in each of so many sets that a run of so many steps compares; 0 where it can afford too few.

    It depends on the steps, not on the time they took, so that a run repeated elsewhere chooses alike.
    """
    calls = sets * run.sample_steps * (1 if run.sample_guidance == 1 else 2)
    affordable = int(_SHARE * _CALLS_OF_A_STEP * steps * run.batch / calls)
    return min(MOST_IMAGES, affordable) if affordable >= FEWEST_IMAGES else 0


@dataclass(frozen=True, slots=True)
class _Real:
    """The held-out images, by their features [N,D], and how long it took to compute these."""

    network: FeatureNetwork
    features: NDArray[np.float32]
    seconds: float


class CheckpointComparison:
    """Images of each checkpoint, with the same seeds and the prompts of held-out images, compared with these images."""

    def __init__(self, context: RunContext, classes: tuple[str, ...], metrics: Callable[[], SampleMetrics]) -> None:
        self._context, self._classes, self._metrics = context, classes, metrics

    def images(self, steps: int, sets: int = 2) -> int:
        """How many are drawn for each of so many sets when the run has done so many steps; 0: nothing is compared.

        The steps since the run was last continued count.
        """
        recipe, held_out = self._context.recipe, len(self._context.dataset.held_out_indices)
        if recipe.objective.kind is not ObjectiveName.DIFFUSION or held_out < FEWEST_HELD_OUT:
            return 0
        return images_to_compare(recipe.run, steps - recipe.run.first_step, sets)

    def choose(
        self, lowest_loss: int, before_call: Callable[[], None]
    ) -> Generator[RunComparing, None, CheckpointChoice | None]:
        """Compare the checkpoint of the lowest held-out loss, the last one, and the one that was chosen before the run was
        continued; then the best of them with another minimum timestep, if the recipe leaves that open and there is time.

        None if there is nothing to compare, or no time. DiffstudioError: a checkpoint or the feature network cannot be read.
        """
        recipe, step = self._context.recipe, self._context.trainer.step_number
        files = self._files(lowest_loss, step)
        sets = self._sets(len(files), step)
        count = self.images(step, sets) if sets > 1 else 0
        if not count:
            return None
        yield RunComparing(step, 0, sets * count)
        judged: list[JudgedCheckpoint] = []
        for index, file in enumerate(files.items()):
            judged += yield from self._judge(*file, recipe.min_timestep, (index, sets, count), before_call)
        if sets > len(files) and judged:
            best = CheckpointChoice.by_images(judged, count, lowest_loss).chosen
            other = 0.0 if recipe.min_timestep else MIN_TIMESTEP
            judged += yield from self._judge(best, files[best], other, (len(files), sets, count), before_call)
        whole = len(judged) > 1 and any(one.step == step for one in judged)
        return CheckpointChoice.by_images(judged, count, lowest_loss) if whole else None

    def _sets(self, checkpoints: int, steps: int) -> int:
        """How many sets of images are drawn: one for each checkpoint, and one with another minimum timestep."""
        differs = self._context.recipe.chooses_min_timestep and self._last_call < MIN_TIMESTEP
        return checkpoints + bool(differs and self.images(steps, checkpoints + 1))

    @cached_property
    def _last_call(self) -> float:
        """The time of a sampler's last call of the network; a later minimum timestep changes the images."""
        run, trainer = self._context.recipe.run, self._context.trainer
        model = trainer.objective.model(trainer.ema_network, self._context.tokenizer, self._classes)
        return float(times_of(model, run.sample_steps, run.sample_spacing, 1.0, model.network_size)[-2])

    def kept(self, lowest_loss: int) -> int:
        """The step of the checkpoint to generate with."""
        return pixel_file.trained_steps(self._context.run.latest_checkpoint) or lowest_loss

    def _files(self, *steps: int) -> dict[int, Path]:
        run = self._context.run
        found = {step: run.checkpoint(step) for step in steps if run.checkpoint(step).is_file()}
        kept = pixel_file.trained_steps(run.latest_checkpoint)
        return found if kept is None else {kept: run.latest_checkpoint} | found

    def seconds(self, steps: int, seconds_of_one: float) -> float:
        """How long the images of two checkpoints take after so many steps, if drawing an image takes so long.

        The first call measures the features with the held-out images. DiffstudioError: the feature network cannot be read.
        """
        sets = self._sets(2, steps)
        images = self.images(steps, sets)
        return sets * images * (seconds_of_one + self._real.seconds / len(self._real.features)) if images else 0.0

    @cached_property
    def _held_out(self) -> NDArray[np.int64]:
        held_out = self._context.dataset.held_out_indices
        return held_out[evenly_spaced(len(held_out), MOST_HELD_OUT)]

    @cached_property
    def _real(self) -> _Real:
        dataset, started = self._context.dataset, time.perf_counter()
        network = _feature_network(dataset.channels, self._context.trainer.device)
        parts = np.array_split(self._held_out, -(-len(self._held_out) // _AT_ONCE))
        features = extract(network, (dataset.batch(part, usual_size=True).float() for part in parts))
        return _Real(network, features, time.perf_counter() - started)

    def _judge(
        self,
        step: int,
        file: Path,
        min_timestep: float,
        position: tuple[int, int, int],
        before_call: Callable[[], None],
    ) -> Generator[RunComparing, None, list[JudgedCheckpoint]]:
        """The checkpoint and what its images showed; nothing if they are not finite.

        `position`: which set of images this is, of how many, and how many images each has.
        """
        last, (index, sets, count), parts = self._context.trainer.step_number, position, list[Tensor]()
        real = self._real
        for part in self._draw(file, self._prompts(count), min_timestep, before_call):
            parts.append(part)
            yield RunComparing(last, index * count + sum(map(len, parts)), sets * count)
        images = torch.cat(parts)
        if not bool(torch.isfinite(images).all()):
            return []
        copies = self._metrics().copies(images)
        distance = energy_distance(real.features, extract(real.network, images.split(_AT_ONCE)))
        return [JudgedCheckpoint(step, distance, len(copies.copied) if copies is not None else 0, min_timestep)]

    def _prompts(self, count: int) -> tuple[str, ...]:
        dataset = self._context.dataset
        chosen = [int(self._held_out[index % len(self._held_out)]) for index in range(count)]
        match self._context.recipe.network.conditioning:
            case Conditioning.TEXT:
                return tuple(dataset.captions[index] for index in chosen)
            case Conditioning.CLASS:
                return tuple(self._classes[int(dataset.labels[index])] for index in chosen)
            case Conditioning.NONE:
                return ("",) * count

    def _draw(
        self, checkpoint: Path, prompts: Sequence[str], min_timestep: float, before_call: Callable[[], None]
    ) -> Iterator[Tensor]:
        """Batches of images [B,C,S,S], on the CPU."""
        context = self._context
        network = pixel_file.load(checkpoint).network.to(context.trainer.device)
        at_once = max(1, min(MOST_PROMPTS, context.recipe.run.batch // context.trainer.team.world))
        for first in range(0, len(prompts), at_once):
            renderer = SampleSheetRenderer(
                context.recipe,
                context.trainer.objective,
                context.tokenizer,
                self._classes,
                tuple(prompts[first : first + at_once]),
                context.dataset.size,
                _FIRST_SEED + first,
                min_timestep,
            )
            yield renderer.draw(network, before_call).float().cpu()


def event_of(choice: CheckpointChoice, step: int) -> RunCheckpointChosen:
    """The event that records a choice made after the last `step`."""
    return RunCheckpointChosen(
        step,
        choice.chosen,
        choice.sentence,
        tuple(one.step for one in choice.judged),
        tuple(one.distance for one in choice.judged),
        tuple(one.copied for one in choice.judged),
        choice.images,
        tuple(one.min_timestep for one in choice.judged),
        choice.min_timestep,
    )


def recorded_choice(events: Sequence[RunEvent], lowest_loss: int | None) -> CheckpointChoice | None:
    """The last choice that was recorded; None if the held-out loss has reached a new minimum since, or was never measured."""
    for event in reversed(events):
        if isinstance(event, RunCheckpoint) and event.best:
            return None
        if isinstance(event, RunCheckpointChosen) and event.steps and lowest_loss is not None:
            sampled = event.min_timesteps or (0.0,) * len(event.steps)
            judged = zip(event.steps, event.distances, event.copied, sampled, strict=True)
            return CheckpointChoice(
                tuple(JudgedCheckpoint(*one) for one in judged),
                event.images,
                lowest_loss,
                event.chosen,
                event.min_timestep,
            )
    return None


def _feature_network(channels: int, device: torch.device) -> FeatureNetwork:
    """The one that was trained on photographs for grey and colour images, one with random weights for others."""
    return imagenet_network(device) if channels in (1, 3) else random_network(channels)
