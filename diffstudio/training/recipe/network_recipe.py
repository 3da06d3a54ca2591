"""The network section of a recipe. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from diffstudio.errors import RunProblem
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.values import shortened

_MOST_LEVELS = 8  # of a U-Net
_MULTIPLE, _MOST_CHANNELS = 8, 65_536  # of a level


class NetworkName(StrEnum):
    """The network of a diffusion model; VAEs and GANs have networks of their own."""

    TRANSFORMER = "transformer"
    UNET = "unet"


@dataclass(frozen=True, slots=True)
class NetworkRecipe:
    conditioning: Conditioning = Conditioning.TEXT
    patch: int = 8  # px a side; of a VAE or GAN, those of a cell of the coarsest grid: a power of two
    margin: int = 4  # px by which patches overlap, to avoid visible seams
    bottleneck: int = 128  # width of the projection from a patch to a token
    width: int = 256
    depth: int = 6
    heads: int = 4
    condition_width: int = 256  # of the vector that modulates the blocks
    vocabulary: int = 4096  # tokens of the caption tokenizer, at most
    text_tokens: int = 16  # per caption
    latent: int = 16  # of a VAE: channels of the latent of each patch; of a GAN: length of the noise vector
    latent_grid: int = 0  # of a VAE: 1 for one latent of the whole image; 0: one for each patch
    prior_width: int = 256  # of the flow prior on a VAE's latents
    prior_depth: int = 3
    stem: int = (
        1  # of a VAE or GAN: px a side of a cell of the finest grid, a power of two; 1: blocks at full resolution
    )
    drop_condition: float = 0.1  # probability of an empty condition, for classifier-free guidance
    name_share: float = 0.5  # fraction of the captions cut to their first part
    tags_share: float = 0.1  # fraction of the captions cut to some of their other parts
    kind: NetworkName = NetworkName.TRANSFORMER  # of a diffusion model
    channels: tuple[int, ...] = (32, 64, 128)  # of a U-Net: of each level, from full resolution down by halves
    layers: int = 1  # of a U-Net: residual blocks per level
    attention: int = 8  # of a U-Net: px a side; levels of this side or smaller have attention, besides the middle
    dropout: float = 0.0  # of a diffusion model: in the blocks, of what they add

    @property
    def multiple(self) -> int:
        """Width and height of images are multiples of this, in px."""
        return 2 ** (len(self.channels) - 1) if self.kind is NetworkName.UNET else self.patch


def check_network(network: NetworkRecipe, kind: ObjectiveName, *, muon: bool) -> None:
    """RunProblem for settings that a U-Net does not support, and for those of a U-Net that another network has not."""
    if not 1 <= len(network.channels) <= _MOST_LEVELS or any(
        width % _MULTIPLE or not _MULTIPLE <= width <= _MOST_CHANNELS for width in network.channels
    ):
        raise RunProblem(
            f"recipe.network.channels is {shortened(network.channels)}",
            f"it must be a multiple of {_MULTIPLE} for each of 1 to {_MOST_LEVELS} levels",
        )
    if network.dropout and kind is not ObjectiveName.DIFFUSION:
        why = f"a {kind.value.upper()} has no dropout"
        raise RunProblem(f"recipe.network.dropout is {network.dropout}", why, "Set it to 0")
    if network.kind is not NetworkName.UNET:
        return
    if kind is not ObjectiveName.DIFFUSION:
        raise RunProblem(
            "recipe.network.kind is 'unet'", f"a {kind.value.upper()} has a network of its own", "Leave it out"
        )
    if muon:
        raise RunProblem(
            "recipe.optimiser.name is 'muon' and recipe.network.kind is 'unet'",
            "a U-Net has no transformer blocks",
            "Choose adamw",
        )
    if network.condition_width % _MULTIPLE:
        raise RunProblem(
            f"recipe.network.condition_width is {network.condition_width}",
            f"it must be a multiple of {_MULTIPLE} for a U-Net",
        )


def network_like(network: NetworkRecipe, shape: Mapping[str, Any]) -> NetworkRecipe:
    """With the sizes in the header of a checkpoint. KeyError, TypeError or ValueError for sizes that are missing or wrong."""
    text_tokens = max(network.text_tokens, int(shape["text_tokens"]))
    network = replace(network, text_tokens=text_tokens, condition_width=int(shape["condition_width"]))
    if shape.get("kind") == "unet":
        return replace(
            network,
            kind=NetworkName.UNET,
            channels=tuple(int(width) for width in shape["block_out_channels"]),
            layers=int(shape["layers_per_block"]),
            attention=int(shape["attention_side"]),
        )
    return replace(
        network,
        kind=NetworkName.TRANSFORMER,
        patch=int(shape["patch"]),
        margin=int(shape["margin"]),
        bottleneck=int(shape["bottleneck"]),
        width=int(shape["width"]),
        depth=int(shape["depth"]),
        heads=int(shape["heads"]),
    )
