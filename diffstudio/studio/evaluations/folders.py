"""Folders of images as an evaluation reads them: the training and the held-out part of a run, and generated images.

No torch is imported here.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffstudio import paths
from diffstudio.errors import BadRequest, FolderProblem
from diffstudio.evaluation.prdc import NEIGHBOURS
from diffstudio.imaging.value_range import Range, SampleType, range_among
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.subjects import CheckpointSubject, Subject, folder_of, run_of
from diffstudio.studio.metadata.full_range import was_generated
from diffstudio.training.data.captions.caption_files import as_one_caption
from diffstudio.training.data.dataset import ImageDataset, build_dataset
from diffstudio.training.data.folder_report import FolderReport, ImageRecord, InspectionProgress, by_number, count_of
from diffstudio.training.data.inspect_folder import MIN_SIDE, finish_inspection
from diffstudio.training.data.near_duplicates import FINGERPRINT_BYTES, fingerprint, near_duplicates
from diffstudio.training.data.pixel_choice import CROP, choose_pixels, with_ranges
from diffstudio.training.preparation.stored_dataset import StoredDataset, state_of_folder
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.recipe.data_recipe import RangesRecipe
from diffstudio.training.run.run_folder import RunFolder

OnProgress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much (0: not known)
LARGEST_SIDE = 224  # px, at which images are read where no checkpoint says how
_HELD_OUT_WITHOUT_RUN = 0.5
_NAMED = 3  # files that a message names
_USUAL = 0.01  # share of images that may look like real ones, beyond those of the real images that look like each other
_ASPECT = 1.02  # factor between aspect ratios that count as equal
_RGB = 3  # channels
_FULL: Range = (0.0, 65535.0)  # of 16-bit images that were generated here
SAVED_AGAIN = "they measure themselves, and the figures are better than those of any model"


@dataclass(frozen=True, eq=False)
class RealFolder:
    """A folder of real images, read as its run read it."""

    report: FolderReport
    dataset: ImageDataset
    data: DataRecipe

    @property
    def training(self) -> NDArray[np.int64]:
        return self.dataset.training_indices

    @property
    def held_out(self) -> NDArray[np.int64]:
        return self.dataset.held_out_indices

    def labels(self, kind: Conditioning, indices: Sequence[int] | NDArray[np.int64]) -> tuple[str, ...]:
        """The class or caption of each of these images; empty for images without one and unconditional models."""
        return labels_of(self.dataset, kind, indices)


def labels_of(dataset: ImageDataset, kind: Conditioning, indices: Sequence[int] | NDArray[np.int64]) -> tuple[str, ...]:
    """The class or caption of each of these images. Captions that a network reads alike are spelled alike."""
    match kind:
        case Conditioning.CLASS:
            return tuple(dataset.classes[int(dataset.labels[index])] for index in indices)
        case Conditioning.TEXT:
            spelling: dict[str, str] = {}
            for caption in dataset.captions:
                spelling.setdefault(as_one_caption(caption), caption)
            return tuple(spelling[as_one_caption(dataset.captions[index])] for index in indices)
        case Conditioning.NONE:
            return ()


def read_real(folder: Path, data: DataRecipe | None, report: OnProgress, check: Callable[[], None]) -> RealFolder:
    """Inspect and decode a folder, split by its recipe; without one in halves, at the size of its images up to 224 px.

    FolderProblem, StorageProblem, RunProblem.
    """
    found = inspected(folder, report, check)
    if data is None:
        side = max(MIN_SIDE, min(LARGEST_SIDE, found.sides[1]))
        data = DataRecipe(size=side, fit="crop", held_out=_HELD_OUT_WITHOUT_RUN, flips=0.0)
        data, _ = choose_pixels(data, found, 1)
    data = with_ranges(data, found)  # which runs of before did not store
    return RealFolder(found, _decoded(found, data, report, check), data)


def read_generated(
    folder: Path, real: RealFolder, report: OnProgress, check: Callable[[], None], *, same_units: bool = False
) -> ImageDataset:
    """Generated images, decoded as the real ones were; none is held out or excluded. Ranges: see `ranges_of_generated`."""
    found = inspected(folder, report, check)
    ranges, _ = ranges_of_generated(folder.name, found, real, same_units=same_units)
    data = replace(real.data, held_out=0.0, exclude=(), ranges=ranges)
    return _decoded(found, data, report, check, "Give images of the same kind as the real ones")


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


def inspected(folder: Path, report: OnProgress, check: Callable[[], None]) -> FolderReport:
    """The report on the folder's images. FolderProblem."""

    def on_progress(item: InspectionProgress) -> None:
        check()
        report(f"Reading {folder.name}", item.done, item.total)

    with _nothing_to_measure(folder):
        return finish_inspection(folder, on_progress)


@contextmanager
def _nothing_to_measure(folder: Path, remedy: str = "") -> Iterator[None]:
    """Turns the error that there is nothing to train on into one that there is nothing to measure, with its own remedy."""
    try:
        yield
    except FolderProblem as error:
        raise FolderProblem(f"There is nothing to measure in {folder}", error.why, remedy or error.remedy) from error


