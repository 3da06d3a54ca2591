"""Held-out losses after an equal time, from scratch and from the starter's weights: the figures in the manual.

    python -m tests.benchmarks.starting_point FOLDER [--minutes 2] [--seed 0]

Prints a row of a table for each. Both runs have the `small` recipe at 64 px, with 32 images a step.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DIFFSTUDIO_HOME"] = scratch
        from diffstudio.training.loop import train
        from diffstudio.training.recipe_choice import named_recipes
        from diffstudio.training.run.events import RunHeldOut, RunStep

        small = named_recipes()["small"]
        recipe = replace(
            small,
            data=replace(small.data, held_out=0.12),
            optimiser=replace(small.optimiser, muon_dtype="auto"),
            run=replace(small.run, batch=32, seed=asked.seed, sample_count=1),
        )
        recipe.write(Path(scratch) / "recipe.toml")
        for name in ("none", "starter"):
            run = train(
                Path(scratch) / name,
                asked.folder,
                recipe=str(Path(scratch) / "recipe.toml"),
                minutes=asked.minutes,
                start_from=name,
            )
            events = run.events()[0]
            losses = [(event.step, event.loss) for event in events if isinstance(event, RunHeldOut)]
            steps = max(event.step for event in events if isinstance(event, RunStep))
            print(f"| {asked.folder.name} | {name} | {steps} | {losses[0][1]:.3f} | {losses[-1][1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
