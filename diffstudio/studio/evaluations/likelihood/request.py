"""LikelihoodRequest: a checkpoint, and a folder of images whose likelihood under it is measured. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffstudio.studio.requests.checks import check_numbers

AUTO = "auto"
MOST_IMAGES, MOST_PROBES, MOST_DRAWS = 50_000, 1000, 100_000
FEWEST_IMAGES = 2  # for an interval


@dataclass(frozen=True, slots=True)
class LikelihoodRequest:
    """Measure the bits per dimension of held-out and of training images of `folder` under `checkpoint`."""

    checkpoint: str  # a name or a path
    folder: Path
    count: int = 64  # images of each part, at most
    probes: int = 5  # Hutchinson probes of the divergence; images of up to 64 values need none
    levels: int = 64  # noise levels of the variational bound
    flow: bool = True  # solve the probability flow ODE too; otherwise only the bound
    seed: int = 0
    device: str = AUTO
    out: Path | None = None  # a folder for the result; a control file in it can stop the work
    draws: int = 64  # latent samples for each image, for a VAE

    def __post_init__(self) -> None:
        check_numbers(
            ("number of images", self.count, FEWEST_IMAGES, MOST_IMAGES),
            ("number of probes", self.probes, 1, MOST_PROBES),
            ("number of noise levels", self.levels, 1, MOST_PROBES),
            ("number of draws", self.draws, 1, MOST_DRAWS),
            ("seed", self.seed, 0, 2**62),
        )
