"""The images of a network after a fixed processor time: `python -m tests.benchmarks.equal_time FOLDER [--seconds 570]`.

The recipe `tiny` is trained from scratch at 32 px on nine tenths of the folder, with one thread, until the process has
used so many processor-seconds. Then it generates 500 images with captions or classes of training images, which are compared
with the held-out ones in features of EfficientNet-Lite0, divided by the mean standard deviation of the training images'
features: kernel distance with its 95% interval, recall of the training images (k = 5), and the share called copies, beside
that of held-out images. The first row is that of training images.

    python -m tests.benchmarks.equal_time FOLDER --seeds 0 1 2 --guidance 1 2 --keep RUNS

With `--keep` the runs stay in a folder, from which another call takes them. `--beside` names other checkpoints, such as those
of an earlier version, which are judged with the same prompts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffstudio.evaluation.features.feature_network import extract, imagenet_network
from diffstudio.evaluation.interval import Interval, bootstrap_interval
from diffstudio.evaluation.kernel_distance import kernel_distance
from diffstudio.evaluation.memorisation import copies, nearer_to_training
from diffstudio.evaluation.prdc import precision_recall_density_coverage
from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.models.recommended import recommended_values
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.loop import train
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe_choice import named_recipes
from diffstudio.training.run import clock
from diffstudio.training.run.run_folder import RunFolder

AT_ONCE, NEIGHBOURS = 20, 5
Features = NDArray[np.floating[Any]]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=570, help="processor-seconds of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another value in the recipe")
    parser.add_argument("--guidance", type=float, nargs="+", help="CFG scales (default: the recommended one)")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--keep", type=Path, help="a folder for the runs")
    parser.add_argument("--beside", type=Path, nargs="+", default=[], help="other checkpoints")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    vars(clock)["time"] = SimpleNamespace(monotonic=time.process_time)  # a busy machine does not make it worse
    print("| images | kernel distance | recall of training images | copies | nearer to training |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        home = asked.keep or Path(scratch)
        os.environ["DIFFSTUDIO_HOME"] = str(home / "home")
        judge = None
        for seed in asked.seeds:
            run = trained(asked, seed, home / f"seed-{seed}")
            stored = StoredDataset.read(run.dataset_file)
            dataset = stored.open_prepared() if stored is not None else None
            assert dataset is not None
            if judge is None:
                judge = Judge(dataset)
                judge.row("training images", judge.training)
            judge.rows(f"seed {seed}", run.latest_checkpoint, dataset, asked)
        for checkpoint in asked.beside:
            assert judge is not None
            judge.rows(str(checkpoint), checkpoint, dataset, asked)
    return 0


def trained(asked: argparse.Namespace, seed: int, path: Path) -> RunFolder:
    """A run of so many processor-seconds; an ended one is taken as it is."""
    if (path / "checkpoints" / "latest.safetensors").is_file():
        return RunFolder.open(path)
    values = named_recipes()[asked.recipe].to_json()
    values["data"] |= {"held_out": 0.1}
    values["run"] |= {"seed": seed, "threads": 1}
    for change in asked.set:
        where, value = change.split("=")
        section, key = where.split(".")
        values[section][key] = json.loads(value)
    recipe = path.with_suffix(".toml")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    Recipe.from_json(values).write(recipe)
    return train(path, asked.folder, recipe=str(recipe), start_from="none", minutes=asked.seconds / 60)


def images(model: Model, dataset: ImageDataset, count: int, settings: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    """Images [B,C,H,W] with the captions or classes of training images drawn at random."""
    chosen = np.random.default_rng(0).choice(dataset.training_indices, count)
    by_class = bool(dataset.classes) and not any(dataset.captions)
    prompts = [dataset.classes[int(dataset.labels[i])] if by_class else dataset.captions[i] for i in chosen]
    for first in range(0, count, AT_ONCE):
        part = prompts[first : first + AT_ONCE]
        seeds = range(first, first + len(part))
        *_, last = sample(model, model.encode_prompt(part), SampleOptions(seeds=seeds, **settings))
        yield model.decode(last.x).clamp(-1, 1)


class Judge:
    """Features of the real images, and rows of the table."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.network = imagenet_network("cpu")
        parts = [self._features(dataset, chosen) for chosen in (dataset.training_indices, dataset.held_out_indices)]
        self._scale = float(parts[0].std(axis=0).mean())
        self.training, self._held_out = parts

    def _features(self, dataset: ImageDataset, chosen: NDArray[np.int64]) -> Features:
        return extract(
            self.network, (dataset.batch(part) for part in np.array_split(chosen, -(-len(chosen) // AT_ONCE)))
        )

    def rows(self, name: str, checkpoint: Path, dataset: ImageDataset, asked: argparse.Namespace) -> None:
        """A row for each CFG scale."""
        model = loading.load(read_checkpoint(checkpoint), torch.device("cpu"))
        assert model.checkpoint is not None
        settings = recommended_values(model.checkpoint)
        for guidance in asked.guidance or [settings["guidance"]]:
            drawn = images(model, dataset, asked.images, {**settings, "guidance": guidance})
            self.row(f"{name}, CFG scale {guidance:g}", extract(self.network, drawn))

    def row(self, name: str, generated: Features) -> None:
        training, held_out, shown = (values / self._scale for values in (self.training, self._held_out, generated))
        distance = bootstrap_interval(kernel_distance, held_out, shown)
        recall = precision_recall_density_coverage(training, shown, NEIGHBOURS).recall
        copied = copies(shown, training, held_out).share if name != "training images" else None
        nearer = nearer_to_training(shown, training, held_out) if name != "training images" else None
        print(f"| {name} | {_shown(distance)} | {recall:.2f} | {_percent(copied)} | {_percent(nearer)} |", flush=True)


def _shown(one: Interval) -> str:
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


def _percent(one: Interval | None) -> str:
    return "" if one is None else f"{one.value:.1%}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
