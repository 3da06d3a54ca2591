"""Sentences about what changes a figure: images that are left out, changed, equal to others, or like real ones. No torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from diffstudio.evaluation.prdc import NEIGHBOURS
from diffstudio.plurals import by_number, count_of
from diffstudio.studio.evaluations.folders.equal_images import alike_images, digests
from diffstudio.studio.evaluations.folders.real_folder import GeneratedFolder, RealFolder
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.training.data.folder_report import FolderReport, ImageRecord
from diffstudio.training.data.pixel_choice import CROP

_ASPECT = 1.02  # factor between aspect ratios that count as equal
_RGB = 3  # channels
SAVED_AGAIN = "they measure themselves, and the figures are better than those of any model"


def notes_on_compared(
    generated: GeneratedFolder,
    real: RealFolder,
    report: OnProgress,
    check: Callable[[], None],
    consequence: str = SAVED_AGAIN,
    *,
    alike: bool = True,
) -> list[str]:
    """Sentences about a folder of images that are compared with the real ones: which are not used, or used only after a
    change, and with `alike` how many of them look like real images. `consequence`: of being the same images, a clause.
    """
    name, found, images = generated.name, generated.report, generated.dataset
    unused = found.unused(images.skipped, images.unfit)
    about = [f"{name}: {one.sentence()}" for one in unused if one.files]
    about += [
        f"{count:,} of {len(found.images):,} images of {name} {by_number(count, _of_one(what), what)}."
        for what, count in _changed(found, real).items()
        if count
    ]
    about += generated.notes
    similar = alike_images(name, images, real, report, check) if alike else []
    if similar:
        image, other = similar[0]
        about.append(
            f"{len(similar):,} of {len(images):,} images of {name} {by_number(len(similar), 'looks', 'look')} like images of "
            f"{real.report.folder.name}, such as {image} ({other}). If they are the same images, saved again, {consequence}."
        )
    return about


def _changed(found: FolderReport, real: RealFolder) -> dict[str, int]:
    """How many images are changed before they are compared, unlike the real ones, by what is done to them."""
    theirs, colours, side = real.report, real.data.form.channels, max(real.dataset.size)
    aspects = [one.width / one.height for one in theirs.images]
    lowest, highest = min(aspects) / _ASPECT, max(aspects) * _ASPECT
    is_unlike: dict[str, Callable[[ImageRecord], bool]] = {}
    if not theirs.smaller_than(side):
        is_unlike[f"are smaller than {side:,} px and were enlarged"] = lambda one: max(one.width, one.height) < side
    if real.data.fit == CROP:
        is_unlike["have another aspect ratio than the real ones and were cropped"] = lambda one: (
            not lowest <= one.width / one.height <= highest
        )
    if not any(one.has_alpha for one in theirs.images):
        is_unlike[f"are transparent and were put on the background {real.data.background}"] = lambda one: one.has_alpha
    if colours == 1:
        is_unlike["are in colour and were made grey, like the real ones"] = lambda one: one.channels == _RGB
    if colours == _RGB and not any(one.channels == 1 for one in theirs.images):
        is_unlike["are grey, unlike the real ones"] = lambda one: one.channels == 1
    return {what: sum(map(unlike, found.images)) for what, unlike in is_unlike.items()}


def _of_one(what: str) -> str:
    """`is smaller than 64 px and was enlarged`, out of what is said of several."""
    return re.sub(r"\b(?:are|have|were)\b", lambda verb: {"are": "is", "have": "has", "were": "was"}[verb[0]], what)


def repeated_notes(real: RealFolder, report: OnProgress, check: Callable[[], None]) -> list[str]:
    """Sentences about duplicates among the real images of each part, and what they do to the figures."""
    notes = []
    for what, indices in (("training part", real.training), ("held-out part", real.held_out)):
        counts = Counter(digests(real.dataset, indices, real.report.folder.name, report, check))
        repeated = sum(counts.values()) - len(counts)
        if repeated:
            notes.append(
                f"{count_of(repeated, 'duplicate')} among the {len(indices):,} images of the {what} of "
                f"{real.report.folder.name}."
            )
        crowded = sum(count for count in counts.values() if count > NEIGHBOURS)
        if crowded:
            notes[-1] += (
                f" {crowded:,} exist more than {NEIGHBOURS} times: their neighbourhoods are empty, so precision, recall, "
                "density and coverage are too low, also in the first row. Remove the duplicates."
            )
    return notes


def duplicate_notes(name: str, images: Iterable[tuple[bytes, bool]]) -> list[str]:
    """Sentences about images of a single colour, and about images that are equal to others."""
    counts: Counter[bytes] = Counter()
    flat = 0
    for one, is_flat in images:
        counts[one] += 1
        flat += is_flat
    count = counts.total()
    equal = count - len(counts)
    notes = []
    if flat:
        notes.append(f"{flat:,} of {count:,} images of {name} {by_number(flat, 'is', 'are')} of a single colour.")
    if equal and len(counts) == 1:
        notes.append(f"All {count:,} images of {name} are identical.")
    elif equal:
        notes.append(f"{count_of(equal, 'duplicate')} among the {count:,} images of {name}.")
    return notes
