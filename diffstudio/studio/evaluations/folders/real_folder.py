"""Folders that were read: their reports and their images, and how a run read the real ones. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.captions.caption_files import as_one_caption
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.recipe import DataRecipe


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


@dataclass(frozen=True, eq=False)
class GeneratedFolder:
    """A folder of generated images, read as the real ones were."""

    name: str  # in sentences and tables
    report: FolderReport
    dataset: ImageDataset
    notes: tuple[str, ...]  # on which of its values become black and white

    def __len__(self) -> int:
        return len(self.dataset)


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
