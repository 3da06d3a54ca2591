"""VAE, R3GAN and the plain GAN on scikit-learn's digits: `nice python -m tests.benchmarks.digits [NAME …]`.

Trains each recipe with `train` on the 8 x 8 digits in folders, 28% held out, and measures it with `evaluate` in the
features of a network that is trained on the training part. Aims: a Frechet distance of at most 1.2 times that of the
real images for R3GAN, 2.2 times for the VAE, and a verdict that calls the plain GAN collapsed.

A distance of 530 images depends on which they are. With --draws the mean over so many draws is given too: of generated
images, and of as many training images drawn at random for the real row, both against all held-out ones. --seeds trains
one run for each seed and ends with the mean over them; --runs measures finished runs in --home again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

HELD_OUT = 0.28
AIMS = {"vae": 2.2, "gan": 1.2}
STEPS = {"vae": 8000, "gan": 8000, "gan-plain": 3000}


def write_digits(folder: Path) -> Path:
    """The 1,797 images of scikit-learn's digits as PNG files, each pixel doubled, in a subfolder for each digit."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        pixels = (
            (image * 255 / 16).round().astype("uint8").repeat(2, axis=0).repeat(2, axis=1)
        )  # 16 px: no file is smaller
        Image.fromarray(pixels).save(folder / str(label) / f"{index:04d}.png")
    return folder


def measure(name: str, folder: Path, home: Path, steps: int, changes: list[str], threads: int, seed: int) -> Path:
    """One row of the table, and the run; `changes` are values of the recipe, such as `objective.gamma=2`."""
    from diffstudio.models.library.library import Library
    from diffstudio.studio.evaluations.evaluate import evaluate
    from diffstudio.studio.evaluations.request import EvaluateRequest
    from diffstudio.training.data.folder_report import FolderReport
    from diffstudio.training.data.inspect_folder import inspect_folder
    from diffstudio.training.loop import train
    from diffstudio.training.recipe import Recipe
    from diffstudio.training.recipe_choice import choose_recipe
    from diffstudio.training.run.events import RunFinished

    *_, report = inspect_folder(folder)
    assert isinstance(report, FolderReport)
    choice = choose_recipe(name, report)
    recipe = replace(
        choice.recipe,
        data=replace(choice.recipe.data, size=8, held_out=HELD_OUT, flips=0.0),
        network=replace(choice.recipe.network, patch=4 if name == "vae" else 2),  # as chosen for 8 px
        run=replace(choice.recipe.run, threads=threads, device="cpu", seed=seed),
    )
    values = recipe.to_json()
    for change in changes:
        where, value = change.split("=")
        section, key = where.split(".")
        values[section][key] = json.loads(value)
    recipe = Recipe.from_json(values)
    replace(choice, recipe=recipe).write(home / f"{name}-{seed}.toml")
    started = time.process_time()
    run = train(home / f"run-{name}-{seed}", folder, recipe=str(home / f"{name}-{seed}.toml"), steps=steps)
    seconds = time.process_time() - started
    finished = run.events()[0][-1]
    assert isinstance(finished, RunFinished)
    request = EvaluateRequest((str(run.path),), folder, count=2000, features="folder", device="cpu")
    found = evaluate(request, Library(()))
    print(found.text(), flush=True)
    print(f"{name}: {steps:,} steps, {seconds:.0f} s of processor time; {finished.outcome}: {finished.verdict}")
    for sentence in finished.evidence:
        print("   ", sentence)
    return run.path


@dataclass(frozen=True, slots=True)
class Distances:
    """Frechet distances to the held-out images: of draws of real training images, and of generated ones."""

    real: list[float]
    generated: list[float]

    @property
    def ratio(self) -> float:
        return statistics.mean(self.generated) / statistics.mean(self.real)

    def text(self) -> str:
        shown = [f"{statistics.mean(one):.2f} ± {statistics.stdev(one):.2f}" for one in (self.real, self.generated)]
        return f"{len(self.real)} draws (± standard deviation): real {shown[0]}, generated {shown[1]}, ratio {self.ratio:.2f}"


def distances(run: Path, folder: Path, draws: int) -> Distances:
    """Of a finished run: as many images in each draw as are held out."""
    import numpy as np
    import torch

    from diffstudio.evaluation.frechet import frechet_distance
    from diffstudio.models.library.library import Library
    from diffstudio.networks.conditioning import Conditioning
    from diffstudio.studio.evaluations.feature_choice import feature_network
    from diffstudio.studio.evaluations.folders.reading import read_real
    from diffstudio.studio.evaluations.folders.stored_split import with_split_of_run
    from diffstudio.studio.evaluations.request import FOLDER
    from diffstudio.studio.evaluations.samples import CheckpointSamples, as_tensor
    from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_subjects

    (subject,) = find_subjects((str(run),), Library(()))
    assert isinstance(subject, CheckpointSubject)
    real, _ = with_split_of_run(
        read_real(folder, subject.recipe.data, lambda *_: None, lambda: None), [subject], lambda *_: None, lambda: None
    )
    cpu = torch.device("cpu")
    network = feature_network(FOLDER, real, (), cpu, lambda *_: None, lambda: None)
    training, held_out = (
        network.features(real.dataset.batch(part)).double().numpy() for part in (real.training, real.held_out)
    )
    samples, labels = CheckpointSamples.load(subject, cpu, lambda: None), real.labels(Conditioning.CLASS, real.held_out)
    rng, count = np.random.default_rng(0), len(held_out)
    found = Distances([], [])
    for draw in range(draws):
        images = torch.cat([as_tensor(one) for one in samples.batches(labels, draw * count, real.dataset.size)])
        found.generated.append(frechet_distance(held_out, network.features(images).double().numpy()))
        found.real.append(frechet_distance(held_out, training[rng.choice(len(training), count, replace=False)]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(STEPS))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another value in the recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--draws", type=int, default=0)
    parser.add_argument("--runs", action="store_true", help="measure the finished runs in --home, without training")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = arguments.home or Path(scratch)
        home.mkdir(parents=True, exist_ok=True)
        os.environ["DIFFSTUDIO_HOME"] = str(home)
        folder = write_digits(home / "digits")
        for name in arguments.names:
            steps, ratios = arguments.steps or STEPS[name], []
            for seed in arguments.seeds:
                run = home / f"run-{name}-{seed}"
                if not arguments.runs:
                    run = measure(name, folder, home, steps, arguments.set, arguments.threads, seed)
                if arguments.draws:
                    found = distances(run, folder, arguments.draws)
                    ratios.append(found.ratio)
                    print(f"{name}, seed {seed}, {found.text()}", flush=True)
            if len(ratios) > 1:
                mean, spread = statistics.mean(ratios), statistics.stdev(ratios)
                print(f"{name}: {mean:.2f} times the real distance, mean of {len(ratios)} seeds (± {spread:.2f})")


if __name__ == "__main__":
    main()
