"""A checkpoint distilled to few steps beside its teacher: `python -m tests.benchmarks.few_steps --distilled CHECKPOINT`.

Images are drawn with the captions or classes of the run's held-out images (`--images`: at most so many, repeated with other
seeds where there are fewer) and compared with these, in features of EfficientNet-Lite0 that are divided by the mean standard
deviation of the training images' features: kernel distance with its 95% interval, precision, recall (also of the training
images) and coverage. The teacher draws at its recommended settings and in 1, 2 and 4 steps of them with evenly spaced times,
the distilled one in 1, 2 and 4 steps. `--distilled` is a checkpoint of a run of the recipe few-steps, whose folder says which images
were held out. A run of 200 steps with a quarter of the images held out:

    diffstudio train FOLDER --from starter --recipe few-steps-quarter.toml --steps 200

where few-steps-quarter.toml is the recipe few-steps with `held_out = 0.25` in its table `data`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.evaluation.even_spacing import spread
from diffstudio.evaluation.features.feature_network import FeatureNetwork, extract, imagenet_network
from diffstudio.evaluation.interval import bootstrap_interval
from diffstudio.evaluation.kernel_distance import kernel_distance
from diffstudio.evaluation.prdc import precision_recall_density_coverage
from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.models.recommended import recommended_values
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.recipe_from_checkpoint import starting_checkpoint
from diffstudio.training.run.run_folder import RunFolder

STEPS, AT_ONCE, FIRST_SEED = (1, 2, 4), 16, 1000


def held_out_of(distilled: Path) -> tuple[ImageDataset, str]:
    """The images of the run that a checkpoint lies in, and its teacher."""
    run = RunFolder.open(distilled.parents[1])
    stored = StoredDataset.read(run.dataset_file)
    dataset = stored.open_prepared() if stored is not None else None
    if dataset is None:
        raise SystemExit("The prepared images of the run are gone: resume it once.")
    return dataset, run.recipe().run.start_from


def drawn(model: Model, prompts: Sequence[str], settings: dict[str, object]) -> Iterator[Tensor]:
    for first in range(0, len(prompts), AT_ONCE):
        part = prompts[first : first + AT_ONCE]
        seeds = range(FIRST_SEED + first, FIRST_SEED + first + len(part))
        *_, last = sample(model, model.encode_prompt(part), SampleOptions(seeds=seeds, **settings))  # type: ignore[arg-type]
        yield model.decode(last.x).clamp(-1, 1)


def row(
    name: str, network: FeatureNetwork, images: Iterator[Tensor], held_out: NDArray[np.float64], training: NDArray[np.float64],
    teacher: float | None, scale: float,
) -> float:  # fmt: skip
    """Print a row of the table; returns the kernel distance."""
    started = time.process_time()
    features = extract(network, images) / scale
    seconds = (time.process_time() - started) / len(features)
    found = bootstrap_interval(kernel_distance, held_out, features)
    shares = precision_recall_density_coverage(held_out, features)
    of_training = precision_recall_density_coverage(training, features)
    ratio = "" if teacher is None else f"{found.value / teacher:.2f}"
    print(
        f"| {name} | {found.value:.2f} ({found.low:.2f} to {found.high:.2f}) | {ratio} | {shares.precision:.2f} "
        f"| {shares.recall:.2f}, {of_training.recall:.2f} | {shares.coverage:.2f} | {seconds:.2f} |",
        flush=True,
    )
    return found.value


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.few_steps", description=__doc__)
    parser.add_argument("--distilled", type=Path, required=True, nargs="+")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args(argv)
    device, network = torch.device(asked.device), imagenet_network(asked.device)
    dataset, source = held_out_of(asked.distilled[0])
    of_both = (dataset.held_out_indices, dataset.training_indices)
    held_out, training = (
        extract(network, (dataset.batch(part) for part in np.array_split(chosen, -(-len(chosen) // AT_ONCE))))
        for chosen in of_both
    )
    scale = float(training.std(axis=0).mean())
    held_out, training = held_out / scale, training / scale
    teacher = loading.load(starting_checkpoint(source), device)
    chosen = dataset.held_out_indices[spread(len(dataset.held_out_indices), asked.images)]
    by_class = teacher.checkpoint is not None and teacher.checkpoint.conditioning is Conditioning.CLASS
    prompts = [dataset.classes[int(dataset.labels[i])] if by_class else dataset.captions[i] for i in chosen]
    print(
        f"{len(dataset.training_indices):,} images, {len(held_out):,} held out, {len(prompts):,} drawn for each row\n"
    )
    print(
        "| images | kernel distance | over the teacher's | precision | recall, of training images | coverage "
        "| processor-seconds an image |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    assert teacher.checkpoint is not None
    usual = recommended_values(teacher.checkpoint)

    def judged(name: str, model: Model, settings: dict[str, object], of_teacher: float | None) -> float:
        return row(name, network, drawn(model, prompts, settings), held_out, training, of_teacher, scale)

    best = judged(f"teacher, {usual['steps']} steps", teacher, usual, None)
    for steps in STEPS:
        judged(f"teacher, {steps}", teacher, {**usual, "steps": steps, "spacing": "uniform"}, best)
    for path in asked.distilled:
        distilled = loading.load(read_checkpoint(path), device)
        assert distilled.checkpoint is not None
        settings = recommended_values(distilled.checkpoint)
        for steps in STEPS:
            judged(f"{path.stem} of {path.parents[1].name}, {steps}", distilled, {**settings, "steps": steps}, best)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
