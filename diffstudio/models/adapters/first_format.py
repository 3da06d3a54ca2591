"""The layers of LoRAs in the first format, cloneofsimo's: named by their position, `unet:0`, `text_encoder:3`.

The position is the one in diffusers' models of early 2023: in a transformer block came first `attn1`, then `ff`, then
`attn2`; CLIP's attention was k, v, q, out; the middle of a U-Net came last. github.com/cloneofsimo/lora, lora.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

_BLOCK = re.compile(r"(.+\.transformer_blocks\.\d+)\.")
_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
_IN_BLOCK = (*(f"attn1.{name}" for name in _PROJECTIONS), "ff.net.0.proj", *(f"attn2.{name}" for name in _PROJECTIONS))
_ENCODER_LAYER = re.compile(r"(.*layers\.\d+\.self_attn)\.")
_IN_ATTENTION = ("k_proj", "v_proj", "q_proj", "out_proj")
_RESNET = re.compile(r".+\.resnets\.\d+\.(?:conv1|time_emb_proj|conv2|conv_shortcut)")


def layer_orders(root: nn.Module) -> Iterator[list[str]]:
    """The paths of the layers that such a file may change, in its order: attention only, then resnets too."""
    paths = [path for path, module in root.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    attention = list(_attention(paths))
    yield attention
    with_resnets = list(_attention(paths, resnets=True))
    if with_resnets != attention:
        yield with_resnets


def _attention(paths: list[str], resnets: bool = False) -> Iterator[str]:
    known, seen = set(paths), set[str]()
    for path in paths:
        if resnets and _RESNET.fullmatch(path):
            yield path
        for outer, inner in ((_BLOCK, _IN_BLOCK), (_ENCODER_LAYER, _IN_ATTENTION)):
            if (match := outer.match(path)) is not None and match[1] not in seen:
                seen.add(match[1])
                yield from (one for name in inner if (one := f"{match[1]}.{name}") in known)
