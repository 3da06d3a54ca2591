"""The shape of a PixelTransformer, and its entry in checkpoint headers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from diffstudio.networks.conditioning import Conditioning

_RGB = 3  # channels of networks whose headers name no number

# Field of TransformerConfig -> its key in checkpoint headers, where they differ. A format: never change a key.
_JSON_KEYS = {
    "image_size": "size",
    "in_channels": "channels",
    "patch_size": "patch",
    "patch_margin": "margin",
    "bottleneck_dim": "bottleneck",
    "hidden_size": "width",
    "num_heads": "heads",
    "cond_dim": "condition_width",
    "num_classes": "classes",
    "vocab_size": "vocabulary",
    "augment_dim": "told_width",
}
_FIELDS = {key: field for field, key in _JSON_KEYS.items()}


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """The shape of a PixelTransformer. ValueError for sizes that do not divide."""

    image_size: int = 64  # px, the side of the training images
    patch_size: int = 8  # px
    patch_margin: int = 4  # px by which patches overlap their neighbours, in and out, to avoid visible seams
    bottleneck_dim: int = 128
    hidden_size: int = 256
    depth: int = 6  # blocks
    num_heads: int = 4
    cond_dim: int = 256  # of the vector that modulates the blocks
    conditioning: Conditioning = Conditioning.NONE
    num_classes: int = 0  # for Conditioning.CLASS
    vocab_size: int = 0  # for Conditioning.TEXT; token id 0 is padding
    text_tokens: int = 0  # per prompt
    augment_dim: int = 0  # augmentation labels (Karras et al. 2022, arXiv 2206.00364, appendix F.2); 0: none
    in_channels: int = 3  # of the images, in and out
    low_channels: int = 0  # of a low-resolution image that is given beside x_t (SR3: arXiv 2104.07636); 0: none

    def __post_init__(self) -> None:
        check_multiple(self.image_size, self.patch_size)
        if self.in_channels < 1:
            raise ValueError(f"images have at least one channel, not {self.in_channels}")
        if self.low_channels not in (0, self.in_channels):
            raise ValueError(f"the low-resolution image has {self.low_channels} channels, not {self.in_channels}")
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 4:
            raise ValueError(
                f"a hidden size of {self.hidden_size} does not split into {self.num_heads} heads of a multiple of 4"
            )

    @property
    def patch_values(self) -> int:
        """The numbers in one patch: all channels, margins included."""
        return self.in_channels * (self.patch_size + 2 * self.patch_margin) ** 2

    @property
    def read_values(self) -> int:
        """The numbers that are read for one patch: those of the low-resolution image included."""
        return (self.in_channels + self.low_channels) * (self.patch_size + 2 * self.patch_margin) ** 2

    def to_json(self) -> dict[str, Any]:
        """The `network` entry of checkpoint headers, which names no channels that earlier versions did not name."""
        values = asdict(self)
        if self.in_channels == _RGB:
            del values["in_channels"]
        if not self.low_channels:
            del values["low_channels"]
        return {_JSON_KEYS.get(field, field): value for field, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TransformerConfig:
        """The inverse of `to_json`. KeyError, TypeError or ValueError for values that are missing, unknown or invalid."""
        fields = {_FIELDS.get(key, key): value for key, value in values.items()}
        return cls(**{**fields, "conditioning": Conditioning(fields["conditioning"])})


def check_multiple(image_size: int, patch_size: int) -> None:
    """ValueError for an image size that is not a multiple of the patch size."""
    if image_size % patch_size or image_size < patch_size:
        raise ValueError(f"the image size {image_size} is not a multiple of the patch size {patch_size}")
