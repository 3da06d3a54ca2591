"""Copies and diversity of made-up samples, among images whose copies and duplicates are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.evidence.evidence import Evidence, SampleMetrics
from diffstudio.training.recipe import DataRecipe

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (70, 4, 4, 3)).repeat(6, axis=1).repeat(6, axis=2).astype(np.uint8)  # [70,24,24,3]


def dataset(pixels: np.ndarray, held_out: int) -> ImageDataset:
    count = len(pixels)
    names = tuple(Path(f"{index:02d}.png") for index in range(count))
    kept = np.arange(count) >= count - held_out
    return ImageDataset(
        pixels,
        ("",) * count,
        ("",),
        np.zeros(count, np.int64),
        kept,
        names,
        (),
        Path("none"),
        np.full((len(pixels), 2), pixels.shape[1]),
    )


def judge(pixels: np.ndarray = PIXELS, held_out: int = 10, **data: float) -> SampleMetrics:
    return SampleMetrics(dataset(pixels, held_out), DataRecipe(size=24, **data), 0)  # type: ignore[arg-type]


def images(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_copies_are_found_with_their_originals_and_others_are_not() -> None:
    noisy = images(PIXELS[[3, 7]]) + 0.05 * torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    other = images(np.random.default_rng(1).integers(0, 256, (2, 24, 24, 3)).astype(np.uint8))
    found = judge().copies(torch.cat([noisy, images(PIXELS[65:67]), other]))
    assert found is not None and set(found.copied) == {0, 1}
    assert found.nearest[:2] == ("03.png", "07.png") and max(found.ratios[:2]) < 0.2 < min(found.ratios[2:])


@pytest.mark.parametrize("flips", [0.0, 0.3])
def test_a_flipped_copy_is_one_where_the_run_flips(flips: float) -> None:
    found = judge(flips=flips).copies(images(PIXELS[[3]]).flip(-1))
    assert found is not None and found.copied == ((0,) if flips else ())


def test_few_images_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = ImageDataset.batch

    def batch(data: ImageDataset, indices: np.ndarray) -> torch.Tensor:
        sizes.append(len(indices))
        return real(data, indices)

    monkeypatch.setattr(ImageDataset, "batch", batch)
    pixels = np.random.default_rng(4).integers(0, 256, (300, 24, 24, 3)).astype(np.uint8)
    judge(pixels, held_out=100, flips=0.3)
    assert sum(sizes) == 300 and max(sizes) <= 64


def test_duplicates_in_the_folder_hide_no_copies() -> None:
    doubled = np.concatenate([PIXELS[:20], PIXELS[:20]])
    examined = judge(doubled, held_out=0)
    found = examined.copies(images(PIXELS[[3]]))
    assert found is not None and found.copied == (0,) and examined.different_images == 20


def test_diversity_is_one_for_other_images_and_near_nothing_for_equal_ones() -> None:
    spread, vendi, real = judge().diversity(images(PIXELS[60:70])) or (0.0, 0.0, 0.0)
    assert spread == pytest.approx(1, abs=0.1) and vendi == pytest.approx(real, rel=0.1)
    equal = images(PIXELS[[60] * 10])
    spread, vendi, _ = judge().diversity(equal) or (1.0, 9.0, 0.0)
    assert spread < 0.01 and vendi == pytest.approx(1, abs=1e-3)


def test_coverage_of_good_and_of_collapsed_samples_beside_training_images() -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (120, 8, 8, 3)).astype(np.uint8)
    pixels[::2] //= 8  # two modes
    examined = judge(pixels, held_out=60)
    good = examined.coverage(images(pixels[-20:]))
    collapsed = examined.coverage(images(pixels[[61] * 20]))
    assert good is not None and collapsed is not None and good.samples == collapsed.samples == 20
    assert good.real_coverage == collapsed.real_coverage > 0.4 and good.within is None
    assert good.coverage > 0.7 * good.real_coverage and collapsed.coverage < 0.25 * good.real_coverage
    assert collapsed.recall == 0 and good.recall is not None and good.recall > 0.5
    assert examined.coverage(images(pixels[:10])) is None  # too few samples
    assert examined.coverage(images(pixels[:20]) * float("nan")) is None
    assert judge(pixels, held_out=20).coverage(images(pixels[:20])) is None


@pytest.mark.parametrize("pixels", [PIXELS[:1], PIXELS[:2], PIXELS[[0] * 6]])
def test_one_image_two_images_and_equal_images_are_no_division_by_zero(pixels: np.ndarray) -> None:
    examined = judge(pixels, held_out=0, rotation_degrees=10.0)
    samples = images(PIXELS[:4])
    assert examined.copies(samples) is None
    assert examined.different_images == (2 if len(pixels) == 2 else 1)
    assert (examined.diversity(samples) is None) == (len(pixels) != 2)


def test_samples_that_are_not_finite_are_not_compared() -> None:
    broken = torch.full((2, 3, 24, 24), float("nan"))
    assert judge().copies(broken) is None and judge().diversity(broken) is None


def test_evidence_survives_its_file() -> None:
    evidence = Evidence(3, 0.5, 10, 9, 1.0, 2, losses=((1, 0.5), (2, 0.4)), copied_images=("a.png",))
    assert Evidence.from_json(evidence.to_json()) == evidence
