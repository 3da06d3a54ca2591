"""Channels, bits and shape of the training images, chosen by the folder and explained. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from diffstudio.errors import listed
from diffstudio.plurals import count_of
from diffstudio.training.data.folder_report import FolderReport, ImageRecord
from diffstudio.training.data.preprocess import PAD, Size, bucket_sizes, share_kept, size_for
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.recipe.data_recipe import MasksName, RangesRecipe

AUTO, CROP, BUCKET = "auto", "crop", "bucket"
GREY, COLOUR = 1, 3  # channels of images; files with other numbers of channels are arrays

MOST_CROPPED = 0.1  # of the images' area on average: more is too much to lose
LEAST_KEPT = 0.1  # of the area of an image that is used
_FEWEST_IN_BUCKET = 4
_SMALLEST_BUCKET_SHARE = 0.02  # of all images
_NAMED = 3  # files named in a sentence
_RANGES_NAMED = 8


def choose_pixels(
    data: DataRecipe, report: FolderReport, patch: int, *, squares: bool = False
) -> tuple[DataRecipe, list[str]]:
    """The recipe's data section with nothing left to the folder, and a clause for each choice that is worth one.

    `patch` is the side of the network's patches in px, of which the sides of aspect buckets are multiples. `squares`:
    the network has images of one size only, so none are chosen.
    """
    clauses: list[str] = []
    if data.channels == 0:
        channels, why = _channels(report.images)
        data = replace(data, channels=channels + (data.alpha and channels in (GREY, COLOUR)))
        data = replace(data, alpha=data.alpha and channels in (GREY, COLOUR))
        clauses += why
    used = [record for record in report.images if not why_other_channels(record, data)] or list(report.images)
    if data.bits == 0:
        bits, why = _bits(used)
        data = replace(data, bits=bits)
        clauses += why
    data = with_ranges(data, report)
    if not data.form.is_image and data.bits == 16:
        clauses.append(f"channel values are clipped to {_limits(data)}")
    automatic = data.fit == AUTO
    if automatic:
        data = replace(data, fit=CROP if squares else _fit(used))
    if data.fit == BUCKET and not data.buckets:
        sizes = _buckets(used, bucket_sizes(data.size, patch))
        if automatic and sizes == ((data.size, data.size),):  # all are nearest to the square
            data = replace(data, fit=CROP)
        else:
            data = replace(data, buckets=tuple(side for size in sizes for side in size))
    if automatic and (data.fit == BUCKET or _cropped(used) > 0):
        clauses.append(_why_fit(data, used))
    if data.fit == PAD and any(record.width != record.height for record in used):
        clauses.append(f"images that are not square are padded with {data.background}; the model learns the padding")
    transparent = sum(record.has_alpha for record in used)
    if transparent and data.form.is_image and not data.alpha:
        clauses.append(f"what is transparent in {count_of(transparent, 'image')} becomes {data.background}")
    masked = sum(record.mask is not None for record in report.images)
    if masked or data.masks is MasksName.USE:
        clauses.append(_why_masks(masked, data))
    left_out = [record for record in report.images if why_unfit(record, data)]
    if left_out:
        clauses.append(f"left out for their channels or shape: {_names(left_out)}")
    return data, clauses


def _why_masks(masked: int, data: DataRecipe) -> str:
    if not masked:
        return "the loss covers whole images, because no masks were found"
    of_images = f"the masks of {count_of(masked, 'image')}"
    if data.masks is MasksName.USE:
        return f"{of_images} weight the loss, from {data.unmasked_weight:g} where black to 1 where white"
    return f'{of_images} are not used (masks = "use" weights the loss by them)'


def why_unfit(record: ImageRecord, data: DataRecipe) -> str:
    """Why an image is left out with this recipe, a clause; empty if it is used."""
    if why := why_other_channels(record, data):
        return why
    if data.channels and data.fit in (CROP, BUCKET):  # not in runs of version 0.2, which used every shape
        kept = share_kept(record.width, record.height, size_for(record.width, record.height, data))
        if kept < LEAST_KEPT:
            return f"of its {record.width:,} × {record.height:,} px only {100 * kept:.1f}% would be left"
    return ""


def why_other_channels(record: ImageRecord, data: DataRecipe) -> str:
    """Why an image is left out for its channels, a clause; empty if they fit."""
    form = data.form
    if record.channels in (GREY, COLOUR) and form.is_image:
        return ""
    if record.channels == form.channels and not form.alpha:
        return ""
    return f"it has {count_of(record.channels, 'channel')}, and the network {form.channels}"


def _channels(records: Sequence[ImageRecord]) -> tuple[int, list[str]]:
    """The number of channels that most files have. Grey images in colour lose nothing, but not the other way round."""
    counts = Counter(record.channels for record in records)
    images = counts[GREY] + counts[COLOUR]
    arrays = max((n for n in counts if n not in (GREY, COLOUR)), key=lambda n: counts[n], default=0)
    if counts[arrays] > images:
        return arrays, [f"{arrays} channels, as the files have"]
    if counts[COLOUR] == 0:
        return GREY, ["one channel, because the images are grey"]
    if counts[COLOUR] <= counts[GREY]:
        coloured = [record for record in records if record.channels == COLOUR]
        return COLOUR, [f"three channels, because {_names(coloured)} {'has' if len(coloured) == 1 else 'have'} colours"]
    return COLOUR, []


def _bits(records: Sequence[ImageRecord]) -> tuple[int, list[str]]:
    deep = [record for record in records if record.bits > 8]
    if not deep:
        return 8, []
    if 2 * len(deep) >= len(records):
        return 16, ["16 bits a channel, as the files have"]
    return 8, [f"8 bits a channel, because only {_names(deep)} {'has' if len(deep) == 1 else 'have'} more"]


def with_ranges(data: DataRecipe, report: FolderReport) -> DataRecipe:
    """With the folder's ranges of values where it has none of its own, so that files added later change nothing."""
    data = replace(data, ranges=RangesRecipe.of(report.value_ranges | data.ranges.as_mapping()))
    if data.form.is_image or data.channel_ranges:
        return data
    limits = report.channel_ranges.get(data.channels, ((0.0, 1.0),) * data.channels)
    return replace(data, channel_ranges=tuple(value for limit in limits for value in limit))


