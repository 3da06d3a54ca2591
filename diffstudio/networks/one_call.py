"""The interface and configuration shared by the networks that generate an image in one call (GAN and VAE)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from typing import Any, Protocol, Self

from torch import Tensor

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.networks.transformer_config import check_multiple

# Field of a config -> its key in checkpoint headers, where they differ. A format: never change a key.
_JSON_KEYS = {
    "image_size": "size",
    "in_channels": "channels",
    "patch_size": "patch",
    "stem_size": "stem",
    "hidden_size": "width",
    "latent_channels": "latent",
    "latent_size": "latent",
    "cond_dim": "condition_width",
    "num_classes": "classes",
    "vocab_size": "vocabulary",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCallConfig:
    """The architecture of a network that generates an image in one call. ValueError for sizes that do not divide."""

    image_size: int = 64  # px
    patch_size: int = 8  # px per side of a cell of the coarsest grid, a power of two
    hidden_size: int = 32  # channels on the finest grid, doubled on each coarser one up to four times
    depth: int = 1  # residual blocks per resolution
    cond_dim: int = 128  # of the condition vector
    conditioning: Conditioning = Conditioning.NONE
    num_classes: int = 0  # for Conditioning.CLASS
    vocab_size: int = 0  # for Conditioning.TEXT; token id 0 is padding
    text_tokens: int = 0  # per prompt
    augment_dim: int = 0  # augmentation labels (arXiv 2206.00364, appendix F.2); 0: none
    in_channels: int = 3  # of the images
    stem_size: int = 1  # px per side of a cell of the finest grid, a power of two; 1: blocks at full resolution

    def __post_init__(self) -> None:
        if self.patch_size < 1 or self.patch_size & (self.patch_size - 1):
            raise ValueError(f"a patch of {self.patch_size} px is not a power of two")
        if not 1 <= self.stem_size <= self.patch_size or self.stem_size & (self.stem_size - 1):
            raise ValueError(
                f"a stem of {self.stem_size} px is not a power of two up to the patch of {self.patch_size} px"
            )
        check_multiple(self.image_size, self.patch_size)
        if min(self.in_channels, self.hidden_size, self.depth, self.cond_dim) < 1:
            raise ValueError("in_channels, hidden_size, depth and cond_dim must be at least 1")

    @property
    def grid(self) -> int:
        """The side of the coarsest grid, in cells."""
        return self.image_size // self.patch_size

    @property
    def widths(self) -> tuple[int, ...]:
        """The channels at each resolution, from the finest grid to the coarsest."""
        levels = (self.patch_size // self.stem_size).bit_length()
        return tuple(self.hidden_size * min(2**level, 4) for level in range(levels))

    @property
    def folded_channels(self) -> int:
        """The channels of an image whose cells of `stem_size` px are folded into channels (pixel unshuffle)."""
        return self.in_channels * self.stem_size**2

    def condition_sizes(self) -> dict[str, int]:
        """The arguments of the network's ConditionVector."""
        return {
            "num_classes": self.num_classes,
            "vocab_size": self.vocab_size,
            "text_tokens": self.text_tokens,
            "augment_dim": self.augment_dim,
        }

    def to_json(self) -> dict[str, Any]:
        """The `network` entry of checkpoint headers."""
        return {_JSON_KEYS.get(field, field): value for field, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`. KeyError, TypeError or ValueError for values that are missing, unknown or invalid."""
        fields = {_JSON_KEYS.get(field, field): field for field in (each.name for each in fields_of(cls))}
        arguments = {fields[key]: value for key, value in values.items()}
        return cls(**arguments | {"conditioning": Conditioning(arguments["conditioning"])})


class OneCallNetwork(Protocol):
    """A network that generates images [B,C,H,W] in about [-1,1] from standard normal noise [B,...] in one call."""

    @property
    def config(self) -> OneCallConfig: ...

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of the noise of one image."""

    def generate(self, noise: Tensor, condition: Condition) -> Tensor:
        """Images from `noise`; a smaller standard deviation gives more typical and less varied images."""
