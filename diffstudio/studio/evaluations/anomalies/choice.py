"""Chooses the detector that separates drawn defects from normal images best, and combines several of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.errors import BadRequest, unknown_name
from diffstudio.evaluation.anomalies.calibration import auroc_interval, combined
from diffstudio.evaluation.anomalies.defects import KINDS, defects
from diffstudio.evaluation.anomalies.pixel_regression import PixelRegression, highest
from diffstudio.evaluation.interval import Interval, share_interval
from diffstudio.plurals import by_number
from diffstudio.studio.evaluations.anomalies.detectors import Detectors, Maps, OnImages, Scores
from diffstudio.studio.evaluations.anomalies.request import AUTO
from diffstudio.studio.evaluations.anomalies.result import (
    COMBINED,
    COMBINED_LOCAL,
    OF_WHOLE_IMAGES,
    TITLES,
    DetectorResult,
    ScoredImage,
)

MOST_DEFECTS = 100
_PIXELS_OF = 40  # images for the AUROC of pixels


@dataclass(frozen=True, eq=False)
class Compared:
    """All detectors compared on drawn defects, and what combines them."""

    results: Sequence[DetectorResult]  # the two combinations last
    regression: PixelRegression  # combines the heat maps
    detectors: Detectors
    held_out: NDArray[np.float32]  # normal images [N,C,H,W]

    def scores(self, name: str, scores: Scores, maps: Maps, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """The scores [N] of a detector, or of a combination, from those and the maps of all detectors."""
        if name == COMBINED_LOCAL:
            return highest(self.regression.maps(maps, images))
        if name != COMBINED:
            return scores[name]
        return combined(scores, self.detectors.held_out_scores, {one.name: one.weight for one in self.results[:-2]})

    def maps(self, name: str, maps: Maps, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The heat maps [N,H,W] of a detector, or of a combination."""
        return self.regression.maps(maps, images) if name in (COMBINED, COMBINED_LOCAL) else maps[name]

    def scores_of_normals(self, name: str) -> NDArray[np.float64]:
        """The scores of the held-out normal images."""
        return self.scores(name, self.detectors.held_out_scores, self.detectors.held_out_maps, self.held_out)

    def maps_of_normals(self, name: str) -> NDArray[np.float32]:
        return self.maps(name, self.detectors.held_out_maps, self.held_out)


def compare_detectors(detectors: Detectors, held_out: Tensor, seed: int, report: OnImages) -> Compared:
    """The AUROC of each detector on held-out normal images [N,C,H,W] with and without drawn defects; combinations last.

    A few images get several kinds of defects each. The combined heat map is learned from every second image, and the
    AUROC of the combinations comes from the others. All other AUROCs compare the same images with and without a defect.
    """
    originals = held_out[:MOST_DEFECTS].numpy()
    count = len(originals)
    times = max(1, min(len(KINDS), MOST_DEFECTS // count))
    drawn, masks = _drawn(originals, times, seed)
    found, maps = detectors.score(torch.from_numpy(drawn), report)
    known, normal_maps = detectors.held_out_scores, detectors.held_out_maps
    image_of = np.tile(np.arange(count), times)
    half = np.flatnonzero(image_of % 2 == 0) if count > 1 else np.arange(len(drawn))
    other = np.flatnonzero(image_of % 2 == 1) if count > 1 else np.arange(len(drawn))
    weights = {name: OF_WHOLE_IMAGES.get(name, 0.0) for name in detectors.names}
    normals = held_out.numpy()
    regression = PixelRegression.of(
        {name: heat[half] for name, heat in maps.items()},
        {name: heat[:count] for name, heat in normal_maps.items()},
        (drawn[half], originals),
        [masks[index] for index in half.tolist()],
        seed,
    )
    results = []
    for name in detectors.names:
        area = auroc_interval(_by_image(found[name], image_of), list(known[name]))
        pixels = _pixel_area(maps[name], masks, image_of) if name in maps else None
        results.append(DetectorResult(name, area, pixels, weights[name]))
    combined_heat = regression.maps({name: heat[other] for name, heat in maps.items()}, drawn[other])
    pixels = _pixel_area(combined_heat, [masks[index] for index in other.tolist()], image_of[other])
    of_normals = highest(regression.maps(normal_maps, normals))
    for name, anomalous, normal in (
        (COMBINED, combined(found, known, weights)[other], combined(known, known, weights)),
        (COMBINED_LOCAL, highest(combined_heat), of_normals),
    ):
        area = auroc_interval(_by_image(anomalous, image_of[other]), list(normal))
        results.append(DetectorResult(name, area, pixels, 0.0))
    return Compared(results, regression, detectors, normals)


def _drawn(
    originals: NDArray[np.float32], times: int, seed: int
) -> tuple[NDArray[np.float32], list[NDArray[np.bool_]]]:
    """Each image with so many defects, one at a time and of different kinds: all with their first one, then the second …"""
    drawn: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.bool_]] = []
    for time in range(times):
        changed, inside, _ = defects(list(originals), seed + time, first_kind=time)
        drawn += changed
        masks += inside
    return np.stack(drawn), masks


