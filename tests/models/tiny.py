"""A random pixel transformer of a few thousand parameters, as a checkpoint on disk: a whole model, in no time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from diffstudio.diffusion.objectives.parameterisation import CLEAN_IMAGE, Parameterisation
from diffstudio.models.families import pixel_file
from diffstudio.models.output_format import OutputFormat
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.cascade import CascadedTransformer, UpperConfig
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import PixelTransformer
from diffstudio.networks.transformer_config import TransformerConfig
from diffstudio.networks.unet import PixelUNet, UNetConfig

CAPTIONS = ["red apple, fruit", "rocket, space", "purple heart", "grinning face"]
CLASSES = ("apple", "rocket", "heart")


def write_tiny_checkpoint(
    path: Path,
    *,
    conditioning: Conditioning = Conditioning.TEXT,
    size: int = 16,
    seed: int = 0,
    width: int = 16,
    spoil: bool = False,
    upper: bool = False,
) -> Path:
    """Its last layer is not zero, so that pictures depend on seed and prompt; `spoil` makes it answer what is no
    number; with `upper` it has a second level of twice the size, and the same base.
    """
    torch.manual_seed(seed)
    tokenizer = CaptionTokenizer.learn(CAPTIONS, 300) if conditioning is Conditioning.TEXT else None
    config = TransformerConfig(
        image_size=size,
        patch_size=8,
        patch_margin=0,
        bottleneck_dim=8,
        hidden_size=width,
        depth=1,
        num_heads=2,
        cond_dim=16,
        conditioning=conditioning,
        num_classes=len(CLASSES) if conditioning is Conditioning.CLASS else 0,
        vocab_size=tokenizer.vocabulary if tokenizer is not None else 0,
        text_tokens=4 if tokenizer is not None else 0,
    )
    none: dict[str, Any] = {"conditioning": Conditioning.NONE, "num_classes": 0, "vocab_size": 0, "text_tokens": 0}
    larger = replace(config, image_size=2 * size, low_channels=3, **none)
    network = _stirred(PixelTransformer(config), spoil)
    if upper:
        base, network = network, CascadedTransformer(config, UpperConfig(larger, sample_steps=3))
        _stirred(network.upper, spoil)
        network.load_state_dict(base.state_dict(), strict=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixel_file.save(
        path,
        network,
        title=path.stem,
        tokenizer=tokenizer,
        classes=CLASSES if conditioning is Conditioning.CLASS else (),
    )
    return path


def _stirred(network: PixelTransformer, spoil: bool) -> PixelTransformer:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not bool(parameter.any()):
                parameter.normal_(std=0.3)
            if spoil and name.startswith("final_layer.linear"):
                parameter.fill_(1e38)  # finite in the file, infinite once added up
    return network


def write_tiny_unet(
    path: Path,
    conditioning: Conditioning = Conditioning.TEXT,
    *,
    size: int = 16,
    seed: int = 0,
    channels: int = 3,
    parameterisation: Parameterisation = CLEAN_IMAGE,
    shape: tuple[int, int] | None = None,
) -> Path:
    """Likewise, a random U-Net; `shape` is the default width and height of its images."""
    torch.manual_seed(seed)
    tokenizer = CaptionTokenizer.learn(CAPTIONS, 300) if conditioning is Conditioning.TEXT else None
    network = PixelUNet(
        UNetConfig(
            image_size=size,
            block_out_channels=(8, 16),
            attention_side=size // 2,
            cond_dim=16,
            conditioning=conditioning,
            num_classes=len(CLASSES) if conditioning is Conditioning.CLASS else 0,
            vocab_size=tokenizer.vocabulary if tokenizer is not None else 0,
            text_tokens=4 if tokenizer is not None else 0,
            augment_dim=6,
            in_channels=channels,
        )
    )
    with torch.no_grad():
        for parameter in network.parameters():
            if not bool(parameter.any()):
                parameter.normal_(std=0.1)
    path.parent.mkdir(parents=True, exist_ok=True)
    classes = CLASSES if conditioning is Conditioning.CLASS else ()
    pixel_file.save(
        path,
        network,
        title=path.stem,
        tokenizer=tokenizer,
        classes=classes,
        size=shape,
        output=OutputFormat(channels),
        parameterisation=parameterisation,
    )
    return path