def _decoded(
    found: FolderReport, data: DataRecipe, report: OnProgress, check: Callable[[], None], remedy: str = ""
) -> ImageDataset:
    def on_progress(done: int, images: int) -> None:
        check()
        report(f"Decoding {found.folder.name}", done, images)

    with _nothing_to_measure(found.folder, remedy):
        return build_dataset(found, data, paths.prepared_images(), on_progress=on_progress)


def with_stored_dataset(real: RealFolder, run: RunFolder) -> tuple[RealFolder, str]:
    """The folder with the split, the captions and the classes that its run stored, and what has changed in it since.

    Unchanged if the run did not store them, or most of its images are not in the folder.
    RunProblem where what it stored is damaged.
    """
    stored = StoredDataset.read(run.dataset_file)
    known = {path.as_posix() for path in real.dataset.paths}
    if stored is None or 2 * sum(path in known for path in stored.paths) < len(stored.paths):
        return real, ""
    dataset = stored.among(real.dataset)
    return replace(real, dataset=dataset), " ".join(_changes(real, stored, dataset, run.name))


def _changes(real: RealFolder, stored: StoredDataset, dataset: ImageDataset, run: str) -> Iterator[str]:
    """What has changed in a folder since a run started, in sentences. `dataset` are the run's images as they are now."""
    folder = real.report.folder
    if added := len(real.dataset) - len(dataset):
        yield f"{count_of(added, 'image')} added to {folder.name} after {run} started: not used."
    if gone := len(stored.paths) - len(dataset):
        yield f"{count_of(gone, 'image')} of {run} {'is' if gone == 1 else 'are'} no longer in {folder.name}: not measured."
    if dataset.file.name == stored.prepared:
        return
    before = stored.open_prepared()
    if before is not None:
        if other := _count_changed(before, dataset):
            yield (
                f"{count_of(other, 'image')} of {folder.name} {'is' if other == 1 else 'are'} not as {run} was trained on: "
                "what is measured on them is not about what it learnt."
            )
    elif not added and not gone and state_of_folder(folder) != stored.state_of_folder:
        yield f"Files of {folder.name} have changed since {run} started: some images may not be those it was trained on."


def _count_changed(before: ImageDataset, now: ImageDataset) -> int:
    """How many images have other pixels than they had before; none if they are read in another form or at another size."""
    number_of = {path: number for number, path in enumerate(before.paths)}
    numbers = [number_of[path] for path in now.paths]
    same_sizes = np.array_equal(before.sizes[numbers], now.sizes)
    if not same_sizes or (before.channels, before.masked) != (now.channels, now.masked):
        return 0
    old = digests(before, numbers)
    return sum(one != other for one, other in zip(old, digests(now, range(len(now))), strict=True))


# ---- what would make a figure wrong ----------------------------------------------------------------------------------


def check_conditioning(subject: CheckpointSubject, real: RealFolder) -> tuple[NDArray[np.int64], str]:
    """The held-out images whose captions or classes the checkpoint can be asked for, and a note on the others.

    BadRequest where there are none.
    """
    kind = subject.checkpoint.conditioning
    held_out = real.held_out
    if kind is Conditioning.NONE:
        return held_out, ""
    labels = real.labels(kind, held_out)
    if kind is Conditioning.TEXT:
        known = [bool(label.strip()) for label in labels]
        needed, lacking = "captions", "no caption"
    else:
        classes = {name.casefold() for name in subject.checkpoint.classes}
        known = [label.casefold() in classes for label in labels]
        needed = f"the classes {', '.join(subject.checkpoint.classes[:_NAMED])}"
        needed += ", …" if len(subject.checkpoint.classes) > _NAMED else ""
        lacking = "a class that it does not know"
    if not any(known):
        raise BadRequest(
            f"{subject.name} cannot be evaluated on {real.report.folder.name}",
            f"it generates from {needed}, and the held-out images have none of them",
            "Evaluate it on the folder that it was trained on",
        )
    left = len(known) - sum(known)
    note = f"{left:,} of {len(known):,} held-out images have {lacking}: {subject.name} was not asked for them."
    return held_out[np.array(known)], note if left else ""


def check_varied(real: RealFolder, *, held_out: bool = True) -> None:
    """BadRequest for a folder in which one part holds a single image, however often. `held_out`: check that part too."""
    for what, indices in (("training", real.training), ("held-out", real.held_out)):
        if what == "held-out" and not held_out:
            continue
        if len(indices) and len(set(digests(real.dataset, indices))) == 1:
            raise BadRequest(
                f"The {what} images of {real.report.folder.name} cannot be compared with",
                f"all {len(indices):,} are equal" if len(indices) > 1 else "there is only one",
                "Use a folder of different images",
            )


