"""How guidance in the last network call changes an image: `python -m tests.benchmarks.last_call`.

Heun on the starter at CFG scale 3, uniform spacing. Difference: mean squared difference to a 200-step image on a scale
of 0 to 1. Grain: mean absolute Laplacian.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio import paths
from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.sampling import SampleOptions, sample

PROMPTS = ("red apple", "blue car", "dog", "house", "tree", "sun", "cat", "guitar")
LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).expand(3, 1, 3, 3)


def grain(images: Tensor) -> float:
    """Mean |Laplacian| of images [B,3,H,W]."""
    return grains(images).mean().item()


def grains(images: Tensor) -> Tensor:
    """Mean |Laplacian| of each image [B]."""
    return F.conv2d(images, LAPLACIAN, groups=3).abs().mean(dim=(1, 2, 3))


def main() -> None:
    model = loading.load(read_checkpoint(paths.starter()), torch.device("cpu"))

    def images(steps: int, guide_last_call: bool) -> Tensor:
        options = SampleOptions(
            seeds=range(len(PROMPTS)),
            steps=steps,
            sampler="heun",
            spacing="uniform",
            guidance=3.0,
            guide_last_call=guide_last_call,
        )
        *_, last = sample(model, model.encode_prompt(PROMPTS), options)
        return (last.x + 1) / 2

    reference = images(200, False)
    print(f"200 steps: grain {grain(reference):.3f}")
    print("| steps | guided: difference | grain | last call unguided: difference | grain |")
    print("| --- | --- | --- | --- | --- |")
    for steps in (20, 10, 5):
        cells = [
            f"{((made := images(steps, guided)) - reference).square().mean():.1e} | {grain(made):.3f}"
            for guided in (True, False)
        ]
        print(f"| {steps} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
