"""What a run was started with, in its dataset.json: images, captions, classes and which are held out.

A resumed run uses it, and the prepared images in the cache, whatever happened to the folder in the meantime.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffstudio import paths
from diffstudio.atomic import write_text
from diffstudio.errors import FolderProblem, RunProblem, UnexpectedValue, newer_format, why_unreadable
from diffstudio.plurals import count_of
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.recipe import Recipe

FORMAT = 1
_REMEDY = "Start a new run from its last checkpoint"
_CHANGE_BACK = "Change it back, or start a new run"
_FEWEST_FOUND = 0.5  # of a run's images that a moved folder must hold


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """The content of dataset.json. The tuples have an entry for each image."""

    paths: tuple[str, ...]  # inside the folder
    captions: tuple[str, ...]
    labels: tuple[int, ...]
    held_out: tuple[bool, ...]
    classes: tuple[str, ...]
    prepared: str  # name of the file of prepared images in the cache
    state_of_folder: str
    data: Mapping[str, Any]  # of the recipe
    left_out: tuple[str, ...] = ()  # what was not used, in sentences
    alternatives: tuple[tuple[str, ...], ...] = ()  # all captions of each image; empty: none has more than one
    sizes: tuple[tuple[int, int], ...] = ()  # width and height of each prepared image, px
    channels: int = 3
    repeats: tuple[int, ...] = ()  # how many times as often as others each is drawn; empty: all equally often
    masked: bool = False  # the prepared images have a mask as an extra channel
    folds: tuple[int, ...] = ()  # of a cross-validation, one for each image; empty without one

    @classmethod
    def of(cls, dataset: ImageDataset, recipe: Recipe, folder: Path, left_out: Sequence[str] = ()) -> StoredDataset:
        return cls(
            tuple(path.as_posix() for path in dataset.paths),
            tuple(dataset.captions),
            tuple(int(label) for label in dataset.labels),
            tuple(bool(held_out) for held_out in dataset.held_out),
            tuple(dataset.classes),
            dataset.file.name,
            state_of_folder(folder),
            recipe.to_json()["data"],
            tuple(left_out),
            dataset.alternatives,
            tuple((int(width), int(height)) for width, height in dataset.sizes),
            dataset.channels,
            dataset.repeats,
            dataset.masked,
            dataset.folds,
        )

    def write(self, file: Path) -> None:
        """StorageProblem when that fails."""
        write_text(file, json.dumps({"format": FORMAT} | asdict(self), ensure_ascii=False))

    @classmethod
    def read(cls, file: Path) -> StoredDataset | None:
        """None for an earlier run, which has no such file. RunProblem when it is damaged."""
        try:
            values = json.loads(file.read_text(encoding="utf-8", errors="surrogatepass"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise _damaged(file, error) from error
        try:
            if values["format"] > FORMAT:
                raise newer_format(f"{file.name} of the run {file.parent.name}", values["format"], FORMAT)
            return cls.from_values(values)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(file, error) from error

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> StoredDataset:
        """From its fields as JSON. KeyError, TypeError or ValueError for damaged ones."""
        found = cls(
            paths=tuple(values["paths"]),
            captions=tuple(values["captions"]),
            labels=tuple(values["labels"]),
            held_out=tuple(values["held_out"]),
            classes=tuple(values["classes"]),
            prepared=str(values["prepared"]),
            state_of_folder=str(values["state_of_folder"]),
            data=dict(values["data"]),
            left_out=tuple(values["left_out"]),
            alternatives=tuple(tuple(captions) for captions in values["alternatives"]),
            sizes=tuple((int(width), int(height)) for width, height in values["sizes"]),
            channels=int(values["channels"]),
            repeats=tuple(values["repeats"]),
            masked=bool(values.get("masked", False)),
            folds=tuple(int(fold) for fold in values.get("folds", ())),
        )
        if len({len(found.paths), len(found.captions), len(found.labels), len(found.held_out), len(found.sizes)}) != 1:
            raise UnexpectedValue("its lists differ in length")
        if found.folds and len(found.folds) != len(found.paths):
            raise UnexpectedValue("not every image has a fold")
        return found

    def check_recipe(self, recipe: Recipe) -> None:
        """RunProblem where the recipe's data section was changed: the images are prepared and dealt out already."""
        now = json.loads(json.dumps(recipe.to_json()["data"]))
        before = json.loads(json.dumps(dict(self.data)))
        changed = sorted(name for name in now if name in before and now[name] != before[name])
        if changed:
            raise RunProblem(
                f"recipe.data.{changed[0]} was changed after the run had started",
                f"it was {before[changed[0]]!r} when its images were prepared",
                _CHANGE_BACK,
            )

        side = recipe.prepared.size
        if recipe.data.fit != "bucket" and any(size != (side, side) for size in self.sizes):
            raise RunProblem(
                "recipe.upper.factor was changed after the run had started",
                f"its images were prepared at another size than {side} px",
                _CHANGE_BACK,
            )

    def open_prepared(self) -> ImageDataset | None:
        """The dataset from the prepared images in the cache; None where they are not there any more."""
        file = paths.prepared_images() / self.prepared
        try:
            images = np.load(file, mmap_mode="r", allow_pickle=False)
            os.utime(file)  # the time of its last use
        except (OSError, ValueError, EOFError):
            return None
        values = sum(width * height for width, height in self.sizes) * (self.channels + self.masked)
        if images.size != values or images.ndim == 4 and len(images) != len(self.paths):
            return None
        return self._dataset(images, file)

    def among(self, dataset: ImageDataset) -> ImageDataset:
        """The images of the run among those of a dataset that was prepared anew. RunProblem where most are missing."""
        index_of = {path.as_posix(): index for index, path in enumerate(dataset.paths)}
        kept = [index for index, path in enumerate(self.paths) if path in index_of]
        if len(kept) < _FEWEST_FOUND * len(self.paths):
            raise self._other_images(len(self.paths) - len(kept))
        found = np.array([index_of[self.paths[index]] for index in kept], dtype=np.int64)
        rest = replace(
            self,
            paths=tuple(self.paths[index] for index in kept),
            captions=tuple(self.captions[index] for index in kept),
            labels=tuple(self.labels[index] for index in kept),
            held_out=tuple(self.held_out[index] for index in kept),
            alternatives=tuple(self.alternatives[index] for index in kept) if self.alternatives else (),
            sizes=tuple((int(width), int(height)) for width, height in dataset.sizes[found]),
            repeats=tuple(self.repeats[index] for index in kept) if self.repeats else (),
            masked=dataset.masked,
            folds=tuple(self.folds[index] for index in kept) if self.folds else (),
        )
        unchanged = np.array_equal(found, np.arange(len(dataset)))
        images = dataset.images if unchanged else dataset.rows_of(found)  # the former is mapped, not in memory
        return replace(rest._dataset(images, dataset.file), skipped=dataset.skipped)

    def _dataset(self, images: Any, file: Path) -> ImageDataset:
        return ImageDataset(
            images=images,
            captions=self.captions,
            classes=self.classes,
            labels=np.array(self.labels, dtype=np.int64),
            held_out=np.array(self.held_out, dtype=bool),
            paths=tuple(Path(path) for path in self.paths),
            skipped=(),
            file=file,
            alternatives=self.alternatives,
            sizes=np.array(self.sizes, dtype=np.int64),
            channels=self.channels,
            repeats=self.repeats,
            masked=self.masked,
            folds=self.folds,
        )

    def check_moved(self, folder: Path) -> None:
        """RunProblem or FolderProblem where `folder` is not the run's own under another name or place."""
        if not folder.is_dir():
            raise FolderProblem(f"There is no folder {folder}", remedy="Choose the folder that the images are in now")
        missing = sum(not (folder / path).is_file() for path in self.paths)
        if missing > (1 - _FEWEST_FOUND) * len(self.paths):
            raise self._other_images(missing)

    def _other_images(self, missing: int) -> RunProblem:
        return RunProblem(
            "The folder does not hold the images of this run",
            f"{missing:,} of {len(self.paths):,} are missing",
            "Choose the folder they are in, or start a new run from this one's checkpoint",
        )

    def changes(self, folder: Path, *, prepared_again: bool = False) -> list[str]:
        """What happened to the folder since the run started, in sentences.

        `prepared_again`: the prepared images were gone from the cache, so that those of the folder as it is now are used.
        """
        if not folder.is_dir():
            return [f"{folder} no longer exists: the run continues with its prepared images."]
        if state_of_folder(folder) == self.state_of_folder:
            return []
        known = set(self.paths)
        suffixes = {Path(path).suffix.casefold() for path in known}
        now = {path.as_posix() for path in _files(folder)}
        added = sum(path not in known and Path(path).suffix.casefold() in suffixes for path in now)
        gone = len(known - now)
        found = []
        if gone:
            found.append(
                f"{count_of(gone, 'image')} of the run {'is' if gone == 1 else 'are'} no longer in the folder."
            )
        if added:
            found.append(
                f"{count_of(added, 'image')} added to the folder since then {'is' if added == 1 else 'are'} not used: "
                "start a new run to use them."
            )
        if prepared_again:
            return [
                *found,
                "The folder has changed, and the images that were prepared from it are no longer in the cache: the run continues "
                "with the files as they are now, which may be other images.",
            ]
        return found or ["The folder has changed: the run continues with the images and captions that it started with."]


def _damaged(file: Path, error: Exception) -> RunProblem:
    return RunProblem(
        f"What the run {file.parent.name} was started with cannot be read",
        f"{file.name}: {why_unreadable(error)}",
        _REMEDY,
    )


def state_of_folder(folder: Path) -> str:
    """A digest of the names, sizes and times of all files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(_files(folder)):
        try:
            status = (folder / path).stat()
        except OSError:
            continue
        digest.update(f"{path.as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def _files(folder: Path) -> list[Path]:
    return [Path(parent, name).relative_to(folder) for parent, _, names in os.walk(folder) for name in names]
