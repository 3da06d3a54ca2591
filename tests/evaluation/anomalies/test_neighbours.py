"""Distances to normal images and patches, which show what is not normal and where."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffstudio.evaluation.anomalies import neighbours
from diffstudio.evaluation.anomalies.neighbours import PatchNeighbours, PixelNeighbours, coreset


def stripes(count: int, side: int = 32) -> torch.Tensor:
    """Grey images [N,1,S,S] of vertical stripes, a little different each."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.sin(torch.arange(side) * 0.8)
    return (
        0.7 * columns.expand(count, 1, side, side) + 0.05 * torch.randn(count, 1, side, side, generator=generator)
    ).clamp(-1, 1)


def test_the_nearest_image_and_where_it_differs() -> None:
    normals = stripes(6)
    image = normals[4:5].clone()
    image[0, 0, 10, 20] += 0.5
    scores, maps = PixelNeighbours(normals).score(image)
    np.testing.assert_allclose(scores, [0.5], rtol=1e-4)
    assert maps.shape == (1, 32, 32) and maps[0].argmax() == 10 * 32 + 20


def test_a_patch_unlike_all_normal_ones_is_found_at_its_place() -> None:
    normals = stripes(5)
    found = PatchNeighbours.of(normals[:4], torch.device("cpu"))
    image = normals[4:5].clone()
    image[0, 0, 4:12, 18:26] = 1.0
    usual, _, _ = found.score(normals[4:5])
    scores, maps, _ = found.score(image)
    assert scores[0] > 1.5 * usual[0]
    row, column = np.unravel_index(maps[0].argmax(), (32, 32))
    assert 2 <= row < 14 and 16 <= column < 28


def test_images_are_summarised_by_their_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_MOST_IMAGES", 3)
    normals = stripes(6)
    found = PatchNeighbours.of(normals, torch.device("cpu"))
    assert found.used.tolist() == [0, 2, 4] and found.summaries.shape == (3, 2 * 152)
    _, _, summaries = found.score(normals[found.used])
    np.testing.assert_allclose(summaries, found.summaries, atol=1e-4)
    _, _, of_noise = found.score(torch.rand(1, 1, 32, 32))
    among = np.abs(summaries - summaries.mean(axis=0)).max()
    assert np.abs(of_noise - summaries.mean(axis=0)).max() > 5 * among


def test_the_coreset_keeps_rare_patches_that_a_random_choice_leaves_out() -> None:
    """Of 2,000 equal patches and five rare ones, each far from all others, a coreset of six has one of each."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.zeros(2005, 40)
    patches[:2000] = 0.01 * torch.randn(2000, 40, generator=generator)
    patches[2000:] = 3 * torch.eye(40)[:5]
    patches = patches[torch.randperm(2005, generator=generator)]
    chosen = coreset(patches, 6)
    assert sorted(chosen.abs().max(dim=1).values.round().tolist()) == [0, 3, 3, 3, 3, 3]
    assert len({int(row.argmax()) for row in chosen if row.max() > 2}) == 5
    random = patches[torch.randperm(2005, generator=generator)[:6]]
    assert random.max() < 1
    assert torch.equal(coreset(patches, 3000), patches)


def test_the_coreset_covers_better_than_a_random_choice() -> None:
    """The largest distance to the nearest chosen patch, on features of lognormal density."""
    patches = torch.exp(torch.randn(3000, 20, generator=torch.Generator().manual_seed(1)))
    farthest = [torch.cdist(patches, chosen).min(dim=1).values.max() for chosen in (coreset(patches, 60), patches[:60])]
    assert farthest[0] < 0.6 * farthest[1]
