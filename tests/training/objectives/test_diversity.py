"""How diverse samples are: of generators that collapse in known ways, and of one that gives real images."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from diffstudio.evaluation.features.random_network import random_network
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.one_call import OneCallConfig
from diffstudio.networks.transformer import Condition
from diffstudio.training.data.batches import Batches
from diffstudio.training.objectives.diversity import measure_diversity
from tests.training.objectives.small import CPU, dataset, recipe


@dataclass
class Given:
    """Gives training images of the class that is asked for: any, or the first of each class only."""

    batches: Batches
    conditioning: Conditioning
    different: int
    config: OneCallConfig = field(init=False)
    noise_shape: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        self.config = OneCallConfig(image_size=8, patch_size=2, conditioning=self.conditioning, num_classes=2)
        everything = self.batches.training_batch(512)
        self.images, self.labels = everything.images, everything.condition.class_labels

    def generate(self, noise: Tensor, condition: Condition) -> Tensor:
        labels = condition.class_labels
        found = []
        for index, value in enumerate(noise.flatten()):
            fits = self.images if labels is None else self.images[self.labels == labels[index]]
            place = int(torch.special.ndtr(value) * min(self.different, len(fits)))
            found.append(fits[min(place, len(fits) - 1)])
        return torch.stack(found)


@pytest.mark.parametrize("conditioning", [Conditioning.CLASS, Conditioning.NONE])
def test_real_images_cover_the_others_and_one_of_each_class_does_not(conditioning: Conditioning) -> None:
    images = dataset(200, 60, classes=2 if conditioning is Conditioning.CLASS else 1)
    batches, features = Batches(images, recipe("gan", conditioning), None), random_network(1)
    real = measure_diversity(Given(batches, conditioning, 512), batches, features, CPU)
    assert real is not None and real.within is not None and real.within == pytest.approx(1, abs=0.2)
    assert real.coverage == pytest.approx(real.real_coverage, abs=0.1) and real.real_coverage > 0.8
    collapsed = measure_diversity(Given(batches, conditioning, 1), batches, features, CPU)
    assert collapsed is not None and collapsed.within == pytest.approx(0, abs=1e-3)
    assert collapsed.precision > 0.9 and collapsed.coverage < 0.25 * collapsed.real_coverage  # precision says nothing
    few = measure_diversity(Given(batches, conditioning, 4), batches, features, CPU)
    assert few is not None and collapsed.coverage < few.coverage < real.coverage


def test_too_few_images_and_images_that_are_not_finite_are_not_measured() -> None:
    batches = Batches(dataset(60, 10), recipe("gan"), None)
    assert measure_diversity(Given(batches, Conditioning.CLASS, 1), batches, random_network(1), CPU) is None
    batches = Batches(dataset(60, 20), recipe("gan"), None)
    broken = Given(batches, Conditioning.CLASS, 1)
    broken.images = broken.images / 0
    assert measure_diversity(broken, batches, random_network(1), CPU) is None
