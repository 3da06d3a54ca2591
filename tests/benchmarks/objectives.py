"""Variants of the objective of diffusion on a folder, at equal time: `python -m tests.benchmarks.objectives FOLDER`.

    python -m tests.benchmarks.objectives digits [FOLDER …] --variants fixed adaptive --seeds 0 1 2
        [--minutes 10 | --steps 400] [--recipe tiny] [--size 32] [--set network.width=64] [--images 300] [--results FILE.json]

`digits` stands for scikit-learn's, enlarged to 16 px. Each run prints a row: its held-out loss, which is that of the
velocity (at the same noise levels for the first two variants), and the kernel distance and recall of its last EMA weights
to the held-out images, by EfficientNet-Lite0 (`--images 0` leaves these out). At the end: in how many seeds each variant
is better than the first one.
With `--results`, a measurement that was stopped goes on after the last run in the file.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.digits import write_digits
from tests.benchmarks.kept_results import KeptResults

VARIANTS: dict[str, dict[str, object]] = {
    "fixed": {},
    "adaptive": {"noise_levels": "adaptive"},
    "velocity": {"kind": "flow"},
    "edm": {"kind": "edm"},
    "eps": {"kind": "eps"},
    "v": {"kind": "v"},
    "min_snr": {"kind": "x0"},
    "learned variance": {"learned_variance": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--variants", nargs="+", default=["fixed", "adaptive"], choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another value in the recipe")
    parser.add_argument("--results", type=Path)
    asked = parser.parse_args()
    kept = KeptResults(asked.results)
    print("| folder | variant | seed | steps | held-out loss | kernel distance | recall | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DIFFSTUDIO_HOME"] = scratch
        for name in asked.folders:
            folder = write_digits(Path(scratch) / "digits") if name == "digits" else Path(name)
            for seed in asked.seeds:
                for variant in asked.variants:
                    key = f"{folder.name} {variant} {seed}"
                    row = kept.of(key, partial(measure, folder, variant, seed, asked, Path(scratch) / key))
                    print(
                        f"| {folder.name} | {variant} | {seed} | {row['steps']:,} | {row['loss']:.4f} "
                        f"| {row['kernel']:.2f} | {row['recall']:.3f} | {row['seconds']:.0f} |",
                        flush=True,
                    )
            for variant in asked.variants[1:]:
                better = {
                    what: sum(
                        kept.measured[f"{folder.name} {variant} {seed}"][what]
                        < kept.measured[f"{folder.name} {asked.variants[0]} {seed}"][what]
                        for seed in asked.seeds
                    )
                    for what in ("loss", "kernel")
                }
                print(
                    f"{folder.name}: {variant} has a lower loss in {better['loss']} and a lower kernel distance in "
                    f"{better['kernel']} of {len(asked.seeds)} seeds"
                )


def measure(folder: Path, variant: str, seed: int, asked: argparse.Namespace, path: Path) -> dict[str, Any]:
    """One run, and what its last checkpoint generates."""
    from diffstudio.models.library.library import Library
    from diffstudio.studio.evaluations.evaluate import evaluate
    from diffstudio.studio.evaluations.request import EvaluateRequest
    from diffstudio.training.loop import train
    from diffstudio.training.recipe import Recipe
    from diffstudio.training.recipe_choice import named_recipes
    from diffstudio.training.run.events import RunHeldOut

    values = named_recipes()[asked.recipe].to_json()
    values["data"] |= {"size": asked.size, "held_out": 0.2, "fit": "crop"}
    values["run"] |= {"seed": seed, "sample_every": 10**6, "sample_count": 1, "held_out_every": 50, "patience": 0}
    for change in asked.set:
        where, value = change.split("=")
        section, key = where.split(".")
        values[section][key] = json.loads(value)
    settings = VARIANTS[variant]
    values["objective"] = {
        key: value
        for key, value in values["objective"].items()
        if key in ("mean", "deviation") and "kind" not in settings
    } | settings
    recipe = Path(f"{path}.toml")
    Recipe.from_json(values).write(recipe)
    began = time.process_time()
    length = {"minutes": asked.minutes} if asked.minutes else {"steps": asked.steps}
    run = train(path, folder, recipe=str(recipe), start_from=None, **length)
    seconds = time.process_time() - began
    last = [event for event in run.events()[0] if isinstance(event, RunHeldOut)][-1]
    found = {"kernel": float("nan"), "recall": float("nan")}
    if asked.images:
        request = EvaluateRequest(
            (str(run.checkpoint(last.step)),), folder, asked.images, features="imagenet", device="cpu"
        )
        row = evaluate(request, Library(())).subjects[0].row
        assert row is not None
        found = {"kernel": row.figures["kernel_distance"].value, "recall": row.figures["recall"].value}
    return {
        "steps": last.step,
        "loss": last.loss,
        "levels": last.level_losses,
        "drawn": last.drawn,
        "drawn_at": last.learned_levels,
        "seconds": seconds,
        **found,
    }


if __name__ == "__main__":
    main()
