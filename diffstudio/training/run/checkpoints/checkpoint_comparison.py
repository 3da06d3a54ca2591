"""CheckpointComparison: at the end of a diffusion run, images of its checkpoints say which one to generate with."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
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
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.evidence.checkpoint_choice import CheckpointChoice, JudgedCheckpoint
from diffstudio.training.evidence.evidence import SampleMetrics
from diffstudio.training.recipe import RunRecipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.run.events import RunCheckpoint, RunCheckpointChosen, RunComparing, RunEvent
from diffstudio.training.run.sample_sheets import MOST_PROMPTS, SampleSheetRenderer
from diffstudio.training.run.setup import RunContext

MOST_IMAGES, FEWEST_IMAGES = 256, 64  # of each checkpoint
FEWEST_HELD_OUT, MOST_HELD_OUT = 16, 256
_SHARE = 0.05  # of the calculations of the training that two checkpoints may take
_CALLS_OF_A_STEP = 3  # a step costs about as much as three calls of the network with as many images
_AT_ONCE = 32  # images, for features
_FIRST_SEED = 10_000  # after the run's: not those of the sample sheets


def images_to_compare(run: RunRecipe, steps: int, checkpoints: int = 2) -> int:
    """How many images of each of so many checkpoints a run of so many steps compares; 0 where it can afford too few.

    It depends on the steps, not on the time they took, so that a run repeated elsewhere chooses alike.
    """
    calls = checkpoints * run.sample_steps * (1 if run.sample_guidance == 1 else 2)
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

    def images(self, steps: int, checkpoints: int = 2) -> int:
        """How many of each checkpoint are drawn when the run has done so many steps; 0: nothing is compared.

        The steps since the run was last continued count.
        """
        recipe, held_out = self._context.recipe, len(self._context.dataset.held_out_indices)
        if recipe.objective.kind is not ObjectiveName.DIFFUSION or held_out < FEWEST_HELD_OUT:
            return 0
        return images_to_compare(recipe.run, steps - recipe.run.first_step, checkpoints)

    def choose(
        self, lowest_loss: int, before_call: Callable[[], None]
    ) -> Generator[RunComparing, None, CheckpointChoice | None]:
        """Compare the checkpoint of the lowest held-out loss, the last one, and the one that was chosen before the run was
        continued; None if they are the same, or nothing is compared.

        DiffstudioError: a checkpoint or the feature network cannot be read.
        """
        trainer = self._context.trainer
        files = self._files(lowest_loss, trainer.step_number)
        count = self.images(trainer.step_number, len(files)) if len(files) > 1 else 0
        if not count:
            return None
        judged = yield from self._judge(files, count, before_call)
        return CheckpointChoice.by_images(judged, count, lowest_loss) if len(judged) > 1 else None

    def kept(self, lowest_loss: int) -> int:
        """The step of the checkpoint to generate with."""
        return pixel_file.trained_steps(self._context.run.latest_checkpoint) or lowest_loss

    def _files(self, *steps: int) -> dict[int, Path]:
        run = self._context.run
        found = {step: run.checkpoint(step) for step in steps if run.checkpoint(step).is_file()}
        kept = pixel_file.trained_steps(run.latest_checkpoint)
        return found if kept is None else {kept: run.latest_checkpoint} | found

    def seconds(self, steps: int, seconds_of_one: float) -> float:
        """How long two checkpoints take after so many steps, if drawing an image takes so long.

        The first call measures the features with the held-out images. DiffstudioError: the feature network cannot be read.
        """
        images = self.images(steps)
        return 2 * images * (seconds_of_one + self._real.seconds / len(self._real.features)) if images else 0.0

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
        self, files: Mapping[int, Path], count: int, before_call: Callable[[], None]
    ) -> Generator[RunComparing, None, list[JudgedCheckpoint]]:
        """Those with finite images."""
        last, total = self._context.trainer.step_number, count * len(files)
        yield RunComparing(last, 0, total)
        real, prompts, judged = self._real, self._prompts(count), []
        for index, (step, file) in enumerate(files.items()):
            parts = []
            for part in self._draw(file, prompts, before_call):
                parts.append(part)
                yield RunComparing(last, index * count + sum(map(len, parts)), total)
            images = torch.cat(parts)
            if not bool(torch.isfinite(images).all()):
                continue
            copies = self._metrics().copies(images)
            distance = energy_distance(real.features, extract(real.network, images.split(_AT_ONCE)))
            judged.append(JudgedCheckpoint(step, distance, len(copies.copied) if copies is not None else 0))
        return judged

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

    def _draw(self, checkpoint: Path, prompts: Sequence[str], before_call: Callable[[], None]) -> Iterator[Tensor]:
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
    )


def recorded_choice(events: Sequence[RunEvent], lowest_loss: int | None) -> CheckpointChoice | None:
    """The last choice that was recorded; None if the held-out loss has reached a new minimum since, or was never measured."""
    for event in reversed(events):
        if isinstance(event, RunCheckpoint) and event.best:
            return None
        if isinstance(event, RunCheckpointChosen) and event.steps and lowest_loss is not None:
            judged = zip(event.steps, event.distances, event.copied, strict=True)
            return CheckpointChoice(
                tuple(JudgedCheckpoint(*one) for one in judged), event.images, lowest_loss, event.chosen
            )
    return None


def _feature_network(channels: int, device: torch.device) -> FeatureNetwork:
    """The one that was trained on photographs for grey and colour images, one with random weights for others."""
    return imagenet_network(device) if channels in (1, 3) else random_network(channels)
