"""Chooses the detector that separates drawn defects from normal images best, and weights for combining all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.errors import BadRequest, unknown_name
from diffstudio.evaluation.anomalies.calibration import auroc, auroc_interval, combined, weights_of
from diffstudio.evaluation.anomalies.defects import defects
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.anomalies.detectors import Detectors, Maps, OnImages, Scores
from diffstudio.studio.evaluations.anomalies.request import AUTO
from diffstudio.studio.evaluations.anomalies.result import COMBINED, TITLES, DetectorResult

MOST_DEFECTS = 100
_PIXELS_OF = 40  # images for the AUROC of pixels


def compare_detectors(detectors: Detectors, held_out: Tensor, seed: int, report: OnImages) -> list[DetectorResult]:
    """The AUROC of each detector on held-out normal images [N,C,H,W] with and without drawn defects; the combination last.

    The weights of the combination come from every second image and its AUROC from the others. All other AUROCs compare
    the same images with and without a defect.
    """
    originals = held_out[:MOST_DEFECTS].numpy()
    drawn, masks, _ = defects(list(originals), seed)
    found, maps = detectors.score(torch.from_numpy(np.stack(drawn)), report)
    known = detectors.held_out_scores
    half = slice(0, None, 2) if len(drawn) > 1 else slice(None)
    other = slice(1, None, 2) if len(drawn) > 1 else slice(None)
    weights = weights_of({name: auroc(found[name][half], known[name]) for name in detectors.names})
    results = []
    for name in detectors.names:
        pixels = _pixel_area(maps[name], masks) if name in maps else None
        results.append(
            DetectorResult(name, auroc_interval(list(found[name]), list(known[name])), pixels, weights[name])
        )
    anomalous, normal = combined(found, known, weights), combined(known, known, weights)
    results.append(DetectorResult(COMBINED, auroc_interval(list(anomalous[other]), list(normal)), None, 0.0))
    return results


def _pixel_area(maps: NDArray[np.float32], masks: Sequence[NDArray[np.bool_]]) -> Interval:
    """The AUROC of the pixels that defects change against all other pixels of the same images."""
    inside = [heat[mask] for heat, mask in zip(maps[:_PIXELS_OF], masks, strict=False) if mask.any()]
    outside = [heat[~mask] for heat, mask in zip(maps[:_PIXELS_OF], masks, strict=False) if not mask.all()]
    return auroc_interval(inside, outside)


def choose(results: Sequence[DetectorResult], name: str) -> tuple[str, str]:
    """The detector to use and a sentence that says why. BadRequest for an unknown name."""
    names = [one.name for one in results]
    best = max(results, key=lambda one: one.area.value)
    if name == AUTO:
        area = f"AUROC {best.area.value:.3f}"
        why = f"“{TITLES[best.name]}” is used: of all detectors it finds defects drawn into these images best ({area})."
        return best.name, why
    if name not in names:
        raise BadRequest(unknown_name("detector", name), remedy=f"Choose one of {', '.join(names)}")
    why = f"“{TITLES[name]}” is used, as requested; the best on drawn defects is “{TITLES[best.name]}”."
    return name, why


def scores_of(
    name: str, scores: Scores, detectors: Detectors, results: Sequence[DetectorResult]
) -> NDArray[np.float64]:
    """The scores of a detector, or of the combination."""
    if name != COMBINED:
        return scores[name]
    return combined(scores, detectors.held_out_scores, _weights(results))


def map_of(name: str, maps: Maps, results: Sequence[DetectorResult]) -> tuple[str, NDArray[np.float32]]:
    """The heat map [N,H,W] to show: the detector's own, or the one with the best AUROC of pixels."""
    if name in maps:
        return name, maps[name]
    best = max(
        (one for one in results if one.pixel_area is not None),
        key=lambda one: one.pixel_area.value if one.pixel_area is not None else 0.0,
    )
    return best.name, maps[best.name]


def _weights(results: Sequence[DetectorResult]) -> dict[str, float]:
    return {one.name: one.weight for one in results if one.name != COMBINED}