def check_no_real_images(name: str, generated: ImageDataset, real: RealFolder) -> None:
    """FolderProblem where a folder of generated images has images of the real folder, which would measure themselves."""
    known = dict(zip(digests(real.dataset, range(len(real.dataset))), real.dataset.paths, strict=True))
    found = [
        (path, known[digest])
        for path, digest in zip(generated.paths, digests(generated, range(len(generated))), strict=True)
        if digest in known
    ]
    if found:
        held_out = {real.dataset.paths[index] for index in real.held_out}
        training = sum(other not in held_out for _, other in found)
        shown = ", ".join(f"{path} is {other}" for path, other in found[:_NAMED]) + (", …" if found[_NAMED:] else "")
        raise FolderProblem(
            f"{len(found):,} of {len(generated):,} images in {name} "
            f"{by_number(len(found), 'is a real image', 'are real images')} of {real.report.folder.name}",
            f"{training:,} of its training part and {len(found) - training:,} of its held-out part: {shown}",
            "Give a folder that holds generated images alone",
        )


def shared_images(one: ImageDataset, other: ImageDataset) -> list[Path]:
    """The images of `one` with the same pixels as an image of `other`; both must be prepared in the same way."""
    known = set(digests(other, range(len(other))))
    return [path for path, found in zip(one.paths, digests(one, range(len(one))), strict=True) if found in known]


def notes_on_compared(
    name: str,
    images: ImageDataset,
    found: FolderReport,
    real: RealFolder,
    consequence: str = SAVED_AGAIN,
    *,
    alike: bool = True,
    same_units: bool = False,
) -> list[str]:
    """Sentences about a folder of images that are compared with the real ones: which are not used, or used only after a
    change, and with `alike` how many of them look like real images. `consequence`: of being the same images, a clause.
    `same_units` as for `read_generated`.
    """
    unused = found.unused(images.skipped, images.unfit)
    about = [f"{name}: {one.sentence()}" for one in unused if one.files]
    about += [
        f"{count:,} of {len(found.images):,} images of {name} {by_number(count, _of_one(what), what)}."
        for what, count in _changed(found, real).items()
        if count
    ]
    about += ranges_of_generated(name, found, real, same_units=same_units)[1]
    similar = alike_images(images, real) if alike else []
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


def alike_images(images: ImageDataset, real: RealFolder) -> list[tuple[Path, Path]]:
    """Images that look like a real one, such as the same image in another format, each with that real image.

    None unless they are more than the near-duplicates among the real images themselves let expect, and none for images of
    more than 8 bits or of other channels than grey, RGB and RGBA, which have no fingerprint.
    """
    prints = [_fingerprints(dataset) for dataset in (real.dataset, images)]
    if not len(prints[0]) or not len(prints[1]):
        return []
    known = len(prints[0])
    same, near, _ = near_duplicates(np.concatenate(prints))
    pairs = sorted([*same, *near], key=lambda pair: pair[1])
    usual = sum(later < known for _, later in pairs) / known
    found = [
        (images.paths[later - known], real.dataset.paths[first]) for first, later in pairs if first < known <= later
    ]
    return found if len(found) > (usual + _USUAL) * len(images) else []


def _fingerprints(dataset: ImageDataset) -> NDArray[np.uint8]:
    """[N,FINGERPRINT_BYTES], of no images if they are not of a kind that has any."""
    found = []
    for image in pixels_of(dataset, range(len(dataset))):
        if image.dtype != np.uint8 or image.shape[-1] not in (1, 3, 4):
            break
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[image.shape[-1]]
        shown = Image.fromarray(image[..., 0] if mode == "L" else image, mode)
        found.append(np.frombuffer(fingerprint(shown if mode == "RGBA" else shown.convert("RGB")), np.uint8))
    return np.stack(found) if found else np.empty((0, FINGERPRINT_BYTES), np.uint8)


def repeated_notes(real: RealFolder) -> list[str]:
    """Sentences about duplicates among the real images of each part, and what they do to the figures."""
    notes = []
    for what, indices in (("training part", real.training), ("held-out part", real.held_out)):
        counts = Counter(digests(real.dataset, indices))
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


def digest_and_flatness(image: NDArray[np.generic]) -> tuple[bytes, bool]:
    """Of an image [H,W,C]: what only equal images share, and whether it is of a single colour."""
    return digest(image), bool((image == image.reshape(-1, image.shape[-1])[0]).all())


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


def pixels_of(dataset: ImageDataset, numbers: Iterable[int]) -> Iterator[NDArray[np.generic]]:
    """The pixels [H,W,C] of each of these images, one at a time."""
    for number in numbers:
        if dataset.images.ndim == 4:
            yield dataset.images[int(number)]
        else:  # of different sizes, stored in one row
            yield dataset.batch([int(number)])[0].permute(1, 2, 0).numpy()


def digests(dataset: ImageDataset, numbers: Iterable[int]) -> list[bytes]:
    return [digest(image) for image in pixels_of(dataset, numbers)]


def digest(image: NDArray[np.generic]) -> bytes:
    """A hash of an image's pixels and size."""
    return hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()


def with_split_of_run(real: RealFolder, subjects: Sequence[Subject]) -> tuple[RealFolder, str]:
    """By the run of the first checkpoint that lies in one; another folder than the run's is read by the recipe alone."""
    for run in filter(None, map(run_of, subjects)):
        trained_on = folder_of(run)
        if trained_on == real.report.folder.resolve() or trained_on is not None and not trained_on.exists():
            return with_stored_dataset(real, run)
    return real, ""