def _limits(data: DataRecipe) -> str:
    """`0 to 1, -1 to 1 and 3 more`."""
    return listed([f"{low:g} to {high:g}" for low, high in data.form.channel_ranges], _RANGES_NAMED)


def _cropped(records: Sequence[ImageRecord]) -> float:
    """The share of the area that centre squares leave out, on average; extreme shapes do not count."""
    kept = [share_kept(record.width, record.height, (1, 1)) for record in records]
    kept = [share for share in kept if share >= LEAST_KEPT] or [1.0]
    return 1 - sum(kept) / len(kept)


def _fit(records: Sequence[ImageRecord]) -> str:
    return CROP if _cropped(records) <= MOST_CROPPED else BUCKET


def _why_fit(data: DataRecipe, records: Sequence[ImageRecord]) -> str:
    percent = f"{100 * _cropped(records):.0f}% of their area"
    if data.fit == BUCKET:
        return f"aspect buckets, because centre squares would lose {percent}"
    return f"the centre square of each image, which loses {percent}"


def _buckets(records: Sequence[ImageRecord], sizes: Sequence[Size]) -> tuple[Size, ...]:
    """The sizes that enough images are nearest to; the images of the others go to the nearest of these."""
    fewest = max(_FEWEST_IN_BUCKET, _SMALLEST_BUCKET_SHARE * len(records))
    kept = list(sizes)
    while True:
        data = DataRecipe(fit=BUCKET, buckets=tuple(side for size in kept for side in size))
        counts = Counter(size_for(record.width, record.height, data) for record in records)
        rarest = min(kept, key=lambda size: (counts[size], size))
        if counts[rarest] >= fewest or len(kept) == 1:
            return tuple(kept)
        kept.remove(rarest)


def _names(records: Sequence[ImageRecord]) -> str:
    """`a.png, b.png and 7 more`."""
    return listed(records, _NAMED, lambda record: str(record.path))
