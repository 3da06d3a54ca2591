"""Which values of generated images become black and white, and what is said about it. No torch."""

from __future__ import annotations

from diffstudio.imaging.value_range import Range, SampleType, range_among
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.metadata.full_range import was_generated
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.recipe.data_recipe import RangesRecipe

_FULL: Range = (0.0, 65535.0)  # of 16-bit images that were generated here


def ranges_of_generated(
    name: str, found: FolderReport, real: RealFolder, *, same_units: bool = False
) -> tuple[RangesRecipe, list[str]]:
    """Which values of generated images of more than 8 bits a channel become black and white, and sentences about it.

    16-bit images that were generated here have the full range, and other images that of the real ones, unless their values
    are far beyond it. With `same_units` they are known to be in the units of the real ones, and what is beyond is cut.
    """
    known, notes = real.data.ranges.as_mapping(), []
    limits = real.data.output.limits[0] if real.data.form.bits > 8 and real.data.form.is_image else None
    used = dict(known)
    for one in found.ranges:
        kind, (low, high) = one.sample_type, one.values
        theirs = known.get(kind)
        here = 0
        if kind is SampleType.UINT16 and theirs not in (None, _FULL):
            here = sum(was_generated(found.folder / path) for path in one.paths)
        others = len(one.paths) - here
        if here and here >= others:
            used[kind] = _FULL
            if others:
                notes.append(
                    f"{others:,} of the {len(one.paths):,} 16-bit images of {name} {'does' if others == 1 else 'do'} not say "
                    f"that {'it was' if others == 1 else 'they were'} generated here: read from {_text(_FULL)}, like the others."
                )
            continue
        if here:
            notes.append(
                f"{here:,} of the {len(one.paths):,} 16-bit images of {name} {'was' if here == 1 else 'were'} generated here, where "
                f"{_FULL[1]:,g} is white: too bright when read like the others. Measure such images in a folder of their own."
            )
            continue
        if not same_units or theirs is None:
            used[kind] = range_among(kind, one.values, (one.low, one.high), known, limits)
        like = next((other.values for other in real.report.ranges if other.sample_type is kind), (low, high))
        if theirs is None or low >= min(theirs[0], like[0]) and high <= max(theirs[1], like[1]):
            continue
        beyond = f"The {kind.description} of {name} are from {_text(one.values)}"
        if used[kind] == theirs:
            notes.append(f"{beyond}. Those beyond {_text(theirs)}, the range of {real.report.folder.name}, were cut.")
        else:
            notes.append(
                f"{beyond}, beyond the range of {real.report.folder.name}, {_text(theirs)}: they were read from "
                f"{_text(used[kind])}."
            )
    return RangesRecipe.of(used), notes


def _text(used: Range) -> str:
    return f"{used[0]:,g} to {used[1]:,g}"
