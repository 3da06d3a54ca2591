"""VAE, R3GAN and the plain GAN on scikit-learn's digits: `nice python -m tests.benchmarks.digits [NAME …]`.

Trains each recipe with `train` on the 8 x 8 digits in folders, 28 % held out, and measures it with `evaluate` in the
features of a network that is trained on the training part. Aims: a Frechet distance of at most 1.2 times that of the
real images for R3GAN, 2.2 times for the VAE, and a verdict that calls the plain GAN collapsed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
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


def measure(name: str, folder: Path, home: Path, steps: int, changes: list[str], threads: int) -> None:
    """One row of the table; `changes` are values of the recipe, such as `objective.gamma=2`."""
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
        run=replace(choice.recipe.run, threads=threads, device="cpu"),
    )
    values = recipe.to_json()
    for change in changes:
        where, value = change.split("=")
        section, key = where.split(".")
        values[section][key] = json.loads(value)
    recipe = Recipe.from_json(values)
    replace(choice, recipe=recipe).write(home / f"{name}.toml")
    started = time.process_time()
    run = train(home / f"run-{name}", folder, recipe=str(home / f"{name}.toml"), steps=steps)
    seconds = time.process_time() - started
    finished = run.events()[0][-1]
    assert isinstance(finished, RunFinished)
    request = EvaluateRequest((str(run.path),), folder, count=2000, features="folder", device="cpu")
    found = evaluate(request, Library(()))
    print(found.text(), flush=True)
    print(f"{name}: {steps:,} steps, {seconds:.0f} s of processor time; {finished.outcome}: {finished.verdict}")
    for sentence in finished.evidence:
        print("   ", sentence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(STEPS))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another value in the recipe")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = arguments.home or Path(scratch)
        home.mkdir(parents=True, exist_ok=True)
        os.environ["DIFFSTUDIO_HOME"] = str(home)
        folder = write_digits(home / "digits")
        for name in arguments.names:
            measure(name, folder, home, arguments.steps or STEPS[name], arguments.set, arguments.threads)


if __name__ == "__main__":
    main()
