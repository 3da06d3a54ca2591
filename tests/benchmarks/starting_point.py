"""Held-out losses after an equal number of steps, from scratch and from the starter's weights: figures of the manual.

    python -m tests.benchmarks.starting_point FOLDER… [--steps 40] [--batch 32] [--seeds 0] [--dtype auto]
        [--results FILE.json]

Prints a row of a table for each folder and length. All runs have the `small` recipe at 64 px, unconditional where the
folder has no captions, so a step takes the same time in both. With `--results`, a measurement that was stopped goes on
after the last run in the file.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.kept_results import KeptResults

STARTS = ("none", "starter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, nargs="+", default=[40])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--results", type=Path)
    asked = parser.parse_args()
    kept = KeptResults(asked.results)
    print("| folder | images, channels | steps | seed | before | from scratch | from the starter | seconds a step |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for steps in asked.steps:
        for folder in asked.folders:
            for seed in asked.seeds:
                row = {}
                for start in STARTS:
                    key = f"{folder.name} {steps} {asked.batch} {seed} {start}"
                    row[start] = kept.of(key, partial(measure, folder, steps, seed, start, asked.batch, asked.dtype))
                scratch, starter = (row[start] for start in STARTS)
                print(
                    f"| {folder.name} | {starter['images']:,}, {starter['channels']} | {steps} | {seed} "
                    f"| {scratch['first']:.3f}, {starter['first']:.3f} | {scratch['last']:.3f} | {starter['last']:.3f} "
                    f"| {scratch['seconds'] / steps:.1f}, {starter['seconds'] / steps:.1f} |",
                    flush=True,
                )


def measure(folder: Path, steps: int, seed: int, start: str, batch: int, dtype: str) -> dict[str, Any]:
    """One run: its first and last held-out loss; the first is measured after a sixth of the steps or fewer."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DIFFSTUDIO_HOME"] = scratch
        from diffstudio.training.loop import train
        from diffstudio.training.recipe_choice import named_recipes
        from diffstudio.training.run.events import RunHeldOut, RunStarted

        small = named_recipes()["small"]
        recipe = replace(
            small,
            data=replace(small.data, held_out=0.12, fit="crop"),
            optimiser=replace(small.optimiser, muon_dtype=dtype),
            run=replace(small.run, batch=batch, seed=seed, dtype=dtype, sample_count=1, sample_steps=2),
        )
        recipe.write(Path(scratch) / "recipe.toml")
        began = time.perf_counter()
        run = train(
            Path(scratch) / "run", folder, recipe=str(Path(scratch) / "recipe.toml"), steps=steps, start_from=start
        )
        seconds = time.perf_counter() - began
        events = run.events()[0]
        started = next(event for event in events if isinstance(event, RunStarted))
        losses = [event.loss for event in events if isinstance(event, RunHeldOut)]
        return {
            "images": started.images + started.held_out,
            "channels": run.recipe().data.form.channels,
            "first": losses[0],
            "last": losses[-1],
            "seconds": seconds,
        }


if __name__ == "__main__":
    main()
