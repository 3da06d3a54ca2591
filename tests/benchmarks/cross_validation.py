"""Does cross-validation of a tiny folder choose good steps? Figures of the manual.

    python -m tests.benchmarks.cross_validation [--images 16 24 40] [--steps 400] [--seeds 0] [--results FILE.json]

For each number of images a small network is cross-validated over four folds of so many of scikit-learn's digits. A second
run, on all of these images, has 60 other digits held out: their loss by step says which number of steps would have been
the best one. Prints the chosen and the best steps, and the outside losses at both and at the end.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.digits import write_digits
from tests.benchmarks.kept_results import KeptResults

OUTSIDE = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[16, 24, 40])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--results", type=Path)
    asked = parser.parse_args()
    kept = KeptResults(asked.results)
    print("| images | seed | chosen step | best step outside | outside loss there | at the chosen step | at the end |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in asked.images:
        for seed in asked.seeds:
            key = f"{count} {asked.steps} {seed}"
            measured = kept.of(key, partial(measure, count, asked.steps, seed))
            print(row(count, seed, measured), flush=True)


def row(count: int, seed: int, found: dict[str, Any]) -> str:
    best_step, best = min(found["outside"], key=lambda point: point[1])
    chosen = found["chosen"]["step"]
    at_chosen = min(found["outside"], key=lambda point: abs(point[0] - chosen))[1]
    last = found["outside"][-1]
    return (
        f"| {count} | {seed} | {chosen} | {best_step} | {best:.3f} | {at_chosen:.3f} (+{100 * (at_chosen / best - 1):.0f}%) "
        f"| {last[1]:.3f} (+{100 * (last[1] / best - 1):.0f}%, step {last[0]}) |"
    )


def measure(count: int, steps: int, seed: int) -> dict[str, Any]:
    """The cross-validation of so many digits, and the loss of others by the steps on all of them."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DIFFSTUDIO_HOME"] = scratch
        from diffstudio.networks.conditioning import Conditioning
        from diffstudio.training.loop import train
        from diffstudio.training.recipe import DataRecipe, NetworkRecipe, OptimiserRecipe, Recipe, RunRecipe
        from diffstudio.training.run.events import RunCrossValidated, RunHeldOut

        files = sorted(write_digits(Path(scratch) / "digits").rglob("*.png"))
        random.Random(seed).shuffle(files)
        for part, chosen in (("train", files[:count]), ("val", files[count : count + OUTSIDE])):
            (Path(scratch) / "both" / part).mkdir(parents=True)
            for file in chosen:
                shutil.copy(file, Path(scratch) / "both" / part / file.name)
        shutil.copytree(Path(scratch) / "both" / "train", Path(scratch) / "few")
        recipe = Recipe(
            name="digits",
            data=DataRecipe(size=16, cross_splits=4, flips=0.0),
            network=NetworkRecipe(
                conditioning=Conditioning.NONE, patch=4, margin=2, bottleneck=32, width=64, depth=3, heads=4
            ),
            optimiser=OptimiserRecipe(warm_up_steps=20, ema=0.99),
            run=RunRecipe(batch=16, seed=seed, sample_count=1, sample_steps=2, sample_every=10**6, held_out_every=10),
        )
        began = time.perf_counter()
        found = _train(train, recipe, Path(scratch) / "few", Path(scratch) / "cross", steps)
        (chosen,) = [event for event in found if isinstance(event, RunCrossValidated)]
        seconds = time.perf_counter() - began
        plain = replace(recipe, data=replace(recipe.data, cross_splits=0))
        plain = replace(plain, run=replace(plain.run, patience=0))
        outside = _train(train, plain, Path(scratch) / "both", Path(scratch) / "outside", steps)
        return {
            "chosen": {"step": chosen.best_step, "loss": chosen.loss, "low": chosen.low, "high": chosen.high},
            "pooled": list(zip(chosen.steps, chosen.losses, strict=True)),
            "outside": [[event.step, event.loss] for event in outside if isinstance(event, RunHeldOut)],
            "seconds": seconds,
        }


def _train(train: Any, recipe: Any, folder: Path, run: Path, steps: int) -> list[Any]:
    file = run.with_suffix(".toml")
    replace(recipe, run=replace(recipe.run, steps=steps)).write(file)
    events: list[Any] = train(run, folder, recipe=str(file)).events()[0]
    return events


if __name__ == "__main__":
    main()
