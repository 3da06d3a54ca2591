"""Maps of words from attention, against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from diffstudio.evaluation.attention.maps import attention_weights, of_words, output_similarity, resized, token_grid


def test_weights_are_the_mean_of_the_heads_softmax() -> None:
    q, k = torch.randn(3, 5, 4), torch.randn(3, 7, 4)
    scores = torch.einsum("hnd,hmd->hnm", q.double(), k.double()) / math.sqrt(4)
    expected = (scores.exp() / scores.exp().sum(-1, keepdim=True)).mean(0)
    torch.testing.assert_close(attention_weights(q, k).double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(attention_weights(q, k).sum(1), torch.ones(5))
    assert attention_weights(q.half(), k.half()).dtype is torch.float32


def test_outputs_are_compared_by_dot_products() -> None:
    image, text = torch.tensor([[3.0, 0, 0, 0], [0, 1.0, 0, 0]]), torch.tensor([[2.0, 2.0, 0, 0]])
    torch.testing.assert_close(output_similarity(image, text), torch.tensor([[3.0], [1.0]]))


def test_tokens_of_a_word_are_added_or_averaged() -> None:
    scores = torch.tensor([[1.0, 2.0, 4.0]])
    assert of_words(scores, [(0,), (1, 2)], mean=False).tolist() == [[1.0], [6.0]]
    assert of_words(scores, [(0,), (1, 2)], mean=True).tolist() == [[1.0], [3.0]]
    assert of_words(scores, [], mean=True).shape == (0, 1)


@pytest.mark.parametrize(
    ("count", "size", "grid"),
    [(64, (64, 64), (8, 8)), (24, (8, 12), (4, 6)), (25, (9, 9), (5, 5)), (2, (8, 12), (1, 2)), (7, (8, 8), None)],
)
def test_grids_of_tokens(count: int, size: tuple[int, int], grid: tuple[int, int] | None) -> None:
    assert token_grid(count, *size) == grid


def test_maps_keep_their_mean_on_another_grid() -> None:
    maps = torch.rand(2, 4, 6)
    assert resized(maps, (4, 6)) is maps
    small = resized(maps, (2, 3))
    torch.testing.assert_close(small[:, 0, 0], maps[:, :2, :2].mean((1, 2)))
    assert resized(maps, (8, 6)).shape == (2, 8, 6)
    torch.testing.assert_close(resized(torch.full((1, 2, 2), 3.0), (5, 7)), torch.full((1, 5, 7), 3.0))
