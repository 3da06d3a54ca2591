"""OutputFormat: what the images of a model are made of, how they are shown, and as what values they are saved. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from diffstudio.errors import BadRequest
from diffstudio.plurals import count_of

if TYPE_CHECKING:
    from torch import Tensor

MOST_CHANNELS = 64
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as Pillow converts to grey


class ValueType(StrEnum):
    """As what values files hold an image."""

    UINT8 = "uint8"
    UINT16 = "uint16"
    FLOAT32 = "float32"

    @property
    def largest(self) -> int:
        """The highest whole number."""
        return 255 if self is ValueType.UINT8 else 65535


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The channels of a model's images [B,C,H,W] in [-1,1]. ValueError for what cannot be."""

    channels: int = 3  # 1: grey, 3: RGB, others: those of an array; with `alpha` one more, which is opacity
    alpha: bool = False
    values: ValueType = ValueType.UINT8
    limits: tuple[tuple[float, float], ...] = ()  # what -1 and 1 mean in each channel; empty: 0 and the type's highest

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= MOST_CHANNELS or (self.alpha and self.channels not in (2, 4)):
            raise ValueError(count_of(self.channels, "channel"))
        if self.limits and len(self.limits) != self.channels:
            raise ValueError(f"limits of {len(self.limits)} channels for {self.channels}")
        if any(not (math.isfinite(low) and math.isfinite(high) and low < high) for low, high in self.limits):
            raise ValueError(f"limits {self.limits}")

    @property
    def colours(self) -> int:
        """The channels without opacity."""
        return self.channels - self.alpha

    @property
    def is_image(self) -> bool:
        """Whether it is grey or RGB; otherwise an array."""
        return self.colours in (1, 3)

    @property
    def is_plain(self) -> bool:
        """Whether it is RGB of 8 bits, as most models generate it."""
        return self == OutputFormat()

    @property
    def is_grey_or_rgb_of_8_bits(self) -> bool:
        """Whether an opaque image of 8 bits holds all of it."""
        return self.is_image and not self.alpha and self.values is ValueType.UINT8

    @property
    def fits_png(self) -> bool:
        """Whether a PNG holds all of it; otherwise a TIFF file beside it does."""
        return self.is_image and self.values is not ValueType.FLOAT32

    def to_json(self) -> dict[str, Any]:
        """The `pixels` entry of checkpoint headers."""
        return {
            "channels": self.channels,
            "alpha": self.alpha,
            "values": self.values.value,
            "limits": [list(limit) for limit in self.limits],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> OutputFormat:
        """The inverse of `to_json`. KeyError, TypeError or ValueError for values that are missing or invalid."""
        channels, alpha = values["channels"], values["alpha"]
        if type(channels) is not int or type(alpha) is not bool:
            raise TypeError("channels are a whole number, and alpha is true or false")
        limits = tuple((float(low), float(high)) for low, high in values["limits"])
        return cls(channels, alpha, ValueType(values["values"]), limits)

    def to_rgb(self, images: Tensor, shown: Sequence[int] = ()) -> Tensor:
        """[B,C,H,W] -> [B,3,H,W], both in about [-1,1], with transparency on white.

        Of an array the channels numbered `shown` (one, or three as red, green and blue), by default the first ones.
        """
        chosen = [index for index in shown if 0 <= index < self.colours]
        chosen = chosen or list(range(3 if self.colours >= 3 else 1))
        rgb = images[:, chosen[:3]] if len(chosen) >= 3 else images[:, chosen[:1]].expand(-1, 3, -1, -1)
        if not self.alpha:
            return rgb
        opacity = ((images[:, -1:] + 1) / 2).clamp(0, 1)
        return rgb * opacity + (1 - opacity)

    def from_image(self, image: Tensor) -> Tensor:
        """[B,3,H,W] -> [B,C,H,W], opaque; unchanged if it has these channels already. BadRequest for RGB as an array."""
        if image.shape[1] == self.channels:
            return image
        if not self.is_image:
            raise img2img_unsupported(self)
        if self.colours == 1:
            image = sum(weight * image[:, index : index + 1] for index, weight in enumerate(_LUMA))  # type: ignore[assignment]
        if not self.alpha:
            return image
        whole = image.new_ones((len(image), self.channels, *image.shape[-2:]))
        whole[:, :-1] = image
        return whole


PLAIN = OutputFormat()
CANNOT_START_FROM_AN_IMAGE = "This checkpoint cannot start from an image"


def img2img_unsupported(output: OutputFormat) -> BadRequest:
    return BadRequest(
        "This image cannot be converted to the channels of the checkpoint",
        f"it generates arrays of {count_of(output.channels, 'channel')}, and this is an RGB image",
        "Choose a file with these channels, or another checkpoint",
    )
