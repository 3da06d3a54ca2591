"""Image features from the blocks of a denoiser: noise of one level is added, and a block's output is averaged.

Denoising Diffusion Autoencoders, Xiang et al. 2023 (arXiv 2303.09769), section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.models.inspection.layers import NetworkBlock


def pooled(tokens: Tensor) -> Tensor:
    """The mean of all image tokens: [B,C,h,w] or [B,N,D] -> [B,C] or [B,D] float32."""
    return tokens.float().mean(dim=(2, 3)) if tokens.ndim == 4 else tokens.float().mean(dim=1)


@torch.no_grad()
def block_features(denoiser: Denoiser, blocks: Sequence[NetworkBlock], x_t: Tensor, t: Tensor) -> list[Tensor]:
    """The features [B,D] of each block for states x_t [B,C,h,w] at times t [B], from one denoiser call.

    The denoiser must be unguided, so that its network sees each state once. For a block that runs several times, the last
    run counts.
    """
    size = (x_t.shape[-2], x_t.shape[-1])
    found: dict[int, Tensor] = {}
    with ExitStack() as handles:
        for number, block in enumerate(blocks):

            def read(module: nn.Module, args: Any, output: Any, number: int = number) -> None:
                found[number] = pooled(blocks[number].image_tokens(output, size))

            handles.callback(block.module.register_forward_hook(read).remove)
        denoiser(x_t, t)
    return [found[number] for number in range(len(blocks))]
