"""Batches: the images, conditions and random numbers of each training step.

Everything is drawn from the run's seed and the number of the step, so a resumed run draws the same as an uninterrupted
one and no random state needs to be stored.
"""

from __future__ import annotations

import hashlib
import random
import threading
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.evaluation.even_spacing import evenly_spaced
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.cascade import reduced
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.data.captions.dropout import CaptionDropout
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.distributed.portion import Portion
from diffstudio.training.distributed.team import ALONE, Team
from diffstudio.training.recipe import Recipe

_STEPS_IN_BLOCK = 1024  # whose buckets are drawn together
_CPU = torch.device("cpu")
MAX_HELD_OUT = 256  # images: enough for a stable loss, few enough for memory and time


@dataclass(frozen=True, slots=True)
class Batch:
    images: Tensor  # [B,C,H,W] float32 in [-1,1]
    condition: Condition
    generator: torch.Generator  # on the CPU, for the times and the noise of this batch only
    pixel_weights: Tensor | None = None  # weights of the loss [B,1,H,W], 0 to 1: masked training
    part: Portion | None = None  # of a global batch; None: these images are all of it
    larger: Batch | None = None  # the same images at the size of the upper level, if the recipe has one

    @property
    def portion(self) -> Portion:
        """Random numbers are drawn for `portion.total` images, and `portion.cut` leaves those of these images."""
        return self.part or Portion.whole(len(self.images))

    def noise(self, device: torch.device, of_one: tuple[int, ...] | None = None) -> Tensor:
        """The generator's next standard normal noise [B, *of_one]; by default of the images. An accelerator draws it."""
        portion = self.portion
        shape = (portion.total, *(self.images.shape[1:] if of_one is None else of_one))
        if device.type == "cpu":
            return portion.cut(torch.randn(shape, generator=self.generator))
        seed = int(torch.randint(2**62, (), generator=self.generator))
        return portion.cut(torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device))

    def to(self, device: torch.device) -> Batch:
        condition = Condition(*(value if value is None else value.to(device) for value in self.condition))
        weights = None if self.pixel_weights is None else self.pixel_weights.to(device)
        larger = None if self.larger is None else self.larger.to(device)
        return Batch(self.images.to(device), condition, self.generator, weights, self.part, larger)


