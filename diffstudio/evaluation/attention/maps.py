"""Maps of words from attention: its weights (DAAM), or its outputs (ConceptAttention).

N is the number of image tokens, T of text tokens, W of words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) of query [heads,N,d] over key [heads,M,d], averaged over heads: [N,M] float32.

    DAAM: Tang et al. 2022 (arXiv 2210.04885), eq. 4 to 6, which sum over heads instead. One head at a time, so that
    memory does not grow with their number.
    """
    scale = query.shape[-1] ** -0.5
    total = torch.zeros(query.shape[1], key.shape[1], device=query.device)
    for q, k in zip(query, key, strict=True):
        total += torch.softmax((q.float() * scale) @ k.float().T, dim=-1)
    return total / len(query)


def output_similarity(image: Tensor, text: Tensor) -> Tensor:
    """The dot products of attention outputs of image tokens [N,D] and text tokens [T,D], over sqrt(D): [N,T] float32.

    ConceptAttention: Helbling et al. 2025 (arXiv 2502.04320), eq. 7, before its softmax over concepts: words of one
    prompt need not exclude each other, and with two of them one would be the rest of the other.
    """
    similarity: Tensor = (image.float() * float(image.shape[-1]) ** -0.5) @ text.float().T
    return similarity


def of_words(scores: Tensor, words: Sequence[Sequence[int]], *, mean: bool) -> Tensor:
    """Scores [N,T] of text tokens -> [W,N] of words: the sum of a word's tokens, or their mean."""
    maps = [scores[:, list(tokens)].mean(1) if mean else scores[:, list(tokens)].sum(1) for tokens in words]
    return torch.stack(maps) if maps else scores.new_zeros(0, len(scores))


def token_grid(count: int, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of `count` image tokens that cover a state of this size; None if squares of no size do.

    A token covers a square of p px, the same at the right and lower borders where p does not divide the size: a U-Net
    that halves 9 px goes on with 5.
    """
    for patch in range(1, max(height, width) + 1):
        rows, columns = -(-height // patch), -(-width // patch)
        if rows * columns == count:
            return rows, columns
    return None


def resized(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Maps [W,h,w] on another grid: averages where it is coarser, bilinear where it is finer."""
    if tuple(maps.shape[-2:]) == grid:
        return maps
    coarser = grid[0] <= maps.shape[-2] and grid[1] <= maps.shape[-1]
    options = {"mode": "area"} if coarser else {"mode": "bilinear", "align_corners": False}
    scaled: Tensor = F.interpolate(maps[None], grid, **options)
    return scaled[0]
