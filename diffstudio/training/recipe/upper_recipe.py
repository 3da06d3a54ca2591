"""The section of a recipe for a second network that enlarges the images of the first. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpperRecipe:
    """The upper level: a second network that enlarges the images of the first (cascade: arXiv 2106.15282)."""

    factor: int = 0  # how many times as large as `data.size` its images are, 2 or 4; 0: there is no upper level
    patch: int = 8  # px; these six are as in `network`
    margin: int = 4
    bottleneck: int = 128
    width: int = 192
    depth: int = 4
    heads: int = 4
    condition_width: int = 256
    noise: float = 0.25  # the largest noise level of the smaller image that it reads in training
    mean: float = 0.0  # of logit(t), the noise levels of the larger image
    deviation: float = 1.0
    sample_noise: float = 0.05  # the noise level of the smaller image when a sample is made
    sample_steps: int = 5
