"""VAE and R3GAN after little processor time: `python -m tests.benchmarks.little_time FOLDER [--seconds 35]`.

Trains the recipes `vae` and `gan` on the folder with the smaller networks that are chosen when there is little time, with
one thread, until the process has used so many processor-seconds; with --usual also the networks that are chosen otherwise.
Then each generates images with captions or classes of training images. They are compared with the held-out ones in
features of EfficientNet-Lite0: kernel distance (KID) with its 95% interval, and coverage. The first row is that of training
images. With --keep the runs stay in a folder, from which another call takes them.

    python -m tests.benchmarks.little_time fashion-mnist --size 28 --seconds 35 --usual
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from diffstudio.evaluation.features.feature_network import extract, imagenet_network
from diffstudio.evaluation.interval import bootstrap_interval
from diffstudio.evaluation.kernel_distance import kernel_distance
from diffstudio.evaluation.prdc import precision_recall_density_coverage
from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.recommended import recommended_values
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.data.inspect_folder import inspect_folder
from diffstudio.training.loop import train
from diffstudio.training.network_sizes.quick_size import with_quick_size
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.recipe_choice import choose_recipe
from diffstudio.training.run import clock
from diffstudio.training.run.events import RunFinished
from diffstudio.training.run.run_folder import RunFolder
from tests.benchmarks.equal_time import AT_ONCE, NEIGHBOURS, Features, images

NO_SPEED = 1e-6  # billions of operations a second: there is time for few steps of any network
MOST_REAL = 1000  # images of each part that are compared


def trained(asked: argparse.Namespace, report: FolderReport, name: str, quick: bool, path: Path) -> RunFolder:
    """A run of so many processor-seconds; an ended one is taken as it is."""
    if (path / "checkpoints" / "latest.safetensors").is_file():
        return RunFolder.open(path)
    choice = choose_recipe(name, report)
    recipe, minutes = choice.recipe, asked.seconds / 60
    if asked.size:
        recipe = replace(recipe, data=replace(recipe.data, size=asked.size))
    if quick:
        recipe, _ = with_quick_size(recipe, minutes, speed=NO_SPEED)
    recipe = replace(recipe, run=replace(recipe.run, device="cpu", threads=1, seed=asked.seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_suffix(".toml")
    replace(choice, recipe=recipe).write(file)
    return train(path, asked.folder, recipe=str(file), start_from="none", minutes=minutes)


def row(name: str, steps: str, generated: Features, held_out: Features) -> None:
    distance = bootstrap_interval(kernel_distance, held_out, generated)
    coverage = precision_recall_density_coverage(held_out, generated, NEIGHBOURS).coverage
    shown = f"{distance.value:.3f} ({distance.low:.3f} to {distance.high:.3f})"
    print(f"| {name} | {steps} | {shown} | {coverage:.3f} |", flush=True)


def judge(asked: argparse.Namespace, runs: Sequence[tuple[str, RunFolder]]) -> None:
    network = imagenet_network("cpu")
    held_out: Features | None = None
    for name, run in runs:
        stored = StoredDataset.read(run.dataset_file)
        dataset = stored.open_prepared() if stored is not None else None
        assert dataset is not None
        if held_out is None:
            held_out, training = (
                features_of(network, dataset, part) for part in (dataset.held_out_indices, dataset.training_indices)
            )
            row("training images", "", training[: asked.images], held_out)
        model = loading.load(read_checkpoint(run.latest_checkpoint), torch.device("cpu"))
        assert model.checkpoint is not None
        drawn = images(model, dataset, asked.images, recommended_values(model.checkpoint))
        finished = run.events()[0][-1]
        assert isinstance(finished, RunFinished)
        row(name, f"{finished.step:,}", extract(network, drawn), held_out)


def features_of(network: torch.nn.Module, dataset: ImageDataset, part: np.ndarray) -> Features:
    chosen = np.random.default_rng(0).permutation(part)[:MOST_REAL]
    return extract(network, (dataset.batch(one) for one in np.array_split(chosen, -(-len(chosen) // AT_ONCE))))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=35, help="processor-seconds of training for each")
    parser.add_argument("--size", type=int, help="px (default: as chosen for the folder)")
    parser.add_argument("--models", nargs="+", default=["vae", "gan"])
    parser.add_argument("--usual", action="store_true", help="also the networks that are chosen for more time")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the runs")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    vars(clock)["time"] = SimpleNamespace(monotonic=time.process_time)  # a busy machine does not make it worse
    with tempfile.TemporaryDirectory() as scratch:
        home = asked.keep or Path(scratch)
        os.environ["DIFFSTUDIO_HOME"] = str(home / "home")
        *_, report = inspect_folder(asked.folder)
        assert isinstance(report, FolderReport)
        kinds = [(name, quick) for name in asked.models for quick in ((True, False) if asked.usual else (True,))]
        runs = [
            (f"{'smaller' if quick else 'usual'} {name}", trained(asked, report, name, quick, home / f"{name}-{quick}"))
            for name, quick in kinds
        ]
        print("| model | steps | KID | coverage |")
        print("| --- | ---: | ---: | ---: |")
        judge(asked, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
