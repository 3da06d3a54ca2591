"""From the state of a model without a VAE to finished images: what is shown, and the exact values that are saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diffstudio.imaging.exact_files import ExactValues
from diffstudio.models.output_format import OutputFormat, ValueType
from diffstudio.studio.generation.init_image import Fractions
from diffstudio.studio.generation.preview import to_images

if TYPE_CHECKING:
    from torch import Tensor

SAVED_WITH_8_BITS = (
    "This image is saved with 8 bits a channel and without transparency, unlike those from a prompt alone."
)
CONVERTED_TO_GREY = "its colours were converted to grey, as this checkpoint generates grey images."


@dataclass(frozen=True, slots=True)
class FinishedImage:
    image: Image.Image  # of 8 bits: L, LA, RGB or RGBA; of an array the channels that are shown
    exact: ExactValues | None = None  # where that is not all of it


def finished_images(
    state: Tensor, output: OutputFormat, compose: Callable[[Fractions], Fractions] | None = None
) -> Iterator[FinishedImage]:
    """[B,C,H,W] in about [-1,1] -> B images; values outside are clipped, NaN is the lowest value.

    `compose` puts the values of each image [H,W,C], from 0 to 1, into the image that is inpainted.
    """
    fractions = state.detach().double().add(1).div(2).nan_to_num(0.0).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    if compose is not None:
        import torch

        fractions = np.stack([compose(one) for one in fractions])
        state = torch.from_numpy(fractions).permute(0, 3, 1, 2).mul(2).sub(1)
    shown = to_images(output.to_rgb(state))
    for one, rgb in zip(fractions, shown, strict=True):
        image = Image.fromarray(rgb)
        if output.is_image:
            levels = np.rint(one * 255).astype(np.uint8)
            image = Image.fromarray(levels[..., 0] if output.channels == 1 else levels)
        if output.is_image and output.values is ValueType.UINT8:
            yield FinishedImage(image)
        elif output.fits_png:
            yield FinishedImage(image, ExactValues(np.rint(one * 65535).astype(np.uint16), as_png=True))
        else:
            largest = 1.0 if output.values is ValueType.FLOAT32 else float(output.values.largest)
            low, high = np.array(output.limits or ((0.0, largest),) * output.channels).T
            values = low + one * (high - low)
            if output.values is not ValueType.FLOAT32:
                values = np.rint(values)
            yield FinishedImage(image, ExactValues(values.astype(output.values.value), as_png=False))


def composed_mode(image: Image.Image, output: OutputFormat) -> Image.Image:
    """An RGB image that was composited with the original as the checkpoint's colours: grey where it has one."""
    return image.convert("L") if output.colours == 1 else image
