"""Augmentation: random flips, rotations and translations, with labels that condition the network on them.

Karras et al. 2022 (EDM, arXiv 2206.00364), appendix F.2: conditioned on the augmentation, the network does not generate
augmented images when the labels are zero. Each kind of augmentation leaves many images unchanged, so that the network
learns those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from diffstudio.training.data.preprocess import background_levels
from diffstudio.training.distributed.portion import Portion
from diffstudio.training.recipe import DataRecipe

AUGMENTED_FRACTION = 0.5  # of the images are rotated, and independently as many translated, if the recipe does so


@dataclass(frozen=True, slots=True)
class Augmentation:
    data: DataRecipe

    # flipped, sin and cos - 1 of the angle, translation right and down as fractions of the side, any of these
    label_dim: ClassVar[int] = 6

    def apply(
        self, images: Tensor, generator: torch.Generator, portion: Portion | None = None
    ) -> tuple[Tensor, Tensor]:
        """Augment each image at random: a horizontal flip, then a rotation, then a translation by whole pixels.

        `images` [B,C,H,W]: uint8, or float in [-1,1]. `generator` is on the CPU; the number of draws does not depend on
        the recipe. Returns float images of the same shape in [-1,1] and labels, float32 [B,label_dim], which are 0 for
        unchanged images and for a recipe without labels. The recipe's background fills what comes in from outside. `portion`
        says which of a global batch the images are; by default they are all of it.
        """
        if images.dtype == torch.uint8:
            images = images.to(torch.float32) / 127.5 - 1
        count, height, width = images.shape[0], images.shape[-2], images.shape[-1]
        portion = portion or Portion.whole(count)
        draw = portion.cut(torch.rand((6, portion.total), generator=generator), dim=1)
        flipped = draw[0] < self.data.flips
        angle = torch.where(draw[1] < AUGMENTED_FRACTION, 2 * draw[2] - 1, 0.0) * math.radians(
            self.data.rotation_degrees
        )
        largest_px = self.data.translation * width, self.data.translation * height
        shift = torch.where(draw[3] < AUGMENTED_FRACTION, 2 * draw[4:6] - 1, 0.0)  # [2, B] right, down
        shift_px = torch.stack([shift[axis] * largest_px[axis] for axis in range(2)]).round()
        sides = shift_px.new_tensor([[width], [height]])

        augmented = torch.where(flipped.to(images.device)[:, None, None, None], images.flip(-1), images)
        if self.data.rotation_degrees or max(largest_px) >= 0.5:
            augmented = self._resample(augmented, angle, shift_px * 2 / sides)
        return augmented, self._labels(flipped, angle, shift_px / sides).to(images.device)

    def zero_labels(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """The labels for sampling: float32 [count, label_dim]."""
        return torch.zeros((count, self.label_dim), device=device)

    def _resample(self, images: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
        """`angle` [B] in radians, `shift` [2, B] in half sides: the result at p is the input at R(angle) (p - shift)."""
        cos, sin = angle.cos(), angle.sin()
        right, down = shift
        wide = images.shape[-1] / images.shape[-2]  # half a side is another length along each axis
        matrix = torch.stack(
            [
                torch.stack([cos, -sin / wide, -cos * right + sin / wide * down], dim=-1),
                torch.stack([sin * wide, cos, -sin * wide * right - cos * down], dim=-1),
            ],
            dim=-2,
        )  # [B, 2, 3]
        unchanged = ((angle == 0) & (shift == 0).all(dim=0)).to(images.device)[:, None, None, None]
        grid = functional.affine_grid(matrix.to(images), list(images.shape), align_corners=False)
        filled = background_levels(self.data)
        if images.shape[1] > len(filled):  # the last channel is a mask: padding counts
            filled = (*filled, self.data.form.largest)
        levels = images.new_tensor(filled)[:, None, None]
        background = levels / (127.5 if self.data.form.bits == 8 else 32767.5) - 1
        resampled = functional.grid_sample(
            images - background, grid, mode="bicubic", padding_mode="zeros", align_corners=False
        )
        return torch.where(unchanged, images, (resampled + background).clamp(-1, 1))

    def _labels(self, flipped: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
        if not self.data.augment_labels:
            return self.zero_labels(len(flipped))
        any_change = flipped | (angle != 0) | (shift != 0).any(dim=0)
        columns = [flipped.float(), angle.sin(), angle.cos() - 1, shift[0], shift[1], any_change.float()]
        return torch.stack(columns, dim=-1)
