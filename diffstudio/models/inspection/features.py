"""Image features from the blocks of a denoiser: noise of one level is added, and a block's output is averaged.

Denoising Diffusion Autoencoders, Xiang et al. 2023 (arXiv 2303.09769), section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.evaluation.attention.maps import token_grid
from diffstudio.models.inspection.layers import NetworkBlock


def pooled(tokens: Tensor, size: tuple[int, int], side: int = 1) -> Tensor:
    """The means of image tokens [B,C,h,w] or [B,N,D] in side x side parts of the image: [B,side² C] or [B,side² D] float32.

    `size` is the state's height and width. Tokens that do not cover it evenly are averaged together; so they are where
    there are fewer than `side` in a row or a column.
    """
    if tokens.ndim == 3:
        grid = token_grid(tokens.shape[1], *size) or (1, tokens.shape[1])
        tokens = tokens.transpose(1, 2).unflatten(2, grid)
    fits = min(side, *tokens.shape[-2:])
    means: Tensor = F.adaptive_avg_pool2d(tokens.float(), fits).flatten(1)
    return means


@torch.no_grad()
def block_features(
    denoiser: Denoiser, blocks: Sequence[NetworkBlock], x_t: Tensor, t: Tensor, side: int = 1
) -> list[Tensor]:
    """The features [B,D] of each block for states x_t [B,C,h,w] at times t [B], from one denoiser call.

    They are means over side x side parts of the image. The denoiser must be unguided, so that its network sees each state
    once. For a block that runs several times, the last run counts.
    """
    size = (x_t.shape[-2], x_t.shape[-1])
    found: dict[int, Tensor] = {}
    with ExitStack() as handles:
        for number, block in enumerate(blocks):

            def read(module: nn.Module, args: Any, output: Any, number: int = number) -> None:
                found[number] = pooled(blocks[number].image_tokens(output, size), size, side)

            handles.callback(block.module.register_forward_hook(read).remove)
        denoiser(x_t, t)
    return [found[number] for number in range(len(blocks))]
