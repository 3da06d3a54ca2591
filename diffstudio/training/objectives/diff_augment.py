"""DiffAugment (Zhao et al. 2020, arXiv 2006.10738): differentiable augmentation of the discriminator's inputs.

Real and generated images get random changes of brightness and contrast, translations and cut-outs. They keep the
discriminator from memorising a small dataset, and because they are differentiable the generator does not learn them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio.training.distributed.portion import Portion

MOST_IMAGES = 5000  # larger datasets do not need it
_SHIFT = 1 / 8  # of the side, at most
_CUT_OUT = 1 / 2  # of the side


def diff_augment(images: Tensor, generator: torch.Generator, portion: Portion | None = None) -> Tensor:
    """Images [B,C,H,W] in [-1,1], each changed in its own way; the generator is on the CPU.

    `portion` says which of a global batch they are; by default they are all of it.
    """
    count, _, height, width = images.shape
    portion = portion or Portion.whole(count)
    draws = portion.cut(torch.rand(6, portion.total, generator=generator), dim=1).to(images.device)
    images = images + (draws[0] - 0.5)[:, None, None, None]  # brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * (draws[1] + 0.5)[:, None, None, None] + mean  # contrast
    images = _shifted(images, draws[2], draws[3])
    return images * _cut_out(draws[4], draws[5], height, width)


def _shifted(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Images translated by whole pixels, up to an eighth of the side in each direction; the border is filled with 0."""
    count, channels, height, width = images.shape
    most = max(1, round(_SHIFT * height)), max(1, round(_SHIFT * width))
    rows = (down * (2 * most[0] + 1)).long().clamp(max=2 * most[0])[:, None] + torch.arange(
        height, device=images.device
    )
    columns = (right * (2 * most[1] + 1)).long().clamp(max=2 * most[1])[:, None] + torch.arange(
        width, device=images.device
    )
    padded = F.pad(images, (most[1], most[1], most[0], most[0]))
    padded = padded.gather(2, rows[:, None, :, None].expand(count, channels, height, padded.shape[3]))
    return padded.gather(3, columns[:, None, None, :].expand(count, channels, height, width))


def _cut_out(down: Tensor, right: Tensor, height: int, width: int) -> Tensor:
    """A mask [B,1,H,W] that is 0 in a square of half the side around a random centre, and 1 elsewhere."""
    rows, columns = torch.arange(height, device=down.device), torch.arange(width, device=down.device)
    tall, wide = round(_CUT_OUT * height), round(_CUT_OUT * width)
    top, left = (down * (height + 1)).floor() - tall // 2, (right * (width + 1)).floor() - wide // 2
    inside_rows = (rows >= top[:, None]) & (rows < top[:, None] + tall)  # [B,H]
    inside_columns = (columns >= left[:, None]) & (columns < left[:, None] + wide)
    return (~(inside_rows[:, :, None] & inside_columns[:, None, :]))[:, None].to(down.dtype)
