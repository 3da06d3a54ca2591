"""Augmentation: pictures mirrored, turned and moved a little, and the network told how, so that samples are not.

Karras et al. 2022, appendix F.2: the network learns each picture together with how it was moved; sampling says `not at
all`. For that to be a case it knows, every kind of movement leaves a good part of the pictures alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from diffstudio.training.data.preprocess import background_colour
from diffstudio.training.recipe import DataRecipe

MOVED_SHARE = 0.5  # of the pictures are turned, where the recipe turns any; and as many moved, where it moves any


@dataclass(frozen=True, slots=True)
class Augmentation:
    data: DataRecipe

    label_dim: ClassVar[int] = 6  # mirrored, sin and cos - 1 of the turn, right and down in sides, anything at all

    def apply(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Moves every picture in its own way, drawn from `generator` (a CPU one; the same draws for any recipe).

        `images` [B, 3, S, S]: uint8, or float in [-1, 1]. Returns float pictures of the same shape in [-1, 1], and
        what is told of each, float32 [B, label_dim], all 0 where nothing was done or the recipe tells nothing.
        What moves into a picture from outside is the recipe's background. A picture is mirrored, then turned
        anticlockwise, then moved, by whole pixels.
        """
        if images.dtype == torch.uint8:
            images = images.to(torch.float32) / 127.5 - 1
        count, side = images.shape[0], images.shape[-1]
        draw = torch.rand((6, count), generator=generator)
        mirrored = draw[0] < self.data.flips
        angle = torch.where(draw[1] < MOVED_SHARE, 2 * draw[2] - 1, 0.0) * math.radians(self.data.rotation_degrees)
        furthest_px = self.data.translation * side
        shift_px = torch.where(draw[3] < MOVED_SHARE, 2 * draw[4:6] - 1, 0.0) * furthest_px  # [2, B] right, down
        shift_px = shift_px.round()

        moved = torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(-1), images)
        if self.data.rotation_degrees or furthest_px >= 0.5:
            moved = self._resampled(moved, angle, shift_px * 2 / side)
        return moved, self._labels(mirrored, angle, shift_px / side).to(images.device)

    def not_at_all(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """What sampling tells the network: float32 [count, label_dim]."""
        return torch.zeros((count, self.label_dim), device=device)

    def _resampled(self, images: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
        """`angle` [B] in radians, `shift` [2, B] in half sides: place p shows what was at R(angle) (p - shift)."""
        cos, sin = angle.cos(), angle.sin()
        right, down = shift
        matrix = torch.stack(
            [
                torch.stack([cos, -sin, -cos * right + sin * down], dim=-1),
                torch.stack([sin, cos, -sin * right - cos * down], dim=-1),
            ],
            dim=-2,
        )  # [B, 2, 3]
        still = ((angle == 0) & (shift == 0).all(dim=0)).to(images.device)[:, None, None, None]
        grid = functional.affine_grid(matrix.to(images), list(images.shape), align_corners=False)
        background = images.new_tensor(background_colour(self.data))[:, None, None] / 127.5 - 1
        moved = functional.grid_sample(
            images - background, grid, mode="bicubic", padding_mode="zeros", align_corners=False
        )
        return torch.where(still, images, (moved + background).clamp(-1, 1))

    def _labels(self, mirrored: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
        if not self.data.augment_labels:
            return self.not_at_all(len(mirrored))
        anything = mirrored | (angle != 0) | (shift != 0).any(dim=0)
        columns = [mirrored.float(), angle.sin(), angle.cos() - 1, shift[0], shift[1], anything.float()]
        return torch.stack(columns, dim=-1)
