"""Steps fitted to a checkpoint against every spacing on offer: `python -m tests.benchmarks.fitted_steps`.

The starter draws the last 16 prompts of packaging/starter/prompts.txt with seeds 1000 to 1015, which its steps were not
fitted with, at its own CFG scale. Difference: mean squared difference to the converged image (UniPC, Karras spacing, 40
steps) on a scale of 0 to 1. Less: of the fitted steps against the spacing that is best for that sampler and number of
calls on these same images. Heun takes at most as many calls as the row says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffstudio import paths
from diffstudio.models import loading
from diffstudio.models.fitted_steps.stored import fitted_steps
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.studio.evaluations.fitted_steps.request import CALLS, FITTABLE, steps_for
from tests.benchmarks.samplers import OFFERED, PROMPTS, differences, draw

HELD_OUT, FIRST_SEED = 16, 1000
CONVERGED = ("unipc", "karras", 40)


def with_times(
    model: Model, prompts: Sequence[str], seeds: Sequence[int], sampler: str, times: tuple[float, ...]
) -> Tensor:
    """Images [B,3,H,W], 0 to 1, of these times."""
    options = SampleOptions(seeds=seeds, steps=len(times), sampler=sampler, guidance=3.0, times=times)
    *_, last = sample(model, model.encode_prompt(prompts), options)
    return (model.decode(last.x).clamp(-1, 1) + 1) / 2


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fitted_steps", description=__doc__)
    parser.add_argument("--samplers", nargs="+", choices=FITTABLE, default=FITTABLE)
    parser.add_argument("--calls", nargs="+", type=int, default=CALLS)
    parser.add_argument("--spacings", nargs="+", choices=OFFERED, default=OFFERED)
    parser.add_argument("--images", type=int, default=HELD_OUT)
    parser.add_argument("--checkpoint", type=Path, default=paths.starter())
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    checkpoint = read_checkpoint(arguments.checkpoint)
    model, fitted = loading.load(checkpoint, torch.device("cpu")), fitted_steps(checkpoint)
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()[-arguments.images :]
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.images)
    converged = draw(model, prompts, seeds, *CONVERGED).images
    print("| sampler | calls | best spacing | difference | fitted | median | less |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for sampler in arguments.samplers:
        for calls in arguments.calls:
            steps = steps_for(sampler, calls)
            offered = {
                name: differences(draw(model, prompts, seeds, sampler, name, steps).images, converged).mean().item()
                for name in arguments.spacings
            }
            best = min(offered, key=lambda name: offered[name])
            ladder = fitted.of(sampler, steps)
            if ladder is None:
                print(f"| {sampler} | {calls} | {best} | {offered[best]:.1e} | none | | |", flush=True)
                continue
            away = differences(with_times(model, prompts, seeds, sampler, ladder.times), converged)
            less = 1 - away.mean().item() / offered[best]
            print(
                f"| {sampler} | {calls} | {best} | {offered[best]:.1e} | {away.mean():.1e} | {away.median():.1e} "
                f"| {less:.0%} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
