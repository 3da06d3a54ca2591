"""Attention maps of words, from attention weights (DAAM) or attention outputs (ConceptAttention).

N is the number of image tokens, T of text tokens, W of words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) of query [heads,N,d] over key [heads,M,d], averaged over heads: [N,M] float32.

    DAAM: Tang et al. 2022 (arXiv 2210.04885), eq. 4 to 6, which sum over heads instead. Heads are processed one at a
    time, so memory does not grow with their number.
    """
    scale = query.shape[-1] ** -0.5
    total = torch.zeros(query.shape[1], key.shape[1], device=query.device)
    for q, k in zip(query, key, strict=True):
        total += torch.softmax((q.float() * scale) @ k.float().T, dim=-1)
    return total / len(query)


def output_similarity(image: Tensor, text: Tensor) -> Tensor:
    """Dot products of the attention outputs of image tokens [N,D] and text tokens [T,D], over sqrt(D): [N,T] float32.

    ConceptAttention: Helbling et al. 2025 (arXiv 2502.04320), eq. 7, without its softmax over concepts, because the words
    of a prompt are not mutually exclusive.
    """
    similarity: Tensor = (image.float() * float(image.shape[-1]) ** -0.5) @ text.float().T
    return similarity


def of_words(scores: Tensor, words: Sequence[Sequence[int]], *, mean: bool) -> Tensor:
    """Scores [N,T] of text tokens -> scores [W,N] of words: the sum or mean over a word's tokens."""
    maps = [scores[:, list(tokens)].mean(1) if mean else scores[:, list(tokens)].sum(1) for tokens in words]
    return torch.stack(maps) if maps else scores.new_zeros(0, len(scores))


def token_grid(count: int, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of `count` image tokens that cover a state of this size; None if no square tokens do.

    A token covers a square of p px, rounded up at the right and lower borders: a U-Net that halves 9 px gets 5.
    """
    for patch in range(1, max(height, width) + 1):
        rows, columns = -(-height // patch), -(-width // patch)
        if rows * columns == count:
            return rows, columns
    return None


def resized(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Maps [W,h,w] resized to another grid: by averaging if it is coarser, bilinear if it is finer."""
    if tuple(maps.shape[-2:]) == grid:
        return maps
    coarser = grid[0] <= maps.shape[-2] and grid[1] <= maps.shape[-1]
    options = {"mode": "area"} if coarser else {"mode": "bilinear", "align_corners": False}
    scaled: Tensor = F.interpolate(maps[None], grid, **options)
    return scaled[0]
