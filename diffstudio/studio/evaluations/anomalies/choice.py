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
from diffstudio.evaluation.anomalies.heat_maps import combined_maps
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.anomalies.detectors import Detectors, Maps, OnImages, Scores
from diffstudio.studio.evaluations.anomalies.request import AUTO
from diffstudio.studio.evaluations.anomalies.result import COMBINED, TITLES, DetectorResult

MOST_DEFECTS = 100
_PIXELS_OF = 40  # images for the AUROC of pixels


def compare_detectors(detectors: Detectors, held_out: Tensor, seed: int, report: OnImages) -> list[DetectorResult]:
    """The AUROC of each detector on held-out normal images [N,C,H,W] with and without drawn defects; the combination last.

    The weights of the combination and of its heat map come from every second image and their AUROC from the others. All
    other AUROCs compare the same images with and without a defect.
    """
    originals = held_out[:MOST_DEFECTS].numpy()
    drawn, masks, _ = defects(list(originals), seed)
    found, maps = detectors.score(torch.from_numpy(np.stack(drawn)), report)
    known = detectors.held_out_scores
    half = slice(0, None, 2) if len(drawn) > 1 else slice(None)
    other = slice(1, None, 2) if len(drawn) > 1 else slice(None)
    weights = weights_of({name: auroc(found[name][half], known[name]) for name in detectors.names})
    map_weights = weights_of({name: _pixel_area(heat[half], masks[half]).value for name, heat in maps.items()})
    results = []
    for name in detectors.names:
        area = auroc_interval(list(found[name]), list(known[name]))
        pixels = _pixel_area(maps[name], masks) if name in maps else None
        results.append(DetectorResult(name, area, pixels, weights[name], map_weights.get(name, 0.0)))
    anomalous, normal = combined(found, known, weights), combined(known, known, weights)
    pixels = _pixel_area(combined_maps(maps, detectors.held_out_maps, map_weights)[other], masks[other])
    results.append(DetectorResult(COMBINED, auroc_interval(list(anomalous[other]), list(normal)), pixels, 0.0))
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


def choose_map(results: Sequence[DetectorResult], requested: str) -> tuple[str, str]:
    """The detector whose heat maps are shown, and a sentence that says why: that of the requested detector, or else the one
    that finds the pixels of drawn defects best.
    """
    areas = {one.name: one.pixel_area.value for one in results if one.pixel_area is not None}
    if requested in areas:
        return requested, f"The heat maps are those of “{TITLES[requested]}”."
    best = max(areas, key=lambda name: areas[name])
    return best, (
        f"The heat maps are those of “{TITLES[best]}”, which show best where defects were drawn (AUROC of pixels "
        f"{areas[best]:.3f})."
    )


def map_of(name: str, maps: Maps, detectors: Detectors, results: Sequence[DetectorResult]) -> NDArray[np.float32]:
    """The heat maps [N,H,W] of a detector, or of the combination."""
    if name != COMBINED:
        return maps[name]
    return combined_maps(maps, detectors.held_out_maps, {one.name: one.map_weight for one in results})


def _weights(results: Sequence[DetectorResult]) -> dict[str, float]:
    return {one.name: one.weight for one in results if one.name != COMBINED}
