"""What a small diffusion model has learnt to see of scikit-learn's digits: `python -m tests.benchmarks.representations`.

Trains the recipe `tiny`, without conditioning, on the 8 x 8 digits in folders, 28% held out, and probes its features by
layer and noise level with `features`. Aim (one seed of another network of the same kind): raw pixels .980, the best layer
.992 at t = .1. Less than five minutes of one processor.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.digits import HELD_OUT, write_digits

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
SIDE = 8  # px
POOLS = (1, 2)  # parts of a side whose means are features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), arguments.steps, arguments.threads)


def measure(home: Path, steps: int, threads: int) -> None:
    os.environ["DIFFSTUDIO_HOME"] = str(home)
    from diffstudio.models.library.library import Library
    from diffstudio.networks.conditioning import Conditioning
    from diffstudio.studio.evaluations.features.features import features
    from diffstudio.studio.evaluations.features.request import FeaturesRequest
    from diffstudio.training.data.folder_report import FolderReport
    from diffstudio.training.data.inspect_folder import inspect_folder
    from diffstudio.training.loop import train
    from diffstudio.training.recipe_choice import choose_recipe

    folder = write_digits(home / "digits")
    *_, report = inspect_folder(folder)
    assert isinstance(report, FolderReport)
    choice = choose_recipe("tiny", report)
    recipe = replace(
        choice.recipe,
        data=replace(choice.recipe.data, size=SIDE, held_out=HELD_OUT, flips=0.0),
        network=replace(
            choice.recipe.network, conditioning=Conditioning.NONE, patch=2, margin=1, width=96, condition_width=96
        ),
        run=replace(choice.recipe.run, threads=threads, device="cpu", sample_every=steps, held_out_every=500),
    )
    replace(choice, recipe=recipe).write(home / "digits.toml")
    began = time.process_time()
    run = train(home / "run", folder, recipe=str(home / "digits.toml"), steps=steps)
    trained = time.process_time() - began
    for pool in POOLS:
        out = home / f"out-{pool}"
        request = FeaturesRequest(str(run.path), folder, LEVELS, pool=pool, device="cpu", out=out)
        print(f"{pool} x {pool} parts\n\n{features(request, Library(())).text()}\n", flush=True)
    print(
        f"\n{steps:,} steps in {trained:.0f} s of processor time, probed in {time.process_time() - began - trained:.0f} s"
    )


if __name__ == "__main__":
    main()
