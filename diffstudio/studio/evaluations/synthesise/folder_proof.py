"""The proof that synthetic images are useful, on the folder of real images that they were made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffstudio.errors import BadRequest
from diffstudio.studio.evaluations.folders.reading import read_generated
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.samples import as_tensor
from diffstudio.studio.evaluations.synthesise.prove import Labelled, Proving
from diffstudio.studio.evaluations.synthesise.records import Record, SyntheticFolder
from diffstudio.studio.evaluations.synthesise.request import SynthesiseRequest
from diffstudio.studio.evaluations.synthesise.result import Proof
from diffstudio.training.data.inspect_folder import MIN_SIDE


def proof_on_folder(
    request: SynthesiseRequest,
    real: RealFolder,
    folder: SyntheticFolder,
    device: torch.device,
    check: Callable[[], None],
    on_progress: OnProgress,
) -> Proof:
    """Whether the synthetic images of `folder` help a classifier of the real ones.

    BadRequest where the real folder has no classes, or none of the synthetic images can be used.
    """
    groups = {record.path.as_posix(): record.group for record in real.report.images}
    names = sorted({groups.get(path.as_posix(), "") for path in real.dataset.paths})
    if len(names) < 2:
        raise BadRequest(
            f"The benefit of synthetic images of {real.report.folder.name} cannot be proved",
            "a classifier needs two classes, and the folder has none",
        )
    numbers = {name: number for number, name in enumerate(names)}

    def part(indices: np.ndarray) -> Labelled:
        labels = [numbers[groups.get(real.dataset.paths[index].as_posix(), "")] for index in indices]
        return Labelled(lambda chosen: real.dataset.batch(indices[chosen]), np.array(labels, np.int64))

    class_of = _class_of_label(real, groups)
    kept = {record.file: record for record in folder.kept if not record.near_held_out and record.label in class_of}
    if not kept:
        raise BadRequest(
            "The benefit of these synthetic images cannot be proved",
            "all of them have unknown classes or are near-copies of held-out images",
        )
    synthetic = _read(folder.path, kept, numbers, class_of, real, check, on_progress)
    proving = Proving(
        part(real.training),
        part(real.held_out),
        len(names),
        real.data.flips > 0,
        device,
        request.seeds,
        check,
        on_progress,
    )
    left_out = sum(bool(record.near_held_out) for record in folder.kept)
    return proving.prove(synthetic, request.ratios, left_out)


def _read(
    path: Path,
    kept: Mapping[str, Record],
    numbers: Mapping[str, int],
    class_of: Mapping[str, str],
    real: RealFolder,
    check: Callable[[], None],
    on_progress: OnProgress,
) -> Labelled:
    """The images of these records, read from their files in the same way as the real ones.

    Images below the smallest size allowed in a folder are not resized: their 8-bit values are used as they are.
    """
    if min(real.dataset.size) < MIN_SIDE and real.data.form.bits == 8:
        files = list(kept)
        pixels = np.stack([_pixels(path / file) for file in files])
        images = as_tensor(pixels if pixels.ndim == 4 else pixels[..., None])
        asked = [kept[file].label for file in files]
        labels = np.array([numbers[class_of[label]] for label in asked], np.int64)
        return Labelled(lambda part: images[torch.from_numpy(part)], labels, asked)
    dataset = read_generated(path, real, on_progress, check).dataset
    chosen = np.array([index for index, one in enumerate(dataset.paths) if one.as_posix() in kept], np.int64)
    asked = [kept[dataset.paths[index].as_posix()].label for index in chosen]
    labels = np.array([numbers[class_of[label]] for label in asked], np.int64)
    return Labelled(lambda part: dataset.batch(chosen[part]), labels, asked)


def _class_of_label(real: RealFolder, groups: Mapping[str, str]) -> dict[str, str]:
    """The class of each label of a checkpoint: itself, or for a caption the class of all training images with it."""
    found: dict[str, set[str]] = {name: {name} for name in groups.values()}
    for index in real.training:
        caption = real.dataset.captions[index]
        if caption and caption not in groups.values():
            found.setdefault(caption, set()).add(groups.get(real.dataset.paths[index].as_posix(), ""))
    return {label: next(iter(names)) for label, names in found.items() if len(names) == 1}


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)