class Batches:
    """`at(step)` is the batch of that step, 0-based. Each epoch has a new order; a batch may span two epochs.

    With aspect buckets a batch has images of one size. Which one is drawn for each step, in proportion to their numbers of
    images, and each size has epochs of its own, so that every image is seen equally often.

    A process of a team reads its own images of each batch only.
    """

    def __init__(
        self, dataset: ImageDataset, recipe: Recipe, tokenizer: CaptionTokenizer | None, team: Team = ALONE
    ) -> None:
        network = recipe.network
        self.team = team
        self._dataset, self._recipe, self._tokenizer = dataset, recipe, tokenizer
        self._training = dataset.training_indices
        if dataset.repeats:
            self._training = np.repeat(self._training, np.array(dataset.repeats)[self._training])
        self._buckets = dataset.buckets_of(self._training)
        self._factor = recipe.upper.factor
        self._lock = threading.Lock()  # around the next: batches may be drawn by several threads
        self._drawn_before: list[NDArray[np.int64]] = []  # [blocks] [buckets]: how often before that block of steps
        self._augmentation = Augmentation(recipe.data)
        self._dropout = CaptionDropout(network.drop_condition, network.name_share, network.tags_share)

    def at(self, step: int, device: torch.device = _CPU) -> Batch:
        """The batch of a step, on `device`, to which its images go as they are stored, and where they are augmented.

        A processor would take several times as long to augment large images as an accelerator to train on them.
        """
        seed = derived_seed(self._recipe.run.seed, "step", step)
        generator = torch.Generator().manual_seed(seed)
        indices = self._indices(step)
        part = self.team.portion(len(indices))
        own = indices[part.first : part.first + part.count]
        pixels, augment_labels = self._augmentation.apply(
            self._dataset.batch_with_masks(own, device=device), generator, part
        )
        condition = self._condition(indices, random.Random(seed), part)
        if self._recipe.data.augment_labels:
            condition = condition._replace(augment_labels=augment_labels)
        batch = self._weighted(pixels, condition, generator)
        return replace(batch, part=part, larger=batch.larger and replace(batch.larger, part=part)).to(device)

    def keep_on(self, device: torch.device) -> None:
        """Batches on this device will be drawn often: see `ImageDataset.keep_on`."""
        self._dataset.keep_on(device)

    def held_out(self) -> Batch:
        """The held-out images (at most MAX_HELD_OUT), not augmented, with full captions; the same noise at every call."""
        indices = self._dataset.held_out_indices
        return self._fixed(indices[:: -(-len(indices) // MAX_HELD_OUT) or 1])

    def training_part(self) -> Batch:
        """As many training images as `held_out` has, evenly spread, in the same way: to compare the losses."""
        return self.training_batch(len(self.held_out().images))

    def training_batch(self, most: int) -> Batch:
        """At most `most` training images, evenly spread, without augmentation or caption dropout."""
        return self._fixed(self._spread(most))

    def training_images(self, most: int) -> Tensor:
        """[N,C,S,S] in [-1,1]: at most so many training images, evenly spread."""
        images = self._dataset.batch(self._spread(most), usual_size=True)
        return reduced(images, self._factor) if self._factor else images

    def _spread(self, most: int) -> NDArray[np.int64]:
        training = self._dataset.training_indices  # each once, however often it is drawn
        return training[evenly_spaced(len(training), most)]

    def _fixed(self, indices: NDArray[np.int64]) -> Batch:
        generator = torch.Generator().manual_seed(derived_seed(self._recipe.run.seed, "held out", 0))
        return self._weighted(
            self._dataset.batch_with_masks(indices, usual_size=True),
            self.condition_of(
                [self._dataset.captions[index] for index in indices],
                [int(self._dataset.labels[index]) for index in indices],
            ),
            generator,
        )

    def _weighted(self, pixels: Tensor, condition: Condition, generator: torch.Generator) -> Batch:
        """A batch of images [B,C,H,W], or of images and masks [B,C+1,H,W]; black pixels get the recipe's weight."""
        if self._factor:
            larger = self._one_size(pixels, condition, generator)
            return replace(self._one_size(reduced(pixels, self._factor), condition, generator), larger=larger)
        return self._one_size(pixels, condition, generator)

    def _one_size(self, pixels: Tensor, condition: Condition, generator: torch.Generator) -> Batch:
        if not self._dataset.masked:
            return Batch(pixels, condition, generator)
        weights = ((pixels[:, -1:] + 1) / 2).clamp(self._recipe.data.unmasked_weight, 1)
        return Batch(pixels[:, :-1], condition, generator, weights)

    def condition_of(self, captions: list[str], labels: list[int]) -> Condition:
        """The condition for these captions or class labels, whichever the network uses."""
        match self._recipe.network.conditioning:
            case Conditioning.TEXT:
                assert self._tokenizer is not None
                return Condition(token_ids=self._tokenizer.encode(captions, self._recipe.network.text_tokens))
            case Conditioning.CLASS:
                return Condition(class_labels=torch.tensor(labels, dtype=torch.int64))
            case Conditioning.NONE:
                return Condition()

    def _condition(self, indices: NDArray[np.int64], rng: random.Random, part: Portion) -> Condition:
        """Of the images of `part`; drawn for all of them."""
        captions = [self._dropout.draw(self._caption(int(index), rng), rng) for index in indices]
        no_class = len(self._dataset.classes)
        labels = [
            no_class if rng.random() < self._recipe.network.drop_condition else int(self._dataset.labels[index])
            for index in indices
        ]
        own = slice(part.first, part.first + part.count)
        return self.condition_of(captions[own], labels[own])

    def _caption(self, index: int, rng: random.Random) -> str:
        """One of the captions of an image."""
        alternatives = self._dataset.alternatives[index] if self._dataset.alternatives else ()
        return rng.choice(alternatives) if len(alternatives) > 1 else self._dataset.captions[index]

    def _indices(self, step: int) -> NDArray[np.int64]:
        if len(self._buckets) == 1:
            return self._epochs_of(self._training, step, "epoch")
        bucket, count = self._bucket_of(step)
        return self._epochs_of(self._buckets[bucket], count, f"epoch of bucket {bucket}")

    def _epochs_of(self, images: NDArray[np.int64], count: int, purpose: str) -> NDArray[np.int64]:
        """The batch after `count` others, of epochs over `images` that follow each other."""
        size, batch = len(images), self._recipe.run.batch
        positions = np.arange(count * batch, (count + 1) * batch)
        orders = {
            epoch: np.random.default_rng(derived_seed(self._recipe.run.seed, purpose, epoch)).permutation(size)
            for epoch in range(int(positions[0]) // size, int(positions[-1]) // size + 1)
        }
        return np.array([images[orders[int(position) // size][int(position) % size]] for position in positions])

    def _bucket_of(self, step: int) -> tuple[int, int]:
        """The bucket of a step, and in how many earlier steps it was drawn."""
        block, within = divmod(step, _STEPS_IN_BLOCK)
        with self._lock:
            while len(self._drawn_before) <= block:
                earlier = len(self._drawn_before)
                before = np.zeros(len(self._buckets), dtype=np.int64)
                if earlier:
                    drawn = np.bincount(self._draws(earlier - 1), minlength=len(self._buckets))
                    before = self._drawn_before[-1] + drawn
                self._drawn_before.append(before)
        draws = self._draws(block)
        bucket = int(draws[within])
        return bucket, int(self._drawn_before[block][bucket]) + int((draws[:within] == bucket).sum())

    def _draws(self, block: int) -> NDArray[np.int64]:
        """The bucket of each step of a block."""
        counts = np.array([len(bucket) for bucket in self._buckets])
        rng = np.random.default_rng(derived_seed(self._recipe.run.seed, "buckets", block))
        return rng.choice(len(counts), size=_STEPS_IN_BLOCK, p=counts / counts.sum())


def derived_seed(seed: int, purpose: str, index: int) -> int:
    """A seed of 63 bits that no other purpose or index shares."""
    digest = hashlib.sha256(f"{seed} {purpose} {index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
