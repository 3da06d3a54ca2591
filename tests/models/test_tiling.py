"""Tiles cover everything, overlap as much as they should, and leave no seams."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffstudio.models.tiling import feather, over_tiles, starts, tiles


@given(length=st.integers(1, 5000), tile_size=st.integers(1, 700), overlap=st.integers(0, 699))
def test_tiles_cover_and_overlap(length: int, tile_size: int, overlap: int) -> None:
    if overlap >= tile_size:
        overlap = tile_size - 1
    begin = starts(length, tile_size, overlap)
    assert begin[0] == 0 and begin[-1] + min(tile_size, length) == length
    gaps = [after - before for before, after in zip(begin, begin[1:], strict=False)]
    assert all(0 < gap <= max(1, tile_size - overlap) for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1  # spread evenly


def test_tiles_cannot_overlap_completely() -> None:
    with pytest.raises(ValueError, match="cannot overlap"):
        starts(100, 10, 10)


def test_weights_are_symmetric_positive_and_flat_inside() -> None:
    weight = feather(12, 20, 4)
    assert weight.shape == (12, 20) and weight.min() > 0
    assert torch.equal(weight, weight.flip(0)) and torch.equal(weight, weight.flip(1))
    assert (weight[4:-4, 4:-4] == 1).all()
    assert (weight[6, :4].diff() > 0).all()


@pytest.mark.parametrize(("height", "width"), [(7, 7), (64, 33), (100, 101)])
def test_what_each_pixel_says_alone_comes_out_as_if_whole(height: int, width: int) -> None:
    picture = torch.randn(2, 3, height, width)
    whole = torch.nn.functional.interpolate(picture.sin(), scale_factor=2.0, mode="nearest")

    def enlarge(tile: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(tile.sin(), scale_factor=2.0, mode="nearest")

    assert torch.allclose(over_tiles(enlarge, picture, 24, 8, scale=2), whole, atol=1e-6)


def test_where_tiles_disagree_the_change_is_gradual() -> None:
    """Each tile has another constant value: the worst case. No step between neighbours exceeds one ramp's."""
    answers = iter(range(100))
    made = over_tiles(lambda tile: torch.full_like(tile, float(next(answers) % 2)), torch.zeros(1, 1, 16, 200), 40, 16)
    assert made.min() >= 0 and made.max() <= 1
    assert made.diff(dim=-1).abs().max() < 0.15


def test_progress_is_told_and_may_stop_it() -> None:
    reported: list[tuple[int, int]] = []
    over_tiles(lambda tile: tile, torch.zeros(1, 1, 30, 10), 10, 0, progress=lambda *what: reported.append(what))
    assert reported == [(1, 3), (2, 3), (3, 3)]

    def stop(done: int, count: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        over_tiles(lambda tile: tile, torch.zeros(1, 1, 30, 10), 10, 0, progress=stop)


def test_tiles_lie_within_the_picture() -> None:
    for tile in tiles(50, 20, 32, 8):
        assert tile.of(torch.zeros(1, 1, 50, 20)).shape[-2:] == (tile.height, tile.width) == (32, 20)
