"""Whether the grain of an image depends on the parity of its steps: `python -m tests.benchmarks.grain`.

The starter draws the prompts of packaging/starter/prompts.txt with seeds from 2000 at 20 and 21 steps, at its own CFG
scale. Grain: mean absolute Laplacian. Ratio: the mean grain of 21 steps by that of 20, with its 95% interval over images
(of pairs: the same prompt and seed; stochastic samplers draw other noise in each). `ddim` and `ddpm` are left out: they are
the algorithms of `euler` and `euler_ancestral`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from diffstudio import paths
from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from tests.benchmarks.last_call import grains
from tests.benchmarks.samplers import OFFERED, PROMPTS, draw

STOCHASTIC = ("euler_ancestral", "dpmpp_2m_sde", "lcm")
_FIRST_SEED, _AT_ONCE = 2000, 20


def ratio(before: Tensor, after: Tensor) -> tuple[float, float]:
    """The ratio of two means [N] of paired values, after / before, and half its 95% interval (delta method)."""
    found = after.mean() / before.mean()
    error = (after - found * before).std() / math.sqrt(len(before)) / before.mean()
    return float(found), 1.96 * float(error)


def batches(count: int) -> Iterable[range]:
    return (range(first, min(first + _AT_ONCE, count)) for first in range(0, count, _AT_ONCE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samplers", nargs="+", default=STOCHASTIC)
    parser.add_argument("--spacings", nargs="+", choices=OFFERED, default=("uniform", "karras"))
    parser.add_argument("--count", type=int, default=40, help="images for each row")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = loading.load(read_checkpoint(paths.starter()), torch.device("cpu"))
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()

    def drawn(numbers: range, sampler: str, spacing: str, steps: int) -> Tensor:
        texts = [prompts[number % len(prompts)] for number in numbers]
        seeds = range(_FIRST_SEED + numbers.start, _FIRST_SEED + numbers.stop)
        return draw(model, texts, seeds, sampler, spacing, steps).images

    print("| sampler | spacing | grain at 20 steps | at 21 | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for spacing in arguments.spacings:
        for sampler in arguments.samplers:
            even, odd = (
                torch.cat([grains(drawn(part, sampler, spacing, steps)) for part in batches(arguments.count)])
                for steps in (20, 21)
            )
            found, half = ratio(even, odd)
            print(
                f"| {sampler} | {spacing} | {even.mean():.4f} | {odd.mean():.4f} | {found:.3f} ± {half:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