def _by_image(values: NDArray[np.float64], image_of: NDArray[np.intp]) -> list[NDArray[np.float64]]:
    """The scores of all defects of each image, which are not independent."""
    return [values[image_of == image] for image in np.unique(image_of)]


def _pixel_area(maps: NDArray[np.float32], masks: Sequence[NDArray[np.bool_]], image_of: NDArray[np.intp]) -> Interval:
    """The AUROC of the pixels that defects change against all other pixels of the same images."""
    inside, outside = [], []
    for image in np.unique(image_of)[:_PIXELS_OF]:
        of_image = np.flatnonzero(image_of == image).tolist()
        inside.append(np.concatenate([maps[index][masks[index]] for index in of_image]))
        outside.append(np.concatenate([maps[index][~masks[index]] for index in of_image]))
    inside, outside = ([part for part in parts if len(part)] for parts in (inside, outside))
    return auroc_interval(inside, outside)


def check_detector(name: str, names: Sequence[str]) -> None:
    """BadRequest unless a requested detector is available. `names` are those of single detectors."""
    known = (AUTO, *names, COMBINED, COMBINED_LOCAL)
    if name not in known:
        raise BadRequest(
            unknown_name("detector", name), "not for these images and this model", f"Choose one of {', '.join(known)}"
        )


def choose(results: Sequence[DetectorResult], name: str) -> tuple[str, str]:
    """The detector to use and a sentence that says why. `name` is one of them, or `auto`."""
    best = max(results, key=lambda one: one.area.value)
    if name == AUTO:
        area = f"AUROC {best.area.value:.3f}"
        why = f"“{TITLES[best.name]}” is used: of all detectors it finds defects drawn into these images best ({area})."
        return best.name, why
    why = f"“{TITLES[name]}” is used, as requested; the best on drawn defects is “{TITLES[best.name]}”."
    return name, why


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


def note_on_overlooked(images: Sequence[ScoredImage], used: str, held_out: int) -> list[str]:
    """A sentence on images that are called normal although other detectors score them above all `held_out` normal images.

    Drawn defects are small, so the detector that finds them best may overlook images that differ as a whole. One normal
    image in held_out + 1 scores so high with any one detector by chance: there is a note where there are more.
    """
    least = 1 / (held_out + 1) + 1e-12
    called_normal = [one for one in images if not one.anomalous]
    by_detector = {
        name: sum(one.p_values[name] <= least for one in called_normal)
        for name in (images[0].p_values if images else ())
        if name != used
    }
    found = sum(any(one.p_values[name] <= least for name in by_detector) for one in called_normal)
    if not found or share_interval(found, len(images)).low <= len(by_detector) * least:
        return []
    shown = ", ".join(f"“{TITLES[name]}” ({count:,})" for name, count in by_detector.items() if count)
    return [
        f"{found:,} of {len(images):,} images {by_number(found, 'is', 'are')} called normal by “{TITLES[used]}”, although "
        f"another detector scores {by_number(found, 'it', 'them')} above all held-out normal images: "
        f"{shown}. {by_number(found, 'It', 'They')} may differ as a whole rather than by a small defect: search again "
        "with that detector."
    ]
