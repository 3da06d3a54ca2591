"""The image inputs of a network: inpainted image, mask and control images. No torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class ControlNetInput:
    """A ControlNet and the image that it is given."""

    network: nn.Module  # diffusers' ControlNetModel or ControlNetUnionModel, on the model's device
    image: Tensor  # [1,3,H,W] in [0,1]
    scale: float = 1.0  # conditioning scale
    begins: float = 0.0  # it acts from this fraction of the steps
    ends: float = 1.0  # to this one
    control_type: int | None = None  # of a union ControlNet: which of its types the image is of


@dataclass(frozen=True, slots=True)
class ImageInputs:
    """The images that a network takes besides the prompt, as far as it was trained to."""

    image: Tensor | None = None  # [1 or B,3,H,W] in [-1,1]: what is inpainted
    mask: Tensor | None = None  # [1 or B,1,H,W] in [0,1]: 1 is inpainted
    controls: tuple[ControlNetInput, ...] = ()
    times: Tensor | None = None  # [steps+1]: those of sampling, in a part of which each ControlNet acts


NO_IMAGES = ImageInputs()
