"""A restored image anywhere between its mean and its sample, from the two files of a result. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffstudio.studio.evaluations.restore.image_files import encoded, read_restorable


def blended_png(mean: Path, sample: Path | None, share: float) -> bytes:
    """mean + share (sample - mean) as a PNG as deep as both files. ImageProblem."""
    first = read_restorable(mean, mean.stem)
    values = first.values
    if sample is not None:
        values = values + np.float32(share) * (read_restorable(sample, sample.stem).values - values)
    return encoded(values, first.bits, first.alpha)
