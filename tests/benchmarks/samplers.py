"""Samplers, spacings and steps against a 200-step image: `python -m tests.benchmarks.samplers`.

The starter draws the first 24 prompts of packaging/starter/prompts.txt with seeds 0 to 23 at its own CFG scale.
Difference: mean squared difference to the 200-step image (DPM++ 2M, Karras spacing) on a scale of 0 to 1; worst: that of
the image that differs most. Time: processor seconds of one thread for one image of the batch. The stochastic samplers
draw another image at every number of steps, so they are not in the table. The defaults of models trained here were
chosen by it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffstudio import paths
from diffstudio.diffusion.samplers import network_calls
from diffstudio.diffusion.spacing import SPACINGS
from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.models.sampling import SampleOptions, sample

PROMPTS = Path(__file__).resolve().parents[2] / "packaging" / "starter" / "prompts.txt"
COUNT = 24  # the other prompts of that file are those of the test that holds the defaults
CONVERGED = ("dpmpp_2m", "karras", 200)
SAMPLERS = ("euler", "heun", "dpmpp_2m", "unipc")  # ddim is the algorithm of euler
OFFERED = tuple(
    name for name in SPACINGS if name not in ("trailing", "align_your_steps")
)  # trailing is uniform on flows
STEPS = (4, 6, 8, 10, 20)


@dataclass(frozen=True, slots=True)
class Drawn:
    images: Tensor  # [B,3,H,W], 0 to 1
    calls: int
    seconds: float  # of processor time, for one image


def draw(
    model: Model,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampler: str,
    spacing: str,
    steps: int,
    *,
    guide_last_call: bool | None = None,
) -> Drawn:
    """Images of a model at its own CFG scale, one for each prompt and seed."""
    options = SampleOptions(
        seeds=seeds, steps=steps, sampler=sampler, spacing=spacing, guidance=3.0, guide_last_call=guide_last_call
    )
    started = time.process_time()
    *_, last = sample(model, model.encode_prompt(prompts), options)
    seconds = (time.process_time() - started) / len(prompts)
    calls = network_calls(sampler, model.schedule, model.times(steps, spacing, 1.0, *model.default_size))
    return Drawn((model.decode(last.x).clamp(-1, 1) + 1) / 2, calls, seconds)


def differences(images: Tensor, converged: Tensor) -> Tensor:
    """The mean squared difference of each image [B]."""
    return (images - converged).square().mean(dim=(1, 2, 3))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.samplers", description=__doc__)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    parser.add_argument("--spacings", nargs="+", choices=OFFERED, default=OFFERED)
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS)
    parser.add_argument("--checkpoint", type=Path, default=paths.starter())
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    model = loading.load(read_checkpoint(arguments.checkpoint), torch.device("cpu"))
    prompts = PROMPTS.read_text(encoding="utf-8").split("\n")[:COUNT]
    seeds = range(COUNT)
    converged = draw(model, prompts, seeds, *CONVERGED).images
    print("| sampler | spacing | steps | calls | difference | worst | time |")
    print("| --- | --- | --- | --- | --- | --- | --- |")

    def row(sampler: str, spacing: str, steps: int, note: str = "", guide_last_call: bool | None = None) -> None:
        drawn = draw(model, prompts, seeds, sampler, spacing, steps, guide_last_call=guide_last_call)
        away = differences(drawn.images, converged)
        print(
            f"| {sampler}{note} | {spacing} | {steps} | {drawn.calls} | {away.mean():.1e} | {away.max():.1e} "
            f"| {drawn.seconds:.2f} s |",
            flush=True,
        )

    row("heun", "uniform", 20, ", last call guided (version 0.1)", guide_last_call=True)
    for sampler in arguments.samplers:
        for spacing in arguments.spacings:
            for steps in arguments.steps:
                row(sampler, spacing, steps)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
